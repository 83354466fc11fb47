"""The file of the neck study, from which it goes on, on whichever machine."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hordet.benchmark.necks.plan import SETTINGS, Training
from hordet.errors import ConfigError
from hordet.ops.files import write_whole

TINY = "dry run"


def describe_budget(tiny: bool = False) -> dict[str, str]:
    """Return in words what every training of a data set has in common.

    Args:
        tiny: Of a dry run.
    """
    if tiny:
        return dict.fromkeys(SETTINGS, TINY)
    return {
        name: ", ".join(f"`{key}={value}`" for key, value in setting.options.items())
        for name, setting in SETTINGS.items()
    }


class Results:
    """What was measured so far, in a JSON file with one line a training.

    The file is written anew beside its place and renamed after each training, so a kill leaves the
    one before.

    Args:
        path: The file; it need not be there yet.
        tiny: Whether it is of dry runs.

    Attributes:
        budget: As `describe_budget` returns it.
        trainings: A record a training; see `add`.
        costs: As `set_costs` takes them.
        timing: Likewise.

    Raises:
        ConfigError: The file cannot be read, or is of another budget, whose figures must not stand
            beside those of this one.
    """

    def __init__(self, path: Path, tiny: bool = False) -> None:
        """Read the file, if it is there."""
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
            self.done()
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self.path} is no file of the neck study ({type(error).__name__}: {error}); "
                "bring back an earlier version of it, or name another file with --results"
            ) from error
        if made_with != self.budget:
            raise ConfigError(
                f"{self.path} was made with the budget {made_with}, and this is {self.budget}: "
                "their figures cannot be compared; name another file with --results"
            )

    def done(self) -> set[Training]:
        """Return the trainings whose figures are there."""
        return {read_training(record) for record in self.trainings}

    def missing(self, trainings: Sequence[Training]) -> list[Training]:
        """Return those of `trainings` whose figures are not there, in their order."""
        done = self.done()
        return [training for training in trainings if training not in done]

    def add(self, record: dict[str, Any]) -> None:
        """Write the figures of a training.

        Args:
            record: dataset, backbone, neck, seed, metrics, and what else is known.
        """
        self._read()  # a second run may have added its own
        if read_training(record) not in self.done():
            self.trainings.append(record)
            self._write()

    def set_costs(self, costs: list[dict[str, Any]], timing: dict[str, Any]) -> None:
        """Write costs in place of those measured before.

        Args:
            costs: Of each model; see `hordet.benchmark.necks.costs.measure`.
            timing: How they were timed, and on what.
        """
        self._read()
        self.costs, self.timing = costs, timing
        self._write()

    def _write(self) -> None:
        parts = dict(
            describe_budget=json.dumps(self.budget),
            timing=json.dumps(self.timing),
            costs=_lines(self.costs),
            trainings=_lines(self.trainings),
        )
        text = ",\n".join(f' "{key}": {part}' for key, part in parts.items())
        write_whole(self.path, f"{{\n{text}\n}}\n")


def _lines(records: list[dict[str, Any]]) -> str:
    """Return JSON with a line a record, so that a version's difference is what was measured."""
    return "[" + ",".join(f"\n  {json.dumps(record)}" for record in records) + "]"


def read_training(record: dict[str, Any]) -> Training:
    """Return the training whose figures these are."""
    return Training(*(record[key] for key in ("dataset", "backbone", "neck", "seed")))
