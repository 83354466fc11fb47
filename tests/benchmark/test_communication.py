"""What processes send each other in a step: counted, and as torch really sends it."""

import json
import os

import pytest
import torch
from forking import run_forked
from packaging.version import Version
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.debug import CommDebugMode
from torch.nn.parallel import DistributedDataParallel

from hordet.benchmark.communication import (
    Communication,
    count_communication,
    format_communication_table,
)


class Model(nn.Module):
    """Three parts, of which the first has a frozen layer; 60 MB in buckets of 1 and 25 MiB."""

    def __init__(self):
        super().__init__()
        layers = [nn.Linear(1200, 1200, bias=False) for _ in range(10)]
        self.backbone = nn.Sequential(*layers[:5])
        self.neck = nn.Sequential(*layers[5:8])
        self.head = nn.Sequential(*layers[8:])
        self.backbone[0].requires_grad_(False)

    def forward(self, x):
        return self.head(self.neck(self.backbone(x)))


def send(rank, folder, method):
    """Train two steps, and write down what the second sent."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank))
    meeting = f"file://{folder}/meeting"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    model, x = Model(), torch.ones(2, 1200)
    found = []
    if method == "DDP":
        model = DistributedDataParallel(model)

        def note(state, bucket):
            found.append(bucket.buffer().nbytes)
            future = torch.futures.Future()
            future.set_result(bucket.buffer())
            return future

        model.register_comm_hook(None, note)
        for _ in range(2):
            found.clear()
            model(x).sum().backward()
    else:
        mesh = init_device_mesh("cpu", (2,))
        for part in (model.backbone, model.neck, model):
            fully_shard(part, mesh=mesh)
        model(x).sum().backward()
        with CommDebugMode() as counter:
            model(x).sum().backward()
        found = {str(call).split(".")[-1]: n for call, n in counter.get_comm_counts().items()}
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


OLD = pytest.mark.skipif(
    Version(torch.__version__) < Version("2.7"),
    reason="fully_shard of torch 2.6 does not run on a CPU: its stream records no event",
)


@pytest.mark.parametrize("method", ["DDP", pytest.param("FSDP", marks=OLD)])
def test_the_count_is_what_torch_sends(tmp_path, method):
    assert run_forked(send, [(rank, tmp_path, method) for rank in range(2)]) == [0, 0]
    sent = json.loads((tmp_path / "0.json").read_text())
    rows = {row.method: row for row in count_communication("a", Model())}
    row = rows[method]
    if method == "DDP":
        assert sorted(row.reduced) == sorted(sent) and len(sent) == 3
    else:
        gathers = sum(n for call, n in sent.items() if "gather" in call)
        scatters = sum(n for call, n in sent.items() if "scatter" in call)
        assert (gathers, scatters) == (len(row.gathered), len(row.scattered)) == (5, 3), sent
        layer = 1200 * 1200 * 4
        assert row.gathered == tuple(n * layer for n in (5, 3, 2, 5, 3))
        assert row.scattered == tuple(n * layer for n in (4, 3, 2))


def test_bytes_of_a_ring():
    row = Communication("a", "DDP", reduced=(600, 200))
    assert row.count_sent(2) == 800 and row.count_sent(8) == 2 * 7 / 8 * 800 and row.calls == 2
    row = Communication("a", "FSDP", gathered=(800, 400), scattered=(800,))
    assert row.count_sent(4) == 3 / 4 * 2000 and row.calls == 3
    table = format_communication_table([Communication("a", "DDP", reduced=(2 * 10**6,))])
    assert "| a | DDP | 1 | 2.0 | 3.5 | 3.9 | 4.0 |" in table
