"""What a check of data found."""

from dataclasses import dataclass, field


@dataclass
class Findings:
    """What a check found, in whole sentences.

    Attributes:
        errors: Faults that forbid a run.
        warnings: Faults that a run survives.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
