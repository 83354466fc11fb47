"""What is printed on a terminal: names of strangers are shown, and do nothing else."""

import re
import sys
from collections.abc import Callable
from functools import partial

# Control characters, and those that turn the direction of writing. Colors, and the steps to the
# line above and to the line's end, are of loggers and progress bars.
_STEERING = re.compile(
    r"\x1b(?!\[(?:[0-9;]*m|A|K))"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)


def print_any_name() -> None:
    """Print as an escape what a terminal cannot show, and what would steer it.

    It cannot show 圆 in ASCII; the name of a class could set its window's title, or let it beep.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and "write" not in vars(stream):
            stream.reconfigure(errors="backslashreplace")
            vars(stream)["write"] = partial(_write_escaped, stream.write)


def _write_escaped(write: Callable[[str], int], text: str) -> int:
    write(_STEERING.sub(lambda found: ascii(found[0])[1:-1], text))
    return len(text)
