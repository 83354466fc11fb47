"""GradInit by numbers: scalar optima, finite differences, and HorFPN from a bad start."""

import pytest
import torch
from torch import nn

from hordet.engine import GradInit
from hordet.engine.grad_init import learn_scales
from hordet.errors import ConfigError
from hordet.layers.recompute import keep_all_activations
from hordet.necks import HorFPN


def learn_scalar(**options):
    """Learn the factor of w = 3 for the loss (w - 1)^2."""
    settings = GradInit(iterations=90, **options)
    return learn_scales(
        [torch.tensor([3.0])],
        lambda values, batch: ((values[0] - 1) ** 2).sum(),
        lambda: None,
        lambda: None,
        settings,
    )


def test_the_step_ends_at_the_least_loss():
    """A step of 0.1 from 1.1 meets 1; the gradient there, 0.2, is within the bound."""
    outcome = learn_scalar(step_size=0.1, max_norm=1.0)
    assert outcome.scales[0] * 3 == pytest.approx(1.1, abs=0.03)
    assert outcome.norms == (pytest.approx(4.0), pytest.approx(0.2, abs=0.06))
    assert outcome.losses[0] == pytest.approx(4.0)


def test_the_bound_of_the_gradient_comes_first():
    outcome = learn_scalar(step_size=0.5, max_norm=0.2)
    assert outcome.norms[1] <= 0.2
    assert abs(outcome.scales[0] * 3 - 1) <= 0.1 + 1e-6


def test_no_factor_falls_below_the_least():
    outcome = learn_scales(
        [torch.tensor([3.0]), torch.zeros(2)],
        lambda values, batch: (values[0] + values[1].sum()).square().sum(),
        lambda: None,
        lambda: None,
        GradInit(iterations=30, min_scale=0.5, lr=0.1, max_norm=100.0),
    )
    assert outcome.scales == [0.5, 1.0]  # a block of zeros keeps its factor


def test_norms_and_directions():
    gradients = [torch.tensor([3.0, -4.0]), torch.tensor([[0.0], [12.0]])]
    norm, direction = GradInit().find_direction(gradients)
    assert norm == 13.0
    assert torch.cat([part.flatten() for part in direction]).tolist() == pytest.approx(
        [3 / 13, -4 / 13, 0, 12 / 13]
    )
    norm, direction = GradInit("adam").find_direction(gradients)
    assert norm == 19.0
    assert torch.cat([part.flatten() for part in direction]).tolist() == [1, -1, 0, 1]


class Task:
    """HorFPN whose blocks start ten times too large or too small, and a loss of its outputs."""

    def __init__(self, dtype=torch.float32):
        torch.manual_seed(0)
        self.neck = HorFPN(in_channels=[8, 16], out_channels=8, num_outs=2).to(dtype)
        self.neck.init_weights()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in self.neck.parameters():
                parameter.mul_(10 ** (torch.rand((), generator=generator) * 2 - 1))
        self.names = [name for name, _ in self.neck.named_parameters()]
        self.blocks = list(self.neck.parameters())
        self.dtype, self.generator = dtype, generator

    def draw(self):
        maps = [torch.randn(2, 8, 4, 4, generator=self.generator, dtype=self.dtype)]
        maps += [torch.randn(2, 16, 2, 2, generator=self.generator, dtype=self.dtype)]
        return maps

    def compute_loss(self, values, maps):
        named = dict(zip(self.names, values, strict=True))
        outs = torch.func.functional_call(self.neck, named, (maps,))
        want = maps[0].roll(1, 1)
        return (outs[0] - want).square().mean() + 0.1 * outs[1].square().mean()

    def loss_after_a_step(self, values, maps, settings):
        values = [value.detach().requires_grad_() for value in values]
        gradients = torch.autograd.grad(
            self.compute_loss(values, maps), values, allow_unused=True, materialize_grads=True
        )
        _, direction = settings.find_direction(gradients)
        steps = zip(values, direction, strict=True)
        stepped = [value - settings.step_size * part for value, part in steps]
        return self.compute_loss(stepped, maps).item()


@pytest.mark.parametrize("optimizer, step_size, bound", [("sgd", 0.1, 1.0), ("adam", 1e-3, 30.0)])
def test_the_first_step_of_horfpn_ends_lower(optimizer, step_size, bound):
    settings = GradInit(optimizer, step_size, bound, iterations=20, lr=0.05)
    outcomes = []
    for _ in range(2):
        task = Task()
        with keep_all_activations():
            outcomes.append(
                learn_scales(task.blocks, task.compute_loss, task.draw, task.draw, settings)
            )
    assert outcomes[0] == outcomes[1]
    scales = outcomes[0].scales
    assert min(scales) > 0.0099 and max(scales) > 1.05 * min(scales)
    assert outcomes[0].norms[1] <= bound < outcomes[0].norms[0]

    scaled = [block * scale for block, scale in zip(task.blocks, scales, strict=True)]
    for _ in range(3):  # images that GradInit did not see
        maps = task.draw()
        after = task.loss_after_a_step(scaled, maps, settings)
        assert after < 0.5 * task.loss_after_a_step(task.blocks, maps, settings)
        values = [value.detach().requires_grad_() for value in scaled]
        assert after < task.compute_loss(values, maps)


def test_gradients_of_the_goal_equal_finite_differences():
    """Second derivatives of gnConv are whole once nothing is computed again."""
    task, settings = Task(torch.float64), GradInit(step_size=0.3)
    maps, others = task.draw(), task.draw()
    blocks = [block.detach() for block in task.blocks]

    def reach(scales):
        scaled = [block * scale for block, scale in zip(blocks, scales.unbind(), strict=True)]
        gradients = torch.autograd.grad(
            task.compute_loss(scaled, maps),
            scaled,
            create_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        norm, direction = settings.find_direction(gradients)
        steps = zip(scaled, direction, strict=True)
        stepped = [block - settings.step_size * part for block, part in steps]
        return norm, task.compute_loss(stepped, others)

    scales = torch.linspace(0.5, 1.5, len(blocks), dtype=torch.float64, requires_grad=True)
    with keep_all_activations():
        norm, loss = reach(scales)
        got = [torch.autograd.grad(value, scales, retain_graph=True)[0] for value in (norm, loss)]
        shift = 1e-6 * torch.eye(len(blocks), dtype=torch.float64)
        for i in range(0, len(blocks), 3):
            more, less = reach(scales + shift[i]), reach(scales - shift[i])
            for k in range(2):
                want = (more[k] - less[k]).item() / 2e-6
                assert got[k][i].item() == pytest.approx(want, rel=1e-4, abs=1e-6)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return 2 * grad


def learn(compute_loss):
    learn_scales([torch.ones(2)], compute_loss, lambda: None, lambda: None, GradInit(iterations=2))


def test_says_what_it_cannot_use():
    with pytest.raises(ConfigError, match="differentiates gradients, and an operator"):
        learn(lambda values, batch: _Once.apply(values[0]).square().sum())
    with pytest.raises(ConfigError, match="in iteration 0 the loss is nan"):
        learn(lambda values, batch: values[0].sum() * torch.nan)
    with pytest.raises(ConfigError, match="the loss does not depend on the part"):
        learn(lambda values, batch: torch.ones(()))
    with pytest.raises(ConfigError, match="got optimizer='lion'; allowed are 'sgd' and 'adam'"):
        GradInit("lion")
    with pytest.raises(ConfigError, match="got lr=0; allowed is more than 0"):
        GradInit(lr=0)


def test_marks_and_changes_nothing():
    module = nn.Linear(2, 2)
    before = module.weight.clone()
    GradInit()(module)
    assert isinstance(module.grad_init, GradInit)
    assert torch.equal(module.weight, before) and set(module.state_dict()) == {"weight", "bias"}
