"""Every error and warning of hordet, and the words they share; light, imported before torch."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# sysexits.h, EX_TEMPFAIL: it failed for now; the same command, started again, goes on.
RESUME_ME = 75


class UserError(Exception):
    """Something that the user can put right; the message says what was got and what to do.

    The command prints the message and ends with exit code 2.
    """


class Interrupted(Exception):
    """A training was asked to stop, and has saved its state; the command ends with `RESUME_ME`."""


class ConfigError(UserError):
    """A config that cannot be read, or that asks for something that does not exist."""


class ConfigWarning(UserWarning):
    """A setting of the config has no effect here, for the reason in the message."""


class DatasetError(UserError, ValueError):
    """Data are missing, unreadable or against the config; the message says which and the cure."""


class DatasetWarning(UserWarning):
    """A few annotations are faulty, too few to stop a run; the message says which."""


class CheckpointError(UserError):
    """A checkpoint that cannot be opened, or that does not belong to the model."""


class DownloadError(CheckpointError):
    """A file that cannot be fetched; the message says from where, and what to do by hand."""


class CheckpointWarning(UserWarning):
    """A checkpoint was skipped, for the reason in the message; another one served."""


class FileWriteError(UserError, OSError):
    """A file that cannot be written, such as on a full disk; what was there is whole."""


class MissingOperatorError(UserError, NotImplementedError):
    """An operator of mmcv was called that only a compiled mmcv has."""


class NotFiniteError(UserError, FloatingPointError):
    """A loss or a gradient is NaN or infinite; the message holds the evidence."""


class LostProcessError(UserError):
    """Another process of the same job has ended."""


class CompilerError(UserError):
    """`torch.compile` cannot work here."""


class EvaluationError(UserError, ValueError):
    """Predictions do not fit the truth, or are damaged; the message says which and the cure."""


class ExportError(UserError):
    """A model that has no export, an export that does not equal its model, a file that is none."""


class BenchmarkError(UserError):
    """A process that a benchmark times has failed; the message holds its last words."""


class ReportError(UserError, ValueError):
    """There is nothing to report on; the message says what is missing."""


class DemoError(UserError):
    """Gradio is not installed, or the address cannot be had."""


def did_you_mean(name: str, names: Iterable[str], written: Mapping[str, str] | None = None) -> str:
    """Return `; did you mean 'x' or 'y'?` for the nearest names, or nothing.

    Args:
        name: What was given.
        names: What is allowed.
        written: How to write those that are written otherwise.
    """
    found = difflib.get_close_matches(name, sorted(names), n=3)
    hints = " or ".join(repr((written or {}).get(match, match)) for match in found)
    return f"; did you mean {hints}?" if found else ""


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def list_first(values: Sequence[Any], limit: int = 5) -> str:
    """Return the first few of some values for a message: 'a, b, c and 7 more'.

    Line breaks and control characters in names are escaped: a message stays one line.
    """
    shown = ", ".join(_escape(str(value)) for value in values[:limit])
    return shown if len(values) <= limit else f"{shown} and {len(values) - limit} more"
