"""A resumed run says what has changed and what holds; a run that has ended says so."""

import json
import logging
import shutil
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from torch import nn

from hordet.checkpoints import use_safe_loading
from hordet.engine.hooks.resume import STOPPED, ResumeHook, _require_same_groups
from hordet.errors import ConfigError

COSINE = [dict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True)]
SAVES = dict(type="hordet.CheckpointHook", interval=1)


@pytest.fixture
def train(toy_run, tmp_path, caplog):
    """Train the toy with a rate, a length and perhaps from a checkpoint; return what it said."""
    use_safe_loading()
    number = 0

    def run(epochs, rate=0.125, resume=None, hooks=(), new=False, classes=None):
        nonlocal number
        number += 1
        caplog.clear()
        settings = dict(
            train_cfg=dict(type="hordet.EpochBasedTrainLoop", max_epochs=epochs),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=rate)),
            param_scheduler=[dict(COSINE[0])],
        )
        hook = ResumeHook(new)
        runner = toy_run(
            [hook, *hooks],
            checkpoint=SAVES,
            resume=resume is not None,
            load_from=resume and str(resume),
            cfg=Config(dict(settings, custom_hooks=list(hooks))),
            experiment_name=f"resume_{tmp_path.name}_{number}",
            **settings,
        )
        if classes:
            runner.train_dataloader.dataset.metainfo = dict(classes=classes)
        rates = []
        runner.register_hook(Note(rates), priority="LOW")
        with caplog.at_level(logging.WARNING):
            logging.getLogger("mmengine").addHandler(caplog.handler)
            runner.logger.addHandler(caplog.handler)
            runner.train()
        said = [r.getMessage() for r in caplog.records if "config differs" in r.getMessage()]
        return hook.describe_end(runner), said, rates

    return run


class Note(Hook):
    """Keep the learning rate of each iteration."""

    def __init__(self, rates):
        self.rates = rates

    def before_train_iter(self, runner, *args, **kwargs):
        self.rates.append(runner.optim_wrapper.get_lr()["lr"][0])


def test_an_unchanged_resume_says_nothing_of_it(train, tmp_path):
    end, said, whole = train(2)
    assert end == "" and said == [] and len(whole) == 8
    end, said, rates = train(2, resume=tmp_path / "run/epoch_1.pth")
    assert end == "" and said == [] and rates == pytest.approx(whole[4:])


def test_a_finished_run_has_nothing_left(train, tmp_path):
    train(2)
    end, said, rates = train(2, resume=tmp_path / "run/epoch_2.pth")
    assert rates == [] and said == []
    assert end.startswith("nothing left to train: the run had reached its end, epoch 2 of 2. A la")


def test_what_holds_is_said_and_a_new_schedule_is_the_configs(train, tmp_path):
    train(2)
    last = shutil.copy(tmp_path / "run/epoch_2.pth", tmp_path / "last.pth")
    end, (said,), rates = train(4, rate=0.5, resume=last)
    assert "train_cfg.max_epochs was 2, is 4" in said and "lr was 0.125, is 0.5" in said
    assert "learning rate and schedule are the checkpoint's, which ends at iteration 8" in said
    assert "--new-schedule" in said and max(rates) < 0.01 and len(rates) == 8
    # The rates of a run of this config in one go.
    _, _, whole = train(4, rate=0.5)
    _, (said,), rates = train(4, rate=0.5, resume=last, new=True)
    assert "its schedule as if from the start" in said
    assert rates == pytest.approx(whole[8:]) and rates[0] == pytest.approx(0.25, abs=0.01)


def test_other_classes_are_named(train, tmp_path):
    train(1)
    _, (said,), _ = train(2, resume=tmp_path / "run/epoch_1.pth", classes=("x", "y"))
    assert "classes was thing, is x, y" in said and "fine-tune by load_from" in said


def test_a_run_that_stopped_early_says_so_and_stays_so(train, tmp_path):
    rule = dict(type="EarlyStoppingHook", monitor="count", rule="greater", patience=1, min_delta=99)
    end, _, rates = train(6, hooks=[rule])
    assert len(rates) == 8
    assert end == (
        "stopped early at epoch 2 of 6: count did not improve in 1 validations (best 8.000)"
    )
    note = json.loads((tmp_path / "run" / STOPPED).read_text())
    assert note["iteration"] == 8
    end, said, rates = train(6, hooks=[rule], resume=tmp_path / "run/epoch_2.pth")
    assert rates == [] and end.startswith("nothing left to train: stopped early at epoch 2 of 6")
    # Another rule trains on; a run anew forgets.
    end, _, rates = train(3, hooks=[], resume=tmp_path / "run/epoch_2.pth")
    assert len(rates) == 4 and end == ""
    train(1)
    assert not (tmp_path / "run" / STOPPED).exists()


@pytest.mark.parametrize("own", [1, 3])
def test_other_groups_of_parameters_are_refused_in_words(own):
    """As after an update whose configs have custom_keys: mmengine's words name no cure."""

    def make_runner(groups):
        weights = [dict(params=[nn.Parameter(torch.zeros(1))]) for _ in range(groups)]
        wrapper = OptimWrapper(torch.optim.SGD(weights, lr=0.1))
        # As mmengine does for every paramwise_cfg; its own list then has one group more.
        wrapper.base_param_settings = dict(params=torch.zeros(1), lr=0.1)
        assert len(wrapper.param_groups) == groups + 1
        return SimpleNamespace(optim_wrapper=wrapper)

    saved = dict(optimizer=make_runner(2).optim_wrapper.state_dict())
    with pytest.raises(ConfigError, match=f"has 2 groups.*the config's {own}.*own config"):
        _require_same_groups(make_runner(own), saved)
    _require_same_groups(make_runner(2), saved)
    _require_same_groups(make_runner(2), {})
