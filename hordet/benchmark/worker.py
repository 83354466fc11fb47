"""Processes that measure or check one thing each on request, with memory of their own."""

import multiprocessing
import signal
from collections.abc import Callable
from typing import Any

from hordet.ops.upstream import silence_warnings


def _run_quietly(serve: Callable[..., None], *arguments: Any) -> None:
    silence_warnings()  # as the command does in its own process
    serve(*arguments)


class Worker:
    """A process that answers questions.

    Args:
        serve: Runs in the process, with its end of a connection before `arguments`. It may
            send an answer when it is ready, then answers each question; an exception that it
            sends, or its end, is an error of the next `answer`.
        arguments: Further arguments of `serve`.
        daemon: Whether the process ends with this one in any case; it may then have no children.
    """

    def __init__(self, serve: Callable[..., None], *arguments: Any, daemon: bool = True) -> None:
        """Start it."""
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        words = (serve, theirs, *arguments)
        self.process = context.Process(target=_run_quietly, args=words, daemon=daemon)
        self.process.start()
        theirs.close()  # else the end of the process would not be seen

    def ask(self, question: Any, seconds: float | None = None) -> Any:
        """Send a question and wait for its answer; arguments and errors as of `answer`."""
        try:
            self.connection.send(question)
        except BrokenPipeError:
            pass  # it has ended; what it said before is still to be read
        return self.answer(seconds)

    def answer(self, seconds: float | None = None) -> Any:
        """Wait for an answer.

        Args:
            seconds: How long, at most.

        Raises:
            RuntimeError: The process failed; with its error, or how it ended.
            TimeoutError: The seconds are used up; the process still runs.
        """
        try:
            if not self.connection.poll(seconds):
                raise TimeoutError
            answer = self.connection.recv()
        except (EOFError, ConnectionResetError) as error:
            self.process.join()
            raise RuntimeError(f"the process ended by itself{self._say_how()}") from error
        if isinstance(answer, Exception):
            raise RuntimeError(str(answer)) from answer
        return answer

    def _say_how(self) -> str:
        code = self.process.exitcode or 0
        if code >= 0:
            return f" with exit code {code}"
        name = signal.Signals(-code).name
        short = ", as where memory is short" if name == "SIGKILL" else ""
        return f" with {name}{short}"

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()
