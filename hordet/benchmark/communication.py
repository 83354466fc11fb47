"""What processes send each other in a training step, counted from a model's parameters.

N processes in a ring send, for a tensor of S bytes, 2 (N - 1) / N S each to sum it (all-reduce),
and (N - 1) / N S each to gather it from its parts (all-gather) or to sum it into parts
(reduce-scatter); Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms, JPDC 2009.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.registry import DefaultScope
from torch import nn

from hordet.benchmark.table import TableRow, format_table
from hordet.config.load import load_config
from hordet.engine.sharding import SPLIT_MODULES
from hordet.registry import MODELS

# torch's DistributedDataParallel sums gradients in buckets: the first of 1 MiB, so that sending
# begins early, the others of 25 MiB. A bucket is full when it holds that much or more.
FIRST_BUCKET, BUCKET = 2**20, 25 * 2**20
PROCESSES = (8, 64, 512)
NOTE = """\
Each process sends, in one step, with N processes in a ring:

- **DDP** sums the gradients G (bytes) once: 2 (N - 1) / N G.
- **FSDP** gathers the parameters of {modules} and of the rest in the forward pass (P in
  all) and those of {modules} again in the backward pass (Q), and sums the gradients into
  parts: (N - 1) / N (P + Q + G).

Calls do not depend on N, and bytes hardly do; what grows is the number of hops of a call, N - 1 or
2 (N - 1), and with it the waiting. Sums of a few numbers (losses, guards, counts of boxes) are left
out.
"""


@dataclass(frozen=True)
class Communication(TableRow):
    """The tensors that processes send each other in a step.

    Attributes:
        name: Of the config.
        method: 'DDP' or 'FSDP'.
        reduced: Bytes of each tensor that is summed whole.
        gathered: Bytes of each tensor that is gathered from its parts.
        scattered: Bytes of each tensor that is summed into parts.
    """

    name: str
    method: str
    reduced: tuple[int, ...] = ()
    gathered: tuple[int, ...] = ()
    scattered: tuple[int, ...] = ()

    @property
    def calls(self) -> int:
        """Number of calls in a step."""
        return len(self.reduced) + len(self.gathered) + len(self.scattered)

    def count_sent(self, processes: int) -> float:
        """Return the bytes that each of so many processes sends in a step."""
        share = (processes - 1) / processes
        return share * (2 * sum(self.reduced) + sum(self.gathered) + sum(self.scattered))


def count_config(path: Path) -> list[Communication]:
    """Count what a training of a config's model sends; see `count_communication`.

    Args:
        path: The config file.

    Raises:
        ConfigError: The config is wrong.
    """
    cfg = load_config(path)
    for part in (cfg.model, cfg.model.get("backbone", {})):
        part.pop("init_cfg", None)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        return count_communication(path.stem, MODELS.build(cfg.model))


def count_communication(name: str, model: nn.Module) -> list[Communication]:
    """Count what a training of a model sends by DDP and by `hordet.FullyShardedStrategy`.

    Args:
        name: Of the config.
        model: With gradients of all that is trained.
    """
    sizes = [p.nbytes for p in model.parameters() if p.requires_grad]
    buckets, limit = [0], FIRST_BUCKET
    for size in reversed(sizes):  # the last layers have their gradients first
        if buckets[-1] >= limit:
            buckets.append(0)
            limit = BUCKET
        buckets[-1] += size
    parts = [getattr(model, part) for part in SPLIT_MODULES if getattr(model, part, None)]
    inner = {id(p) for part in parts for p in part.parameters()}
    groups = [list(part.parameters()) for part in parts]
    groups.append([p for p in model.parameters() if id(p) not in inner])
    whole = [sum(p.nbytes for p in group) for group in groups]
    trained = [sum(p.nbytes for p in group if p.requires_grad) for group in groups]
    again = whole[:-1]  # the rest stays gathered from the forward to the backward pass
    return [
        Communication(name, "DDP", reduced=tuple(buckets)),
        Communication(
            name,
            "FSDP",
            gathered=(*whole, *again),
            scattered=tuple(size for size in trained if size),
        ),
    ]


def format_communication_table(rows: Sequence[Communication]) -> str:
    """Return the table as Markdown, with the formula above it."""
    header = ["config", "method", "calls", "MB of tensors"]
    header += [f"MB sent, {count} processes" for count in PROCESSES]
    table: list[Sequence[str]] = [header, ["---", "---"] + ["---:"] * (len(header) - 2)]
    for row in rows:
        tensors = sum(row.reduced) + sum(row.gathered) + sum(row.scattered)
        sent = [f"{row.count_sent(count) / 1e6:.1f}" for count in PROCESSES]
        table.append([row.name, row.method, str(row.calls), f"{tensors / 1e6:.1f}", *sent])
    words = " and ".join(SPLIT_MODULES)
    return "\n".join([NOTE.format(modules=words), *format_table(*table)]) + "\n"
