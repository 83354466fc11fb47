"""DGMN2: sampling and attention by loops over pixels, its counts by the authors' table."""

import math

import pytest
import torch
import torch.nn.functional as F

from hordet.backbones import DGMN2
from hordet.backbones.dgmn2 import DynamicAttention, DynamicBlock, RelativePositions, sample_places


def read(x, row, column):
    """Read (C, H, W) at a place between its pixels; outside is zero."""
    top, left = math.floor(row), math.floor(column)
    out = torch.zeros(len(x))
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < x.shape[1] and 0 <= j < x.shape[2]:
                out += (1 - abs(row - i)) * (1 - abs(column - j)) * x[:, i, j]
    return out


@torch.no_grad()
def test_places_are_read_between_pixels_and_zero_outside():
    torch.manual_seed(0)
    x, offsets = torch.randn(2, 3, 4, 5), 2 * torch.randn(2, 18, 4, 5)
    got = sample_places(x, offsets)
    for n in range(2):
        for m in range(9):
            for row in range(4):
                for column in range(5):
                    dy, dx = offsets[n, 2 * m : 2 * m + 2, row, column].tolist()
                    place = (row + m // 3 - 1 + dy, column + m % 3 - 1 + dx)
                    want = read(x[n], *place)
                    torch.testing.assert_close(
                        got[n, :, m, row, column], want, rtol=1e-3, atol=1e-4
                    )


@torch.no_grad()
def test_without_offsets_it_is_torchs_unfold():
    x = torch.randn(1, 2, 5, 6)
    want = F.unfold(x, 3, padding=1).view(1, 2, 9, 5, 6)
    torch.testing.assert_close(sample_places(x, torch.zeros(1, 18, 5, 6)), want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_attention_follows_the_equation():
    """Two heads of 64 channels on a map of 4 x 4, the size of its positions."""
    torch.manual_seed(0)
    side, channels = 4, 128
    layer = DynamicAttention(channels, side)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=channels**-0.5)
    x = torch.randn(1, side, side, channels)
    got = layer(x)[0]

    qkv = layer.qkv(x[0])
    want = torch.empty(side, side, channels)
    for head in range(2):
        own = slice(64 * head, 64 * head + 64)
        q, k, v = (qkv[..., 128 * i : 128 * i + 128][..., own] for i in range(3))
        for row in range(side):
            for column in range(side):
                offset = layer.conv_offset(x[0, row, column, own]).tolist()
                logits, values = [], []
                for m in range(9):
                    place = (
                        row + m // 3 - 1 + offset[2 * m],
                        column + m % 3 - 1 + offset[2 * m + 1],
                    )
                    r_h = layer.pos_emb.rel_height[side - 1 - row + m]
                    r_w = layer.pos_emb.rel_width[side - 1 - column + m]
                    key = read(k.permute(2, 0, 1), *place)
                    logits.append(q[row, column] @ key / 8 + q[row, column] @ (r_h + r_w))
                    values.append(read(v.permute(2, 0, 1), *place))
                shares = torch.stack(logits).softmax(0)
                want[row, column, own] = sum(a * b for a, b in zip(shares, values, strict=True))
    torch.testing.assert_close(got, layer.proj(want), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_positions_are_resized_to_another_map():
    torch.manual_seed(0)
    layer, q = RelativePositions(7), torch.randn(1, 64, 3, 10)
    rows, columns = (
        F.interpolate(table[None, None], (side + 8, 64), mode="bilinear")[0, 0]
        for table, side in ((layer.rel_height, 3), (layer.rel_width, 10))
    )
    got = layer(q)
    for row, column, m in ((0, 0, 0), (2, 9, 8), (1, 4, 3)):
        want = q[0, :, row, column] @ (rows[2 - row + m] + columns[9 - column + m])
        torch.testing.assert_close(got[0, m, row, column], want, rtol=1e-4, atol=1e-4)


def test_every_parameter_of_a_block_gets_a_gradient():
    torch.manual_seed(0)
    block = DynamicBlock(64, 5, 2)
    (block(torch.randn(2, 4, 6, 64)) * torch.randn(2, 4, 6, 64)).sum().backward()
    assert all(parameter.grad.any() for parameter in block.parameters())


@pytest.mark.parametrize(
    "arch, published", [("tiny", 12.1), ("small", 21.0), ("medium", 35.8), ("large", 48.3)]
)
def test_counts_of_the_authors_table(arch, published):
    """With a classifier of 1000 classes, in millions."""
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in DGMN2(arch).parameters())
    assert round((count + 513 * 1000) / 1e6, 1) == published


def test_names_are_the_authors():
    with torch.device("meta"):
        names = set(DGMN2().model.state_dict())
    assert {"patch_embed1.conv3.weight", "patch_embed1.norm1.running_var"} <= names
    assert {"patch_embed4.conv.weight", "patch_embed2.norm.bias"} <= names
    block = {name.removeprefix("block3.1.") for name in names if name.startswith("block3.1.")}
    layers = ("norm1", "norm2", "attn.qkv", "attn.proj", "attn.conv_offset", "mlp.fc1", "mlp.fc2")
    linear = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert block == linear | {"attn.pos_emb.rel_height", "attn.pos_emb.rel_width"}


@torch.no_grad()
def test_some_outputs_end_early_and_any_size():
    model = DGMN2(out_indices=(0, 2)).eval()
    assert not hasattr(model.model, "block4") and model.out_channels == (64, 320)
    outs = model(torch.randn(1, 3, 33, 50))
    assert [tuple(out.shape[2:]) for out in outs] == [(9, 13), (3, 4)]


def test_refuses():
    with pytest.raises(ValueError, match="got arch='tinny'; did you mean 'tiny'"):
        DGMN2("tinny")
