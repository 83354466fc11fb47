"""The command where the surroundings are poor: no home, an ASCII terminal."""

import os
import subprocess
import sys

import pytest

from hordet.cli.main import run_in_words
from hordet.ops import files


def test_a_user_without_a_home_has_a_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("HORDET_CACHE", raising=False)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(files.Path, "home", no_home)
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path))
    assert files.locate_cache() == tmp_path / f"hordet-{os.getuid()}"
    monkeypatch.setenv("HORDET_CACHE", "here")
    assert files.locate_cache() == files.Path.cwd() / "here"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_terminal_of_ascii_shows_escapes(repository, stream):
    code = (
        "import sys; from hordet.cli.main import run_in_words; "
        f"sys.exit(run_in_words(lambda: print('\u5706 \\ud800', file=sys.{stream}) or 0))"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict", "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert getattr(done, stream) == b"\\u5706 \\ud800\n"


def test_names_do_not_steer_the_terminal(capsys):
    bar = "\x1b[31mred\x1b[0m \x1b[A\x1b[K\ttab\r\n"
    names = "\x1b]0;title\x07 \x1b[2J \x1b[5A \x00 \x9b1m a\u202eb " + bar
    shown = r"\x1b]0;title\x07 \x1b[2J \x1b[5A \x00 \x9b1m a\u202eb " + bar
    for _ in range(2):  # the second command of a process escapes once, too
        assert run_in_words(lambda: print(names, end="") or 0) == 0
        assert capsys.readouterr().out == shown
    assert run_in_words(lambda: print(names, end="", file=sys.stderr) or 0) == 0
    assert capsys.readouterr().err == shown
