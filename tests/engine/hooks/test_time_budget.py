"""The plan that fits into some minutes, by a clock of the test's own."""

import math

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from hordet.checkpoints import load_checkpoint, use_safe_loading
from hordet.engine.hooks import TimeBudgetHook, time_budget
from hordet.engine.hooks.time_budget import stretch
from hordet.errors import ConfigError, ConfigWarning

RATE = 0.125
COSINE = [dict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True)]


class Clock(Hook):
    """Lets an iteration take some seconds, notes the learning rate, and may stop the run."""

    priority = "VERY_HIGH"

    def __init__(self, seconds=1.0, stop=None):
        self.now, self.seconds, self.stop, self.rates = 100.0, seconds, stop, []

    def before_train_iter(self, runner, *args, **kwargs):
        self.rates.append(runner.optim_wrapper.param_groups[0]["lr"])
        if runner.iter == self.stop:
            raise KeyboardInterrupt

    def after_train_iter(self, runner, *args, **kwargs):
        self.now += self.seconds


@pytest.fixture
def train(toy_run, monkeypatch, tmp_path):
    use_safe_loading()
    number = 0

    def run(minutes, clock, loop=None, schedule=COSINE, resume=None, folder="run"):
        nonlocal number
        number += 1
        monkeypatch.setattr(time_budget, "monotonic", lambda: clock.now)
        torch.manual_seed(0)
        settings = dict(
            train_cfg=loop or dict(type="hordet.EpochBasedTrainLoop", max_epochs=3),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=RATE)),
            param_scheduler=[dict(each) for each in schedule],
        )
        runner = toy_run(
            [clock, TimeBudgetHook(minutes=minutes)],
            checkpoint=dict(type="hordet.CheckpointHook", by_epoch=False, interval=8),
            work_dir=str(tmp_path / folder),
            experiment_name=f"budget_{number}",
            cfg=Config(settings),
            resume=resume is not None,
            load_from=resume and str(resume),
            **settings,
        )
        try:
            runner.train()
        finally:
            for hook in runner.hooks:  # a process that was killed keeps no handlers
                hook.after_run(runner)
        return runner

    return run


def test_the_plan_fits_the_minutes_and_the_schedule_the_plan(train):
    """3 epochs of 4 iterations of a second, 3 validations of 4 batches at a third of a second.

    After 6 iterations 60 - 6 - 4 seconds are left, for 50 more iterations: 14 epochs.
    """
    clock = Clock()
    runner = train(1, clock)
    assert (runner.epoch, runner.iter) == (14, 56)
    assert runner.train_loop.val_interval == 5
    assert runner.message_hub.get_info("time_plan")["seconds"] == pytest.approx(60)
    for done, rate in enumerate(clock.rates):
        length = 12 if done < 6 else 56
        assert rate == pytest.approx(RATE * (1 + math.cos(math.pi * done / length)) / 2, abs=1e-9)


def test_a_slow_machine_trains_less_and_at_least_an_epoch(train):
    loop = dict(type="hordet.EpochBasedTrainLoop", max_epochs=30)
    # 20 iterations are timed, the 60 s are over: the fifth epoch is done and is the last.
    clock = Clock(seconds=20.0)
    with pytest.warns(ConfigWarning, match="max_minutes=1 is too short"):
        runner = train(1, clock, loop)
    assert runner.epoch == 5 and runner.train_loop.max_epochs == 5


def test_iterations_and_the_ends_of_a_schedule_in_parts(train):
    loop = dict(type="hordet.IterBasedTrainLoop", max_iters=80, val_interval=40)
    schedule = [
        dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=8),
        dict(type="MultiStepLR", by_epoch=False, begin=0, end=80, milestones=[40, 60], gamma=0.1),
    ]
    clock = Clock(seconds=1.0)
    # 20 are timed; two validations take 8 / 3 s; 120 - 20 - 2.67 s are left for 97 more.
    runner = train(2, clock, loop, schedule)
    assert runner.iter == 117 and runner.train_loop.val_interval == 59
    steps = [i for i in range(21, 117) if clock.rates[i] < 0.5 * clock.rates[i - 1]]
    assert steps == [round(40 * 117 / 80), round(60 * 117 / 80)]
    assert clock.rates[30] == pytest.approx(RATE)


def test_a_resumed_run_keeps_the_plan(train, tmp_path):
    whole = train(1, Clock(), folder="whole")
    with pytest.raises(KeyboardInterrupt):
        train(1, Clock(stop=9), folder="killed")
    # A machine that is ten times as fast: only the plan of the checkpoint gives the same.
    resumed = train(
        1, Clock(seconds=0.1), folder="killed", resume=tmp_path / "killed" / "iter_8.pth"
    )
    assert (resumed.iter, resumed.train_loop.val_interval) == (whole.iter, 5)
    ends = [load_checkpoint(tmp_path / name / "iter_56.pth") for name in ("whole", "killed")]
    assert ends[0]["param_schedulers"] == ends[1]["param_schedulers"]
    for name, weight in ends[0]["state_dict"].items():
        assert torch.equal(weight, ends[1]["state_dict"][name])


def test_lengths_of_a_schedule_are_stretched():
    given = dict(type="MultiStepLR", begin=0, end=12, milestones=[8, 11], by_epoch=True)
    assert stretch(given, 0.5) == given | dict(end=6, milestones=[4, 6])
    assert stretch(dict(type="CosineAnnealingLR", T_max=10), 2.5)["T_max"] == 25
    assert stretch(dict(type="LinearLR", end=50, start_factor=0.1), 0.001)["end"] == 1
    assert stretch(dict(type="CosineAnnealingLR"), 3) == dict(type="CosineAnnealingLR")


def test_other_loops_are_refused(train):
    with pytest.raises(ConfigError, match="set train_cfg.type to 'hordet.EpochBasedTrainLoop'"):
        train(1, Clock(), dict(by_epoch=True, max_epochs=2))
