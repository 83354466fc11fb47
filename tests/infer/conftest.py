"""A detector and a segmentor of random weights, with the config and the pictures of a dry run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Model:
    """A config, its checkpoint, the folder of its test pictures and their annotation file."""

    config: Any
    checkpoint: Path
    pictures: Path
    annotations: Path


@pytest.fixture(scope="session")
def make_model(drawn_pictures, tmp_path_factory):
    """Build a dry run's model from a leaf and write its random weights."""
    from hordet.run import read_config

    def make(leaf, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HORDET_CACHE", str(drawn_pictures))
            cfg = read_config(ROOT / leaf, options=options, tiny=True)
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = MODELS.build(cfg.model)
        checkpoint = tmp_path_factory.mktemp("weights") / "random.pth"
        torch.save({"state_dict": model.state_dict(), "meta": {}}, checkpoint)
        root = Path(cfg.test_dataloader.dataset.data_root)
        return Model(cfg, checkpoint, root / "val", root / "annotations/instances_val.json")

    return make


@pytest.fixture(scope="session")
def detector(make_model):
    return make_model("configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py")


@pytest.fixture(scope="session")
def segmentor(make_model):
    """150 classes whose label files count from 1, by sliding windows."""
    return make_model("configs/ade20k/upernet_hornet-nano_horuperhead_2k.py")
