"""A folded model gives the numbers of the trained one."""

import pytest
import torch
from mmcv.cnn import ConvModule

from hordet.engine.modes import switch_to_deploy
from hordet.layers import GnFusion
from hordet.registry import MODELS

ARCH = dict(base_channels=32, depths=(1, 1, 1, 1), orders=(2, 3, 4, 5))


def with_statistics(model):
    """Give batch norms and biases values that folding must not lose."""
    generator = torch.Generator().manual_seed(0)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.ndim == 1:
            noise = torch.rand(value.shape, generator=generator)
            value.data.copy_(0.5 + noise if name.endswith(("weight", "var")) else noise - 0.5)
    return model.eval()


@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
@torch.no_grad()
def test_hornet(spatial):
    torch.manual_seed(0)
    model = MODELS.build(
        dict(type="hordet.HorNet", arch=ARCH, spatial=spatial, layer_scale_init_value=0.5)
    )
    model = with_statistics(model)
    x = torch.randn(1, 3, 64, 96)
    want = model(x)
    parameters = sum(p.numel() for p in model.parameters())
    switch_to_deploy(model)
    for got, expected in zip(model(x), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert parameters - sum(p.numel() for p in model.parameters()) == 2 * (32 + 64 + 128 + 256)
    assert {block.gnconv.scale for stage in model.stages for block in stage} == {1.0}


@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
@torch.no_grad()
def test_horfpn_with_batch_norms(spatial):
    torch.manual_seed(0)
    neck = MODELS.build(
        dict(
            type="hordet.HorFPN",
            in_channels=[16, 32],
            out_channels=16,
            num_outs=3,
            spatial=spatial,
            norm_cfg=dict(type="BN"),
            act_cfg=dict(type="ReLU"),
        )
    )
    neck = with_statistics(neck)
    x = [torch.randn(1, 16, 12, 20), torch.randn(1, 32, 6, 10)]
    want = neck(x)
    switch_to_deploy(neck)
    for got, expected in zip(neck(x), want, strict=True):
        assert expected.abs().sum() > 0
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert not [m for m in neck.modules() if isinstance(m, torch.nn.BatchNorm2d)]


@torch.no_grad()
def test_a_norm_without_a_projection_before_it_stays():
    torch.manual_seed(0)
    layer = GnFusion(8, 8, norm=("bn", torch.nn.BatchNorm2d(8)), proj_out=False, scale=0.5)
    layer = with_statistics(layer)
    x = torch.randn(1, 8, 7, 9)
    want = layer(x)
    torch.testing.assert_close(switch_to_deploy(layer)(x), want)
    assert isinstance(layer.bn, torch.nn.BatchNorm2d)


@pytest.mark.parametrize(
    "conv_cfg", [None, dict(type="hordet.DropConnectConv2d"), dict(type="hordet.SparseConv2d")]
)
@torch.no_grad()
def test_a_convolution_with_a_batch_norm_for_each_of_its_owners(conv_cfg):
    """As in mmdet's RetinaSepBNHead, whose levels share convolutions and have their own norms."""
    torch.manual_seed(0)
    options = dict(padding=1, conv_cfg=conv_cfg, norm_cfg=dict(type="BN"))
    levels = torch.nn.ModuleList(ConvModule(4, 4, 3, **options) for _ in range(3))
    for level in levels[1:]:
        level.conv = levels[0].conv
    levels.extra = levels[0].conv  # an owner without a norm
    levels = with_statistics(levels)
    x = torch.randn(2, 4, 5, 6)
    modules = [*levels][:3]
    want = [*(level(x) for level in modules), levels.extra(x)]
    switch_to_deploy(levels)
    got = [*(level(x) for level in modules), levels.extra(x)]
    for one, expected in zip(got, want, strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-5)
    assert not [m for m in levels.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert type(levels.extra) is torch.nn.Conv2d
