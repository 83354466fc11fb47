"""A resumed run says what has changed and what holds; a run that has ended says so."""

import hashlib
import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from torch import nn

from hordet.checkpoints import use_safe_loading
from hordet.cli.train import tell_of_earlier_run
from hordet.engine.hooks.console import ConsoleHook
from hordet.engine.hooks.resume import (
    STOPPED,
    ResumeHook,
    _compare,
    _describe_change,
    _require_same_groups,
)
from hordet.engine.prepare import _resume
from hordet.errors import CheckpointError, CheckpointWarning, ConfigError

COSINE = [dict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True)]
SAVES = dict(type="hordet.CheckpointHook", interval=1)


@pytest.fixture
def train(toy_run, tmp_path, caplog):
    """Train the toy with a rate, a length and perhaps from a checkpoint; return what it said."""
    use_safe_loading()
    number = 0

    def run(epochs, rate=0.125, resume=None, hooks=(), new=False, classes=None, told=None, **more):
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
            cfg=Config(dict(settings, custom_hooks=list(hooks)) | (told or {})),
            experiment_name=f"resume_{tmp_path.name}_{number}",
            **settings,
            **more,
        )
        run.dataset = runner.train_dataloader.dataset
        if classes:
            runner.train_dataloader.dataset.metainfo = dict(classes=classes)
        rates = []
        runner.register_hook(Note(rates), priority="LOW")
        with caplog.at_level(logging.WARNING):
            logging.getLogger("mmengine").addHandler(caplog.handler)
            runner.logger.addHandler(caplog.handler)
            runner.train()
        words = ("config differs", "Changed since")
        said = [m for m in map(logging.LogRecord.getMessage, caplog.records) if m.startswith(words)
                or "config differs" in m]  # fmt: skip
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
    assert "and the schedule are the checkpoint's, which ends at iteration 8" in said
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


@pytest.mark.parametrize("kinds", [("Adam", "SGD"), ("SGD", "AdamW"), ("SGD", "RMSprop")])
def test_the_state_of_another_optimizer_is_refused_in_words(kinds):
    """torch takes it over, and then lacks numbers at the first step."""
    runners = [
        SimpleNamespace(
            optim_wrapper=OptimWrapper(getattr(torch.optim, kind)([nn.Parameter(torch.zeros(1))]))
        )
        for kind in kinds
    ]
    saved = dict(optimizer=runners[0].optim_wrapper.state_dict())
    with pytest.raises(ConfigError, match=f"another type.*{kinds[1]} of the config.*load_from="):
        _require_same_groups(runners[1], saved)
    _require_same_groups(runners[0], saved)


BEFORE = dict(
    optim_wrapper=dict(clip_grad=dict(max_norm=35), optimizer=dict(type="AdamW", betas=(0.9, 0.9))),
    model=dict(head=dict(loss=dict(loss_weight=1.0)), neck=[1, 2]),
    train_dataloader=dict(num_workers=2, dataset=dict(data_prefix=dict(img="a"), pipeline=[{}])),
    default_hooks=dict(checkpoint=dict(interval=1), logger=dict(interval=5)),
    tta_model=dict(a=1),
    own=5,
)
CHANGES = [  # a key, its new value, what is said
    ("optim_wrapper.optimizer.betas", (0.1, 0.2), ".betas was [0.9, 0.9], is [0.1, 0.2]"),
    ("optim_wrapper.optimizer.type", "Adam", "optim_wrapper.optimizer.type was AdamW, is Adam"),
    ("optim_wrapper.clip_grad.max_norm", 0.5, "optim_wrapper.clip_grad.max_norm was 35, is 0.5"),
    ("optim_wrapper.clip_grad", None, "clip_grad was {'max_norm': 35}, is None"),
    ("optim_wrapper.accumulative_counts", 2, "accumulative_counts was None, is 2"),
    ("model.head.loss.loss_weight", 9, "model.head.loss.loss_weight was 1.0, is 9"),
    ("model.neck", [1, 3], "model.neck was [1, 2], is [1, 3]"),
    ("train_dataloader.dataset.data_prefix.img", "b", "dataset.data_prefix.img was a, is b"),
    ("train_dataloader.dataset.pipeline", [dict(type="x" * 60)], "pipeline has changed"),
    ("default_hooks.checkpoint.interval", 7, "default_hooks.checkpoint.interval was 1, is 7"),
    ("default_hooks.logger.interval", 7, None),
    ("train_dataloader.num_workers", 9, None),
    ("tta_model.a", 9, None),
    ("own", 9, None),
]


@pytest.mark.parametrize(("key", "value", "words"), CHANGES)
def test_any_change_of_what_is_trained_is_said(tmp_path, key, value, words):
    saved, cfg = Config(BEFORE), Config(BEFORE)
    cfg.merge_from_dict({key: value})
    dataset = SimpleNamespace(metainfo={})
    runner = SimpleNamespace(cfg=cfg, train_dataloader=SimpleNamespace(dataset=dataset))
    told = [_describe_change(*change) for change in _compare(saved, dict(meta={}), runner)]
    assert len(told) == (words is not None) and (words or "") in "".join(told)


def test_another_content_of_an_annotation_file_is_said(train, tmp_path):
    (tmp_path / "a.json").write_text("1")
    dataset = dict(data_root=str(tmp_path), ann_file="a.json")
    told = dict(train_dataloader=dict(dataset=dataset))
    train(1, told=told)
    checkpoint = tmp_path / "run/epoch_1.pth"
    meta = torch.load(checkpoint, weights_only=False)["meta"]
    digits = hashlib.sha256(b"1").hexdigest()
    assert meta["annotations"]["train_dataloader"] == [["a.json", digits]]
    _, said, _ = train(1, told=told, resume=checkpoint)
    assert said == []
    (tmp_path / "a.json").write_text("2")
    _, (said,), _ = train(1, told=told, resume=checkpoint)
    assert "Changed since the checkpoint are the annotations in a.json (train_dataloader)" in said
    assert "all else is the config's" in said


def test_an_epoch_of_another_length_is_counted_right(train, tmp_path, capsys):
    """Four iterations of two images are done, then two of four images."""
    train(1)
    capsys.readouterr()
    loader = dict(batch_size=4, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False))
    train(
        2,
        hooks=[ConsoleHook()],
        told=dict(custom_hooks=[]),
        resume=tmp_path / "run/epoch_1.pth",
        train_dataloader=dict(loader, dataset=train.dataset),
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if "s/it" in line]
    assert [line.split("  ")[:2] for line in lines] == [
        ["epoch 2/2", "iteration 5/6"],
        ["epoch 2/2", "iteration 6/6"],
    ]
    assert "left" in lines[0] and "left" not in lines[1]


def test_a_folder_is_resumed_from_by_its_newest_checkpoint(train, tmp_path):
    train(2)
    cfg = Config(dict(work_dir="elsewhere"))
    _resume(cfg, str(tmp_path / "run"))
    assert cfg.resume and Path(cfg.load_from) == tmp_path / "run/epoch_2.pth"
    (tmp_path / "none").mkdir()
    with pytest.raises(CheckpointError, match="none is a folder without checkpoints.*Name a"):
        _resume(cfg, str(tmp_path / "none"))


def test_checkpoints_of_an_earlier_run_are_told(train, tmp_path, recwarn):
    tell_of_earlier_run(str(tmp_path / "run"))
    assert not recwarn
    train(1)
    with pytest.warns(CheckpointWarning, match=r"an earlier run \(epoch_1.pth\).*--resume goes on"):
        tell_of_earlier_run(str(tmp_path / "run"))


def test_a_config_that_cannot_be_read_again_is_said(train, tmp_path, caplog):
    """As one of an older version, or of another program."""
    train(1)
    checkpoint = torch.load(tmp_path / "run/epoch_1.pth", weights_only=False)
    checkpoint["meta"]["cfg"] = "x = open('made', 'w')"
    torch.save(checkpoint, tmp_path / "last.pth")
    train(2, resume=tmp_path / "last.pth")
    assert "not compared with this one" in caplog.text and "line 1: a call of open" in caplog.text
