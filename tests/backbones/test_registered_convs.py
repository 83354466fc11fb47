"""The keys `conv_cfg` and `act_cfg` of other packages' components take hordet's."""

import copy
import re

import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn

from hordet.engine.modes import switch_to_deploy
from hordet.layers.fplus import PFPLUS
from hordet.neighbours.scl import SparseConnectivity, count_connections
from hordet.registry import MODELS

CONVS = ["SparseConv2d", "DropConnectConv2d", "FrequencyDropoutConv2d"]


@pytest.mark.parametrize("name", CONVS)
def test_in_a_conv_module(name):
    torch.manual_seed(0)
    module = ConvModule(
        4,
        6,
        3,
        stride=2,
        conv_cfg=dict(type=f"hordet.{name}"),
        norm_cfg=dict(type="BN"),
        act_cfg=dict(type="hordet.PFPLUS"),
    )
    assert (module.conv.stride, module.out_channels) == ((2, 2), 6)
    assert module.conv.conv.weight.std() > 0.1  # ConvModule's Kaiming start reaches it
    x = torch.randn(2, 4, 9, 8)
    module(x).square().sum().backward()
    for parameter_name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", CONVS)
def test_deployed_it_is_a_plain_convolution_with_the_norm_in_it(name):
    torch.manual_seed(0)
    conv_cfg = dict(type=f"hordet.{name}")
    model = nn.Sequential(ConvModule(4, 6, 3, conv_cfg=conv_cfg, norm_cfg=dict(type="BN")))
    if name == "SparseConv2d":
        nn.init.normal_(model[0].conv.mask)
    model(torch.randn(2, 4, 9, 8))
    x = torch.randn(1, 4, 9, 8)
    want = model.eval()(x)
    deployed = switch_to_deploy(copy.deepcopy(model))
    assert type(deployed[0].conv) is nn.Conv2d and type(deployed[0].norm) is nn.Identity
    torch.testing.assert_close(deployed(x), want, rtol=1e-5, atol=1e-6)


def test_around_another_convolution():
    cfg = dict(type="hordet.SparseConv2d", conv_cfg=dict(type="Conv3d"))
    module = ConvModule(2, 3, 3, conv_cfg=cfg, act_cfg=None)
    assert isinstance(module.conv.conv, nn.Conv3d) and module.conv.mask.shape == (3, 2, 3, 3, 3)


@pytest.mark.parametrize("act", ["PReLU", "hordet.FPLUS", "hordet.PFPLUS"])
def test_activations_in_a_neck_and_sparse_laterals(act):
    """PReLU is mmcv's; a neck of mmdet takes all of them by name."""
    neck = MODELS.build(
        dict(
            type="hordet.FusionFPN",
            in_channels=[8, 12],
            out_channels=16,
            num_outs=2,
            conv_cfg=dict(type="hordet.SparseConv2d"),
            act_cfg=dict(type=act),
            fusion="scl",
        )
    )
    neck.init_weights()
    kind = dict([("PReLU", nn.PReLU), ("hordet.PFPLUS", PFPLUS)]).get(act)
    assert kind is None or isinstance(neck.lateral_convs[0].activate, kind)
    assert isinstance(neck.lateral_convs[0].conv, SparseConnectivity)
    kept, of = count_connections(neck)
    assert kept == of == 16 * (8 + 12) + 2 * 9 * 256
    outs = neck([torch.randn(1, 8, 6, 6), torch.randn(1, 12, 3, 3)])
    sum(out.square().sum() for out in outs).backward()
    for name, parameter in neck.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_the_keys_of_the_page_keep_weight_decay_from_the_masks_alone(repository):
    """A mask head and the conv_mask of another fusion keep theirs."""
    from mmengine.optim import build_optim_wrapper

    page = (repository / "docs" / "neighbours.md").read_text()
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "decay_mult" in b)
    scope: dict = {}
    exec(block, scope)
    sparse = dict(type="hordet.SparseConv2d")
    pyramid = dict(type="hordet.FusionFPN", in_channels=[64, 128, 256, 512], out_channels=8)
    head = dict(type="mmdet.FCNMaskHead", num_convs=1, in_channels=8, conv_out_channels=8)
    parts = dict(
        backbone=dict(type="mmdet.ResNet", depth=18, conv_cfg=sparse),
        bottleneck=dict(type="mmdet.ResNet", depth=50, base_channels=4, conv_cfg=sparse),
        neck=dict(**pyramid, num_outs=4, conv_cfg=sparse, fusion="scl"),
        neck_of_gc=dict(**pyramid, num_outs=4, fusion="gc"),
        mask_head=dict(**head, num_classes=2, conv_cfg=sparse),
    )
    model = nn.ModuleDict({name: MODELS.build(part) for name, part in parts.items()})
    wrapper = dict(optimizer=dict(type="SGD", lr=0.1, weight_decay=0.5))
    optimizer = build_optim_wrapper(model, wrapper | scope["settings"].optim_wrapper).optimizer
    decays = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    free = {name for name, p in model.named_parameters() if decays[id(p)] == 0}
    masks = {
        f"{name}.mask"
        for name, part in model.named_modules()
        if isinstance(part, SparseConnectivity)
    }
    assert free == masks and {name.split(".")[0] for name in masks} == parts.keys() - {"neck_of_gc"}


@pytest.mark.parametrize("name", CONVS)
def test_weights_of_the_plain_model_load(name):
    """As those of an init_cfg, and those of the wrapped model as ever."""
    from mmengine.runner.checkpoint import load_state_dict

    cfg = dict(type="mmdet.ResNet", depth=18, base_channels=8)
    plain = MODELS.build(cfg)
    state = plain.state_dict()
    keys = list(state)
    conv_cfg = dict(type=f"hordet.{name}")
    wrapped, again = (MODELS.build(dict(**cfg, conv_cfg=conv_cfg)) for _ in range(2))
    for model in (plain, wrapped, again):
        model.eval()
    load_state_dict(wrapped, state, strict=False)
    assert list(state) == keys
    again.load_state_dict(wrapped.state_dict())
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        for model in (wrapped, again):
            for got, want in zip(model(x), plain(x), strict=True):
                torch.testing.assert_close(got, want)
    missing, unexpected = again.load_state_dict(state, strict=False)
    assert not unexpected and all(key.endswith(".mask") for key in missing)
    assert bool(missing) == (name == "SparseConv2d")


@pytest.mark.parametrize("name", CONVS)
def test_a_wrapper_in_a_wrapper_is_refused(name):
    with pytest.raises(ValueError, match="got a DropConnectConv2d inside a .*take one of the two"):
        inner = dict(type="hordet.DropConnectConv2d")
        ConvModule(4, 6, 3, conv_cfg=dict(type=f"hordet.{name}", conv_cfg=inner))
