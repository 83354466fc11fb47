"""The results file of the neck study, from which the study continues, on any machine."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hordet.benchmark.necks.plan import SETTINGS, Training
from hordet.errors import ConfigError
from hordet.ops.files import write_whole

TINY = "dry run"


def describe_budget(tiny: bool = False) -> dict[str, str]:
    """Return a description of the budget that all trainings on a data set have.

    Args:
        tiny: Whether it is a dry run.
    """
    if tiny:
        return dict.fromkeys(SETTINGS, TINY)
    return {
        name: ", ".join(f"`{key}={value}`" for key, value in setting.options.items())
        for name, setting in SETTINGS.items()
    }


class StudyResults:
    """The results so far, in a JSON file with one line for each training.

    After each training the file is written under a temporary name and renamed, so a kill does not
    damage it.

    Args:
        path: The file; it need not exist yet.
        tiny: Whether it is of dry runs.

    Attributes:
        budget: As `describe_budget` returns it.
        trainings: One record for each training; see `add`.
        costs: See `set_costs`.
        timing: See `set_costs`.

    Raises:
        ConfigError: The file cannot be read, or has another budget, so its results cannot be
            compared with new ones.
    """

    def __init__(self, path: Path, tiny: bool = False) -> None:
        """Read the file, if it exists."""
        self.path = path
        self.budget = describe_budget(tiny)
        self._read()

    def _read(self) -> None:
        self.trainings: list[dict[str, Any]] = []
        self.costs: list[dict[str, Any]] = []
        self.timing: dict[str, Any] = {}
        if not self.path.exists():
            return
        try:
            content = json.loads(self.path.read_text())
            made_with, self.trainings = content["budget"], content["trainings"]
            self.costs, self.timing = content["costs"], content["timing"]
            self.find_done()
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self.path} is not a file of the neck study ({type(error).__name__}: {error}); "
                "restore an earlier version of it, or name another file with --results"
            ) from error
        if made_with != self.budget:
            raise ConfigError(
                f"{self.path} was made with the budget {made_with}, and this is {self.budget}: "
                "their results cannot be compared; name another file with --results"
            )

    def find_done(self) -> set[Training]:
        """Return the trainings that have results."""
        return {read_training(record) for record in self.trainings}

    def find_missing(self, trainings: Sequence[Training]) -> list[Training]:
        """Return those of `trainings` that have no results, in their order."""
        done = self.find_done()
        return [training for training in trainings if training not in done]

    def add(self, record: dict[str, Any]) -> None:
        """Write the results of a training.

        Args:
            record: The training's fields, its metrics, and more.
        """
        self._read()  # another process may have added results
        if read_training(record) not in self.find_done():
            self.trainings.append(record)
            self._write()

    def set_costs(self, costs: list[dict[str, Any]], timing: dict[str, Any]) -> None:
        """Replace the costs.

        Args:
            costs: Costs of each model, from `hordet.benchmark.necks.costs.measure_costs`.
            timing: How and on which machine they were timed.
        """
        self._read()
        self.costs, self.timing = costs, timing
        self._write()

    def _write(self) -> None:
        parts = dict(
            budget=json.dumps(self.budget),
            timing=json.dumps(self.timing),
            costs=_format_lines(self.costs),
            trainings=_format_lines(self.trainings),
        )
        text = ",\n".join(f' "{key}": {part}' for key, part in parts.items())
        write_whole(self.path, f"{{\n{text}\n}}\n")


def _format_lines(records: list[dict[str, Any]]) -> str:
    """Return JSON with one line for each record, so that diffs show new records."""
    return "[" + ",".join(f"\n  {json.dumps(record)}" for record in records) + "]"


def read_training(record: dict[str, Any]) -> Training:
    """Return the training of a record."""
    keys = ("dataset", "backbone", "neck", "rate", "seed")
    return Training(*(record[key] for key in keys))
