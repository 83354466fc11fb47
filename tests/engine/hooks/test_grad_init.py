"""The hook runs GradInit on the training's images and loss, once, and leaves the rest as it was."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel, BaseModule
from torch import nn

from hordet.engine.hooks import GradInitHook
from hordet.engine.prepare import prepare_training
from hordet.errors import ConfigError

MARK = dict(type="hordet.GradInit", iterations=15, lr=0.05)


class Part(BaseModule):
    """Two linear layers, far too large."""

    def __init__(self, init_cfg=None):
        super().__init__(init_cfg)
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        with torch.no_grad():
            self.layers[2].weight.mul_(50)


class Net(BaseModel):
    """Learns the mean of three equal inputs."""

    def __init__(self, part):
        super().__init__()
        self.part, self.dropout, self.bias = part, nn.Dropout(0.5), nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode="tensor"):
        x = torch.stack(inputs)
        out = self.part.layers(self.dropout(x)) + self.bias
        if mode == "predict":
            return data_samples
        return dict(loss_fit=(out[:, 0] - x.mean(1)).square().mean())


class Probe(Hook):
    """Keeps what the training starts from."""

    def before_train_epoch(self, runner):
        if not hasattr(self, "state"):
            self.state = {k: v.clone() for k, v in runner.model.state_dict().items()}
            self.modes = {type(m).__name__: m.training for m in runner.model.modules()}
            self.draw = torch.rand(3)


def train(toy_run, init_cfg, hooks=(), **settings):
    torch.manual_seed(5)
    probe = Probe()
    runner = toy_run(
        [*hooks, probe],
        model=Net(Part(init_cfg)),
        randomness=dict(seed=7),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=1e-6)),
        **settings,
    )
    runner.train()
    return probe, runner


def test_factors_are_there_before_the_first_step(toy_run):
    plain, _ = train(toy_run, None)
    scaled, _ = train(toy_run, [MARK], [dict(type="hordet.GradInitHook")])
    ratios = {}
    for name, value in scaled.state.items():
        before = plain.state[name]
        if name.startswith("part.") and name.endswith("weight"):
            ratio = (value / before).flatten()
            torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
            ratios[name] = ratio[0].item()
        elif "running" in name or "num_batches" in name or name == "bias":
            assert torch.equal(value, before), name
    assert all(ratio > 0 for ratio in ratios.values())
    assert ratios["part.layers.2.weight"] < 0.5  # 50 times too large
    assert torch.equal(scaled.draw, plain.draw)  # the training's random numbers are the same
    assert plain.modes == scaled.modes


def test_the_log_tells_losses_and_norms(toy_run):
    _, runner = train(toy_run, [MARK], [GradInitHook()])
    (file,) = Path(runner.log_dir).glob("*.log")
    text = file.read_text()
    assert "GradInit of Part is due before the first training step" in text
    assert "GradInit of part: 6 factors from" in text and "(bound 1)" in text


def test_the_same_seed_gives_the_same_factors(toy_run):
    first, _ = train(toy_run, MARK, [GradInitHook()])
    second, _ = train(toy_run, MARK, [GradInitHook()])
    assert all(torch.equal(value, second.state[name]) for name, value in first.state.items())


def test_trained_parameters_are_left_alone(toy_run, tmp_path):
    _, runner = train(toy_run, None)
    file = str(tmp_path / "trained.pth")
    torch.save(dict(state_dict=runner.model.state_dict()), file)
    probe, _ = train(toy_run, MARK, [GradInitHook()], load_from=file)
    want = runner.model.state_dict()
    assert all(torch.equal(value, want[name]) for name, value in probe.state.items())


def test_a_model_without_a_mark_is_refused(toy_run):
    with pytest.raises(ConfigError, match="no part of the model has init_cfg=dict"):
        toy_run([GradInitHook()]).train()


def test_a_training_gets_the_hook_once():
    cfg = Config(
        dict(
            model=dict(neck=dict(init_cfg=[dict(type="Xavier"), dict(type="hordet.GradInit")])),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
            work_dir="unused",
        )
    )
    for _ in range(2):
        prepare_training(cfg)
        assert cfg.custom_hooks == [dict(type="hordet.GradInitHook")]
    cfg.compile_regions = True
    with pytest.raises(
        ConfigError, match="plain kernels in each process: leave it or compile_regions"
    ):
        prepare_training(cfg)
