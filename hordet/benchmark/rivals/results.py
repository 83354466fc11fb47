"""The results file of the face-off, from which it continues."""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hordet.benchmark.rivals.plan import Run
from hordet.errors import ConfigError
from hordet.ops.files import write_whole

FULL, TINY = "full", "dry run"


class RivalResults:
    """The results so far, in a JSON file with one line for each run.

    After each run the file is written under a temporary name and renamed, so a kill does not damage
    it.

    Args:
        path: The file; it need not exist yet.
        tiny: Whether it is of dry runs.

    Attributes:
        records: One for each run with results: the fields of the run and what
            `hordet.benchmark.rivals.runs.run_rival` returns.
        problems: Why a run has no results, by its name. Such a run is tried again.
        machine: Processor, threads and version of torch.

    Raises:
        ConfigError: The file cannot be read, or is of the other kind (dry runs).
    """

    def __init__(self, path: Path, tiny: bool = False) -> None:
        """Read the file, if it exists."""
        self.path = path
        self.kind = TINY if tiny else FULL
        self._read()

    def _read(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.problems: dict[str, str] = {}
        self.machine: dict[str, Any] = {}
        if not self.path.exists():
            return
        try:
            content = json.loads(self.path.read_text())
            kind, self.records = content["kind"], content["runs"]
            self.problems, self.machine = content["problems"], content["machine"]
            self.find_done()
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self.path} is not a file of the face-off ({type(error).__name__}: {error}); "
                "restore an earlier version of it, or name another file with --results"
            ) from error
        if kind != self.kind:
            raise ConfigError(
                f"{self.path} has results of the kind {kind!r}, and this is {self.kind!r}: they "
                "cannot be compared; name another file with --results"
            )

    def find_done(self) -> set[Run]:
        """Return the runs that have results."""
        return {read_run(record) for record in self.records}

    def find_missing(self, runs: Sequence[Run]) -> list[Run]:
        """Return those of `runs` that have no results, in their order."""
        done = self.find_done()
        return [run for run in runs if run not in done]

    def check_machine(self, machine: dict[str, Any]) -> None:
        """Check that new results can be compared with those that are there.

        Raises:
            ConfigError: These are of another machine: minutes there are other minutes.
        """
        if self.machine and self.machine != machine:
            raise ConfigError(
                f"{self.path} was made on {self.machine}, and this is {machine}: minutes of the "
                "two cannot be compared; name another file with --results"
            )

    def add(self, record: dict[str, Any], machine: dict[str, Any]) -> None:
        """Write the results of a run.

        Args:
            record: The run's fields, its metrics, and more.
            machine: On which it was made.

        Raises:
            ConfigError: As `check_machine`.
        """
        self._read()  # another process may have added results
        self.check_machine(machine)
        run = read_run(record)
        if run not in self.find_done():
            self.records.append(record)
        self.problems.pop(str(run), None)
        self.machine = machine
        self._write()

    def add_problem(self, run: Run, problem: str) -> None:
        """Write why a run has no results."""
        self._read()
        self.problems[str(run)] = problem
        self._write()

    def _write(self) -> None:
        parts = dict(
            kind=json.dumps(self.kind),
            machine=json.dumps(self.machine),
            problems=json.dumps(self.problems, indent=2),
            runs="[" + ",".join(f"\n  {json.dumps(record)}" for record in self.records) + "]",
        )
        text = ",\n".join(f' "{key}": {part}' for key, part in parts.items())
        write_whole(self.path, f"{{\n{text}\n}}\n")


def read_run(record: dict[str, Any]) -> Run:
    """Return the run of a record."""
    return Run(*(record[field.name] for field in fields(Run)))
