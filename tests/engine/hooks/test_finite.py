"""A loss that is not a number stops the run and says where it came from."""

from functools import partial

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper

from hordet.engine.hooks import FiniteLossHook


def test_stops_and_names_losses_images_and_checkpoint(toy_run, tmp_path):
    # Image 5 is in the third batch; the checkpoints of two iterations come before it.
    checkpoint = dict(type="CheckpointHook", by_epoch=False, interval=1)
    runner = toy_run([FiniteLossHook()], with_nan=True, checkpoint=checkpoint)
    with pytest.raises(FloatingPointError) as error:
        runner.train()
    message = str(error.value)
    assert "at iteration 3." in message
    assert "not finite: loss = nan, loss_fit = nan" in message
    assert "finite: loss_good = 0.25" in message
    assert "images: images/4.png, images/5.png\n" in message
    assert "iter_2.pth" in message
    # No checkpoint holds the weights that the loss spoilt.
    assert not (tmp_path / "run" / "iter_3.pth").exists()
    state = torch.load(tmp_path / "run" / "iter_2.pth", weights_only=False)["state_dict"]
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_the_state_before_the_bad_step_is_kept(toy_run, tmp_path):
    checkpoint = dict(type="CheckpointHook", by_epoch=False, interval=1)
    runner = toy_run([FiniteLossHook()], with_nan=True, checkpoint=checkpoint)
    with pytest.raises(FloatingPointError, match="begins in: the images themselves") as error:
        runner.train()
    kept = tmp_path / "run" / "not_finite" / "iter_2.pth"
    assert f"state before it: {kept}" in str(error.value)
    state, last = (
        torch.load(path, weights_only=False) for path in (kept, tmp_path / "run" / "iter_2.pth")
    )
    assert all(torch.equal(state["state_dict"][k], v) for k, v in last["state_dict"].items())
    assert state["batch"]["images"] == ["images/4.png", "images/5.png"]
    assert torch.isnan(state["batch"]["inputs"][1]).all() and state["meta"]["iter"] == 2
    assert len(state["random_states"]) == 1


def test_a_few_steps_may_be_left_out(toy_run, tmp_path):
    runner = toy_run([FiniteLossHook(skip=2)], with_nan=True)  # one NaN an epoch, two epochs
    runner.train()
    assert runner.iter == 8 and runner.message_hub.get_info("steps_left_out") == 2
    assert all(torch.isfinite(p).all() for p in runner.model.parameters())
    runner = toy_run([FiniteLossHook(skip=1)], with_nan=True)
    runner.message_hub.update_info("steps_left_out", 0)
    with pytest.raises(FloatingPointError, match="at iteration 7"):
        runner.train()


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_a_bad_gradient_changes_nothing(toy_run, optimizer):
    """The loss is finite, its gradient is not; buffers and averages stay as they are, too."""
    runner = toy_run([FiniteLossHook(skip=8)])
    runner.optim_wrapper = dict(optimizer=dict(type=optimizer, lr=0.1, weight_decay=0.1))
    norm = torch.nn.BatchNorm1d(1)
    runner.model.norm = norm
    linear = runner.model.linear

    def forward(inputs, data_samples=None, mode="tensor"):
        if mode == "predict":
            return data_samples
        out = norm(linear(torch.stack(inputs)))
        return dict(loss=(out - out.detach()).abs().pow(0.5).sum())  # 0, of slope infinity

    runner.model.forward = forward
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()
    assert runner.message_hub.get_info("steps_left_out") == 8
    after = runner.model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert not runner.optim_wrapper.optimizer.state


def test_the_first_module_is_named():
    from mmengine.model import BaseModel

    from hordet.engine.hooks.origin import find_first_not_finite

    class Net(BaseModel):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
            self.second = torch.nn.Linear(2, 1)

        def forward(self, inputs, data_samples=None, mode="tensor"):
            return dict(loss=self.second(self.first(torch.stack(inputs))).mean())

    net, batch = Net(), dict(inputs=[torch.ones(2), torch.ones(2)])
    assert find_first_not_finite(net, batch) is None
    net.second.weight.data.fill_(float("inf"))
    assert find_first_not_finite(net, batch) == "second (Linear)"
    net.first[0].bias.data.fill_(float("nan"))
    assert find_first_not_finite(net, batch) == "first.0 (Linear)"
    assert find_first_not_finite(net, dict(inputs=[torch.full((2,), float("nan"))] * 2)).startswith(
        "the"
    )


def test_infinite_counts_too_and_a_batch_may_be_nameless(toy_run):
    runner = toy_run([])
    runner._train_loop = runner.build_train_loop(dict(by_epoch=True, max_epochs=1))
    outputs = dict(loss=torch.tensor(float("inf")), loss_a=torch.tensor(float("inf")), acc=0.5)
    with pytest.raises(FloatingPointError, match="loss = inf, loss_a = inf") as error:
        FiniteLossHook().after_train_iter(runner, 0, [1, 2], outputs)
    assert "images: unknown" in str(error.value)
    assert "last checkpoint: none yet" in str(error.value)


def test_is_silent_while_all_is_well(toy_run):
    runner = toy_run([FiniteLossHook()])
    runner.train()
    assert runner.iter == 8


@pytest.mark.parametrize("fused", [False, True])
def test_a_loss_scaler_leaves_its_step_out_by_itself(fused):
    """An overflow of the scaled loss is no fault of the run: the scale falls, and training goes on.

    A fused AdamW is called nevertheless, with the verdict of the scaler.
    """
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=fused)
    hook = FiniteLossHook()
    optimizer.register_step_pre_hook(partial(hook._guard, {weight: "weight"}))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    for overflow in (True, False):
        before, scale = weight.detach().clone(), scaler.get_scale()
        scaler.scale((weight * (8 if overflow else 1)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert hook._wrong is None
        assert torch.equal(before, weight) == overflow
        assert (scaler.get_scale() < scale) == overflow


class ScaledOnCpu(OptimWrapper):
    """mmengine's AmpOptimWrapper, which refuses a CPU: its scaler alone."""

    def __init__(self, dynamic, **kwargs):
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
        self.dynamic = dynamic

    def backward(self, loss, **kwargs):
        self.loss_scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs):
        self.loss_scaler.step(self.optimizer)
        self.loss_scaler.update(None if self.dynamic else 2.0**16)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("good", [0, 60])  # steps that are taken first
def test_a_scaler_that_leaves_out_every_step_ends_the_run(toy_run, tmp_path, fused, dynamic, good):
    runner = toy_run([FiniteLossHook()])
    runner._train_loop = dict(by_epoch=True, max_epochs=100)  # of 4 iterations each
    weight = runner.model.linear.weight
    optimizer = torch.optim.AdamW(runner.model.parameters(), lr=0.1, fused=fused)
    runner.optim_wrapper = ScaledOnCpu(dynamic, optimizer=optimizer)
    taken = []

    def spoil(gradient):
        taken.append(weight.detach().clone())
        return gradient * float("inf") if len(taken) > good else gradient

    weight.register_hook(spoil)
    with pytest.raises(FloatingPointError, match="left out every step of the last 1[0-4]. iter"):
        runner.train()
    assert runner.iter + 1 == (100 if good == 0 else 200)
    assert torch.equal(taken[-1], taken[good]) and (good == 0 or not torch.equal(*taken[:2]))
    kept = torch.load(
        tmp_path / "run" / "not_finite" / f"iter_{runner.iter}.pth", weights_only=False
    )
    assert torch.equal(kept["state_dict"]["linear.weight"], weight)


def test_the_origin_is_searched_in_the_precision_of_the_step(toy_run):
    """A module that is wrong in bfloat16 alone is found; in float32 it would be finite."""

    class Narrow(torch.nn.Module):
        def forward(self, x):
            return x / (x.dtype == torch.float32)

    runner = toy_run([FiniteLossHook()])
    runner.model.narrow = Narrow()
    linear = runner.model.linear

    def forward(inputs, data_samples=None, mode="tensor"):
        return dict(loss=runner.model.narrow(linear(torch.stack(inputs))).float().sum())

    runner.model.forward = forward
    runner.optim_wrapper = dict(
        type="hordet.Bfloat16OptimWrapper", optimizer=dict(type="SGD", lr=0.1)
    )
    with pytest.raises(FloatingPointError, match=r"begins in: narrow \(Narrow\)"):
        runner.train()


READS = ("item", "tolist", "__bool__", "__float__", "cpu", "numpy")


def test_a_step_reads_the_device_once(monkeypatch, toy_run):
    """Guard, losses of the log and progress: each read of a value makes the host wait for a GPU."""
    reads = []

    def count(name):
        real = getattr(torch.Tensor, name)

        def read(self, *args, **kwargs):
            if watch.on:
                reads.append(name)
            return real(self, *args, **kwargs)

        return read

    class Watch(Hook):
        priority = "LOWEST"
        on = False

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            self.on = True
            reads.clear()

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            self.on = False
            assert all(isinstance(value, float) for value in outputs.values())

    watch = Watch()
    for name in READS:
        monkeypatch.setattr(torch.Tensor, name, count(name))
    # SGD for each tensor: a fused or foreach optimizer of a CPU reads its step count.
    settings = dict(optimizer=dict(type="SGD", lr=0.125, foreach=False))
    runner = toy_run([FiniteLossHook(), watch], optim_wrapper=settings, interval=100)
    runner.train()
    assert reads == ["tolist"]
    hub = runner.message_hub
    assert hub.get_scalar("train/loss_good").current() == 0.25
    total = hub.get_scalar("train/loss").current()
    assert total == pytest.approx(0.25 + hub.get_scalar("train/loss_fit").current())
    assert "parse_losses" not in vars(runner.model)


def test_the_same_read_asks_all_processes_whether_to_stop(monkeypatch):
    from hordet.engine.hooks import finite, interrupt

    asked = []
    for module in (finite, interrupt):
        monkeypatch.setattr(module, "is_distributed", lambda: True)

    def reduce(tensor, op):
        assert op == "max"
        asked.append(tensor.numel())
        tensor[1] = 1.0  # another process has a signal

    monkeypatch.setattr(finite, "all_reduce", reduce)
    hook, interruption = FiniteLossHook(), interrupt.Interruption()
    hook._interruption = interruption
    hook._losses = dict(loss=torch.tensor(0.5), accuracy=0.25)
    assert hook._read(torch.tensor(0.0, dtype=torch.float64)) is False
    assert hook._losses == dict(loss=0.5, accuracy=0.25) and asked == [2]
    assert interruption.is_asked()  # without asking again
    assert hook._read(torch.tensor(1.0, dtype=torch.float64)) is True
