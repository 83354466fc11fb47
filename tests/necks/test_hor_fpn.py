"""HorFPN beside the stock FPN: initialization, options, errors."""

import inspect

import pytest
import torch

from hordet.layers import GnConv
from hordet.registry import MODELS

IN_CHANNELS = [96, 192, 384, 768]


def hor_fpn(**kwargs):
    settings = dict(in_channels=IN_CHANNELS, out_channels=256, num_outs=5) | kwargs
    neck = MODELS.build(dict(type="hordet.HorFPN", **settings))
    neck.init_weights()
    return neck


def stock_fpn(**kwargs):
    settings = dict(in_channels=IN_CHANNELS, out_channels=256, num_outs=5) | kwargs
    neck = MODELS.build(dict(type="mmdet.FPN", **settings))
    neck.init_weights()
    return neck


@pytest.mark.parametrize("norm_cfg", [None, dict(type="BN")])
def test_the_start_knows_what_enters_each_fusion(norm_cfg):
    neck = hor_fpn(norm_cfg=norm_cfg)
    entered = []
    for fusion in neck.fpn_convs:
        fusion.register_forward_pre_hook(lambda module, inputs: entered.append(inputs[0].std()))
    generator = torch.Generator().manual_seed(0)
    sizes = zip(IN_CHANNELS, (64, 32, 16, 8), strict=True)
    with torch.no_grad():
        neck([torch.randn(4, c, s, s, generator=generator) for c, s in sizes])
    assert [std.item() for std in entered] == pytest.approx(neck._estimate_stds(), rel=0.06)


def levels_and_gradients(neck, scale=1.0, seed=0):
    """Standard deviations of P2..P6, and of the gradients that reach C2..C5."""
    generator = torch.Generator().manual_seed(seed)
    pyramid = [
        (scale * torch.randn(1, c, 96 // s, 128 // s, generator=generator)).requires_grad_()
        for c, s in zip(IN_CHANNELS, (1, 2, 4, 8), strict=True)
    ]
    outs = neck(pyramid)
    cotangents = [torch.randn(o.shape, generator=generator) for o in outs]
    sum((o * c).sum() for o, c in zip(outs, cotangents, strict=True)).backward()
    return [o.std().item() for o in outs], [x.grad.std().item() for x in pyramid]


@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
@pytest.mark.parametrize("extra", [dict(), dict(add_extra_convs="on_output")], ids=["pool", "conv"])
@pytest.mark.parametrize("scale", [0.5, 1.0])  # the global filter's is 1 whatever it gets
def test_default_initialization_is_as_alive_as_a_stock_fpn(spatial, extra, scale):
    torch.manual_seed(0)
    want_levels, want_gradients = levels_and_gradients(stock_fpn(**extra), scale)
    levels, gradients = levels_and_gradients(hor_fpn(spatial=spatial, **extra), scale)
    for got, want in zip(levels + gradients, want_levels + want_gradients, strict=True):
        assert 0.3 < got / want < 3


def test_official_initialization_starves_the_7x7_form():
    """Why it is not the default: Xavier over every convolution multiplies small numbers."""
    torch.manual_seed(0)
    levels, _ = levels_and_gradients(hor_fpn(init="official", skip=False))
    want, _ = levels_and_gradients(stock_fpn())
    assert max(levels) < 0.02 * min(want)


def test_options_of_fpn_come_first_and_in_its_order():
    ours, theirs = (
        list(inspect.signature(MODELS.get(name).__init__).parameters.values())
        for name in ("hordet.HorFPN", "mmdet.FPN")
    )
    assert [p.name for p in ours[: len(theirs)]] == [p.name for p in theirs]
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(theirs) :])


@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
@pytest.mark.parametrize("norm_cfg", [None, dict(type="BN")], ids=["plain", "norm"])
def test_skip_adds_what_enters_each_fusion(spatial, norm_cfg):
    torch.manual_seed(0)
    settings = dict(out_channels=16, num_outs=5, spatial=spatial, norm_cfg=norm_cfg)
    plain, ours = hor_fpn(**settings, skip=False), hor_fpn(**settings)
    plain.load_state_dict({**ours.state_dict()})  # without metadata: a config's skip holds
    entering = []
    for fusion in ours.fpn_convs:
        fusion.register_forward_pre_hook(lambda module, args: entering.append(args[0]))
    pyramid = [
        torch.randn(2, c, 48 // s, 64 // s) for c, s in zip(IN_CHANNELS, (1, 2, 4, 8), strict=True)
    ]
    outs, without = ours(pyramid), plain(pyramid)
    assert len(entering) == 4
    for out, other, x in zip(outs, without, entering, strict=False):
        torch.testing.assert_close(out, other + x)


def test_each_level_starts_for_the_sums_that_it_gets():
    """The products' share of the output is the same on P2, a sum of four laterals, as on P5."""
    torch.manual_seed(0)
    neck = hor_fpn(out_channels=64, num_outs=4, norm_cfg=dict(type="BN"), skip=False).train()
    got, shares = {}, []
    for level, fusion in enumerate(neck.fpn_convs):
        fusion.register_forward_pre_hook(lambda m, args, i=level: got.update({i: args[0]}))
    neck(
        [
            torch.randn(2, c, 48 // s, 64 // s)
            for c, s in zip(IN_CHANNELS, (1, 2, 4, 8), strict=True)
        ]
    )
    for level, fusion in enumerate(neck.fpn_convs):
        x = got[level]
        assert x.std().item() == pytest.approx((4 - level) ** 0.5, rel=0.05)
        linear = linear_part(fusion, x)
        whole = GnConv.forward(fusion, x)
        assert whole.std().item() == pytest.approx(x.std().item(), rel=0.15)
        shares.append(((whole - linear).var() / whole.var()).item())
    assert max(shares) < 0.2 and max(shares) / min(shares) < 1.5


def linear_part(fusion, x):
    """The response without products: what is 1 at the start, times the context."""
    _, q = fusion.proj_in(x)
    context = fusion.dwconv(q)[:, -fusion.dims[-1] :]
    return fusion.proj_out(context)


def test_laterals_are_those_of_fpn():
    """With the fusions removed both necks agree, level by level, on odd sizes too."""
    torch.manual_seed(0)
    stock, ours = stock_fpn(num_outs=4), hor_fpn(num_outs=4)
    ours.lateral_convs.load_state_dict(stock.lateral_convs.state_dict())
    for neck in (stock, ours):
        for i in range(4):
            neck.fpn_convs[i] = torch.nn.Identity()
    sizes = [(25, 33), (13, 17), (7, 9), (4, 5)]
    pyramid = [torch.randn(1, c, *s) for c, s in zip(IN_CHANNELS, sizes, strict=True)]
    for a, b in zip(stock(pyramid), ours(pyramid), strict=True):
        torch.testing.assert_close(a, b)


def test_extra_levels_start_from_their_source():
    torch.manual_seed(0)
    relu = hor_fpn(num_outs=6, add_extra_convs="on_output", relu_before_extra_convs=True)
    pyramid = [
        torch.randn(1, c, 64 // s, 64 // s) for c, s in zip(IN_CHANNELS, (1, 2, 4, 8), strict=True)
    ]
    outs = relu(pyramid)
    torch.testing.assert_close(outs[4], relu.fpn_convs[4](outs[3]))
    torch.testing.assert_close(outs[5], relu.fpn_convs[5](outs[4].relu()))
    assert [tuple(o.shape[-2:]) for o in outs[4:]] == [(4, 4), (2, 2)]


def test_weights_of_init_cfg_are_kept(tmp_path):
    source = hor_fpn(out_channels=16)
    torch.save(source.state_dict(), tmp_path / "neck.pth")
    checkpoint = dict(type="Pretrained", checkpoint=str(tmp_path / "neck.pth"))
    loaded = hor_fpn(out_channels=16, init_cfg=checkpoint)
    for key, value in source.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=0, atol=0)


def test_bad_arguments():
    with pytest.raises(ValueError, match="'default', 'near_linear', 'official'"):
        hor_fpn(init="xavier")
    with pytest.raises(ValueError, match="multiples of 4 can, the nearest 252 or 256"):
        hor_fpn(out_channels=255, order=3)
