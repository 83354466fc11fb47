"""ESegHead over P2 to P9: equal to its equation, inside a segmentor on small images, errors."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.structures import PixelData

from hordet.registry import MODELS

SIZES = [(13, 19), (7, 10), (4, 5), (2, 3), (1, 2), (1, 1), (1, 1), (1, 1)]


def head(**kwargs):
    settings = dict(in_channels=[4] * 8, channels=6, num_classes=5, dropout_ratio=0.0) | kwargs
    return MODELS.build(dict(type="hordet.ESegHead", **settings))


def levels():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 4, *size, generator=generator) for size in SIZES]


def test_equation():
    eseg, maps = head(norm_cfg=None).eval(), levels()
    weights = torch.arange(8.0) - 1  # one below zero, cut by the ReLU
    with torch.no_grad():
        eseg.combine.weight.copy_(weights)
    mixed = sum(
        w * F.interpolate(x, SIZES[0], mode="bilinear")
        for w, x in zip(weights.relu(), maps, strict=True)
    ) / (weights.relu().sum() + 1e-4)
    conv = eseg.convs[0].conv
    want = eseg.conv_seg(F.conv2d(mixed, conv.weight, conv.bias, padding=1).relu())
    torch.testing.assert_close(eseg(maps), want)


def test_levels_are_chosen_by_index():
    eseg, maps = head(in_channels=[4, 4], in_index=[1, 3]).eval(), levels()
    want = eseg(maps)
    assert want.shape[-2:] == SIZES[1]
    maps = [x if i in (1, 3) else x + 1 for i, x in enumerate(maps)]
    torch.testing.assert_close(eseg(maps), want, rtol=0, atol=0)


def segmentor(**neck):
    """P2 to P9 between a small HorNet and the head."""
    return MODELS.build(
        dict(
            type="mmseg.EncoderDecoder",
            data_preprocessor=dict(type="mmseg.SegDataPreProcessor"),
            backbone=dict(
                type="hordet.HorNet",
                arch=dict(base_channels=16, depths=(1, 1, 1, 1), orders=(2, 3, 4, 5)),
            ),
            neck=dict(
                type="hordet.GraphFPN",
                in_channels=[16, 32, 64, 128],
                out_channels=8,
                num_outs=8,
                norm_cfg=dict(type="GN", num_groups=2),
                **neck,
            ),
            decode_head=dict(
                type="hordet.ESegHead",
                in_channels=[8] * 8,
                channels=8,
                num_classes=5,
                norm_cfg=dict(type="BN"),
            ),
            train_cfg=dict(),
            test_cfg=ConfigDict(mode="whole"),
        )
    )


def samples(size):
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
    sample.gt_sem_seg = PixelData(data=torch.randint(0, 5, (1, *size)))
    return [sample, sample]


@pytest.mark.parametrize("size", [(32, 32), (65, 97), (180, 240)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("fusion", ["separable", "gnconv"])
def test_small_images(size, fusion):
    """P9 has a stride of 512: on these images it is one cell."""
    torch.manual_seed(0)
    model = segmentor(fusion=fusion).train()
    image = torch.randn(2, 3, *size)
    assert model.extract_feat(image)[-1].shape[-2:] == (1, 1)
    losses = model.loss(image, samples(size))
    losses["decode.loss_ce"].backward()
    assert 1 < losses["decode.loss_ce"].item() < 3  # ln 5 = 1.6
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    with torch.no_grad():
        found = model.eval().predict(image, samples(size))
    assert found[0].pred_sem_seg.data.shape == (1, *size)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"all need the out_channels of the neck"):
        head(in_channels=[4, 8])
    with pytest.raises(ValueError, match="channels=4, or num_convs=1"):
        head(num_convs=0)
    with pytest.raises(ValueError, match="'fast', 'softmax', 'sum'"):
        head(weight_method="attn")
