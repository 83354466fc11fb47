"""One tester for every registered model component: a new one earns its tests by a row in ROWS."""

import copy

import pytest
import torch
from mmengine.structures import PixelData

from hordet.registry import MODELS

ARCH = dict(base_channels=16, depths=(1, 1, 1, 1), orders=(2, 3, 4, 5))
PYRAMID = [16, 32, 64, 128]


def row(name, **kwargs):
    return dict(type=f"hordet.{name}", **kwargs)


def uper(**kwargs):
    settings = dict(in_channels=PYRAMID, in_index=[0, 1, 2, 3], channels=16, num_classes=5)
    return row("HorUPerHead", norm_cfg=dict(type="BN"), **settings, **kwargs)


def fpn(**kwargs):
    return row("HorFPN", in_channels=PYRAMID, out_channels=16, **kwargs)


def graph(**kwargs):
    return row("GraphFPN", in_channels=PYRAMID, out_channels=16, **kwargs)


def eseg(**kwargs):
    return row("ESegHead", in_channels=[16] * 6, channels=16, num_classes=5, **kwargs)


LAYER = dict(in_channels=16, out_channels=16)
CONV = dict(**LAYER, kernel_size=3, padding=1)
# (config, kind of input, sizes of the outputs for an image of 64 x 96)
FOUR = [(16, 24), (8, 12), (4, 6), (2, 3)]
ROWS = {
    "layer-norm": (row("LayerNorm2d", channels=16), "map", FOUR[:1]),
    "global-filter": (row("GlobalLocalFilter", channels=16), "map", FOUR[:1]),
    "gnconv": (row("GnConv", order=3, **LAYER), "map", FOUR[:1]),
    "gnconv-gf": (row("GnConv", order=3, spatial="gf", proj_out=False, **LAYER), "map", FOUR[:1]),
    "gn-fusion": (row("GnFusion", **LAYER), "map", FOUR[:1]),
    "fplus": (row("FPLUS"), "map", FOUR[:1]),
    "pfplus": (row("PFPLUS"), "map", FOUR[:1]),
    "sparse-conv": (row("SparseConv2d", **CONV), "map", FOUR[:1]),
    "drop-connect-conv": (row("DropConnectConv2d", **CONV), "map", FOUR[:1]),
    "frequency-dropout-conv": (row("FrequencyDropoutConv2d", **CONV), "map", FOUR[:1]),
    "hornet-7x7": (row("HorNet", arch=ARCH), "image", FOUR),
    "hornet-gf": (row("HorNet", arch=dict(ARCH, base_channels=32), spatial="gf"), "image", FOUR),
    "hornet-cp": (row("HorNet", arch=ARCH, with_cp=True, drop_path_rate=0.2), "image", FOUR),
    "hornet-two": (row("HorNet", arch=ARCH, out_indices=(0, 2)), "image", [FOUR[0], FOUR[2]]),
    "hornet-near-linear": (
        row("HorNet", arch=ARCH, init="near_linear", layer_scale_init_value=1.0),
        "image",
        FOUR,
    ),
    "hornet-no-scale": (row("HorNet", arch=ARCH, layer_scale_init_value=0), "image", FOUR),
    "timm-resnet": (
        row("TimmBackbone", model_name="test_resnet", model_kwargs=dict(zero_init_last=False)),
        "image",
        FOUR,
    ),
    "timm-convnext-norms": (
        row("TimmBackbone", model_name="test_convnext", out_norm=True, out_indices=(1, 3)),
        "image",
        [FOUR[1], FOUR[3]],
    ),
    "timm-cp": (
        row("TimmBackbone", model_name="test_efficientnet", with_cp=True, drop_path_rate=0.2),
        "image",
        FOUR,
    ),
    "rmnet": (row("RMNet", depth=18), "image", FOUR),
    "raft-mlp": (row("RaftMLP"), "image", FOUR),
    "dgmn2": (row("DGMN2"), "image", FOUR),
    "sda-resnet": (row("SDAResNet", depth=50), "image", FOUR),
    "pdc-resnet": (row("PDCResNet", alpha=0.1), "image", FOUR),
    "g-ghost-regnet": (row("GGhostRegNet", arch="002"), "image", FOUR),
    "network-in-network": (row("PlainNetwork"), "image", FOUR),
    "all-cnn": (row("PlainNetwork", arch="all_cnn", out_indices=(1, 2)), "image", FOUR[1:3]),
    "torchvision-shufflenet": (
        row("TorchvisionBackbone", model_name="shufflenet_v2_x0_5"),
        "image",
        FOUR,
    ),
    "fpn-7x7": (fpn(num_outs=5), "pyramid", [*FOUR, (1, 2)]),
    "fpn-gf": (fpn(num_outs=5, spatial="gf"), "pyramid", [*FOUR, (1, 2)]),
    "fpn-official": (fpn(num_outs=4, init="official"), "pyramid", FOUR),
    "fpn-order3-5x5": (fpn(num_outs=4, order=3, kernel_size=5), "pyramid", FOUR),
    "fpn-norm": (
        fpn(num_outs=4, norm_cfg=dict(type="GN", num_groups=4), act_cfg=dict(type="ReLU")),
        "pyramid",
        FOUR,
    ),
    "fpn-input": (
        fpn(num_outs=5, start_level=1, add_extra_convs="on_input"),
        "pyramid",
        [*FOUR[1:], (1, 2), (1, 1)],
    ),
    "fpn-lateral": (
        fpn(num_outs=5, start_level=1, add_extra_convs="on_lateral", spatial="gf"),
        "pyramid",
        [*FOUR[1:], (1, 2), (1, 1)],
    ),
    "fpn-output": (
        fpn(
            num_outs=6, add_extra_convs=True, relu_before_extra_convs=True, no_norm_on_lateral=True
        ),
        "pyramid",
        [*FOUR, (1, 2), (1, 1)],
    ),
    "fpn-middle": (
        fpn(num_outs=2, start_level=1, end_level=2, upsample_cfg=dict(mode="bilinear")),
        "pyramid",
        FOUR[1:3],
    ),
    "fusion-fpn": (
        row("FusionFPN", in_channels=PYRAMID, out_channels=16, num_outs=5, fusion="pi_net"),
        "pyramid",
        [*FOUR, (1, 2)],
    ),
    "fusion-fpn-gnconv": (
        row("FusionFPN", in_channels=PYRAMID, out_channels=16, num_outs=4, fusion="gnconv"),
        "pyramid",
        FOUR,
    ),
    "bifpn": (graph(num_outs=5), "pyramid", [*FOUR, (1, 2)]),
    "bifpn-p2-p9": (
        # Not batch norm, whose gradient is zero over the two single cells of P9.
        graph(
            num_outs=8,
            stack_times=2,
            norm_cfg=dict(type="GN", num_groups=4),
        ),
        "pyramid",
        [*FOUR, (1, 2), (1, 1), (1, 1), (1, 1)],
    ),
    "bifpn-conv": (
        graph(num_outs=4, fusion="conv", norm_cfg=None, act_cfg=None, init="xavier"),
        "pyramid",
        FOUR,
    ),
    "hor-bifpn": (graph(num_outs=5, fusion="gnconv"), "pyramid", [*FOUR, (1, 2)]),
    "hor-bifpn-gf": (
        graph(num_outs=4, fusion="gnconv", spatial="gf", weight_method="softmax", start_level=1),
        "pyramid",
        [*FOUR[1:], (1, 2)],
    ),
    "pafpn": (
        graph(
            num_outs=5,
            topology="pafpn",
            fusion="conv",
            weight_method="sum",
            downsample="conv",
            norm_cfg=dict(type="GN", num_groups=4),
            upsample_cfg=dict(mode="bilinear"),
        ),
        "pyramid",
        [*FOUR, (1, 2)],
    ),
    "uper-7x7": (uper(), "pyramid", FOUR[:1]),
    "uper-gf": (uper(spatial="gf"), "pyramid", FOUR[:1]),
    "uper-all": (uper(replace="all", proj_out=False), "pyramid", FOUR[:1]),
    "uper-official": (uper(init="official"), "pyramid", FOUR[:1]),
    "eseg": (eseg(norm_cfg=dict(type="BN")), "levels", FOUR[:1]),
    "eseg-sum": (eseg(num_convs=0, weight_method="sum"), "levels", FOUR[:1]),
    "fcn-mask": (
        row("FCNMaskHead", num_convs=1, in_channels=16, conv_out_channels=16, num_classes=5),
        "map",
        [(32, 48)],
    ),
    "rle-mask": (
        row("RleMaskHead", num_convs=1, in_channels=16, conv_out_channels=16, num_classes=5),
        "map",
        [(32, 48)],
    ),
    "lraspp": (
        row(
            "LRASPPHead",
            in_channels=[16, 32, 128],
            in_index=[0, 1, 3],
            channels=16,
            input_transform="multiple_select",
            num_classes=5,
            norm_cfg=dict(type="BN"),
        ),
        "pyramid",
        FOUR[:1],
    ),
}


@pytest.fixture(params=ROWS, ids=ROWS)
def case(request):
    config, kind, sizes = ROWS[request.param]
    torch.manual_seed(0)
    return MODELS.build(copy.deepcopy(config)), kind, sizes


def make_input(kind, batch=2, height=64, width=96, requires_grad=False):
    generator = torch.Generator().manual_seed(1)
    if kind == "image":
        x = torch.randn(batch, 3, height, width, generator=generator)
        return x.requires_grad_(requires_grad)
    if kind == "map":
        x = torch.randn(batch, 16, height // 4, width // 4, generator=generator)
        return x.requires_grad_(requires_grad)
    # 'levels': P2 to P7 of one width, as a neck gives them.
    channels = [16] * 6 if kind == "levels" else PYRAMID
    return [
        torch.randn(
            batch, c, max(height // s, 1), max(width // s, 1), generator=generator
        ).requires_grad_(requires_grad)
        for c, s in zip(channels, (4, 8, 16, 32, 64, 128), strict=False)
    ]


def outputs(model, x):
    out = model(x)
    return [out] if isinstance(out, torch.Tensor) else list(out)


def test_every_registered_component_has_a_row():
    # What is made of these parts, a whole segmentor say, has its tests in tests/inference.
    parts = {
        name
        for name in MODELS.names()
        if (part := MODELS.get(name)) and not part.__module__.startswith("hordet.inference")
    }
    assert parts == {config["type"].split(".")[1] for config, *_ in ROWS.values()}


def test_shapes(case):
    model, kind, sizes = case
    outs = outputs(model.eval(), make_input(kind))
    assert [tuple(o.shape[-2:]) for o in outs] == sizes
    if kind == "image":
        assert [o.shape[1] for o in outs] == list(model.out_channels)
        assert [64 // o.shape[2] for o in outs] == list(model.out_strides)


@pytest.mark.parametrize("size", [(33, 47), (65, 32), (97, 131)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_odd_sizes(case, size):
    model, kind, _ = case
    for out in outputs(model.eval(), make_input(kind, 1, *size)):
        assert torch.isfinite(out).all()


def test_every_parameter_gets_a_gradient(case):
    model, kind, _ = case
    if hasattr(model, "dropout") and model.dropout is not None:
        model.dropout = None
    x = make_input(kind, requires_grad=True)
    outs = outputs(model.train(), x)
    # Not the plain sum: behind a batch norm its gradient is zero.
    sum((o * torch.randn_like(o)).sum() for o in outs).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("conv_seg") and parameter.grad is None:
            continue
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # A bias before a batch norm has none but rounding noise.
        assert parameter.grad.abs().sum() > 0, name


def test_save_and_load(case, tmp_path):
    model, kind, _ = case
    x = make_input(kind)
    outputs(model.train(), x)  # moves the statistics of batch norms
    want = outputs(model.eval(), x)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    other.load_state_dict(torch.load(tmp_path / "weights.pth"))
    for got, expected in zip(outputs(other, x), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_init_weights_of_a_fresh_model(case):
    """mmengine's `init_weights` runs without a checkpoint and keeps the outputs alive."""
    model, kind, _ = case
    if hasattr(model, "init_weights"):  # the layers are plain torch modules
        model.init_weights()
    for out in outputs(model.eval(), make_input(kind)):
        assert out.std() > 1e-6


def test_images_do_not_mix(case):
    model, kind, _ = case
    x = make_input(kind)
    first = [level[:1] for level in x] if isinstance(x, list) else x[:1]
    for both, alone in zip(outputs(model.eval(), x), outputs(model, first), strict=True):
        torch.testing.assert_close(both[:1], alone, rtol=1e-3, atol=1e-4)


def test_bfloat16_autocast(case):
    model, kind, _ = case
    with torch.no_grad():
        want = outputs(model.eval(), make_input(kind))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = outputs(model, make_input(kind))
    for a, b in zip(got, want, strict=True):
        assert (a.float() - b).norm() <= 0.05 * b.norm() + 1e-6


def test_channels_last_input(case):
    model, kind, _ = case
    x = make_input(kind)
    turned = (
        [level.to(memory_format=torch.channels_last) for level in x]
        if isinstance(x, list)
        else x.to(memory_format=torch.channels_last)
    )
    for a, b in zip(outputs(model.eval(), x), outputs(model, turned), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_builds_on_the_meta_device():
    for config, *_ in ROWS.values():
        with torch.device("meta"):
            MODELS.build(copy.deepcopy(config))


def test_layer_norm_is_a_norm_for_configs():
    from mmcv.cnn import build_norm_layer

    name, layer = build_norm_layer(dict(type="hordet.LayerNorm2d"), 16)
    assert name == "ln" and layer.weight.shape == (16,)


def test_head_takes_a_loss_step():
    head = MODELS.build(uper())
    maps = make_input("pyramid")
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 5, (1, 64, 96)))
        samples.append(sample)
    loss = head.loss(maps, samples, dict())["loss_ce"]
    loss.backward()
    assert 1 < loss.item() < 3  # ln 5 = 1.6
