"""GraphFPN: equal to plain loops and to mmdet's necks; initialization, levels, errors."""

import naive_bifpn
import pytest
import torch

from hordet.layers import WeightedSum
from hordet.registry import MODELS

PANET = dict(topology="pafpn", fusion="conv", weight_method="sum", downsample="conv")
PLAIN = dict(norm_cfg=None, act_cfg=None)


def graph_fpn(**kwargs):
    return MODELS.build(dict(type="hordet.GraphFPN", **kwargs))


def randomised(neck):
    """Every parameter and statistic away from its start, so that none can be left out."""
    generator = torch.Generator().manual_seed(0)

    def normal(x):
        return torch.randn(x.shape, generator=generator)

    for name, value in neck.state_dict().items():
        if name.endswith("running_var") or name.endswith("combine.weight"):
            value.copy_(0.5 + normal(value).abs())
        elif value.ndim == 1:
            value.copy_(0.3 * normal(value) + (1 if name.endswith("bn.weight") else 0))
        elif value.ndim > 1:
            value.copy_(normal(value) / value[0].numel() ** 0.5)
    return neck.double().eval()


def pyramid(channels, sizes):
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(1, c, *size, generator=generator).double()
        for c, size in zip(channels, sizes, strict=True)
    ]


# Halved, rounded up and rounded down: backbones do both.
SIZES = {
    "even": [(16, 24), (8, 12), (4, 6)],
    "odd up": [(13, 19), (7, 10), (4, 5)],
    "odd down": [(13, 19), (6, 9), (3, 4)],
}


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(
    ("fusion", "method", "stack_times"),
    [
        ("separable", "fast", 2),
        ("separable", "softmax", 1),
        ("conv", "sum", 2),
        ("conv", "fast", 1),
        ("gnconv", "fast", 1),
    ],
)
def test_bifpn_equals_plain_loops(fusion, method, stack_times, sizes):
    channels, num_outs = [3, 5, 6], 5
    neck = randomised(
        graph_fpn(
            in_channels=channels,
            out_channels=4,
            num_outs=num_outs,
            fusion=fusion,
            weight_method=method,
            stack_times=stack_times,
        )
    )
    maps = pyramid(channels, SIZES[sizes])
    state = {k: v.numpy() for k, v in neck.state_dict().items()}
    want = naive_bifpn.bifpn(
        [m[0].numpy() for m in maps], state, num_outs, stack_times, fusion, method
    )
    with torch.no_grad():
        outs = neck(maps)
    assert len(outs) == num_outs
    for got, expected in zip(outs, want, strict=True):
        torch.testing.assert_close(got[0], torch.from_numpy(expected), rtol=1e-6, atol=1e-6)
        assert got.std() > 0.1


@pytest.mark.parametrize("sizes", SIZES)
def test_pafpn_equals_plain_loops(sizes):
    channels = [3, 5, 6]
    neck = randomised(graph_fpn(in_channels=channels, out_channels=4, num_outs=3, **PANET, **PLAIN))
    maps = pyramid(channels, SIZES[sizes])
    state = {k: v.numpy() for k, v in neck.state_dict().items()}
    want = naive_bifpn.pafpn([m[0].numpy() for m in maps], state)
    with torch.no_grad():
        outs = neck(maps)
    for got, expected in zip(outs, want, strict=True):
        torch.testing.assert_close(got[0], torch.from_numpy(expected), rtol=1e-6, atol=1e-6)


def node(name, level, *inputs, conv=True):
    return dict(name=name, level=level, inputs=inputs, conv=conv)


def top_down(levels):
    """The sums of FPN, as nodes."""
    top = levels - 1
    sums = [node(f"td{top}", top, f"in{top}", conv=False)]
    for i in range(top - 1, -1, -1):
        sums.append(node(f"td{i}", i, f"in{i}", f"td{i + 1}", conv=False))
    return sums


def mmdet_pafpn(levels):
    """mmdet's PAFPN: the sums go up, the convolution of a sum goes out only."""
    nodes = top_down(levels) + [node(f"fpn{i}", i, f"td{i}") for i in range(1, levels)]
    nodes.append(node("out0", 0, "td0"))
    below = "out0"
    for i in range(1, levels):
        nodes += [
            node(f"up{i}", i, f"fpn{i}", below, conv=False),
            node(f"out{i}", i, f"up{i}"),
        ]
        below = f"up{i}"
    return nodes


def copy_from_mmdet(neck, stock):
    """Hand the weights of mmdet's FPN or PAFPN to a GraphFPN."""
    weights, want = {}, stock.state_dict()

    def hand_over(target, source):
        for kind in ("weight", "bias"):
            weights[f"cells.0.{target}.conv.{kind}"] = want.pop(f"{source}.conv.{kind}")

    levels = len(stock.lateral_convs)
    for i in range(levels):
        hand_over(f"td{i}.edges.0.0", f"lateral_convs.{i}")
        paths = hasattr(stock, "pafpn_convs") and i > 0
        hand_over(f"fpn{i}.fusion" if paths else f"out{i}.fusion", f"fpn_convs.{i}")
        if paths:
            name = f"up{i}" if f"up{i}" in neck.cells[0] else f"out{i}"
            hand_over(f"{name}.edges.1.0", f"downsample_convs.{i - 1}")
            hand_over(f"out{i}.fusion", f"pafpn_convs.{i - 1}")
    assert not want
    neck.load_state_dict(weights)
    return neck.double()


@pytest.mark.parametrize(
    ("kind", "levels", "topology"),
    [
        ("FPN", 4, top_down(4) + [node(f"out{i}", i, f"td{i}") for i in range(4)]),
        ("PAFPN", 2, "pafpn"),
        ("PAFPN", 4, mmdet_pafpn(4)),
    ],
    ids=["fpn", "pafpn-2", "pafpn-4"],
)
def test_necks_of_mmdet_as_topologies(kind, levels, topology):
    channels = [3, 5, 6, 7][:levels]
    settings = dict(in_channels=channels, out_channels=4, num_outs=levels)
    stock = MODELS.build(dict(type=f"mmdet.{kind}", **settings)).double()
    neck = graph_fpn(**settings, **(PANET | dict(topology=topology)), **PLAIN)
    copy_from_mmdet(neck, stock)
    maps = pyramid(channels, [(13, 19), (7, 10), (4, 5), (2, 3)][:levels])
    for got, want in zip(neck(maps), stock(maps), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_bifpn_of_efficientdet_d0():
    """Its parameters; the package effdet 0.4.1 has as many, and with them the same outputs."""
    neck = graph_fpn(in_channels=[40, 112, 320], out_channels=64, num_outs=5, stack_times=3)
    assert sum(p.numel() for p in neck.parameters()) == 194_361


def stds(neck, channels, seed=0):
    """Standard deviations of the outputs, and of the gradients that reach the inputs."""
    generator = torch.Generator().manual_seed(seed)
    maps = [
        torch.randn(1, c, 48 // s, 64 // s, generator=generator).requires_grad_()
        for c, s in zip(channels, (1, 2, 4, 8), strict=True)
    ]
    outs = neck(maps)
    sum((o * torch.randn(o.shape, generator=generator)).sum() for o in outs).backward()
    return [o.std().item() for o in outs], [m.grad.std().item() for m in maps]


@pytest.mark.parametrize("norm", [dict(), dict(norm_cfg=None)], ids=["norm", "plain"])
@pytest.mark.parametrize(
    "kind",
    [
        dict(),
        dict(stack_times=3),
        dict(fusion="conv", weight_method="sum"),
        dict(fusion="gnconv"),
        dict(fusion="gnconv", weight_method="softmax", stack_times=3),
        dict(fusion="gnconv", spatial="gf"),
        dict(PANET),
        dict(PANET, fusion="gnconv"),
    ],
    ids=lambda kind: "-".join(map(str, kind.values())) or "bifpn",
)
def test_default_initialization_is_as_alive_as_a_stock_fpn(kind, norm):
    channels = [96, 192, 384, 768]
    torch.manual_seed(0)
    stock = MODELS.build(dict(type="mmdet.FPN", in_channels=channels, out_channels=128, num_outs=5))
    stock.init_weights()
    neck = graph_fpn(in_channels=channels, out_channels=128, num_outs=5, **kind, **norm)
    neck.init_weights()
    want, got = stds(stock, channels), stds(neck.eval(), channels)
    for ours, theirs in zip(sum(got, []), sum(want, []), strict=True):
        assert 0.2 < ours / theirs < 4


def test_xavier_initialization_starves_nodes_without_norm():
    """Why it is not the default."""
    channels = [96, 192, 384, 768]
    torch.manual_seed(0)
    settings = dict(in_channels=channels, out_channels=128, num_outs=5, norm_cfg=None)
    for fusion in ("separable", "gnconv"):
        starved, _ = stds(graph_fpn(fusion=fusion, init="xavier", **settings), channels)
        alive, _ = stds(graph_fpn(fusion=fusion, **settings), channels)
        assert max(starved) < 0.1 * min(alive)


def compute_kurtosis(x):
    """Mean fourth over squared second moment by channel of (N, C, H, W); 3 for normal numbers."""
    x = x - x.mean((0, 2, 3), keepdim=True)
    return (x**4).mean().item() / (x**2).mean().item() ** 2


@pytest.mark.parametrize("pre_norm", [True, False])
def test_stacked_gnconvs_keep_their_variance_in_many_pixels(pre_norm):
    """Without the norm a few pixels hold it, and HorBiFPN learns nothing (docs/notes/necks.md)."""
    torch.manual_seed(0)
    channels = [64, 128, 256, 512]
    neck = graph_fpn(
        in_channels=channels,
        out_channels=64,
        num_outs=5,
        stack_times=3,
        fusion="gnconv",
        norm_cfg=dict(type="BN"),
        pre_norm=pre_norm,
    )
    neck.init_weights()
    # Pixels of a backbone differ in size, here as lognormal numbers.
    maps = [
        torch.randn(2, c, 96 // s, 96 // s) * torch.randn(2, 1, 96 // s, 96 // s).exp()
        for c, s in zip(channels, (1, 2, 4, 8), strict=True)
    ]
    with torch.no_grad():
        outs = neck.train()(maps)
    kurtosis = compute_kurtosis(outs[0])
    assert 2.5 < kurtosis < 4 if pre_norm else kurtosis > 1000


def test_levels_of_the_backbone_that_are_used():
    neck = graph_fpn(
        in_channels=[3, 5, 6, 7], out_channels=4, num_outs=4, start_level=1, end_level=2
    )
    maps = [x.float() for x in pyramid([3, 5, 6, 7], [(16, 16), (8, 8), (4, 4), (2, 2)])]
    outs = neck.eval()(maps)
    assert [tuple(o.shape) for o in outs] == [(1, 4, s, s) for s in (8, 4, 2, 1)]
    other = [x if i in (1, 2) else x + 1 for i, x in enumerate(maps)]
    for a, b in zip(neck(other), outs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_p2_to_p9_of_a_small_image():
    """Stride 512 of an image of 64 pixels: the last levels are single cells."""
    neck = graph_fpn(in_channels=[3, 5, 6, 7], out_channels=4, num_outs=8)
    maps = [
        torch.randn(2, c, 64 // s, 64 // s)
        for c, s in zip([3, 5, 6, 7], (4, 8, 16, 32), strict=True)
    ]
    outs = neck(maps)
    assert [o.shape[-1] for o in outs] == [16, 8, 4, 2, 1, 1, 1, 1]
    assert all(torch.isfinite(o).all() for o in outs)


def test_weights_of_init_cfg_are_kept(tmp_path):
    settings = dict(in_channels=[3, 5], out_channels=4, num_outs=3)
    source = randomised(graph_fpn(**settings)).float()
    torch.save(source.state_dict(), tmp_path / "neck.pth")
    checkpoint = dict(type="Pretrained", checkpoint=str(tmp_path / "neck.pth"))
    loaded = graph_fpn(**settings, init_cfg=checkpoint)
    loaded.init_weights()
    for key, value in source.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=0, atol=0)


BAD = {
    "fusion": (dict(fusion="gncov"), "'separable', 'conv', 'gnconv'"),
    "weight method": (dict(weight_method="attn"), "'fast', 'softmax', 'sum'"),
    "downsample": (dict(downsample="avg"), "'max_pool', 'conv'"),
    "init": (dict(init="kaiming"), "'default', 'xavier'"),
    "topology": (dict(topology="panfpn"), "did you mean 'pafpn'"),
    "upsample": (dict(upsample_cfg=dict(scale_factor=2)), "leave size and scale_factor out"),
    "stack times": (dict(stack_times=0), "at least once"),
    "start": (dict(start_level=2), "0 <= start_level <= end_level <= 1"),
    "end": (dict(end_level=2), "0 <= start_level <= end_level <= 1"),
    "few outs": (dict(num_outs=1), "at least 2, or set end_level=0"),
    "gnconv width": (dict(fusion="gnconv", order=4), "multiples of 8 can"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_arguments(fault):
    options, message = BAD[fault]
    with pytest.raises(ValueError, match=message):
        graph_fpn(**(dict(in_channels=[3, 5], out_channels=4, num_outs=3) | options))


def test_wrong_number_of_maps():
    neck = graph_fpn(in_channels=[3, 5], out_channels=4, num_outs=2)
    with pytest.raises(ValueError, match=r"got 1 maps for in_channels=\[3, 5\]"):
        neck([torch.zeros(1, 3, 4, 4)])


def test_weighted_sum():
    maps = [torch.randn(2, 3, 4, 5) for _ in range(3)]
    layer = WeightedSum(3, "fast")
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, -2.0, 3.0]))
    torch.testing.assert_close(layer(maps), (maps[0] + 3 * maps[2]) / 4.0001)
    for method in ("fast", "softmax"):
        fresh = WeightedSum(3, method)(maps)
        torch.testing.assert_close(fresh, sum(maps) / 3, rtol=1e-4, atol=1e-4)
        half = [x.bfloat16() for x in maps]
        assert WeightedSum(3, method)(half).dtype == torch.bfloat16
    alone = WeightedSum(1, "fast")
    assert not list(alone.parameters())
    assert alone(maps[:1]) is maps[0]
