"""The model zoo's table: the cost of each config beside the published numbers of its metafile.

Metafiles (`configs/*/metafile.yml`, listed in `model-index.yml`) have OpenMMLab's format. The
`Metadata.Published` of an entry, with `Parameters (M)` and `FLOPs (G)`, has the numbers that the
model's authors published, and each of its `Results` has a `Source`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from hordet.benchmark.complexity import Complexity, count_complexity
from hordet.benchmark.table import TableRow, format_table
from hordet.config.load import load_config

HEADER = (
    "config",
    "input",
    "parameters, M",
    "published",
    "multiply-adds, G",
    "published",
    "FFT, G",
    "matrix products, G",
    "results",
)
RULE = ("---", *["---:"] * (len(HEADER) - 2), "---")
NOTE = """\
- **Multiply-adds** are counted as the papers count them: with mmcv's counter, which leaves some
  operations out (`hordet/benchmark/complexity.py` lists them). It leaves out FFTs; an **FFT** is
  counted as C x H x W x ceil(log2(H x W)).
- **Matrix products** are torch's count: convolutions, linear layers and attention only.
- **Published** numbers are by each model's authors. The brackets hold our number minus theirs.
- **Results** say whose they are. Results that were measured here are in the configs' docstrings.
"""


@dataclass(frozen=True)
class ZooRow(TableRow):
    """One config of the table.

    Attributes:
        config: Path from the repository's root.
        cost: Cost of its model; None if it cannot be counted.
        problem: Why it cannot be counted.
        entry: Its entry in a metafile; empty without one.
    """

    config: str
    cost: Complexity | None
    problem: str
    entry: dict[str, Any]


def read_metafiles(root: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of all metafiles that `model-index.yml` in `root` imports, by config."""
    index = root / "model-index.yml"
    if not index.is_file():
        return {}
    files = yaml.safe_load(index.read_text())["Import"]
    return {
        model["Config"]: model
        for file in files
        for model in yaml.safe_load((root / file).read_text())["Models"]
    }


def count_configs(
    configs: Iterable[Path], root: Path, input_shape: tuple[int, int, int] | None = None
) -> list[ZooRow]:
    """Count the cost of configs.

    Args:
        configs: Config files.
        root: Folder of the repository; metafiles and paths in the table are relative to it.
        input_shape: (C, H, W) of the image; by default as in the papers.

    Returns:
        One row for each config; if it cannot be counted, the row says why.

    Raises:
        ConfigError: A file is not a config.
    """
    entries, rows = read_metafiles(root), []
    for path in configs:
        absolute = path.resolve()
        inside = absolute.is_relative_to(root)
        name = absolute.relative_to(root).as_posix() if inside else str(path)
        cost, problem = None, ""
        cfg = load_config(path)
        try:
            cost = count_complexity(cfg, input_shape)
        except ValueError as error:
            problem = str(error)
        rows.append(ZooRow(name, cost, problem, entries.get(name, {})))
    return rows


def format_zoo_table(rows: Iterable[ZooRow]) -> str:
    """Return the table as Markdown, one section for each folder."""
    lines = [NOTE]
    for folder, group in groupby(rows, key=lambda row: str(Path(row.config).parent)):
        lines += [f"## {folder}", "", *format_table(HEADER, RULE, *map(_format_cells, group)), ""]
    return "\n".join(lines)


def _format_cells(row: ZooRow) -> list[str]:
    """Return the cells of a row."""
    name, cost = Path(row.config).stem, row.cost
    if cost is None:
        return [name, f"not counted: {row.problem}", *[""] * (len(HEADER) - 2)]
    parameters, multiply_adds = cost.parameters / 1e6, cost.multiply_adds / 1e9
    published = row.entry.get("Metadata", {}).get("Published", {})
    _, height, width = cost.input_shape
    return [
        name,
        f"{height} x {width}",
        f"{parameters:.2f}",
        _format_published(published.get("Parameters (M)"), parameters),
        f"{multiply_adds:.2f}",
        _format_published(published.get("FLOPs (G)"), multiply_adds),
        f"{cost.fft / 1e9:.2f}" if cost.fft else "",
        f"{cost.matrix_multiply_adds / 1e9:.2f}",
        _format_results(row.entry.get("Results", [])),
    ]


def _format_results(results: list[dict[str, Any]]) -> str:
    """Return the results of a metafile with their sources."""
    sources = {result["Source"]: None for result in results}
    parts = []
    for source in sources:
        same = [result["Metrics"] for result in results if result["Source"] == source]
        values = [f"{name} {value:g}" for metrics in same for name, value in metrics.items()]
        parts.append(f"{', '.join(values)} ({source})")
    return "; ".join(parts)


def _format_published(published: float | None, ours: float) -> str:
    """Return a published number, and in brackets our number minus it."""
    return "" if published is None else f"{published:g} ({ours - published:+.2f})"
