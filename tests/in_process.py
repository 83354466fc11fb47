"""The command within this process: what needs no process of its own saves five seconds a start."""

import contextlib
import io
import subprocess

import pytest

from hordet.cli import main


def run_words(*words, folder, **environment):
    """Run `hordet WORDS` in a folder; return what `subprocess.run` would."""
    out, error = io.StringIO(), io.StringIO()
    words = [str(word) for word in words]
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
    ):
        patch.chdir(folder)
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
    return subprocess.CompletedProcess(words, code, out.getvalue(), error.getvalue())
