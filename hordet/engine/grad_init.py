r"""GradInit: scales of a start that let the first step of the optimizer lower the loss most.

Paper: C. Zhu et al., "GradInit: Learning to Initialize Neural Networks for Stable and Efficient
Training" (NeurIPS 2021, arXiv 2102.08098), section 3 and algorithm 1. Each block of parameters W_i,
a tensor, keeps its random values and gets a factor m_i, 1 at first. With L(B; m) the loss of a
batch B at the parameters m_i W_i, and g its gradient in these,

    minimize over m    L(B'; m W - eta A[g])    subject to    |g|_p <= gamma,

where one step of the optimizer is eta A[g]: for SGD A[g] = g / |g|_2 and p = 2, for Adam
A[g] = sign(g), its first step, and p = 1. Half of B' are images of B: with the same images the
step could fit them by large gradients, with others the loss would hardly tell of it. An iteration
lowers |g|_p where that is above gamma, and L / eta elsewhere, each by Adam in m with averages of
its own and gradients cut to [-1, 1]; then no m_i is below `min_scale`.

The method needs batches and the loss, and an `init_cfg` gets neither: mmengine applies it while the
model is built. So `dict(type='hordet.GradInit')` marks its part, and `GradInitHook`, which `hordet
train` adds by itself, runs the algorithm on images of the training and the model's own loss between
the random start and the first step. A loss made up for the part alone would not be the paper's.

What differs. The paper scales a whole network. Here the blocks are those of the marked part, and
the rest of the model belongs to the loss; for the whole network, mark the detector or segmentor.
g is differentiated in L as the equation says; for SGD, the authors' code holds it constant there.
Where the bound is not met after the last iteration, further ones, at most as many, only lower
|g|_p. Blocks of zeros, which no factor changes, take part in the step and in the norm.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from hordet.errors import ConfigError
from hordet.registry import WEIGHT_INITIALIZERS

OPTIMIZERS = ("sgd", "adam")


@WEIGHT_INITIALIZERS.register_module()
class GradInit:
    """Mark a part of a model for `GradInitHook`, as its `init_cfg`.

    In a list of several `init_cfg`, what the others set is what GradInit scales.

    Args:
        optimizer: The kind of the first step, 'sgd' or 'adam' (AdamW, too).
        step_size: eta, the length of an SGD step, or the learning rate of Adam.
        max_norm: gamma, of the gradient in the marked part: its 2-norm for 'sgd', its 1-norm, a
            far larger number, for 'adam'.
        iterations: Number of iterations, each of a few training steps' time.
        lr: Learning rate of the factors.
        min_scale: Least factor, above 0.

    Raises:
        ConfigError: An option is not what it may be.
    """

    def __init__(
        self,
        optimizer: Literal["sgd", "adam"] = "sgd",
        step_size: float = 0.1,
        max_norm: float = 1.0,
        iterations: int = 100,
        lr: float = 0.01,
        min_scale: float = 0.01,
    ) -> None:
        """Keep the settings."""
        if optimizer not in OPTIMIZERS:
            raise ConfigError(
                f"GradInit: got optimizer={optimizer!r}; allowed are 'sgd' and 'adam'."
            )
        numbers = dict(
            step_size=step_size,
            max_norm=max_norm,
            iterations=iterations,
            lr=lr,
            min_scale=min_scale,
        )
        for name, value in numbers.items():
            if not value > 0:
                raise ConfigError(f"GradInit: got {name}={value}; allowed is more than 0.")
        self.optimizer = optimizer
        self.step_size = step_size
        self.max_norm = max_norm
        self.iterations = iterations
        self.lr = lr
        self.min_scale = min_scale

    def __call__(self, module: nn.Module) -> None:
        """Mark `module`; its parameters stay as they are until the training starts."""
        module.grad_init = self  # type: ignore[assignment]  # no module, and of no state dict
        print_log(
            f"GradInit of {type(module).__name__} is due before the first training step, by "
            "GradInitHook",
            "current",
        )

    def find_direction(self, gradients: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return |g|_p, a scalar, and A[g]."""
        if self.optimizer == "adam":
            norm = torch.stack([gradient.abs().sum() for gradient in gradients]).sum()
            return norm, [gradient.sign() for gradient in gradients]
        # Of sums that may be 0: the root has no finite gradient there.
        square = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
        norm = square.clamp_min(torch.finfo(square.dtype).tiny).sqrt()
        return norm, [gradient / norm for gradient in gradients]


@dataclass(frozen=True)
class Outcome:
    """What `learn_scales` found.

    Attributes:
        scales: m_i of each block.
        losses: L before any step, of the first and of the last batch.
        norms: |g|_p of both.
    """

    scales: list[float]
    losses: tuple[float, float]
    norms: tuple[float, float]


def learn_scales(
    blocks: Sequence[Tensor],
    compute_loss: Callable[[list[Tensor], Any], Tensor],
    load_batch: Callable[[], Any],
    load_next: Callable[[], Any],
    settings: GradInit,
) -> Outcome:
    """Run algorithm 1.

    Args:
        blocks: W_i, float tensors of one device; they are not changed.
        compute_loss: L of values of all blocks and a batch, a scalar that can be differentiated
            twice.
        load_batch: Returns B, another one each time.
        load_next: Returns B' of the last B.
        settings: eta, gamma and the rest.

    Raises:
        ConfigError: A loss or gradient is not finite, or cannot be differentiated twice.
    """
    blocks = [block.detach() for block in blocks]
    scales = torch.ones(len(blocks), device=blocks[0].device, requires_grad=True)
    fixed = torch.tensor([not block.any() for block in blocks], device=scales.device)
    lower_loss, lower_norm = (torch.optim.Adam([scales], settings.lr) for _ in range(2))
    losses: list[float] = []
    norms: list[float] = []
    for iteration in range(2 * settings.iterations + 1):
        scaled = [block * scale for block, scale in zip(blocks, scales.unbind(), strict=True)]
        loss = compute_loss(scaled, load_batch())
        if not loss.requires_grad:
            raise ConfigError(
                "GradInit: the loss does not depend on the part it is for. Give the init_cfg to "
                "another one"
            )
        with _explain_second_gradient():
            gradients = torch.autograd.grad(
                loss, scaled, create_graph=True, allow_unused=True, materialize_grads=True
            )
        norm, direction = settings.find_direction(gradients)
        _require_finite(loss, norm, iteration)
        losses.append(loss.item())
        norms.append(norm.item())
        within, last = norms[-1] <= settings.max_norm, iteration >= settings.iterations
        if (within and last) or iteration == 2 * settings.iterations:
            break
        goal = norm
        if within:
            steps = zip(scaled, direction, strict=True)
            stepped = [block - settings.step_size * part for block, part in steps]
            goal = compute_loss(stepped, load_next()) / settings.step_size
        scales.grad = torch.zeros_like(scales)
        if goal.requires_grad:  # not the norm of a loss that is linear in all blocks
            # Not torch.autograd.grad, which leaves out operators that refuse a second gradient.
            with _explain_second_gradient():
                goal.backward()
        scales.grad.clamp_(-1, 1).masked_fill_(fixed, 0.0)
        (lower_loss if within else lower_norm).step()
        with torch.no_grad():
            scales.clamp_(min=settings.min_scale)
    return Outcome(scales.tolist(), (losses[0], losses[-1]), (norms[0], norms[-1]))


@contextmanager
def _explain_second_gradient() -> Iterator[None]:
    try:
        yield
    except (NotImplementedError, RuntimeError) as error:
        words = " ".join(str(error).split())[:300]
        raise ConfigError(
            "GradInit differentiates gradients, and an operator between the part it is for and the "
            f"loss cannot ({words}). RoIAlign, deformable convolution, recomputed blocks (with_cp) "
            "and compiled ones are such: leave GradInit or them out"
        ) from error


def _require_finite(loss: Tensor, norm: Tensor, iteration: int) -> None:
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        raise ConfigError(
            f"GradInit: in iteration {iteration} the loss is {loss.item()} and the norm of its "
            f"gradient {norm.item()}. "
            + ("Take a smaller lr" if iteration else "The start itself is at fault: see init_cfg")
        )
