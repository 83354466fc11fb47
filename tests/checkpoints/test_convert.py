"""Converted files hold the same numbers under the right names, bit for bit and in both directions.

No weight file of HorNet is at hand: files with the authors' names and shapes stand in for them.
"""

import json
import re

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from hordet.backbones import HorNet
from hordet.checkpoints import (
    SOURCES,
    TARGETS,
    convert_names,
    fill_model,
    load_checkpoint,
    save_checkpoint,
    wrap_state_dict,
)
from hordet.checkpoints.layouts import FAMILIES
from hordet.config.load import load_config
from hordet.errors import CheckpointError
from hordet.registry import MODELS

ARCHS = ("tiny", "small", "base", "large")
CLASSIFICATION = [f"cls/hornet_{arch}_{form}" for arch in ARCHS for form in ("7x7", "gf")]
CLASSIFICATION += [f"cls/hornet_{arch}_gf_img384" for arch in ("base", "large")]
DENSE = [f"dense/{arch}_{form}" for arch in ARCHS for form in ("7x7", "gf_14x8", "gf_24x13")]
PARTS = [f"gnfpn/s_256_{form}" for form in ("7x7", "gf")]
PARTS += [f"gnfpn_fixed/s_256_{form}_on_input_start1" for form in ("7x7", "gf")]
PARTS += [f"gnuperhead/s_512_{form}" for form in ("7x7", "gf")]


@pytest.fixture(scope="module")
def numbers():
    """Random numbers that all stand-in tensors are cut from, so that large models cost nothing."""
    return torch.rand(20_000_000, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def official(reference, numbers):
    """Make the state dict of an official file from its name in the reference."""
    shapes = json.loads((reference / "keys.json").read_text())

    def make(name, prefix=""):
        state = {}
        for offset, (key, shape) in enumerate(shapes[name].items()):
            count = torch.Size(shape).numel()
            state[prefix + key] = numbers[offset : offset + count].view(shape)
        return state

    make.names = set(shapes)
    return make


def same(a, b):
    """Same names in the same order, same dtypes, shapes and bits."""
    return list(a) == list(b) and all(
        x.dtype == y.dtype and torch.equal(x, y)
        for x, y in zip(a.values(), b.values(), strict=True)
    )


def mmpretrain_name(key):
    """The reference's table, by plain replacement."""
    classification = re.fullmatch(r"(norm|head)\.\w+", key)
    if classification:
        return key.replace("norm.", "backbone.norm3.").replace("head.", "head.fc.")
    return re.sub(r"(gamma\d)$", r"\1.weight", key.replace(".pws.", ".projs."))


def test_every_official_file_is_covered(official):
    assert {*CLASSIFICATION, *DENSE, *PARTS} == official.names


@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("name", [*CLASSIFICATION, *DENSE])
def test_official_and_mmpretrain_round_trip(official, name, prefix):
    classification = name in CLASSIFICATION
    if classification and prefix:
        pytest.skip("classification files of the authors have no prefix")
    file = {"state_dict" if prefix else "model": official(name, prefix), "optimizer": {}}
    state = file["state_dict" if prefix else "model"]

    there = convert_names(file, target="mmpretrain")
    assert (there.source, there.target) == ("official", "mmpretrain")
    assert there.known == len(state) and not there.unknown and not there.dropped
    expected = [mmpretrain_name(key) for key in state]
    if classification:
        expected = [key if key[:4] in ("head", "back") else f"backbone.{key}" for key in expected]
    assert list(there.state_dict) == expected
    assert same(
        convert_names(wrap_state_dict(there), target="mmpretrain").state_dict, there.state_dict
    )

    for target in ("official", "hordet"):
        back = convert_names(wrap_state_dict(there), target=target)
        assert back.source == "mmpretrain"
        assert same(back.state_dict, state)
        again = convert_names(wrap_state_dict(back), target=target)
        assert same(again.state_dict, state)
    assert same(convert_names(file).state_dict, state)  # these names are ours
    assert same(
        convert_names(file, source="hordet", target="mmpretrain").state_dict, there.state_dict
    )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "name",
    [
        name if name in ("cls/hornet_tiny_7x7", "dense/tiny_gf_24x13")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in [*CLASSIFICATION, *DENSE, *PARTS]
    ],
)  # fmt: skip
def test_files_round_trip(official, tmp_path, name, suffix):
    state = official(name)
    path = tmp_path / f"a{suffix}"
    for target in TARGETS[:3]:
        if name in PARTS:
            conversion = convert_names(state, source="hordet")
        else:
            conversion = convert_names(state, target=target)
        content = conversion.state_dict if suffix == ".safetensors" else wrap_state_dict(conversion)
        save_checkpoint(content, path, overwrite=True)
        if name in PARTS:
            back = load_checkpoint(path)
        else:
            back = convert_names(load_checkpoint(path), target="official").state_dict
        assert {*back} == {*state} and all(torch.equal(back[k], state[k]) for k in state)


def empty(build):
    """Build a model whose parameters hold nothing yet, without the time to initialize them."""
    with torch.device("meta"):
        model = build()
    return model.to_empty(device="cpu")


def hornet(name):
    arch, spatial, size = re.search(
        r"(tiny|small|base|large)_(7x7|gf)(_24x13|_img384)?", name
    ).groups()
    sizes = ((24, 13), (12, 7)) if size else ((14, 8), (7, 4))
    return HorNet(arch, spatial="gf" if spatial == "gf" else "dw7x7", gf_sizes=sizes)


@pytest.mark.parametrize("name", [*CLASSIFICATION, *DENSE])
def test_by_way_of_mmpretrain_into_the_model(official, name):
    state = official(name)
    model = empty(lambda: hornet(name))
    coverage = fill_model(
        model, convert_names(convert_names(state, target="mmpretrain").state_dict).state_dict
    )
    norms = tuple(f"norm{i}.{p}" for i in range(4) for p in ("weight", "bias"))
    head = ("norm.weight", "norm.bias", "head.weight", "head.bias")
    own = model.state_dict()
    if name in CLASSIFICATION:
        assert coverage.missing == norms and set(coverage.unexpected) == set(head)
    else:
        assert coverage.matched == coverage.total == len(own) and not coverage.unexpected
    assert not coverage.mismatched and not coverage.reshaped
    assert all(torch.equal(own[key], state[key]) for key in own if key in state)


@pytest.mark.parametrize("size", ["classification", "mmpretrain's 384"])
def test_filters_of_another_size_are_reported(official, size):
    state = official("cls/hornet_tiny_gf")
    if size != "classification":  # mmpretrain has (24, 12) and (13, 7) for the authors' sizes
        state = convert_names(state, target="mmpretrain").state_dict
        for key in state:
            if key.endswith("complex_weight"):
                height, width = (24, 12) if ".2." in key[:18] else (13, 7)
                state[key] = torch.rand(len(state[key]), height, width, 2)
    coverage = fill_model(empty(lambda: hornet("tiny_gf_24x13")), convert_names(state).state_dict)
    assert len(coverage.reshaped) == 20 and coverage.share > 0.98
    assert all(key.endswith("complex_weight") for key in coverage.reshaped)
    assert "reshaped: stages.2.0.gnconv.dwconv.complex_weight" in str(coverage)


def test_the_norm_of_a_classifier_never_becomes_that_of_a_feature_map(official):
    file = convert_names(official("cls/hornet_tiny_7x7"), target="mmpretrain").state_dict
    cut_out = {k.removeprefix("backbone."): v for k, v in file.items() if k[:4] == "back"}
    for state in (file, cut_out):
        converted = convert_names(state).state_dict
        assert "norm.weight" in converted and not any("norm3" in key for key in converted)
    # A detector's own norm is one, alone or not.
    detector = {"backbone.norm3.weight": file["backbone.norm3.weight"]}
    detector |= {k: v for k, v in file.items() if "stages" in k}
    detector["neck.lateral_convs.0.conv.weight"] = torch.ones(1)
    assert "backbone.norm3.weight" in convert_names(detector).state_dict


@pytest.mark.parametrize(
    ("leaf", "parts"),
    [
        (
            "coco/mask-rcnn_hornet-small-7x7_horfpn-7x7_1x.py",
            {"backbone.": "dense/small_7x7", "neck.": "gnfpn/s_256_7x7"},
        ),
        (
            "coco/mask-rcnn_hornet-small-7x7_horfpn-gf_1x.py",
            {"backbone.": "dense/small_7x7", "neck.": "gnfpn/s_256_gf"},
        ),
        (
            "ade20k/upernet_hornet-small-7x7_horuperhead-7x7_160k.py",
            {"backbone.": "dense/small_7x7", "decode_head.": "gnuperhead/s_512_7x7"},
        ),
        (
            "ade20k/upernet_hornet-small-7x7_horuperhead-gf_160k.py",
            {"backbone.": "dense/small_7x7", "decode_head.": "gnuperhead/s_512_gf"},
        ),
    ],
)
def test_official_detectors_and_segmentors(repository, official, leaf, parts):
    """Backbone, neck and head of the authors' files fill the configs' models without a rest."""
    cfg = load_config(repository / "configs" / leaf)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = empty(lambda: MODELS.build(cfg.model))
    state = {}
    for prefix, name in parts.items():
        state |= official(name, prefix)
    others = {k: torch.rand_like(v.float()) for k, v in model.state_dict().items()}
    state |= {k: v for k, v in others.items() if not k.startswith(tuple(parts))}
    file = {"meta": {"mmcv_version": "1.5.0"}, "state_dict": state, "optimizer": {"state": {}}}
    converted = convert_names(file).state_dict
    assert same(converted, state)
    coverage = fill_model(model, converted)
    assert coverage.matched == coverage.total and not coverage.unexpected
    assert not coverage.missing and not coverage.reshaped
    own = model.state_dict()
    assert all(torch.equal(own[key], state[key]) for key in state if "tracked" not in key)
    back = convert_names(
        convert_names(file, target="mmpretrain").state_dict, target="official"
    ).state_dict
    assert same(back, state)


@pytest.mark.parametrize("name", PARTS[:4])
def test_necks_of_the_authors(official, name):
    options = dict(in_channels=[96, 192, 384, 768], out_channels=256, num_outs=5)
    if "on_input" in name:
        options |= dict(start_level=1, add_extra_convs="on_input")
    neck = MODELS.build(
        dict(type="hordet.HorFPN", spatial="gf" if "_gf" in name else "dw7x7", **options)
    )
    neck.load_state_dict(official(name), strict=True)


def small_convnext(kind):
    depths, dims = (1, 1, 2, 1), (16, 32, 64, 128)
    if kind == "timm":
        from timm.models.convnext import ConvNeXt

        return ConvNeXt(depths=depths, dims=dims, num_classes=10)
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    wider = (*dims[1:], None)
    settings = [CNBlockConfig(*s) for s in zip(dims, wider, depths, strict=True)]
    return ConvNeXt(settings, num_classes=10)


def randomised(model):
    """Every tensor away from its start, so that a mixed-up one shows."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3 + 0.2
    return model.eval()


def test_convnext_of_torchvision():
    source, target = randomised(small_convnext("torchvision")), small_convnext("timm").eval()
    conversion = convert_names(source.state_dict())
    assert (conversion.family, conversion.source) == ("ConvNeXt", "torchvision")
    target.load_state_dict(conversion.state_dict, strict=True)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(target(x), source(x), rtol=1e-4, atol=1e-4)


def test_convnext_of_its_authors():
    from timm.models.convnext import checkpoint_filter_fn  # timm's own reader of their files

    model = randomised(small_convnext("timm"))
    state = model.state_dict()
    file = convert_names(state, target="official")
    assert "stages.2.1.pwconv1.weight" in file.state_dict and file.source == "timm"
    assert "downsample_layers.0.1.bias" in file.state_dict
    read = checkpoint_filter_fn(dict(file.state_dict), model)
    assert {*read} == {*state} and all(torch.equal(read[key], state[key]) for key in state)
    assert same(convert_names(wrap_state_dict(file), target="timm").state_dict, state)


SWIN = dict(depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8))


@pytest.mark.parametrize("project", ["torchvision", "timm"])
def test_swin_into_mmdet(tmp_path, installed, project):
    """mmdet's Swin, told to read its authors' names, reads the converted file."""
    # More than one window in the last stage: where there is one, mmdet alone shifts it.
    x = torch.randn(1, 3, 448, 448, dtype=torch.float64)
    if project == "torchvision":
        from torchvision.models import SwinTransformer

        source = SwinTransformer([4, 4], 24, window_size=[7, 7], **SWIN)
        last = lambda: source.norm(source.features(x)).permute(0, 3, 1, 2)  # noqa: E731
    else:
        from timm.models.swin_transformer import SwinTransformer, checkpoint_filter_fn

        source = SwinTransformer(448, embed_dim=24, **SWIN)
        last = lambda: source.forward_features(x).permute(0, 3, 1, 2)  # noqa: E731
    torch.manual_seed(1)
    for name, parameter in source.named_parameters():
        if not name.startswith("norm."):  # mmdet has other norms at its outputs, at their start
            torch.nn.init.normal_(parameter, 0.05, 0.1)
    conversion = convert_names(source.eval().state_dict())
    assert (conversion.family, conversion.source) == ("Swin", project)
    assert not conversion.unknown
    if project == "timm":  # timm's own reader of their files undoes it
        read = checkpoint_filter_fn(dict(conversion.state_dict), source)
        own = source.state_dict()
        assert {*read} == {*own} and all(torch.equal(read[key], own[key]) for key in own)
    save_checkpoint(conversion.state_dict, tmp_path / "swin.safetensors")
    init = dict(type="Pretrained", checkpoint=str(tmp_path / "swin.safetensors"))
    cfg = dict(type="mmdet.SwinTransformer", embed_dims=24, convert_weights=True, init_cfg=init)
    target = MODELS.build(ConfigDict(cfg, out_indices=(3,), **SWIN))
    target.init_weights()
    target.eval()
    # Double: random weights amplify rounding, and a mixed-up tensor would show all the same.
    with torch.no_grad():
        for model in (source, target):
            model.double()
        torch.testing.assert_close(target(x)[0], last(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("project", ["torchvision", "timm"])
def test_resnet_needs_no_other_names(project):
    import timm
    import torchvision

    make = dict(torchvision=torchvision.models.resnet50, timm=lambda: timm.create_model("resnet50"))
    state = make[project]().state_dict()
    conversion = convert_names(state)
    assert conversion.family == "ResNet" and same(conversion.state_dict, state)
    model = MODELS.build(dict(type="mmdet.ResNet", depth=50))
    coverage = fill_model(model, conversion.state_dict)
    assert coverage.share == 1 and set(coverage.unexpected) == {"fc.weight", "fc.bias"}


def test_resnet_v1c_of_timm():
    from timm.models.resnet import BasicBlock, ResNet

    stem = dict(stem_width=32, stem_type="deep")
    source = randomised(ResNet(BasicBlock, [2, 2, 2, 2], num_classes=5, **stem))
    conversion = convert_names(source.state_dict())
    assert (conversion.family, conversion.source) == ("ResNet V1c", "timm")
    target = MODELS.build(dict(type="mmseg.ResNetV1c", depth=18))
    target.eval()
    coverage = fill_model(target, conversion.state_dict)
    assert coverage.share == 1 and {*coverage.unexpected} == {"fc.weight", "fc.bias"}
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(target(x)[-1], source.forward_features(x), rtol=1e-4, atol=1e-4)
    back = convert_names(conversion.state_dict, target="timm").state_dict
    assert same(back, source.state_dict())


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_tables(family):
    """Each project has one name for each row, and no two rows share one within a project."""
    assert {len(row) for row in family.rows} == {len(family.layouts)}
    rows = [r for r in family.rows if family.name != "HorNet classification" or "backbone" in r[1]]
    for column in range(len(family.layouts)):
        names = [row[column] for row in rows]
        assert len(names) == len({*names})


def test_a_file_of_another_kind():
    state = torch.nn.Sequential(torch.nn.Linear(2, 2)).state_dict()
    with pytest.raises(CheckpointError, match=r"0 of 2 names fit.*it holds 0\.weight, 0\.bias"):
        convert_names(state)
    with pytest.raises(CheckpointError, match="0 of 0 names fit.*no tensor"):
        convert_names({"epoch": 3})
    mixed = {f"layer1.{i}.conv1.weight": torch.ones(1) for i in range(4)}
    mixed |= {f"other.{i}": torch.ones(1) for i in range(2)}
    with pytest.raises(CheckpointError, match=r"4 of 6 names fit the nearest \(ResNet, torch.*90%"):
        convert_names(mixed)
    conversion = convert_names(mixed, minimum_share=0.5)
    assert conversion.unknown == ("other.0", "other.1") and same(conversion.state_dict, mixed)
    assert "4 of 6 names known; unknown, kept: other.0, other.1" in str(conversion)
    kept = convert_names(mixed, source="hordet", target="hordet")
    assert same(kept.state_dict, mixed) and str(kept) == "6 tensors, names kept"


def test_words_that_are_not_known():
    with pytest.raises(CheckpointError, match="got source 'keras'; allowed are auto, hordet"):
        convert_names({}, source="keras")
    with pytest.raises(CheckpointError, match="got target 'torchvision'; allowed are hordet"):
        convert_names({}, target="torchvision")
    resnet = {"layer1.0.conv1.weight": torch.ones(1)}
    with pytest.raises(CheckpointError, match="ResNet has no names of 'mmpretrain'"):
        convert_names(resnet, target="mmpretrain")
    with pytest.raises(CheckpointError, match="0 of 1 names fit the nearest.*official"):
        convert_names(resnet, source="official")
    assert {"torchvision", "efficientnet-pytorch"} < {*SOURCES}


def test_the_given_dict_stays_as_it_is():
    source = small_convnext("torchvision").state_dict()
    before = dict(source)
    result = convert_names(source).state_dict
    assert list(source) == list(before) and all(source[key] is before[key] for key in before)
    gamma = result["stages.0.blocks.0.gamma"]
    assert gamma.data_ptr() == source["features.1.0.layer_scale"].data_ptr()
