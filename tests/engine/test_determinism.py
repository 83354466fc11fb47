"""`randomness.deterministic=True`: a run that repeats where kernels allow, and else goes on."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from hordet.engine import runner as run
from hordet.engine.determinism import UNORDERED, prepare_determinism

ROOT = Path(__file__).parents[2]
LEAF = ROOT / "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py"


@pytest.fixture(autouse=True)
def restore(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


def test_a_run_warns_where_mmengine_would_end_it(monkeypatch, tmp_path, cache_folder):
    options = {"randomness.deterministic": True, "env_cfg.cudnn_benchmark": True}
    cfg = run.read_config(LEAF, tiny=True, options=options, work_dir=str(tmp_path))
    run.build_training_runner(cfg)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.deterministic and not cfg.env_cfg.cudnn_benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_without_the_key_nothing_changes():
    cfg = Config(dict(env_cfg=dict(cudnn_benchmark=True), randomness=dict(seed=0)))
    prepare_determinism(cfg)
    assert cfg.env_cfg.cudnn_benchmark and "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_the_page_names_the_same_kernels():
    page = (ROOT / "docs/training.md").read_text()
    assert all(f"`{name}`" in page for name in UNORDERED)
