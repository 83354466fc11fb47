"""Averaged weights against the recursion written out, and strictness when a run is resumed."""

import pytest
import torch
from mmengine.hooks import Hook

from hordet.checkpoints import use_safe_loading
from hordet.engine.hooks import EMAHook


class Note(Hook):
    def __init__(self):
        self.weights = []

    def after_train_iter(self, runner, *args, **kwargs):
        self.weights.append(runner.model.linear.weight.detach().clone())


def test_averages_are_the_recursion(toy_run):
    hook, note = EMAHook(momentum=0.25, update_buffers=True), Note()
    runner = toy_run([hook, note])
    runner.train()
    expected = note.weights[0]
    for weight in note.weights[1:]:
        expected = 0.75 * expected + 0.25 * weight
    average = hook.ema_model.module.linear.weight
    assert len(note.weights) == 8 and not torch.equal(note.weights[0], note.weights[-1])
    assert torch.allclose(average, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(average, note.weights[-1], rtol=0, atol=1e-5)


def test_a_resumed_run_needs_all_averages_and_a_fine_tuning_none(toy_run, tmp_path):
    use_safe_loading()
    saves = dict(type="hordet.CheckpointHook", interval=1)
    toy_run([EMAHook(momentum=0.25)], checkpoint=saves).train()
    path = tmp_path / "run" / "epoch_1.pth"
    content = torch.load(path, weights_only=False)
    del content["ema_state_dict"]["module.linear.bias"]
    torch.save(content, tmp_path / "poor.pth")
    source = dict(load_from=str(tmp_path / "poor.pth"))
    with pytest.raises(RuntimeError, match="linear.bias"):
        toy_run([EMAHook(momentum=0.25)], resume=True, experiment_name="b", **source).train()
    toy_run([EMAHook(momentum=0.25)], experiment_name="c", **source).train()
