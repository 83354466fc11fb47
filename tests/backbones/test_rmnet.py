"""RMNet: torchvision's ResNet in training; the same numbers without residual connections."""

import pytest
import torch
from torch import nn
from torchvision import models

from hordet.backbones import RMNet
from hordet.engine.modes import switch_to_deploy


def with_statistics(model):
    """Give batch norms values that folding must not lose."""
    generator = torch.Generator().manual_seed(0)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.ndim == 1:
            noise = torch.rand(value.shape, generator=generator)
            value.data.copy_(0.5 + noise if name.endswith(("weight", "var")) else noise - 0.5)
    return model.eval()


@torch.no_grad()
def test_residuals_are_removed_exactly():
    """In float64, so that a difference is a fault and not rounding."""
    torch.manual_seed(0)
    model = with_statistics(RMNet(depth=18).double())
    x = torch.randn(2, 3, 65, 97).double()
    want = model(x)
    switch_to_deploy(model)
    kinds = {type(module) for module in model.model.modules() if not list(module.children())}
    assert kinds == {nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Identity}
    chain = [m for m in model.model.layer2.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.stride) for c in chain] == [
        (64, 192, (2, 2)),
        (192, 128, (1, 1)),
        (128, 256, (1, 1)),
        (256, 128, (1, 1)),
    ]
    for got, expected in zip(model(x), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
        assert expected.std() > 0.1


@torch.no_grad()
def test_it_is_torchvisions_resnet(tmp_path):
    torch.manual_seed(0)
    whole = with_statistics(models.resnet18(weights=None))
    torch.save(whole.state_dict(), tmp_path / "resnet18.pth")
    file = str(tmp_path / "resnet18.pth")
    model = RMNet(depth=18, init_cfg=dict(type="Pretrained", checkpoint=file))
    model.init_weights()
    x = torch.randn(1, 3, 64, 96)
    outs = model.eval()(x)
    pooled = whole.fc(outs[-1].mean((2, 3)))
    torch.testing.assert_close(pooled, whole(x), rtol=1e-4, atol=1e-4)


def test_counts_of_the_papers_resnets():
    """torchvision's counts less the classifier of 513,000."""
    with torch.device("meta"):
        counts = [sum(p.numel() for p in RMNet(depth).parameters()) for depth in (18, 34)]
    assert counts == [11_689_512 - 513_000, 21_797_672 - 513_000]


@torch.no_grad()
def test_some_outputs_end_early_and_are_deployed_too():
    model = with_statistics(RMNet(depth=18, out_indices=(0, 2)))
    assert model.out_channels == (64, 256) and model.out_strides == (4, 16)
    assert RMNet.declare_channels(depth=18, out_indices=(0, 2)) == (64, 256)
    assert not hasattr(model.model, "layer4")
    x = torch.randn(1, 3, 64, 96)
    want = model(x)
    model.switch_to_deploy()
    for got, expected in zip(model(x), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_norm_eval_and_another_depth():
    assert not RMNet(depth=18, norm_eval=True).train().model.bn1.training
    with pytest.raises(ValueError, match="got depth=50; allowed are 18 and 34"):
        RMNet(depth=50)
    with pytest.raises(ValueError, match=r"got out_indices=\(4,\); allowed are"):
        RMNet(depth=18, out_indices=(4,))
