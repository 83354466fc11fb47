"""A loss that is not a number stops the run and says where it came from."""

import pytest
import torch

from hordet.hooks import FiniteLossHook


def test_stops_and_names_losses_pictures_and_checkpoint(toy_run, tmp_path):
    # Picture 5 is in the third batch; the checkpoints of two iterations come before it.
    checkpoint = dict(type="CheckpointHook", by_epoch=False, interval=1)
    runner = toy_run([FiniteLossHook()], with_nan=True, checkpoint=checkpoint)
    with pytest.raises(FloatingPointError) as error:
        runner.train()
    message = str(error.value)
    assert "at iteration 3." in message
    assert "not finite: loss = nan, loss_fit = nan" in message
    assert "finite: loss_good = 0.25" in message
    assert "pictures: pictures/4.png, pictures/5.png\n" in message
    assert "iter_2.pth" in message
    # No checkpoint holds the weights that the loss spoilt.
    assert not (tmp_path / "run" / "iter_3.pth").exists()
    state = torch.load(tmp_path / "run" / "iter_2.pth", weights_only=False)["state_dict"]
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_infinite_counts_too_and_a_batch_may_be_nameless(toy_run):
    runner = toy_run([])
    runner._train_loop = runner.build_train_loop(dict(by_epoch=True, max_epochs=1))
    outputs = dict(loss=torch.tensor(float("inf")), loss_a=torch.tensor(float("inf")), acc=0.5)
    with pytest.raises(FloatingPointError, match="loss = inf, loss_a = inf") as error:
        FiniteLossHook().after_train_iter(runner, 0, [1, 2], outputs)
    assert "pictures: unknown" in str(error.value)
    assert "last checkpoint: none yet" in str(error.value)


def test_is_silent_while_all_is_well(toy_run):
    runner = toy_run([FiniteLossHook()])
    runner.train()
    assert runner.iter == 8
