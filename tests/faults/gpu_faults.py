"""Parts of the check of a GPU that go wrong; a process of its own imports them from here."""

import os
import signal
import time


def fail(check):
    check.attempt("half", lambda: 1 / 0)
    raise ValueError("broken")


def wait(check):
    check.add("before", True)
    while True:
        time.sleep(0.01)


def crash(check):
    check.add("before", True)
    os.kill(os.getpid(), signal.SIGSEGV)


def measure(check):
    check.add("speed", None, ms=12.34567)
    check.add("process", None, id=os.getpid())
