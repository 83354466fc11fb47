"""A resumed run equals the one in one go, bit for bit: loops, checkpoints and data together."""

import logging
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from equal_parts import assert_equal
from mmengine.dataset import InfiniteSampler
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch.utils.data import Dataset

from hordet.checkpoints import find_newest_checkpoint, load_checkpoint
from hordet.engine.hooks import CheckpointHook
from hordet.errors import DatasetError, Interrupted

IMAGES, BATCH = 10, 2  # five batches an epoch


class Noisy(Dataset):
    """Samples of random numbers from each of the three generators."""

    metainfo = dict(classes=("thing",))

    def __len__(self):
        return IMAGES

    def __getitem__(self, index):
        import random

        numbers = [index, random.random(), np.random.rand()]
        return dict(inputs=torch.cat([torch.tensor(numbers, dtype=torch.float32), torch.rand(1)]))


class Dropping(BaseModel):
    """A batch norm and a linear layer behind dropout; it remembers what it was trained on."""

    seen: list = []

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1)
        )

    def forward(self, inputs, data_samples=None, mode="tensor"):
        if mode == "predict":
            return inputs
        self.seen.append([int(each[0]) for each in inputs])
        return dict(loss=(self.layers(torch.stack(inputs)) ** 2).mean())


def mean_square(self, inputs, data_samples=None, mode="tensor"):
    """Stand in for `Dropping.forward` with a mean over samples, each the same in any batch."""
    if mode == "predict":
        return inputs
    self.seen.append([int(each[0]) for each in inputs])
    values = torch.stack([each[:1].expand(4) for each in inputs]) / IMAGES
    return dict(loss=((self.layers[2](values) - 1) ** 2).mean())


class Count(BaseMetric):
    """Draws numbers, as a validation with random crops would."""

    def process(self, data_batch, data_samples):
        self.results.append(float(torch.rand(1)))

    def compute_metrics(self, results):
        return dict(acc=float(np.mean(results)))


class StopAfter(Hook):
    """Ends a run after an iteration, or sends the process a signal there."""

    priority = "LOWEST"

    def __init__(self, iteration, number=None):
        self.iteration, self.number = iteration, number

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration and self.number:
            os.kill(os.getpid(), self.number)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration and not self.number:
            raise KeyboardInterrupt


@pytest.fixture
def train(tmp_path, installed, monkeypatch):
    """Train, and return the last checkpoint; forget the Runner afterwards."""
    # mmengine waits two seconds at the end of a pass of a finite sampler.
    monkeypatch.setattr("mmengine.runner.loops.time.sleep", lambda seconds: None)
    kinds = (MMLogger, MessageHub, Visualizer, DefaultScope)

    def run(
        name,
        *,
        hooks=(),
        loop="EpochBasedTrainLoop",
        infinite=False,
        workers=0,
        checkpoint=None,
        wrapper=None,
        resume=False,
        batch=BATCH,
        iterations=15,
        steady=False,
    ):
        before = {kind: dict(kind._instance_dict) for kind in kinds}
        folder = tmp_path / name
        sampler = "InfiniteSampler" if infinite else "DefaultSampler"
        loader = dict(batch_size=batch, num_workers=workers)
        length = dict(max_epochs=3) if loop.startswith("Epoch") else dict(max_iters=iterations)
        length |= dict(val_interval=1 if loop.startswith("Epoch") else 5)
        found = find_newest_checkpoint(folder)[0] if resume else None
        torch.manual_seed(0)
        runner = Runner(
            model=Dropping(),
            work_dir=str(folder),
            train_dataloader=dict(
                loader,
                persistent_workers=workers > 0,
                sampler=dict(type=sampler, shuffle=True),
                dataset=Noisy(),
            ),
            train_cfg=dict(type=f"hordet.{loop}", **length),
            optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.1)) | (wrapper or {}),
            param_scheduler=None if steady else dict(type="CosineAnnealingLR", by_epoch=False),
            val_dataloader=dict(loader, sampler=dict(type="DefaultSampler"), dataset=Noisy()),
            val_cfg=dict(),
            val_evaluator=Evaluator(Count()),
            default_hooks=dict(
                checkpoint=dict(
                    type="hordet.CheckpointHook",
                    **dict(by_epoch=False, interval=2, max_keep_ckpts=2, save_best="acc")
                    | (checkpoint or {}),
                )
            ),
            custom_hooks=[*hooks],
            default_scope="mmengine",
            experiment_name=f"{tmp_path.name}_{name}_{bool(found)}",
            randomness=dict(seed=3, diff_rank_seed=True),
            resume=found is not None,
            load_from=found and str(found),
        )
        try:
            runner.train()
        finally:
            for hook in runner.hooks:  # a process that was killed keeps no handlers
                hook.after_run(runner)
            for kind in kinds:
                for key in kind._instance_dict.keys() - before[kind].keys():
                    instance = kind._instance_dict.pop(key)
                    for handler in instance.handlers if kind is MMLogger else ():
                        if isinstance(handler, logging.FileHandler):
                            handler.close()
        return load_checkpoint(find_newest_checkpoint(folder)[0])

    Dropping.seen = []
    return run


KEYS = ("state_dict", "optimizer", "param_schedulers", "position", "random_states")
EMA = dict(type="EMAHook")


@pytest.mark.parametrize("stop", [1, 4, 5, 7, 10])
@pytest.mark.parametrize(
    ("loop", "infinite"),
    [("EpochBasedTrainLoop", False), ("IterBasedTrainLoop", False), ("IterBasedTrainLoop", True)],
)
def test_a_stopped_run_ends_where_the_whole_one_does(train, loop, infinite, stop):
    options = dict(loop=loop, infinite=infinite)
    whole = train("whole", hooks=[EMA], **options)
    seen, Dropping.seen = Dropping.seen, []
    with pytest.raises(KeyboardInterrupt):
        train("parts", hooks=[EMA, StopAfter(stop)], **options)
    first, Dropping.seen = Dropping.seen, []
    resumed = train("parts", hooks=[EMA], resume=True, **options)
    assert first == seen[:stop]
    assert Dropping.seen == seen[stop - stop % 2 :]  # checkpoints are two iterations apart
    for key in (*KEYS, "ema_state_dict"):
        assert_equal(whole[key], resumed[key], key)
    hubs = [each["message_hub"] for each in (whole, resumed)]
    names = {name for name in hubs[0]["log_scalars"] if not name.endswith("time")}
    assert {"train/loss", "train/lr", "val/acc"} <= names
    for name in names:
        values = [[part.tolist() for part in hub["log_scalars"][name].data] for hub in hubs]
        assert values[0] == values[1], name
    for name in ("iter", "epoch", "best_score", "keep_ckpt_ids", "loop_stage"):
        assert hubs[0]["runtime_info"].get(name) == hubs[1]["runtime_info"].get(name), name


def test_the_scale_of_mixed_precision_goes_on(train, monkeypatch):
    """mmengine's AmpOptimWrapper wants a GPU; its scaler, state and steps are the same on a CPU."""
    from mmengine.optim.optimizer import amp_optimizer_wrapper as module

    monkeypatch.setattr(module, "is_cuda_available", lambda: True)
    monkeypatch.setattr(module, "GradScaler", partial(torch.amp.GradScaler, "cpu"))
    scale = dict(init_scale=2.0**10, growth_interval=4)
    wrapper = dict(type="AmpOptimWrapper", loss_scale=scale)
    whole = train("whole", wrapper=wrapper)
    with pytest.raises(KeyboardInterrupt):
        train("parts", wrapper=wrapper, hooks=[StopAfter(7)])
    resumed = train("parts", wrapper=wrapper, resume=True)  # from 6: two steps after it has grown
    state = whole["optimizer"]["loss_scaler"]
    assert state["scale"] == 2.0**13 and state["_growth_tracker"] == 3  # 15 steps
    for key in KEYS:
        assert_equal(whole[key], resumed[key], key)


def test_nothing_differs_from_the_loops_of_mmengine(train):
    from hordet.engine.loops import EpochBasedTrainLoop

    ours = train("ours")
    theirs_seen = Dropping.seen
    Dropping.seen = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("run", "run_epoch"):
            original = getattr(EpochBasedTrainLoop.__mro__[2], name)
            patch.setattr(EpochBasedTrainLoop, name, original)
        theirs = train("theirs")
    assert Dropping.seen == theirs_seen
    assert_equal(ours["state_dict"], theirs["state_dict"])


def test_samples_of_workers_are_the_same_however_many(train):
    whole = train("whole", workers=2)
    with pytest.raises(KeyboardInterrupt):
        train("parts", workers=2, hooks=[StopAfter(7)])
    resumed = train("parts", workers=1, resume=True)
    for key in KEYS[:-1]:
        assert_equal(whole[key], resumed[key], key)


def test_accumulated_gradients_equal_the_larger_batch(train, monkeypatch):
    monkeypatch.setattr(Dropping, "forward", mean_square)
    weights, order = [], []
    for batch, counts in ((4, 1), (2, 2), (1, 4)):
        Dropping.seen = []
        run = train(
            f"batches of {batch}",
            loop="IterBasedTrainLoop",
            infinite=True,
            wrapper=dict(accumulative_counts=counts, optimizer=dict(type="SGD", lr=0.1)),
            batch=batch,
            iterations=6 * counts,
            steady=True,
        )
        weights.append(run["state_dict"])
        order.append(sum(Dropping.seen, []))
    assert order[0] == order[1] == order[2] and len(order[0]) == 24
    torch.manual_seed(0)
    layer = "layers.2.weight"
    assert (weights[0][layer] - Dropping().state_dict()[layer]).abs().max() > 0.05
    for other in weights[1:]:
        for name, value in weights[0].items():
            torch.testing.assert_close(other[name], value, msg=name)


def test_a_half_accumulated_step_is_kept(train):
    wrapper = dict(accumulative_counts=3)
    whole = train("whole", wrapper=wrapper)
    with pytest.raises(KeyboardInterrupt):
        train("parts", wrapper=wrapper, hooks=[StopAfter(5)])
    resumed = train("parts", wrapper=wrapper, resume=True)  # at 4, one batch into a step
    assert_equal(whole["state_dict"], resumed["state_dict"])


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
@pytest.mark.parametrize("by_epoch", [True, False])
def test_a_signal_saves_and_the_run_goes_on_from_there(request, train, tmp_path, name, by_epoch):
    checkpoint = dict(by_epoch=by_epoch, interval=1 if by_epoch else 2)
    whole = train("whole", checkpoint=checkpoint)
    number, handler = getattr(signal, name), signal.default_int_handler
    # Where the tests run as a job in the background, their shell has them ignore SIGINT.
    request.addfinalizer(partial(signal.signal, number, signal.signal(number, handler)))
    with pytest.raises(Interrupted, match=f"asked to stop by {name}; iteration 7 is saved"):
        train("parts", checkpoint=checkpoint, hooks=[StopAfter(7, number)])
    assert signal.getsignal(number) is handler
    assert find_newest_checkpoint(tmp_path / "parts")[0].name == "iter_7.pth"
    Dropping.seen = []
    resumed = train("parts", checkpoint=checkpoint, resume=True)
    assert len(Dropping.seen) == 8
    for key in KEYS:
        assert_equal(whole[key], resumed[key], key)
    assert not (tmp_path / "parts" / "iter_7.pth").exists()


def test_a_second_signal_ends_the_process_at_once():
    """After the first one the kernel's own action is back: it waits for no Python code."""
    from hordet.engine.hooks.interrupt import Interruption

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    interruption = Interruption()
    interruption.listen()
    assert not interruption.is_asked()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert interruption.is_asked() and interruption.signal == "SIGUSR1"
    assert all(signal.getsignal(number) is signal.SIG_DFL for number in before)
    interruption.stop_listening()
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_signal_within_validation_repeats_that_validation(train):
    class Ask(Hook):
        def before_val_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 5 and batch_idx == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    whole = train("whole", hooks=[EMA])
    with pytest.raises(Interrupted, match="iteration 5 is saved"):
        train("parts", hooks=[Ask(), EMA])
    resumed = train("parts", hooks=[EMA], resume=True)
    for key in (*KEYS, "ema_state_dict"):
        assert_equal(whole[key], resumed[key], key)
    best = [run["message_hub"]["runtime_info"]["best_score"] for run in (whole, resumed)]
    assert best[0] == best[1]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_last_and_the_best_are_kept(train, tmp_path, asynchronous):
    train("run", checkpoint=dict(asynchronous=asynchronous, safetensors=True))
    files = {file.name for file in (tmp_path / "run").iterdir() if file.is_file()} - {
        file.name for file in (tmp_path / "run").glob("*.py")
    }
    best = {name for name in files if name.startswith("best_acc") and name.endswith(".pth")}
    last = {"iter_14.pth", "iter_15.pth"}
    assert len(best) == 1
    weights = {name.replace(".pth", ".safetensors") for name in {*best, "iter_15.pth"}}
    sums = {f"{name}.sha256" for name in last | best}
    assert files == last | best | sums | weights | {"last_checkpoint"}
    assert {*load_checkpoint(tmp_path / "run" / weights.pop())} == {*Dropping().state_dict()}


def test_fewer_batches_in_a_pass(train, tmp_path):
    """A checkpoint of another batch size goes on at the same share of the epoch."""

    from torch.utils.data import DataLoader

    from hordet.engine.loops import EpochBasedTrainLoop

    runner = SimpleNamespace(seed=0, hooks=[], visualizer=SimpleNamespace())
    loop = EpochBasedTrainLoop(runner, DataLoader(Noisy(), batch_size=5), max_epochs=1)
    position = dict(passes=0, batches=3, batches_per_pass=5, sampler_seed=None, validated=False)
    loop.resume_at(position, None)
    assert loop.get_position(False)["batches"] == 1  # 3 of 5 is 1 of 2


def test_an_infinite_sampler_begins_anywhere():
    from hordet.datasets.batch_sampler import PlacedBatchSampler

    sampler = PlacedBatchSampler(InfiniteSampler(range(7), seed=1), batch_size=3)
    batches = iter(sampler)
    first = [next(batches) for _ in range(5)]
    sampler.begin = (0, 2)
    again = iter(sampler)
    assert [next(again) for _ in range(3)] == first[2:]
    assert first[2][1].numbers == (0, 0, 0, 2, 1)
    assert CheckpointHook.priority == "VERY_LOW"


class KillWorker(Hook):
    """Ends the loader's workers from outside in an iteration."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            for worker in multiprocessing.active_children():
                worker.kill()
                worker.join()


@pytest.mark.parametrize("loop", ["EpochBasedTrainLoop", "IterBasedTrainLoop"])
def test_a_killed_worker_is_told_after_a_checkpoint(train, tmp_path, loop):
    # The reader may have some batches already when its workers go.
    with pytest.raises(
        DatasetError, match=r"ended from outside.*Iteration \d+ is saved in"
    ) as told:
        train("parts", loop=loop, workers=1, hooks=[KillWorker(7)])
    iteration = int(re.search(r"Iteration (\d+) is saved in (\S+);", str(told.value))[1])
    newest, skipped = find_newest_checkpoint(tmp_path / "parts")
    assert 7 <= iteration <= 10 and newest.name == f"iter_{iteration}.pth" and not skipped
    whole = train("whole", loop=loop, workers=1)
    resumed = train("parts", loop=loop, workers=1, resume=True)
    for key in KEYS[:3]:
        assert_equal(whole[key], resumed[key], key)


def test_a_loop_that_is_built_and_not_run_keeps_no_signal():
    """Else each later child of the process has them blocked, such as a server that a test ends."""
    from torch.utils.data import DataLoader

    from hordet.engine.hooks.interrupt import Interruption
    from hordet.engine.loops import IterBasedTrainLoop

    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    hook = SimpleNamespace(interruption=Interruption())
    runner = SimpleNamespace(seed=0, hooks=[hook], visualizer=SimpleNamespace())
    IterBasedTrainLoop(runner, DataLoader(Noisy(), batch_size=5), max_iters=1)
    assert {number: signal.getsignal(number) for number in numbers} == before
    code = "import signal; print(*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
    child = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=os.getpid, capture_output=True, text=True
    )
    assert child.stdout.strip() == "" and not child.returncode
