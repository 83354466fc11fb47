"""PDC-ResNet: a block by its equation, ResNet-18 without the product, the published count."""

import pytest
import torch
import torch.nn.functional as F
from torchvision import models

from hordet.backbones import PDCResNet
from hordet.backbones.pdc_resnet import PolynomialBlock


def with_statistics(model):
    generator = torch.Generator().manual_seed(0)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.ndim == 1:
            noise = torch.rand(value.shape, generator=generator, dtype=value.dtype)
            value.data.copy_(0.5 + noise if name.endswith(("weight", "var")) else noise - 0.5)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("convs", [1, 2])
def test_block_follows_the_equation(convs):
    torch.manual_seed(0)
    block = with_statistics(PolynomialBlock(4, 6, 3, 2, convs, alpha=0.7).double())
    x = torch.randn(2, 4, 7, 9).double()
    got = block(x)

    first = block.bn1(F.conv2d(x, block.conv1.weight, stride=2, padding=1)).relu()
    if convs == 2:
        first = block.bn2(F.conv2d(first, block.conv2.weight, padding=1))
    s = block.downsample[1](F.conv2d(x, block.downsample[0].weight, stride=2))
    z = F.pad(block.norm_in(s), (1, 1, 1, 1))
    want = torch.empty_like(got)
    shared = block.norm_factor
    for n in range(2):
        product = torch.ones(3, 4, 5).double()
        for factor in block.factors:
            u = torch.stack(
                [
                    torch.stack(
                        [
                            (factor.weight * z[n, :, i : i + 3, j : j + 3]).sum((1, 2, 3))
                            for j in range(5)
                        ],
                        1,
                    )
                    for i in range(4)
                ],
                1,
            )
            scale = shared.weight / (shared.running_var + shared.eps).sqrt()
            u = (u - shared.running_mean[:, None, None]) * scale[:, None, None]
            u = u + shared.bias[:, None, None]
            product *= torch.where(u > 0, u, 0.01 * u)
        second = F.conv2d(product[None], block.mixer.weight, padding=1)[0]
        mean, var = second.mean((1, 2), True), second.var((1, 2), unbiased=False, keepdim=True)
        second = (second - mean) / (var + 1e-5).sqrt()
        second = torch.where(second > 0, second, 0.01 * second)
        want[n] = (first[n] + s[n] + 0.7 * second).relu()
    torch.testing.assert_close(got, want)


@torch.no_grad()
def test_without_the_product_it_is_torchvisions_resnet18():
    torch.manual_seed(0)
    whole = with_statistics(models.resnet18(weights=None))
    model = PDCResNet("resnet18")
    missing, unexpected = model.model.load_state_dict(whole.state_dict(), strict=False)
    assert unexpected == ["fc.weight", "fc.bias"]
    kinds = {name.split(".")[2] for name in missing}
    assert kinds == {"norm_in", "norm_factor", "factors", "mixer", "alpha"}
    x = torch.randn(1, 3, 64, 96)
    outs = model.eval()(x)
    torch.testing.assert_close(whole.fc(outs[-1].mean((2, 3))), whole(x), rtol=1e-4, atol=1e-4)


def test_count_of_the_authors_config():
    """4.3 million, with their stem for images of 32 x 32 and a classifier of ten classes."""
    with torch.device("meta"):
        count = sum(p.numel() for p in PDCResNet().parameters())
    stem = 64 * 3 * (3 * 3 - 7 * 7)
    assert round((count + stem + 256 * 10 + 10) / 1e6, 1) == 4.3


def test_a_product_learns_once_its_weight_has_left_zero():
    torch.manual_seed(0)
    for alpha in (0.0, 0.1):
        model = PDCResNet(out_indices=(0,), alpha=alpha).train()
        (out,) = model(torch.randn(2, 3, 32, 32))
        (out * torch.randn_like(out)).sum().backward()
        block = model.model.layer1[1]
        assert block.alpha.grad != 0
        assert block.mixer.weight.grad.any() == (alpha != 0)


@torch.no_grad()
def test_some_outputs_end_early_and_a_map_may_be_one_pixel():
    model = PDCResNet(out_indices=(0, 2), alpha=0.1)
    assert not hasattr(model.model, "layer4") and model.out_channels == (64, 192)
    outs = model(torch.randn(2, 3, 65, 97))
    assert [tuple(out.shape[1:]) for out in outs] == [(64, 17, 25), (192, 5, 7)]
    outs = PDCResNet(alpha=0.1).train()(torch.randn(2, 3, 32, 32))
    assert outs[-1].shape == (2, 256, 1, 1) and torch.isfinite(outs[-1]).all()


def test_refuses():
    with pytest.raises(ValueError, match="got arch='resnet-18'; did you mean 'resnet18'"):
        PDCResNet("resnet-18")
