"""Compiled regions: the same numbers, other sizes without another compilation, clear errors."""

import copy
import shutil
from pathlib import Path

import pytest
import torch

from hordet.engine import modes as compiled
from hordet.engine import runner as run
from hordet.registry import MODELS

ARCH = dict(base_channels=16, depths=(1, 1, 2, 1), orders=(2, 3, 4, 5))


def model():
    torch.manual_seed(0)
    backbone = MODELS.build(
        dict(type="hordet.HorNet", arch=ARCH, layer_scale_init_value=0.5, out_indices=(0, 2))
    )
    neck = MODELS.build(
        dict(type="hordet.HorFPN", in_channels=[16, 64], out_channels=16, num_outs=2)
    )
    return torch.nn.Sequential(backbone, neck)


def test_no_compiler_is_an_error_with_the_cure(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(compiled.CompilerError, match="'no-such-compiler'.*g\\+\\+.*CXX"):
        compiled.compile_regions(model())


def test_no_compiler_for_a_gpu_is_an_error_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(compiled.CompilerError, match="a C compiler.*'no-such-compiler'.*CC"):
        compiled.compile_regions(model())


@pytest.mark.parametrize("known", [True, False])
def test_an_option_of_a_newer_torch_is_left_out_before(monkeypatch, known):
    """torch.compile refuses options that it does not know; strict_output_strides is of 2.14."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    options = ["strict_output_strides"] if known else ["max_autotune"]
    monkeypatch.setattr(torch._inductor, "list_options", lambda: options)
    given = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **kwargs: given.append(kwargs))
    compiled.compile_regions(model())
    wanted = {"strict_output_strides": True} if known else None
    assert given and all(each == dict(dynamic=True, options=wanted) for each in given)


def test_regions_and_state_dict(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    net = model()
    before = set(net.state_dict())
    assert compiled.compile_regions(net) == 3 + 1 + 2
    assert set(net.state_dict()) == before


@pytest.mark.parametrize("wanted", [True, False])
def test_the_config_key(monkeypatch, tmp_path, wanted):
    models = []
    monkeypatch.setattr(run, "compile_regions", models.append)
    leaf = Path(__file__).parents[2] / "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py"
    runner = run.build_training_runner(
        run.read_config(
            leaf, tiny=True, options={"compile_regions": wanted}, work_dir=str(tmp_path)
        )
    )
    assert models == [runner.model] * wanted


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_one_compilation_serves_every_size():
    plain = model().eval()
    net = copy.deepcopy(plain)
    compiled.compile_regions(net)
    with torch.no_grad():
        for i, size in enumerate([(64, 96), (97, 65), (128, 160), (33, 47)]):
            if i == 2:
                torch.compiler.set_stance("fail_on_recompile")
            try:
                x = torch.randn(1, 3, *size)
                for got, want in zip(net(x), plain(x), strict=True):
                    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
            finally:
                torch.compiler.set_stance("default")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_gradients_are_those_of_the_eager_model(size):
    plain = model().train()
    net = copy.deepcopy(plain)
    compiled.compile_regions(net)
    x = torch.randn(2, 3, *size)
    for one in (plain, net):
        sum(out.square().mean() for out in one(x)).backward()
    for (name, want), got in zip(plain.named_parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(got.grad, want.grad, rtol=1e-3, atol=1e-5, msg=name)
