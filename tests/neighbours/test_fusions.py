"""Every fusion of the table, alone and in FusionFPN: what each has to keep to be one."""

import copy
import inspect
import subprocess
import sys

import pytest
import torch
from torch import nn

from hordet.errors import ConfigError
from hordet.neighbours import FUSIONS, load_fusion

CHANNELS = 16
SIZES = [(13, 7), (1, 1), (32, 32), (2, 5)]


@pytest.fixture(params=FUSIONS)
def fusion(request):
    torch.manual_seed(0)
    return load_fusion(request.param)(CHANNELS)


def draw(*size, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, CHANNELS, *size, generator=generator)


def test_the_table_is_in_order_and_each_entry_is_a_small_file_of_torch_alone(repository):
    assert list(FUSIONS) == sorted(FUSIONS)
    room = repository / "hordet" / "neighbours"
    files = {place.partition(":")[0] for place in FUSIONS.values()}
    assert {path.stem for path in room.glob("*.py")} - {"__init__"} == files
    assert all(len(path.read_text().splitlines()) < 200 for path in room.glob("*.py"))


def test_the_page_has_a_row_for_each(repository):
    lines = (repository / "docs" / "neighbours.md").read_text().splitlines()
    rows = [line.split("`")[1] for line in lines if line.startswith("| `")]
    assert [name for name in rows if name in FUSIONS] == list(FUSIONS)


def test_nothing_is_imported_before_it_is_named():
    code = (
        "import sys, hordet.neighbours as room\n"
        "before = [name for name in sys.modules if name.startswith('hordet.neighbours.')]\n"
        "room.load_fusion('pi_net')\n"
        "after = [name for name in sys.modules if name.startswith('hordet.neighbours.')]\n"
        "print(before, after, [n for n in ('mmcv', 'mmdet', 'mmengine') if n in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[] ['hordet.neighbours.pi_net'] []"


def test_an_unknown_name_gets_a_hint():
    with pytest.raises(ConfigError, match=r"got fusion 'pinet'; did you mean 'pi_net'\?"):
        load_fusion("pinet")


def test_the_class_takes_channels_and_options_of_its_own(fusion):
    parameters = list(inspect.signature(type(fusion)).parameters.values())
    assert parameters[0].name == "channels"
    assert all(p.default is not inspect.Parameter.empty for p in parameters[1:])
    assert type(fusion).__doc__ and inspect.getmodule(type(fusion)).__doc__


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_any_size(fusion, size):
    for mode in (True, False):
        out = fusion.train(mode)(draw(*size))
        assert out.shape == (2, CHANNELS, *size)
        assert torch.isfinite(out).all()


def test_a_step_has_a_gradient_on_every_parameter(fusion):
    fusion.train()
    with torch.no_grad():  # branches that start at zero would hide what they multiply
        for parameter in fusion.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    # Images of different means, which open and close what acts on means.
    x = (draw(13, 7, batch=32) + 2 * draw(1, 1, batch=32)).requires_grad_()
    torch.manual_seed(2)
    out = fusion(x)
    (out * torch.randn_like(out)).sum().backward()
    assert x.grad.abs().sum() > 0
    for name, parameter in fusion.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # Not only some entries. A ReLU may be closed; a bias before a batch norm gets rounding.
        share = (parameter.grad != 0).float().mean().item()
        assert share > 0.7, (name, share)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter -= 0.1 * parameter.grad
        after = fusion(x)
    assert torch.isfinite(after).all() and (after != out).any()


def test_the_fresh_output_is_alive(fusion):
    """Of the input's order of magnitude: neither starved nor blown up."""
    out = fusion.train()(draw(32, 32))
    assert 0.1 < out.std().item() < 5


def test_save_and_load(fusion, tmp_path):
    fusion.train()(draw(13, 7))  # moves statistics, where there are some
    want = fusion.eval()(draw(13, 7))
    torch.save(fusion.state_dict(), tmp_path / "weights.pth")
    torch.manual_seed(3)
    other = type(fusion)(CHANNELS).eval()  # a copy would bring along what the file lacks
    other.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    torch.testing.assert_close(other(draw(13, 7)), want, rtol=0, atol=0)


@torch.no_grad()
def test_channels_last_equals_contiguous(fusion):
    fusion.eval()
    x = draw(13, 7)
    turned = copy.deepcopy(fusion).to(memory_format=torch.channels_last)
    want = fusion(x)
    got = turned(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_bfloat16_autocast_is_finite(fusion):
    fusion.train()
    with torch.autocast("cpu", torch.bfloat16):
        out = fusion(draw(13, 7))
    out.float().square().mean().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in fusion.parameters())


@torch.no_grad()
def test_repr_and_copy(fusion):
    assert type(fusion).__name__ in repr(fusion)
    fusion.eval()
    torch.testing.assert_close(
        copy.deepcopy(fusion)(draw(8, 8)), fusion(draw(8, 8)), rtol=0, atol=0
    )


@torch.no_grad()
def test_folding_batch_norms_keeps_the_numbers(fusion):
    """mmcv folds a norm into the convolution before it, as registered: both must stand in order."""
    from mmcv.cnn.utils.fuse_conv_bn import fuse_conv_bn

    fusion.train()(draw(13, 7))
    fusion.eval()
    folded = fuse_conv_bn(copy.deepcopy(fusion))
    torch.testing.assert_close(folded(draw(13, 7)), fusion(draw(13, 7)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FUSIONS)
def test_in_a_tiny_pyramid(name):
    from hordet.registry import MODELS

    torch.manual_seed(0)
    neck = MODELS.build(
        dict(
            type="hordet.FusionFPN",
            in_channels=[8, 12],
            out_channels=CHANNELS,
            num_outs=3,
            add_extra_convs="on_output",
            norm_cfg=dict(type="BN"),
            act_cfg=dict(type="ReLU"),
            fusion=name,
        )
    )
    neck.init_weights()
    kind = load_fusion(name)
    assert [type(m.conv) for m in (*neck.fpn_convs[:2], neck.fpn_convs[2][1])] == [kind] * 3
    outs = neck.train()([torch.randn(2, 8, 13, 9), torch.randn(2, 12, 7, 5)])
    assert [tuple(out.shape[1:]) for out in outs] == [(16, 13, 9), (16, 7, 5), (16, 4, 3)]
    assert all((out >= 0).all() and out.any() for out in outs)
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in neck.parameters())
