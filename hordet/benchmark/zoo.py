"""The zoo's table: what each config costs, beside the published figures of its metafile.

Metafiles (`configs/*/metafile.yml`, listed in `model-index.yml`) have OpenMMLab's form. An entry's
`Metadata.Published`, with `Parameters (M)` and `FLOPs (G)`, holds what the model's authors printed,
and each of its `Results` has a `Source`.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from hordet.benchmark.complexity import Complexity, count_complexity
from hordet.benchmark.markdown import format_table
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
class ZooRow:
    """One config of the table.

    Attributes:
        config: Path from the repository's root.
        cost: None where it cannot be counted.
        problem: Why not.
        entry: Its entry in a metafile; empty where there is none.
    """

    config: str
    cost: Complexity | None
    problem: str
    entry: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON."""
        return asdict(self)


def read_metafiles(root: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of every metafile that `model-index.yml` of `root` imports, by config."""
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
        root: The repository, to which metafiles and the table's paths are relative.
        input_shape: (C, H, W) of the image; by default as the papers have it.

    Returns:
        One row a config; one that cannot be counted says why.

    Raises:
        hordet.config.load.ConfigError: A file is no config.
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


def format_markdown(rows: Iterable[ZooRow]) -> str:
    """Write the table as Markdown, one part a folder."""
    lines = [NOTE]
    for folder, group in groupby(rows, key=lambda row: str(Path(row.config).parent)):
        lines += [f"## {folder}", "", *format_table(HEADER, RULE, *map(_cells, group)), ""]
    return "\n".join(lines)


def _cells(row: ZooRow) -> list[str]:
    """Write the cells of a row."""
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
        _published(published.get("Parameters (M)"), parameters),
        f"{multiply_adds:.2f}",
        _published(published.get("FLOPs (G)"), multiply_adds),
        f"{cost.fft / 1e9:.2f}" if cost.fft else "",
        f"{cost.matrix_multiply_adds / 1e9:.2f}",
        _results(row.entry.get("Results", [])),
    ]


def _results(results: list[dict[str, Any]]) -> str:
    """Write the results of a metafile, and whose they are."""
    sources = {result["Source"]: None for result in results}
    parts = []
    for source in sources:
        same = [result["Metrics"] for result in results if result["Source"] == source]
        values = [f"{name} {value:g}" for metrics in same for name, value in metrics.items()]
        parts.append(f"{', '.join(values)} ({source})")
    return "; ".join(parts)


def _published(figure: float | None, ours: float) -> str:
    """Write a published figure and the difference to it."""
    return "" if figure is None else f"{figure:g} ({ours - figure:+.2f})"
