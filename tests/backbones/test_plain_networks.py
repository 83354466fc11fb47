"""Network in Network and All-CNN: layers in the papers' order, the published counts."""

import pytest
import torch
from torch import nn

from hordet.backbones import PlainNetwork

# Of the classifier, a 1x1 convolution from 1024 channels to 1000 classes.
CLASSIFIER = 1024 * 1000 + 1000


def list_layers(model):
    return [
        (m.kernel_size[0], m.stride[0], m.out_channels)
        if isinstance(m, nn.Conv2d)
        else f"max-pool {m.kernel_size} / {m.stride}"
        for m in model.modules()
        if isinstance(m, nn.Conv2d | nn.MaxPool2d)
    ]


def build(name):
    with torch.device("meta"):
        return PlainNetwork(name)


def test_network_in_network():
    model, pool = build("network_in_network"), "max-pool 3 / 2"
    assert list_layers(model) == [
        *[(11, 4, 96), (1, 1, 96), (1, 1, 96)],
        *[pool, (5, 1, 256), (1, 1, 256), (1, 1, 256)],
        *[pool, (3, 1, 384), (1, 1, 384), (1, 1, 384)],
        *[pool, (3, 1, 1024), (1, 1, 1024)],
    ]
    assert sum(p.numel() for p in model.parameters()) + CLASSIFIER == 7_595_176


def test_all_cnn():
    model = build("all_cnn")
    assert list_layers(model) == [
        *[(11, 4, 96), (1, 1, 96)],
        *[(3, 2, 96), (5, 1, 256), (1, 1, 256)],
        *[(3, 2, 256), (3, 1, 384), (1, 1, 384)],
        *[(3, 2, 384), (3, 1, 1024), (1, 1, 1024)],
    ]
    assert sum(p.numel() for p in model.parameters()) + CLASSIFIER == 9_372_840 < 10e6


@torch.no_grad()
@pytest.mark.parametrize("name", ["network_in_network", "all_cnn"])
def test_sizes_are_rounded_up_and_the_start_keeps_signals_alive(name):
    torch.manual_seed(0)
    model = PlainNetwork(name)
    outs = model(torch.randn(1, 3, 65, 97))
    assert [tuple(out.shape[1:]) for out in outs] == [
        (96, 17, 25),
        (256, 9, 13),
        (384, 5, 7),
        (1024, 3, 4),
    ]
    assert all(0.1 < out.std() < 10 for out in outs)
    assert model.out_strides == (4, 8, 16, 32)


def test_refuses():
    with pytest.raises(ValueError, match="got arch='all_cn'; did you mean 'all_cnn'"):
        PlainNetwork("all_cn")
