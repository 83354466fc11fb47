"""G-Ghost-RegNet: a stage by its equations, RegNet's own stages, the published counts."""

import pytest
import torch
from torch import nn
from torchvision.models.regnet import ResBottleneckBlock

from hordet.backbones import GGhostRegNet
from hordet.backbones.g_ghost_regnet import ARCHITECTURES, Block, GhostStage


def with_statistics(model):
    generator = torch.Generator().manual_seed(0)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.ndim == 1:
            noise = torch.rand(value.shape, generator=generator, dtype=value.dtype)
            value.data.copy_(0.5 + noise if name.endswith(("weight", "var")) else noise - 0.5)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("mix_norm", ["layer", "batch"])
def test_stage_follows_the_paper(mix_norm):
    torch.manual_seed(0)
    stage = with_statistics(GhostStage(16, 32, 4, 8, mix_norm).double())
    x = torch.randn(2, 16, 7, 9).double()
    got = stage(x)
    # Half of 32 channels in groups of 3/4 of 8 are 12; 20 are cheap.
    assert stage.deep == 12 and [block.conv2.groups for block in stage.layers] == [2, 2]
    y = stage.base(x)
    assert y.shape == (2, 32, 4, 5)
    deep = [y[:, :12]]
    for block in stage.layers:
        deep.append(block(deep[-1]))
    means = torch.cat([y.mean((2, 3)), *(z.mean((2, 3)) for z in deep[1:])], 1)
    assert means.shape == (2, 32 + 12 + 12)

    def norm(v, layer):
        mean, var = v.mean(1, keepdim=True), v.var(1, unbiased=False, keepdim=True)
        if mix_norm == "batch":
            mean, var = layer.running_mean, layer.running_var
        return (v - mean) / (var + layer.eps).sqrt() * layer.weight + layer.bias

    _, first, norm_1, _, second, norm_2 = stage.merge
    v = norm(means @ first.weight.flatten(1).T, norm_1).relu()
    v = norm(v @ second.weight.flatten(1).T, norm_2)
    conv, batch_norm = stage.cheap
    cheap = torch.einsum("oc,nchw->nohw", conv.weight.flatten(1), y[:, 12:])
    ghosts = (batch_norm(cheap) + v[:, :, None, None]).relu()
    torch.testing.assert_close(got, stage.end(torch.cat([deep[-1], ghosts], 1)))


@torch.no_grad()
def test_block_is_regnets():
    torch.manual_seed(0)
    block = with_statistics(Block(16, 24, 8, stride=2))
    other = ResBottleneckBlock(16, 24, 2, nn.BatchNorm2d, nn.ReLU, group_width=8).eval()
    mine = [block.conv1, block.bn1, block.conv2, block.bn2, block.conv3, block.bn3]
    theirs = [layer for conv in (other.f.a, other.f.b, other.f.c) for layer in list(conv)[:2]]
    for source, target in zip([*mine, block.downsample], [*theirs, other.proj], strict=True):
        target.load_state_dict(source.state_dict())
    x = torch.randn(2, 16, 9, 7)
    torch.testing.assert_close(block(x), other(x))


@pytest.mark.parametrize(
    "arch, published", [("032", 10.5), ("040", 15.7), ("080", 24.6), ("160", 32.4)]
)
def test_counts_of_the_authors_table(arch, published):
    """With a classifier of 1000 classes, in millions."""
    with torch.device("meta"):
        counts = {
            sum(p.numel() for p in GGhostRegNet(arch, mix_norm=norm).parameters())
            for norm in ("layer", "batch")
        }
    (count,) = counts
    count += (ARCHITECTURES[arch][1][-1] + 1) * 1000
    assert round(count / 1e6, 1) == published


def test_names_are_the_authors():
    with torch.device("meta"):
        names = set(GGhostRegNet("002", mix_norm="batch").model.state_dict())
    assert {"conv1.weight", "layer1.0.downsample.1.bias", "layer3.base.bn3.weight"} <= names
    assert {"layer3.layers.1.conv2.weight", "layer4.end.conv1.weight"} <= names
    assert {
        "layer4.merge.2.running_mean",
        "layer4.merge.4.weight",
        "layer3.cheap.0.weight",
    } <= names


def test_one_image_trains_and_some_outputs_end_early():
    torch.manual_seed(0)
    model = GGhostRegNet("002", out_indices=(1, 2))
    assert not hasattr(model.model, "layer4")
    outs = model.train()(torch.randn(1, 3, 65, 97))
    assert [tuple(out.shape) for out in outs] == [(1, 56, 9, 13), (1, 152, 5, 7)]
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    assert all(parameter.grad.any() for parameter in model.parameters())
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        GGhostRegNet("002", mix_norm="batch").train()(torch.randn(1, 3, 64, 64))
    GGhostRegNet("002", mix_norm="batch", norm_eval=True).train()(torch.randn(1, 3, 64, 64))


def test_refuses():
    with pytest.raises(ValueError, match="got arch='33'.* Allowed are 002, 032, 040, 080, 160"):
        GGhostRegNet("33")
    with pytest.raises(ValueError, match="got mix_norm='group'; allowed are 'layer' and 'batch'"):
        GGhostRegNet(mix_norm="group")
