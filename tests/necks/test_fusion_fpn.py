"""FusionFPN: mmdet's FPN and HorFPN bit for bit, options and errors."""

import inspect

import pytest
import torch

from hordet.config.faults import find_faults
from hordet.errors import ConfigError
from hordet.necks.fusion_fpn import FusionFPN
from hordet.neighbours import FUSIONS
from hordet.registry import MODELS

IN_CHANNELS = [8, 16, 32]
LEVELS = [
    dict(),
    dict(num_outs=5, add_extra_convs="on_input"),
    dict(num_outs=5, add_extra_convs="on_output", relu_before_extra_convs=True),
    dict(num_outs=4, start_level=1, add_extra_convs="on_lateral", no_norm_on_lateral=True),
    dict(num_outs=2, start_level=0, end_level=1, upsample_cfg=dict(mode="bilinear")),
]


def build(kind, **options):
    settings = dict(in_channels=IN_CHANNELS, out_channels=16, num_outs=4) | options
    torch.manual_seed(0)
    neck = MODELS.build(dict(type=kind, **settings))
    neck.init_weights()
    return neck


def pyramid():
    generator = torch.Generator().manual_seed(1)
    sizes = [(23, 17), (12, 9), (6, 5)]
    return [
        torch.randn(2, c, *size, generator=generator)
        for c, size in zip(IN_CHANNELS, sizes, strict=True)
    ]


def assert_same(ours, theirs):
    """The same keys, numbers at the start, outputs and gradients, to the bit."""
    states = ours.state_dict(), theirs.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    outs = ours(pyramid()), theirs(pyramid())
    assert all(torch.equal(a, b) for a, b in zip(*outs, strict=True))
    for out in outs:
        sum(x.square().mean() for x in out).backward()
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert a.grad is None if b.grad is None else torch.equal(a.grad, b.grad), name


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("norm_cfg", [None, dict(type="BN")], ids=["plain", "norm"])
def test_conv3x3_is_fpn(levels, norm_cfg):
    options = dict(levels, norm_cfg=norm_cfg, act_cfg=norm_cfg and dict(type="ReLU"))
    assert_same(build("hordet.FusionFPN", **options), build("mmdet.FPN", **options))


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize(
    "own",
    [
        dict(),
        dict(spatial="gf", gf_size=(8, 5)),
        dict(order=3, kernel_size=5, init="near_linear", skip=False),
        dict(init="official", skip=False),
    ],
    ids=["default", "gf", "order3", "official"],
)
def test_gnconv_is_horfpn(levels, own):
    ours = build("hordet.FusionFPN", **levels, fusion=dict(type="gnconv", **own))
    theirs = build("hordet.HorFPN", **levels, **own)
    assert_same(ours, theirs)


def test_checkpoints_fit_both_ways():
    """With the mark of the skip in the metadata."""
    ours, theirs = build("hordet.FusionFPN", fusion="gnconv"), build("hordet.HorFPN", skip=False)
    with pytest.warns(UserWarning, match="without the skip"):
        ours.load_state_dict(theirs.state_dict())
    assert_same(ours, theirs)


def test_options_of_fpn_come_first_and_in_its_order():
    ours, theirs = (
        list(inspect.signature(MODELS.get(name).__init__).parameters)
        for name in ("hordet.FusionFPN", "mmdet.FPN")
    )
    assert ours == [*theirs, "fusion"]
    assert FusionFPN.declare_channels(out_channels=16, num_outs=3, fusion="pi_net") == (16,) * 3


def test_options_go_to_the_fusion():
    neck = build("hordet.FusionFPN", fusion=dict(type="pi_net", degree=3, kernel_size=1))
    for module in neck.fpn_convs:
        assert len(module.conv.factors) == 3
        assert module.conv.factors[0].kernel_size == (1, 1)
        assert not module.with_norm and not module.with_activation


def test_fpn_starts_its_own_convolutions_and_the_fusions_theirs():
    """`init_weights` leaves both as they were built; Xavier would change a fusion's."""
    options = dict(num_outs=5, add_extra_convs="on_input", fusion="pi_net")
    torch.manual_seed(0)
    neck = FusionFPN(IN_CHANNELS, 16, **options)
    before = {key: value.clone() for key, value in neck.state_dict().items()}
    neck.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in neck.state_dict().items())
    for conv, fan in ((neck.lateral_convs[2].conv, 32 + 16), (neck.fpn_convs[3][0].conv, 9 * 48)):
        bound = (6 / fan) ** 0.5
        assert 0.9 * bound < conv.weight.abs().max() <= bound
        assert not conv.bias.any()
    assert all((mixer.bias == 1).all() for mixer in neck.fpn_convs[0].conv.mixers)


@pytest.mark.parametrize(
    ("fusion", "words"),
    [
        ("gnConv", "did you mean 'gnconv'"),
        (dict(type="pinet"), "did you mean 'pi_net'"),
        (dict(degree=2), "a dict of it as type"),
        (dict(type="conv3x3", degree=2), "got 'degree' for fusion 'conv3x3'; it has none"),
        (dict(type="pi_net", degre=2), "did you mean 'degree'.*allowed are degree, form, rank"),
        (dict(type="pi_net", channels=2), "got 'channels'"),
        (dict(type="gnconv", spatiall="gf"), "did you mean 'spatial'"),
        (dict(type="gnconv", norm_cfg=None), "got 'norm_cfg' for fusion 'gnconv'"),
    ],
)
def test_bad_fusions_are_refused_with_a_hint(fusion, words):
    with pytest.raises(ConfigError, match=words):
        build("hordet.FusionFPN", fusion=fusion)


def test_configs_may_name_every_fusion():
    """The check of a config does not take the names of fusions for classes that are missing."""
    neck = dict(type="hordet.FusionFPN", in_channels=[8], out_channels=16, num_outs=1)
    necks = [dict(neck, fusion=dict(type=name)) for name in (*FUSIONS, "conv3x3", "gnconv")]
    necks.append(dict(neck, fusion=dict(type="gnconv", spatial="gf", order=3)))
    assert find_faults(dict(model=dict(neck=necks))) == []
    assert find_faults(dict(model=dict(neck=dict(neck, fussion="se")))) != []
