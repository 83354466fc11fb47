"""TimmBackbone: timm's own features, options that mean what they say, errors that name the cure."""

import pytest
import timm
import torch
from torch import nn

from hordet.backbones import TimmBackbone
from hordet.engine import LayerDecayOptimWrapperConstructor
from hordet.errors import CheckpointError

SWIN = dict(
    model_name="swin_tiny_patch4_window7_224",
    model_kwargs=dict(embed_dim=24, depths=(1, 2, 2, 2), num_heads=(1, 2, 3, 6)),
)


def image(height=64, width=96, channels=3):
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(1))


def train_step(backbone, x):
    """A backward pass with every zero-initialized scale awake."""
    with torch.no_grad():
        for parameter in backbone.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    outs = backbone(x)
    sum((out * torch.randn_like(out)).mean() for out in outs).backward()
    return outs


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_byobnet", "test_efficientnet", "test_convnext", "test_nfnet"]
)
def test_outputs_are_those_of_features_only(name):
    backbone = TimmBackbone(name).eval()
    theirs = timm.create_model(name, features_only=True, out_indices=backbone.out_indices).eval()
    weights = backbone.model.state_dict().values()  # timm renames parameters here
    theirs.load_state_dict(dict(zip(theirs.state_dict(), weights, strict=True)))
    assert list(backbone.out_channels) == theirs.feature_info.channels()
    assert list(backbone.out_strides) == theirs.feature_info.reduction() == [4, 8, 16, 32]
    for got, want in zip(backbone(image()), theirs(image()), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_default_outputs_are_the_last_of_each_stride():
    assert TimmBackbone("test_resnet").out_indices == (1, 2, 3, 4)
    dilated = TimmBackbone("test_resnet", model_kwargs=dict(output_stride=16))
    assert (dilated.out_indices, dilated.out_strides) == ((1, 2, 4), (4, 8, 16))
    assert [out.shape[-1] for out in dilated(image())] == [24, 12, 6]
    assert TimmBackbone("test_resnet", out_indices=(0, 4)).out_strides == (2, 32)


@pytest.mark.parametrize("indices", [(1, 2, 3, 4), (1, 3), (2,)], ids=str)
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext2"])
def test_no_parameter_is_unused(name, indices):
    if "convnext" in name:
        indices = tuple(i - 1 for i in indices)  # no feature of stride 2
    backbone = TimmBackbone(name, out_indices=indices)
    outs = train_step(backbone, image())
    assert [out.shape[1] for out in outs] == list(backbone.out_channels)
    unused = [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unused


def test_frozen_stages_and_norm_eval():
    backbone = TimmBackbone("test_resnet", frozen_stages=2, norm_eval=True)
    for _ in range(2):  # at construction, and after another mode
        model = backbone.model
        assert not any(model.get_submodule(n).training for n in ("conv1", "bn1", "layer1.0"))
        assert not model.layer2.training and model.layer3.training and model.layer4[0].training
        assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))
        backbone.eval().train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    train_step(backbone, image())
    trained = {n.split(".")[1] for n, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"layer3", "layer4"}
    assert all(torch.equal(before[n], b) for n, b in backbone.named_buffers())

    stem_only = TimmBackbone("test_resnet", frozen_stages=0)
    assert not stem_only.model.bn1.training and stem_only.model.layer1.training
    assert TimmBackbone("test_resnet").model.bn1.training
    with pytest.raises(ValueError, match=r"frozen_stages=5; allowed for test_resnet are -1.* to 4"):
        TimmBackbone("test_resnet", frozen_stages=5)


def test_recomputation_changes_no_gradient():
    torch.manual_seed(0)
    plain = TimmBackbone("test_convnext")
    recomputing = TimmBackbone("test_convnext", with_cp=True)
    recomputing.load_state_dict(plain.state_dict())
    kept = []
    for backbone in (plain, recomputing):
        saved = 0

        def count(tensor):
            nonlocal saved
            saved += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            outs = backbone(image())
        kept.append(saved)
        sum(out.square().mean() for out in outs).backward()
    assert kept[1] < kept[0] / 2
    for (name, a), b in zip(plain.named_parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
    with pytest.raises(ValueError, match="with_cp=True, which hrnet_w18_small does not support"):
        TimmBackbone("hrnet_w18_small", with_cp=True)


def test_layers_for_layer_decay():
    backbone = TimmBackbone("test_convnext", out_norm=True)
    assert backbone.get_layer_depth("backbone.model.stem.0.weight", "backbone.") == (0, 11)
    assert backbone.get_layer_depth("model.stages.0.blocks.0.gamma") == (1, 11)
    assert backbone.get_layer_depth("model.stages.3.blocks.1.gamma") == (9, 11)
    assert backbone.get_layer_depth("norms.3.weight") == (10, 11)
    # As hordet.engine numbers the stages of HorNet: stem, four stages, head.
    assert backbone.get_stage_depth("backbone.model.stem.0.weight", "backbone.") == (0, 6)
    assert backbone.get_stage_depth("model.stages.3.blocks.1.gamma") == (4, 6)
    assert backbone.get_stage_depth("norms.3.weight") == (5, 6)

    model = nn.Module()
    model.backbone, model.head = backbone, nn.Linear(2, 2)
    settings = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1.0))
    wrapper = LayerDecayOptimWrapperConstructor(settings, dict(decay_rate=0.5))(model)
    rates = {n: g["lr"] for g in wrapper.optimizer.param_groups for n in g["param_names"]}
    assert rates["backbone.model.stem.0.weight"] == 0.5**10
    assert rates["backbone.model.stages.3.blocks.1.gamma"] == 0.5
    assert rates["backbone.norms.0.bias"] == rates["head.weight"] == 1

    unknown = TimmBackbone("poolformer_s12", out_indices=(0, 1))
    with pytest.raises(ValueError, match="poolformer_s12, which does not declare its layers"):
        unknown.get_layer_depth("model.stem.conv.weight")
    with pytest.raises(ValueError, match="declare its stages: .* Leave frozen_stages=-1"):
        TimmBackbone("poolformer_s12", out_indices=(0, 1), frozen_stages=1)


def of_file(path, name="test_resnet", **kwargs):
    init = dict(type="Pretrained", checkpoint=str(path))
    return TimmBackbone(name, init_cfg=init, **kwargs)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_from_timms_file(tmp_path, suffix, monkeypatch):
    from safetensors.torch import save_file

    classifier = timm.create_model("test_resnet").eval()
    path = tmp_path / f"weights.{suffix}"
    save = save_file if suffix == "safetensors" else torch.save
    save(classifier.state_dict(), path)
    said = []
    monkeypatch.setattr(
        "hordet.backbones.wrapped.print_log", lambda text, logger: said.append(text)
    )
    backbone = of_file(path).eval()
    backbone.init_weights()
    tensors = sum("num_batches" not in name for name in backbone.state_dict())
    assert f"{tensors} of {tensors} tensors match; unexpected: fc." in said[0]
    want = classifier.forward_intermediates(image(), indices=[1, 2, 3, 4])[1]
    for a, b in zip(backbone(image()), want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_weights_from_a_trained_detector(tmp_path):
    trained = TimmBackbone("test_convnext", out_norm=True)
    nn.init.normal_(trained.norms[0].weight)
    state = {f"backbone.{name}": value for name, value in trained.state_dict().items()}
    torch.save({"state_dict": {**state, "neck.x": torch.ones(1)}}, tmp_path / "epoch_1.pth")
    backbone = of_file(tmp_path / "epoch_1.pth", "test_convnext", out_norm=True)
    backbone.init_weights()
    for name, value in trained.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value), name


def test_weights_of_another_model_are_refused(tmp_path):
    torch.save(timm.create_model("test_byobnet").state_dict(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="is of another model: 0 of"):
        of_file(tmp_path / "other.pth").init_weights()
    with pytest.raises(CheckpointError, match="no checkpoint file at"):
        of_file(tmp_path / "none.pth").init_weights()
    with pytest.raises(ValueError, match="allowed is dict.type='Pretrained'"):
        TimmBackbone("test_resnet", init_cfg=dict(type="Xavier")).init_weights()


def test_weights_by_name(monkeypatch, tmp_path):
    """Without a network the error says what to do; with the file in place, it is what is loaded."""
    import huggingface_hub.constants

    name = "tf_efficientnet_b0.ap_in1k"
    backbone = of_file(f"timm://{name}", name)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match=f"get the file of timm/{name} from the Hugging Face"):
        backbone.init_weights()

    source = timm.create_model(name)
    nn.init.constant_(source.conv_stem.weight, 0.5)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *a, **k: state)
    state = source.state_dict()
    said = []
    monkeypatch.setattr(
        "hordet.backbones.timm_backbone.print_log", lambda text, logger: said.append(text)
    )
    backbone.init_weights()
    assert (backbone.model.conv_stem.weight == 0.5).all()
    assert "mean=[127.5, 127.5, 127.5]" in said[0]
    with pytest.raises(ValueError, match="timm has timm://tf_efficientnet_b0.* or timm://"):
        of_file("timm://tf_efficientnet_b1.ap_in1k", name).init_weights()


def test_names_and_options_that_do_not_exist():
    with pytest.raises(ValueError, match="did you mean .*'resnet50'.*list_models"):
        TimmBackbone("resnet_50")
    with pytest.raises(ValueError, match="resnet50.nothing.*which timm refuses.*tag"):
        TimmBackbone("resnet50.nothing")
    with pytest.raises(ValueError, match="which timm refuses.*'windows'"):
        TimmBackbone("test_resnet", model_kwargs=dict(windows=7))
    with pytest.raises(ValueError, match="features of stride 16 only: no pyramid.*'convnext_tiny'"):
        TimmBackbone("test_vit")
    for indices in ((), (1, 5), (2, 1), (-1,)):
        with pytest.raises(ValueError, match=r"allowed are ascending .*: 0 \(stride 2\), 1 \(str"):
            TimmBackbone("test_resnet", out_indices=indices)


def test_swin_takes_any_multiple_of_its_patch():
    backbone = TimmBackbone(**SWIN).eval()
    for height, width in ((64, 96), (36, 100)):
        outs = backbone(image(height, width))
        sizes = [(-(-height // s), -(-width // s)) for s in backbone.out_strides]
        assert [tuple(out.shape[1:]) for out in outs] == [
            (c, *size) for c, size in zip(backbone.out_channels, sizes, strict=True)
        ]
    with pytest.raises(ValueError, match="33 x 47 pixels, .*pad_size_divisor"):
        backbone(image(33, 47))


def test_swin_is_that_of_mmdet():
    """Windows of every stage are shifted, and each output has a norm.

    Whole windows only: at other sizes timm shifts before it pads, mmdet after.
    """
    from mmdet.models.backbones.swin import SwinTransformer, swin_converter

    kwargs = SWIN["model_kwargs"]
    theirs = SwinTransformer(
        embed_dims=kwargs["embed_dim"], depths=kwargs["depths"], num_heads=kwargs["num_heads"]
    )
    theirs.eval()
    backbone = TimmBackbone(**SWIN, out_norm=True).eval()
    official = {}  # Swin's authors count a downsampling to the stage before it
    for name, value in backbone.model.state_dict().items():
        parts = name.split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) - 1)
        official[".".join(parts)] = torch.randn_like(value) * 0.2
        value.copy_(official[".".join(parts)])
    converted = {n.removeprefix("backbone."): v for n, v in swin_converter(official).items()}
    missing, unexpected = theirs.load_state_dict(converted, strict=False)
    assert not unexpected and all(n.startswith("norm") or "index" in n for n in missing)
    x = image(224, 448)
    for got, want in zip(backbone(x), theirs(x), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)


def test_attention_of_one_size():
    backbone = TimmBackbone("test_coatnet", img_size=(64, 96)).eval()
    assert backbone.img_size == (64, 96)
    assert [tuple(out.shape[-2:]) for out in backbone(image())] == [
        (16, 24), (8, 12), (4, 6), (2, 3)
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"64 x 64 pixels; .* made for 64 x 96.*img_size=\(H, W\)"):
        backbone(image(64, 64))
    assert TimmBackbone("test_coatnet").img_size == (160, 160)
    with pytest.raises(ValueError, match="64 x 96 pixels, which halonet26t cannot.*256 HaloNet"):
        TimmBackbone("halonet26t", out_indices=(1, 3)).eval()(image())


def test_sync_bn_keeps_activations():
    """torch's conversion drops the activation inside timm's norms; training puts it back."""
    backbone = TimmBackbone("test_efficientnet")
    train_step(backbone, image())
    want = backbone.eval()(image())
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(backbone)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in converted.modules())
    for got, expected in zip(converted.train().eval()(image()), want, strict=True):
        torch.testing.assert_close(got, expected)


def test_other_channels():
    backbone = TimmBackbone("test_resnet", in_channels=5)
    assert len(backbone(image(channels=5))) == 4
