"""SDA-ResNet: a stage by its equations, the paper's count, the authors' form."""

import pytest
import torch
import torch.nn.functional as F

from hordet.backbones import SDAResNet
from hordet.backbones.sda_resnet import DepthStage


def norm(x, layer):
    """Batch norm with the statistics of its buffers."""
    shape = (1, -1, 1, 1)
    scale = layer.weight / (layer.running_var + layer.eps).sqrt()
    return (x - layer.running_mean.view(shape)) * scale.view(shape) + layer.bias.view(shape)


def with_statistics(model):
    generator = torch.Generator().manual_seed(0)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.ndim == 1:
            noise = torch.rand(value.shape, generator=generator, dtype=value.dtype)
            value.data.copy_(0.5 + noise if name.endswith(("weight", "var")) else noise - 0.5)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("attention_norm", ["layer", "batch"])
def test_stage_follows_the_paper(attention_norm):
    torch.manual_seed(0)
    stage = with_statistics(DepthStage(32, 128, 3, 2, attention_norm).double())
    x = torch.randn(2, 32, 7, 9).double()
    got = stage(x)

    depths, y = [], x
    for i, block in enumerate(stage.layers):
        branch = norm(F.conv2d(y, block.conv1.weight), block.bn1).relu()
        stride = 1 if i else 2
        # Eight convolutions of an eighth of the channels each, beside one another.
        parts = [
            F.conv2d(part, weight, stride=stride, padding=1)
            for part, weight in zip(branch.chunk(8, 1), block.conv2.weight.chunk(8), strict=True)
        ]
        branch = norm(
            F.conv2d(norm(torch.cat(parts, 1), block.bn2).relu(), block.conv3.weight), block.bn3
        )
        shortcut = y
        if i == 0:
            conv, batch_norm = block.downsample
            shortcut = norm(F.conv2d(y, conv.weight, stride=2), batch_norm)
        depths.append(branch + shortcut)
        y = depths[-1].relu()
    want = torch.empty_like(got)
    for n in range(2):
        mean = sum(z[n].mean((1, 2)) for z in depths)
        v = stage.fc[0].weight.flatten(1) @ mean
        middle = stage.fc[1]
        if attention_norm == "layer":
            v = (v - v.mean()) / (v.var(unbiased=False) + middle.eps).sqrt()
            v = v * middle.weight + middle.bias
        else:
            v = norm(v.view(1, -1, 1, 1), middle).flatten()
        logits = torch.stack([fc.weight.flatten(1) @ v.relu() + fc.bias for fc in stage.fcs])
        shares = logits.exp() / logits.exp().sum(0)
        want[n] = sum(a[:, None, None] * z[n] for a, z in zip(shares, depths, strict=True)).relu()
        assert shares.std(0).min() > 1e-3  # the depths are told apart
    torch.testing.assert_close(got, want)


def test_count_of_the_papers_table():
    """27.22 million with the classifier and the batch norm in front of it."""
    with torch.device("meta"):
        counts = {
            sum(p.numel() for p in SDAResNet(attention_norm=norm).parameters())
            for norm in ("layer", "batch")
        }
    (count,) = counts
    assert round((count + 2 * 2048 + 2048 * 1000 + 1000) / 1e6, 2) == 27.22


def test_names_are_the_authors():
    with torch.device("meta"):
        names = set(SDAResNet(depth=50, attention_norm="batch").model.state_dict())
    assert {"conv1.weight", "bn1.running_var", "stage1.layers.0.downsample.1.bias"} <= names
    assert {"stage2.fc.0.weight", "stage2.fc.1.running_mean", "stage4.fcs.2.bias"} <= names


def test_one_image_trains_and_some_outputs_end_early():
    torch.manual_seed(0)
    model = SDAResNet(depth=50, out_indices=(0, 1))
    assert not hasattr(model.model, "stage3")
    outs = model.train()(torch.randn(1, 3, 65, 97))
    assert [tuple(out.shape) for out in outs] == [(1, 256, 17, 25), (1, 512, 9, 13)]
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    stage = model.model.stage1
    assert all(fc.weight.grad.any() and fc.bias.grad.any() for fc in stage.fcs)
    assert stage.fc[0].weight.grad.any()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        SDAResNet(depth=50, attention_norm="batch").train()(torch.randn(1, 3, 64, 64))
    SDAResNet(depth=50, attention_norm="batch", norm_eval=True).train()(torch.randn(1, 3, 64, 64))


def test_refuses():
    with pytest.raises(ValueError, match="got depth=34; allowed are 50, 86, 101, 152"):
        SDAResNet(depth=34)
    with pytest.raises(ValueError, match="got attention_norm='group'; allowed are 'layer' and"):
        SDAResNet(attention_norm="group")
