"""Focal losses, through mmcv.ops."""

import numpy as np
import pytest
import torch
from mmcv.ops import SigmoidFocalLoss, SoftmaxFocalLoss, sigmoid_focal_loss, softmax_focal_loss
from references import naive_focal

WEIGHT = [0.5, 1.0, 2.0, 0.0]


def logits(device="cpu", rows=6):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, 4, generator=generator, dtype=torch.float64).to(device) * 3


def weights(device="cpu", dtype=torch.float64):
    return torch.tensor(WEIGHT, device=device, dtype=dtype)


SIGMOID_TARGETS = [0, 1, 2, 3, 4, 1]  # 4 is background
SOFTMAX_TARGETS = [0, 1, 2, 3, -1, 1]  # -1 is ignored


def test_examples():
    x, target = torch.eye(2), torch.tensor([0, 1])
    assert SigmoidFocalLoss(2.0, 0.25)(x, target).item() == pytest.approx(0.13562961, rel=1e-6)
    assert SoftmaxFocalLoss(2.0, 0.25)(x, target).item() == pytest.approx(0.00566451, rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("gamma, alpha", [(2.0, 0.25), (0.0, 0.5), (0.5, 0.75)])
def test_sigmoid_against_loop(device, gamma, alpha, weighted):
    x, target = logits(device), torch.tensor(SIGMOID_TARGETS, device=device)
    weight = weights(device) if weighted else None
    out = sigmoid_focal_loss(x, target, gamma, alpha, weight, "none")
    wanted = naive_focal.sigmoid_focal_loss(
        x.tolist(), SIGMOID_TARGETS, gamma, alpha, WEIGHT if weighted else None
    )
    np.testing.assert_allclose(out.cpu(), wanted, atol=1e-12)
    mean = sigmoid_focal_loss(x, target, gamma, alpha, weight, "mean")
    assert mean.item() == pytest.approx(np.sum(wanted) / 6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("gamma, alpha", [(2.0, 0.25), (0.0, 0.5), (0.5, 0.75)])
def test_softmax_against_loop(device, gamma, alpha, weighted):
    x, target = logits(device), torch.tensor(SOFTMAX_TARGETS, device=device)
    weight = weights(device) if weighted else None
    out = softmax_focal_loss(x, target, gamma, alpha, weight, "none")
    wanted = naive_focal.softmax_focal_loss(
        x.tolist(), SOFTMAX_TARGETS, gamma, alpha, WEIGHT if weighted else None
    )
    np.testing.assert_allclose(out.cpu(), wanted, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("gamma", [2.0, 0.5, 0.0])
@pytest.mark.parametrize(
    "loss, target",
    [(sigmoid_focal_loss, SIGMOID_TARGETS), (softmax_focal_loss, SOFTMAX_TARGETS)],
    ids=["sigmoid", "softmax"],
)
def test_gradient(device, loss, target, gamma, reduction, weighted):
    x, target = logits(device).requires_grad_(), torch.tensor(target, device=device)
    weight = weights(device) if weighted else None
    assert torch.autograd.gradcheck(lambda x: loss(x, target, gamma, 0.25, weight, reduction), (x,))


@pytest.mark.parametrize("loss", [sigmoid_focal_loss, softmax_focal_loss])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_extreme_logits_stay_finite(loss, gamma):
    x = torch.tensor([[300.0, -300, 0, 40], [-300, 300, 0, 0]], requires_grad=True)
    out = loss(x, torch.tensor([0, 0]), gamma, 0.25, None, "sum")
    out.backward()
    assert out.isfinite() and x.grad.isfinite().all()
    assert out > 1


@pytest.mark.parametrize("loss", [sigmoid_focal_loss, softmax_focal_loss])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes(device, dtype, loss):
    x = logits(device).to(dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    target = torch.tensor([0, 1, 2, 3, 3, 1], device=device)
    found = loss(x, target, 2.0, 0.25, None, "sum")
    wanted = loss(exact, target, 2.0, 0.25, None, "sum")
    found.backward()
    wanted.backward()
    assert found.dtype == x.grad.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), wanted, rtol=8 * eps, atol=8 * eps)
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=8 * eps, atol=8 * eps)


@pytest.mark.parametrize("loss", [sigmoid_focal_loss, softmax_focal_loss])
def test_no_rows(device, loss):
    x = logits(device, rows=0).requires_grad_()
    out = loss(x, torch.zeros(0, dtype=torch.long, device=device), 2.0, 0.25, None, "sum")
    out.backward()
    assert out.item() == 0 and x.grad.shape == (0, 4)
