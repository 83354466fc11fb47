"""Signals that ask a training to stop: of a scheduler, a closed terminal, the user (Ctrl-C)."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, is_distributed

SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")


class Interruption:
    """Notes the first signal that asks to stop; the second one ends the process at once.

    A second signal cannot hurt: files are renamed into place, so whatever is being written then
    is an unfinished file beside the last whole checkpoint.

    `timeout`, systemd and many schedulers send the signal to the whole process group. Loader
    workers leave it to their parent, which needs them until its step is done.
    """

    def __init__(self) -> None:
        """Without a signal yet."""
        self.signal: str | None = None
        self._answer: bool | None = None
        self._owner = os.getpid()
        self._handlers: dict[int, Any] = {}
        self._guards_children = False

    def listen(self) -> None:
        """Take over the signals; only the main thread of a process can, elsewhere they stay."""
        if self._handlers:  # they are taken over
            return
        for name in SIGNALS:
            number = getattr(signal, name, None)  # Windows has no SIGHUP and no SIGUSR1
            if number is None or signal.getsignal(number) is signal.SIG_IGN:  # as by nohup
                continue
            try:
                self._handlers[number] = signal.signal(number, self._note)
            except ValueError:
                return
        if not self._guards_children and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._leave_to_parent)
            self._guards_children = True

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
        if self._answer is not None:
            answer, self._answer = self._answer, None
            return answer
        asked = torch.tensor(float(self.signal is not None))
        if torch.distributed.get_backend() == "nccl":
            asked = asked.cuda()
        all_reduce(asked, "max")
        return bool(asked.item())

    def answer(self, asked: bool) -> None:
        """Give the next `is_asked` its answer, for all processes have just been asked together.

        Args:
            asked: Whether any process was asked to stop; the same in every process.
        """
        self._answer = asked or bool(self._answer)

    def _note(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() == self._owner:
            self.signal = signal.Signals(number).name
            for each in self._handlers:
                signal.signal(each, signal.SIG_DFL)

    def _leave_to_parent(self) -> None:
        """In a forked worker: of these signals, obey SIGTERM alone, and that of the parent alone.

        The parent ends its workers by SIGTERM. If it dies without doing so, torch's workers notice.
        """
        if not self._handlers or not hasattr(signal, "sigwaitinfo"):
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, self._handlers)
        threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True).start()


def _obey_parent(parent: int) -> None:
    """Wait for the parent's SIGTERM, and end."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
