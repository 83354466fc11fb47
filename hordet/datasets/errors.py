"""What is raised, and what is warned of, when data are not as a config says."""

from dataclasses import dataclass, field

from hordet.errors import UserError


class DatasetError(UserError, ValueError):
    """Data are missing, unreadable or against the config; the message says which and the cure."""


class DatasetWarning(UserWarning):
    """A few annotations are faulty, too few to stop a run; the message says which."""


@dataclass
class Findings:
    """What a check found, in whole sentences.

    Attributes:
        errors: Faults that forbid a run.
        warnings: Faults that a run survives.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def listed(values: list, limit: int = 5) -> str:
    """The first few of some values for a message: 'a, b, c and 7 more'."""
    shown = ", ".join(str(value) for value in values[:limit])
    return shown if len(values) <= limit else f"{shown} and {len(values) - limit} more"
