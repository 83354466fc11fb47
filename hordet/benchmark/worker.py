"""Processes that take turns: each measures one candidate on request, with memory of its own."""

import multiprocessing
from collections.abc import Callable
from typing import Any


class Worker:
    """A process that answers questions.

    Args:
        serve: Runs in the process, with its end of a connection before `arguments`. It sends one
            answer when it is ready, then one to each question; an exception that it sends, or its
            end, is an error of the next `answer`.
        arguments: Further arguments of `serve`.
    """

    def __init__(self, serve: Callable[..., None], *arguments: Any) -> None:
        """Start it."""
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()  # else the end of the process would not be seen

    def ask(self, question: Any) -> Any:
        """Send a question and wait for its answer.

        Raises:
            RuntimeError: As `answer`.
        """
        try:
            self.connection.send(question)
        except BrokenPipeError:
            pass  # it has ended; what it said before is still to be read
        return self.answer()

    def answer(self) -> Any:
        """Wait for an answer.

        Raises:
            RuntimeError: The process failed; with its error.
        """
        try:
            answer = self.connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise RuntimeError(
                "the process of a candidate ended, perhaps because memory was short"
            ) from error
        if isinstance(answer, Exception):
            raise RuntimeError(f"a candidate failed: {answer}") from answer
        return answer

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.join()
