"""Layer decay: the authors' groups to the last parameter, and sane ones by default."""

import copy
import json

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper
from mmengine.optim.scheduler import LinearLR, MultiStepLR
from torch import nn

import hordet.registry  # noqa: F401
from hordet.backbones import HorNet
from hordet.necks import HorFPN

BASE_LR = 0.01


def build(model, paramwise_cfg, wrapper="OptimWrapper", **optimizer):
    optimizer = dict(dict(type="AdamW", lr=BASE_LR, weight_decay=0.05), **optimizer)
    config = dict(
        type=wrapper,
        constructor="hordet.LayerDecayOptimWrapperConstructor",
        optimizer={key: value for key, value in optimizer.items() if value is not None},
        paramwise_cfg=paramwise_cfg,
    )
    return build_optim_wrapper(model, config)


def by_name(wrapper):
    return {name: g for g in wrapper.optimizer.param_groups for name in g["param_names"]}


def module_of(shapes):
    """Build nested modules with parameters of these dotted names and shapes, without memory."""
    root = nn.Module()
    for name, shape in shapes.items():
        *path, leaf = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module._modules[part]
        module.register_parameter(leaf, nn.Parameter(torch.empty(shape, device="meta")))
    return root


def stand_in(width):
    """A head as the reference run had it: a convolution and a norm."""
    return nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))


def official_model(config, keys):
    """The model of the reference run: the authors' parameter names, stand-ins for the rest."""
    size = next(size for size in ("tiny", "small", "base", "large") if f"hornet_{size}" in config)
    gf = f"hornet_{size}_gf" in config
    kind = "gf_24x13" if gf else "7x7"
    model = nn.Module()
    model.backbone = module_of(keys[f"dense/{size}_{kind}"])
    neck = "gf" if "horfpn_gf" in config else "7x7"
    if config.startswith("object_detection"):
        horfpn = "/horfpn_" in config
        model.neck = module_of(keys[f"gnfpn/s_256_{neck}"]) if horfpn else stand_in(8)
        model.rpn_head = stand_in(8)
        model.roi_head = stand_in(8)
    else:
        if "/horfpn_" in config:
            shapes = keys[f"gnuperhead/s_512_{neck}"]
            shapes = {k: v for k, v in shapes.items() if "running" not in k and "num_b" not in k}
            model.decode_head = module_of(shapes)
        else:
            model.decode_head = stand_in(8)
        model.auxiliary_head = stand_in(8)
    return model


def assert_groups_match(model, expected):
    """Every group in rate, weight decay and size; every parameter in its group."""
    optimizer = expected["opt"]
    wrapper = build(
        model,
        dict(optimizer["paramwise"], mode="official"),
        lr=optimizer["lr"],
        weight_decay=optimizer["weight_decay"],
    )
    groups = {g["group_name"]: g for g in wrapper.optimizer.param_groups}
    assert groups.keys() == expected["groups"].keys()
    for name, want in expected["groups"].items():
        got = groups[name]
        assert got["lr_scale"] == pytest.approx(want["lr_scale"], rel=1e-12)
        assert got["lr"] == pytest.approx(want["lr"], rel=1e-12)
        assert got["weight_decay"] == want["weight_decay"]
        assert len(got["params"]) == len(got["param_names"]) == want["n"]
        if "param_names" in want:
            assert set(got["param_names"]) == set(want["param_names"])


def test_official_groups_of_every_published_config(reference):
    keys = json.loads((reference / "keys.json").read_text())
    configs = json.loads((reference / "lr_groups.json").read_text())
    assert len(configs) == 21
    for config, expected in configs.items():
        assert_groups_match(official_model(config, keys), expected)


@pytest.mark.parametrize("spatial", ["7x7", "gf"])
def test_official_groups_of_our_own_model(reference, spatial):
    configs = json.loads((reference / "lr_groups.json").read_text())
    folder = "object_detection/configs/horfpn"
    name = f"{folder}/horfpn_{spatial}_mask_rcnn_hornet_small_7x7_1x_coco_in1k.py"
    model = nn.Module()
    model.backbone = HorNet(arch="small")
    widths = list(model.backbone.out_channels)
    model.neck = HorFPN(widths, 256, 5, spatial="gf" if spatial == "gf" else "dw7x7")
    model.rpn_head = stand_in(8)
    model.roi_head = stand_in(8)
    assert_groups_match(model, configs[name])


def nano(**kwargs):
    model = nn.Module()
    model.backbone = HorNet(arch="nano", **kwargs)
    model.head = nn.Conv2d(8, 8, 1)
    return model


def test_default_layers_are_one_a_block():
    # nano: depths (2, 2, 4, 2): stem 0, blocks 1 to 10, head 11.
    wrapper = build(nano(), dict(decay_rate=0.5))
    groups = by_name(wrapper)
    expected = {
        "downsample_layers.0.0.weight": 0,
        "downsample_layers.0.1.bias": 0,
        "stages.0.0.gamma1": 1,
        "stages.0.1.pwconv1.weight": 2,
        "downsample_layers.1.1.weight": 3,
        "stages.1.0.norm1.weight": 3,
        "stages.1.1.norm2.bias": 4,
        "downsample_layers.2.0.weight": 5,
        "stages.2.0.gnconv.proj_in.weight": 5,
        "stages.2.3.gnconv.pws.0.weight": 8,
        "downsample_layers.3.1.bias": 9,
        "stages.3.0.gnconv.dwconv.weight": 9,
        "stages.3.1.gnconv.proj_out.bias": 10,
        "norm0.weight": 11,
        "norm3.bias": 11,
    }
    for name, layer in expected.items():
        group = groups[f"backbone.{name}"]
        assert group["lr_scale"] == 0.5 ** (11 - layer), name
        assert group["lr"] == BASE_LR * 0.5 ** (11 - layer)
        assert group["group_name"].startswith(f"layer_{layer}_")
    assert groups["head.weight"]["lr"] == BASE_LR
    assert max(g["lr_scale"] for g in groups.values()) == 1


def test_default_stages():
    groups = by_name(build(nano(), dict(decay_rate=0.5, decay_type="stage_wise")))
    scales = {
        "downsample_layers.0.0.weight": 0.5**5,
        "stages.0.1.gamma2": 0.5**4,
        "downsample_layers.3.1.weight": 0.5,
        "stages.3.0.gamma1": 0.5,
        "norm2.weight": 1.0,
    }
    for name, scale in scales.items():
        assert groups[f"backbone.{name}"]["lr_scale"] == scale
    assert groups["head.bias"]["lr_scale"] == 1.0


def test_every_parameter_once_and_no_decay_on_one_dimension():
    model = nano(spatial="gf")
    wrapper = build(model, dict(decay_rate=0.8))
    names = [n for g in wrapper.optimizer.param_groups for n in g["param_names"]]
    assert sorted(names) == sorted(n for n, _ in model.named_parameters())
    parameters = dict(model.named_parameters())
    for name, group in by_name(wrapper).items():
        assert group["weight_decay"] == (0.05 if parameters[name].ndim > 1 else 0.0), name
    assert by_name(wrapper)["backbone.stages.2.0.gnconv.dwconv.complex_weight"]["weight_decay"]
    assert by_name(wrapper)["backbone.stages.2.0.gamma1"]["weight_decay"] == 0


def test_rate_of_one_only_exempts_from_weight_decay():
    groups = build(nano(), dict(decay_rate=1.0)).optimizer.param_groups
    assert {g["lr"] for g in groups} == {BASE_LR}
    assert {g["weight_decay"] for g in groups} == {0.0, 0.05}


def test_frozen_parameters_are_left_out():
    model = nano(frozen_stages=2)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert "backbone.stages.1.0.gamma1" in frozen
    assert not frozen & by_name(build(model, dict(decay_rate=0.8))).keys()


def test_wrapped_model_has_the_same_groups():
    model = nano()
    wrapped = nn.Module()
    wrapped.module = model
    plain, other = (build(m, dict(decay_rate=0.8)) for m in (model, wrapped))
    assert {n: g["lr"] for n, g in by_name(plain).items()} == {
        n: g["lr"] for n, g in by_name(other).items()
    }


def test_one_rate_needs_no_layers():
    model = nn.Module()
    model.backbone, model.head = nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2)
    for decay_type in ("layer_wise", "stage_wise"):
        wrapper = build(model, dict(decay_rate=1.0, decay_type=decay_type))
        decays, plain = wrapper.optimizer.param_groups
        assert decays["param_names"] == ["backbone.0.weight", "head.weight"]
        assert plain["param_names"] == ["backbone.0.bias", "head.bias"]
        assert decays["lr"] == plain["lr"] and plain["weight_decay"] == 0 < decays["weight_decay"]


def test_backbone_may_declare_layers_by_a_method():
    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

        def get_stage_depth(self, param_name, prefix=""):
            return 0, 2

        def get_layer_depth(self, param_name, prefix=""):
            return (1 if param_name.startswith("second") else 0), 4

    model = nn.Module()
    model.backbone, model.head = Backbone(), nn.Linear(2, 2)
    groups = by_name(build(model, dict(decay_rate=0.5)))
    assert groups["backbone.first.weight"]["lr_scale"] == 0.5**3
    assert groups["backbone.second.bias"]["lr_scale"] == 0.5**2
    assert groups["head.weight"]["lr_scale"] == 1
    groups = by_name(build(model, dict(decay_rate=0.5, decay_type="stage_wise")))
    assert groups["backbone.second.weight"]["lr_scale"] == 0.5


def test_schedulers_keep_the_ratios():
    model = nano()
    wrapper = build(model, dict(decay_rate=0.5))
    schedulers = [
        LinearLR(wrapper, start_factor=0.1, by_epoch=False, begin=0, end=11),
        MultiStepLR(wrapper, milestones=[15], gamma=0.1, by_epoch=False),
    ]
    seen = []
    for _ in range(20):
        for group in wrapper.optimizer.param_groups:
            assert group["lr"] == pytest.approx(wrapper.get_lr()["base_lr"][0] * group["lr_scale"])
        seen.append(wrapper.get_lr()["base_lr"][0])
        wrapper.step()
        for scheduler in schedulers:
            scheduler.step()
    assert seen[0] == pytest.approx(0.1 * BASE_LR)
    assert seen[12] == pytest.approx(BASE_LR)
    assert seen[-1] == pytest.approx(0.1 * BASE_LR)


no_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="mmengine builds AmpOptimWrapper on a GPU only"
)


@pytest.mark.parametrize(
    "wrapper", [OptimWrapper, pytest.param(AmpOptimWrapper, marks=no_gpu)], ids=["fp32", "amp"]
)
def test_a_step_moves_layers_by_their_rates(wrapper):
    model = nano()
    before = copy.deepcopy(model.state_dict())
    built = build(model, dict(decay_rate=0.5), wrapper.__name__, weight_decay=0.0)
    assert type(built) is wrapper
    built.update_params(sum(p.sum() for p in model.parameters()))
    # The first step of Adam moves every element by its learning rate.
    for name in ("backbone.downsample_layers.0.0.weight", "backbone.norm3.bias", "head.weight"):
        moved = before[name] - model.state_dict()[name]
        lr = by_name(built)[name]["lr"]
        torch.testing.assert_close(moved, torch.full_like(moved, lr), rtol=1e-2, atol=1e-7)


def test_optimizer_without_weight_decay_keeps_its_own():
    groups = build(nano(), dict(decay_rate=0.5), weight_decay=None).optimizer.param_groups
    assert {g["weight_decay"] for g in groups} == {0.0, 0.01}  # AdamW's default is 0.01


@pytest.mark.parametrize(
    ("paramwise_cfg", "message"),
    [
        (dict(decay_rate=0.5, decay_typ="stage_wise"), "did you mean 'decay_type'"),
        (dict(decay_rate=0.5, decay_type="block_wise"), "'layer_wise' and 'stage_wise'"),
        (dict(decay_rate=0.5, mode="theirs"), "'default' and 'official'"),
        (dict(decay_rate=0.5, mode="official"), "needs an integer num_layers"),
        (dict(decay_rate=0.5, num_layers=12), "asks the backbone for its layers"),
        (dict(decay_rate=1.5), r"allowed is a number in \(0, 1\]"),
        (dict(decay_type="layer_wise"), "got decay_rate=None"),
        (None, "got decay_rate=None"),
    ],
)
def test_wrong_settings(paramwise_cfg, message):
    with pytest.raises(ValueError, match=message):
        build(nano(), paramwise_cfg)


def test_model_without_declared_layers():
    settings = dict(decay_rate=0.5)
    with pytest.raises(ValueError, match="without a submodule `backbone`"):
        build(nn.Linear(2, 2), settings)
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="Sequential, which does not declare its layers"):
        build(model, settings)
    model.backbone.depths = (1,)
    with pytest.raises(ValueError, match="got the backbone parameter '0.weight'"):
        build(model, settings)
    with pytest.raises(ValueError, match="got the backbone parameter '0.weight'"):
        build(model, dict(settings, mode="official", num_layers=12))
    with pytest.raises(ValueError, match="without lr"):
        build(nano(), settings, lr=None)


@pytest.mark.parametrize(
    "settings",
    [
        dict(decay_rate=1.0),
        dict(decay_rate=0.9),
        dict(decay_rate=0.9, decay_type="stage_wise"),
        dict(decay_rate=0.9, mode="official", num_layers=12),
    ],
    ids=["same", "layer_wise", "stage_wise", "official"],
)
def test_custom_keys_multiply_in_every_mode(settings, caplog):
    model = small_detector()
    keys = {"neck.fpn_convs": dict(lr_mult=3.0), "neck.fpn_convs.1": dict(lr_mult=2, decay_mult=0)}
    plain = by_name(build(model, settings))
    ours = by_name(build(model, dict(settings, custom_keys=keys)))
    assert plain.keys() == ours.keys()
    for name, group in ours.items():
        longest = name.startswith("neck.fpn_convs.1")
        rate = 2 if longest else 3 if name.startswith("neck.fpn_convs") else 1
        assert group["lr"] == pytest.approx(rate * plain[name]["lr"]), name
        assert group["lr_scale"] == pytest.approx(rate * plain[name]["lr_scale"]), name
        assert group["weight_decay"] == (0 if longest else plain[name]["weight_decay"]), name


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"neck.fpn_conv.": dict(lr_mult=3)}, "no parameter's name.*neck.fpn_convs"),
        ({"neck": dict(lr_mul=3)}, "allowed are lr_mult and decay_mult"),
        ({"neck": dict(lr_mult="3")}, "numbers from 0 on"),
        ({"neck": dict(lr_mult=-1)}, "numbers from 0 on"),
        ({"neck": 3.0}, "a dict of dicts.*in a config file"),
        ("{'neck': dict(lr_mult=3)}", "a dict of dicts.*in a config file"),
    ],
)
def test_bad_custom_keys(keys, message):
    with pytest.raises(ValueError, match=message):
        build(small_detector(), dict(decay_rate=1.0, custom_keys=keys))


def small_detector():
    model = nn.Module()
    model.backbone = HorNet(arch=dict(base_channels=8, depths=(1, 1, 2, 1), orders=(2, 2, 2, 2)))
    model.neck = HorFPN([8, 16, 32, 64], 8, 4)
    return model
