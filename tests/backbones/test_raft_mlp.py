"""RaftMLP: its block by loops, its sizes by interpolation, its counts by the paper's table."""

import pytest
import torch
import torch.nn.functional as F

from hordet.backbones import RaftMLP
from hordet.backbones.raft_mlp import Embedding, RaftBlock


def run_mlp(mlp, values):
    return mlp[2](F.gelu(mlp[0](torch.stack(values))))


@torch.no_grad()
def test_block_equals_loops_over_columns_rows_and_pixels():
    torch.manual_seed(0)
    side, channels = 3, 4
    block = RaftBlock(channels, side).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(1, side, side, channels).double()
    got = block(x)[0]

    def normed(norm, y, order):
        """LayerNorm over channels; the weight of channel c of the map stands at order[c]."""
        weight = torch.stack([norm.weight[order[c]] for c in range(channels)])
        bias = torch.stack([norm.bias[order[c]] for c in range(channels)])
        mean, var = y.mean(-1, keepdim=True), y.var(-1, unbiased=False, keepdim=True)
        return (y - mean) / (var + 1e-5).sqrt() * weight + bias

    # Channel c is raft member c // 2 and group c % 2; within a raft, norms count group by group.
    order = [2 * (c % 2) + c // 2 for c in range(channels)]
    y = x[0].clone()
    for mixer, vertical in ((block.vertical, True), (block.horizontal, False)):
        n, out = normed(mixer.norm, y, order), y.clone()
        for group in range(2):
            for line in range(side):
                where = [
                    ((k, line) if vertical else (line, k)) + (2 * member + group,)
                    for member in range(2)
                    for k in range(side)
                ]
                values = run_mlp(mixer.mlp, [n[place] for place in where])
                for place, value in zip(where, values, strict=True):
                    out[place] += value
        y = out
    n = normed(block.norm, y, range(channels))
    want = torch.stack(
        [
            torch.stack([y[i, j] + run_mlp(block.mlp, [*n[i, j]]) for j in range(3)])
            for i in range(3)
        ]
    )
    torch.testing.assert_close(got, want)


@torch.no_grad()
def test_embedding_sees_patches_of_both_sizes_around_its_cell():
    layer = Embedding(1, 20, (2, 4))
    layer.fc.weight.copy_(torch.eye(20))
    layer.fc.bias.zero_()
    x = torch.arange(64.0).view(1, 1, 8, 8)
    cell = layer(x)[0, 1, 2]
    assert cell[:4].tolist() == x[0, 0, 2:4, 4:6].flatten().tolist()
    assert cell[4:].tolist() == x[0, 0, 1:5, 3:7].flatten().tolist()


@torch.no_grad()
def test_another_size_is_resized_to_that_of_training_and_back():
    torch.manual_seed(0)
    block, x = RaftBlock(4, 7), torch.randn(1, 5, 9, 4)
    got = block(x)

    def resize(y, size):
        y = F.interpolate(y.permute(0, 3, 1, 2), size, mode="bicubic", align_corners=False)
        return y.permute(0, 2, 3, 1)

    small = resize(x, (7, 7))
    mixed = small.permute(0, 3, 1, 2).unflatten(1, (2, 2)).transpose(1, 2)
    mixed = block.horizontal(block.vertical(mixed).mT).mT.transpose(1, 2).flatten(1, 2)
    back = resize(mixed.permute(0, 2, 3, 1), (5, 9))
    torch.testing.assert_close(got, back + block.mlp(block.norm(back)))


@torch.no_grad()
@pytest.mark.parametrize("size", [(33, 50), (224, 224), (1, 1)])
def test_any_size(size):
    outs = RaftMLP().eval()(torch.randn(1, 3, *size))
    sizes = [tuple(-(-side // stride) for side in size) for stride in (4, 8, 16, 32)]
    assert [tuple(out.shape[2:]) for out in outs] == sizes
    assert all(torch.isfinite(out).all() for out in outs)


@pytest.mark.parametrize("arch, published", [("small", 9.9), ("medium", 21.4), ("large", 36.2)])
def test_counts_of_the_papers_table(arch, published):
    """With a classifier of 1000 classes, in millions."""
    with torch.device("meta"):
        model = RaftMLP(arch)
    count = sum(parameter.numel() for parameter in model.parameters())
    count += (model.out_channels[-1] + 1) * 1000
    assert round(count / 1e6, 1) == published


def test_every_parameter_of_a_raft_gets_a_gradient():
    torch.manual_seed(0)
    block = RaftBlock(8, 5)
    (block(torch.randn(2, 4, 6, 8)) * torch.randn(2, 4, 6, 8)).sum().backward()
    assert all(parameter.grad.any() for parameter in block.parameters())


def test_refuses():
    with pytest.raises(ValueError, match="got arch='smal'; did you mean 'small'"):
        RaftMLP("smal")
