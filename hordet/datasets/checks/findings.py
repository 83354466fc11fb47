"""What a check of data found."""

from dataclasses import dataclass, field


@dataclass
class Findings:
    """What a check found, in whole sentences.

    Attributes:
        errors: Faults that forbid a run.
        warnings: Faults that a run survives, and what was read otherwise than it is written.
        copy: Path of the plain copy of the annotation file that a run must read; None: the file.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    copy: str | None = None


@dataclass(frozen=True)
class Fault:
    """A fault of one image, found in its pixels.

    Attributes:
        kind: What is said of all that have it: 'have a mask without area; take it out'.
        words: What is said of this one.
        severity: 'error' or 'warning'.
    """

    kind: str
    words: str = ""
    severity: str = "error"
