"""Signals that ask a training to stop: the batch system's, a spot machine's, the user's Ctrl-C."""

import os
import signal
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, is_distributed

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")


class Interruption:
    """Notes the first signal that asks to stop; the second one ends the process at once.

    A second signal cannot hurt: files are renamed into place, so whatever is being written then
    is an unfinished file beside the last whole checkpoint.
    """

    def __init__(self) -> None:
        """Without a signal yet."""
        self.signal: str | None = None
        self._owner = os.getpid()
        self._handlers: dict[int, Any] = {}

    def listen(self) -> None:
        """Take over the signals; only the main thread of a process can, elsewhere they stay."""
        for name in SIGNALS:
            number = getattr(signal, name, None)  # Windows has no SIGUSR1
            if number is None:
                continue
            try:
                self._handlers[number] = signal.signal(number, self._note)
            except ValueError:
                return

    def stop_listening(self) -> None:
        """Give the signals back to whom they belonged."""
        while self._handlers:
            number, handler = self._handlers.popitem()
            signal.signal(number, handler)

    def is_asked(self) -> bool:
        """Whether this process, or another of the same job, was asked to stop.

        Every process must call it at the same iterations.
        """
        if not is_distributed():
            return self.signal is not None
        asked = torch.tensor(float(self.signal is not None))
        if torch.distributed.get_backend() == "nccl":
            asked = asked.cuda()
        all_reduce(asked, "max")
        return bool(asked.item())

    def _note(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() == self._owner:
            self.signal = signal.Signals(number).name
            for each in self._handlers:
                signal.signal(each, signal.SIG_DFL)
        elif number == signal.SIGTERM:
            # A forked loader worker inherits this handler. Ctrl-C and a batch system reach it too,
            # and it must serve until its owner has finished; the owner ends it by SIGTERM.
            os.kill(os.getpid(), number)
