"""The cost of connections reaches the loss, the log and the masks of a training."""

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from hordet.engine.hooks import ConnectionCostHook
from hordet.errors import ConfigError
from hordet.neighbours.scl import SparseConnectivity


class Sparse(BaseModel):
    """Learns the first of three equal inputs' sum from a layer with masks."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = SparseConnectivity(nn.Linear(3, 1, bias=False))

    def forward(self, inputs, data_samples=None, mode="tensor"):
        out = self.linear(torch.stack(inputs))
        return data_samples if mode == "predict" else dict(loss_fit=0 * out.mean())


class Losses:
    """Keeps what the model returned in the steps of a training."""

    def __init__(self, model):
        self.seen = []
        model.register_forward_hook(lambda *arguments: self.seen.append(arguments[-1]))


def test_connections_go_as_fast_as_cost_and_learning_rate_say(toy_run):
    """0.001 / (cost 0.002 * lr 0.125) is four steps; the data ask for nothing."""
    model = Sparse()
    runner = toy_run([ConnectionCostHook(cost=0.002)], model=model)
    losses = Losses(model)  # after the runner has the hook's place: it is registered later
    runner.train()
    steps = [out for out in losses.seen if isinstance(out, dict)]
    assert len(steps) == 8
    assert not model._forward_hooks or len(model._forward_hooks) == 1  # the test's own
    assert (model.linear.mask <= 0).all()
    logged = runner.message_hub.log_scalars
    assert logged["train/connections_kept"].data[0][0] == 1.0
    assert logged["train/loss_connections"].data[0][0] == pytest.approx(0.006)
    kept = logged["train/connections_kept"].data[0].tolist()
    assert kept == [1.0] * 4 + [0.0] * 4
    assert logged["train/loss"].data[0].tolist() == pytest.approx([0.006] * 4 + [0.0] * 4)


def test_a_training_after_one_that_failed_adds_the_cost_once(toy_run):
    model, hook = Sparse(), ConnectionCostHook(cost=0.5)
    runner = toy_run([hook], model=model)
    hook.before_train(runner)  # no after_train: the training raised
    hook.before_train(runner)
    assert len(model._forward_hooks) == 1
    out = model([torch.ones(3)], mode="loss")
    assert out["loss_connections"].item() == pytest.approx(1.5)
    hook.after_train(runner)
    assert not model._forward_hooks


def test_without_the_hook_nothing_is_lost(toy_run):
    model = Sparse()
    toy_run([], model=model).train()
    assert (model.linear.mask > 0).all()


def test_a_model_without_connections_is_refused(toy_run):
    with pytest.raises(ConfigError, match="no sparse connections; take fusion='scl'"):
        toy_run([ConnectionCostHook(cost=1.0)]).train()


@pytest.mark.parametrize("cost", [0, -1.0, float("nan")])
def test_refuses(cost):
    with pytest.raises(ConfigError, match="got cost="):
        ConnectionCostHook(cost)
