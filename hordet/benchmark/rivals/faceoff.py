"""Goes through the runs of the face-off: data, environment, training, score."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hordet.benchmark.rivals.drawn import draw_data
from hordet.benchmark.rivals.environment import prepare_environment
from hordet.benchmark.rivals.plan import RIVALS, TASKS, Run
from hordet.benchmark.rivals.runs import Place, run_rival
from hordet.errors import BenchmarkError, DatasetError, EvaluationError


def find_data(runs: Sequence[Run], data_root: Path, place: Place) -> dict[str, Path]:
    """Return the folder of each data set that runs need; dry runs get drawn ones.

    Args:
        runs: The runs.
        data_root: Folder of the data sets, by their names.
        place: Where and how the runs are made.

    Raises:
        DatasetError: A data set is not there.
    """
    found = {}
    for dataset in dict.fromkeys(run.dataset for run in runs):
        if place.tiny:
            found[dataset] = place.work_dir / "drawn" / dataset
            draw_data(dataset, found[dataset])
            continue
        folder = data_root / dataset
        objects = TASKS[dataset].kind == "objects"
        wanted = folder / ("annotations/instances_train.json" if objects else "meta.json")
        if not wanted.is_file():
            raise DatasetError(
                f"there is no {wanted}: name the folder that holds {dataset}/ with --data-root or "
                "the variable HORDET_DATA, or make a dry run with --tiny"
            )
        found[dataset] = folder
    return found


def run_rivals(
    runs: Sequence[Run], data: dict[str, Path], environment: Path, place: Place
) -> Iterator[tuple[Run, dict[str, Any] | str]]:
    """Make the runs, one after the other, because each has all the cores.

    Args:
        runs: The runs.
        data: Folder of each data set, from `find_data`.
        environment: Folder of the rivals' environment; made where a rival needs it.
        place: Where and how.

    Yields:
        Each run as it ends, with its record or the reason why it has none. A rival that cannot be
        installed is tried once, and the others go on.
    """
    lacking: dict[str, str] = {}  # why a rival cannot be installed
    for run in runs:
        needs = RIVALS[run.rival].needs
        if run.rival in lacking:
            yield run, lacking[run.rival]
            continue
        try:
            python = prepare_environment(environment, needs) if needs else Path(sys.executable)
        except BenchmarkError as error:
            lacking[run.rival] = str(error)
            yield run, str(error)
            continue
        try:
            yield run, run_rival(run, data[run.dataset], python, place)
        except (BenchmarkError, EvaluationError) as error:
            yield run, str(error)
