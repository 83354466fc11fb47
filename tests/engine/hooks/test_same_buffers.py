"""Two processes validate with the statistics that process 0 writes into the checkpoint."""

from types import SimpleNamespace

import torch
from forking import run_forked
from torch import nn

from hordet.engine.hooks import SameBuffersHook


def buffers_as_one_of_two(rank, folder):
    """Give each process statistics of its own, run the hook, and write down what is left."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    norm = nn.BatchNorm2d(2)
    norm.running_mean.fill_(rank + 1.0)
    norm.num_batches_tracked.fill_(rank + 5)
    nn.init.constant_(norm.weight, rank + 1.0)
    SameBuffersHook().before_val_epoch(SimpleNamespace(model=norm))
    torch.save(norm.state_dict(), folder / f"{rank}.pth")


def test_every_process_has_the_buffers_of_process_0(tmp_path):
    assert run_forked(buffers_as_one_of_two, [(k, tmp_path) for k in range(2)]) == [0, 0]
    zero, one = (torch.load(tmp_path / f"{k}.pth") for k in range(2))
    for state in (zero, one):
        assert state["running_mean"].tolist() == [1, 1] and state["num_batches_tracked"] == 5
    assert one["weight"].tolist() == [2, 2]  # parameters are DistributedDataParallel's business


def test_one_process_keeps_its_own():
    norm = nn.BatchNorm2d(2)
    norm.running_mean.fill_(3.0)
    SameBuffersHook().before_val_epoch(SimpleNamespace(model=norm))
    assert norm.running_mean.tolist() == [3, 3]
