"""Whatever is put in, the user reads a sentence: what was got, what is allowed, what to do."""

import re
from pathlib import Path

import pytest
from bad_inputs import CASES, message_of

pytestmark = pytest.mark.usefixtures("cache_folder")


@pytest.mark.parametrize(
    ("title", "subcommand", "make", "expected"), CASES, ids=[case[0] for case in CASES]
)
def test_the_answer(tmp_path, installed, title, subcommand, make, expected):
    code, text = message_of(subcommand, make, tmp_path.resolve())
    assert code == 2, text
    assert text.startswith("error: ") and re.search(expected, text), text
    assert "Traceback" not in text and "not foreseen" not in text


def test_the_page_lists_them(repository):
    page = (repository / "docs" / "errors.md").read_text()
    rows = re.findall(r"^\| (.+?) \| hordet \S+ \| (error: .+?) \|$", page, re.MULTILINE)
    assert [row[0] for row in rows] == [case[0] for case in CASES] and len(rows) >= 40
    for (_, answer), (_, _, _, expected) in zip(rows, CASES, strict=True):
        assert re.search(expected, answer.replace("\\|", "|")), answer


def test_debug_shows_the_traceback(tmp_path):
    def make(folder):
        return ["none.py", "--debug"]

    from hordet.errors import ConfigError

    with pytest.raises(ConfigError):
        message_of("train", make, tmp_path)


def test_an_unforeseen_error_is_one_line_and_keeps_its_traceback(capsys):
    from hordet.cli.main import run_in_words

    def body():
        raise ZeroDivisionError("no\nnumber")

    assert run_in_words(body) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: ZeroDivisionError: no number\nThis was not foreseen.")
    kept = Path(re.search(r"is in (\S+);", text)[1])
    assert "Traceback" in kept.read_text() and "in body" in kept.read_text()
    kept.unlink()
