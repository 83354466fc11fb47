"""Triton's gates in the interpreter equal the plain gnConv; the switch and its errors."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from hordet.engine import modes
from hordet.engine import runner as run
from hordet.errors import CompilerError, ConfigError
from hordet.layers import GnConv

CASES = Path(__file__).with_name("triton_cases.py")
LEAF = Path(__file__).parents[2] / "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py"
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="no package triton")


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("triton"))
    env = os.environ | dict(TRITON_INTERPRET="1", TRITON_CACHE_DIR=folder, OMP_NUM_THREADS="1")
    env["PYTHONPATH"] = os.pathsep.join([str(CASES.parents[2]), env.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, CASES], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_triton
def test_output_and_gradients_are_those_of_the_plain_layers(interpreted):
    """Batches, odd sizes, kernels of 1, 3, 5 and 7, orders 2 and 3, in float32 and bfloat16."""
    assert len(interpreted["cases"]) == 6
    for name, errors in interpreted["cases"].items():
        limit = 1e-5 if name.endswith("float32") else 4e-2
        assert len(errors) > 6 and max(errors) < limit, (name, errors)


@needs_triton
def test_rows_of_several_blocks_and_taps_far_above_and_below(interpreted):
    """The weight's gradient is a sum over blocks of 8 rows; a kernel of 7 reaches 3 rows."""
    assert len(interpreted["tall"]) == 2
    for name, errors in interpreted["tall"].items():
        assert len(errors) == 6 and max(errors) < 1e-5, (name, errors)


@needs_triton
def test_a_product_of_several_tiles(interpreted):
    assert interpreted["project"] < 1e-6


@needs_triton
def test_the_convolution_and_its_gate_are_one_kernel(interpreted):
    """Forward: one kernel for f and the first gate, one for the projection and the second."""
    calls = interpreted["calls"]
    assert calls[:2] == ["_convolve", "_multiply_gated"]
    assert sorted(calls[2:]) == ["_convolve", "_convolve", "_sum_taps"]  # p, q, the weight


def test_it_is_off_and_its_module_not_imported():
    assert GnConv(8, 8, 2).gates is None
    code = "import sys, hordet.layers, hordet.hornet; print('triton' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_a_gpu_or_triton_it_is_an_error_with_the_cure(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if find_spec("triton"):
        with pytest.raises(CompilerError, match="needs a GPU.*remove triton_gates"):
            modes.use_triton_gates(GnConv(8, 8, 2))
    monkeypatch.setattr(modes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CompilerError, match="needs the package triton"):
        modes.use_triton_gates(GnConv(8, 8, 2))


@pytest.mark.parametrize("compiled", [False, True])
def test_the_config_key(monkeypatch, tmp_path, cache_folder, compiled):
    models = []
    monkeypatch.setattr(run, "use_triton_gates", models.append)
    options = {"triton_gates": True, "compile_regions": compiled}
    cfg = run.read_config(LEAF, tiny=True, options=options, work_dir=str(tmp_path))
    if compiled:
        with pytest.raises(ConfigError, match="compile_regions and triton_gates.*choose one"):
            run.build_training_runner(cfg)
    else:
        runner = run.build_training_runner(cfg)
        assert models == [runner.model]
