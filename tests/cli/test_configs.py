"""hordet configs, and what the parser says of words that are missing."""

import pytest
from in_process import run_words


def list_names(*words, folder):
    result = run_words("configs", *words, folder=folder)
    assert result.returncode == 0, result.stderr
    return [line.split()[0] for line in result.stdout.splitlines()]


def test_a_folder_or_a_part_of_a_name_is_enough(tmp_path):
    names = list_names(folder=tmp_path)
    parts = list_names("nuclei", folder=tmp_path)
    assert parts == [name for name in names if "nuclei" in name] and len(parts) >= 3
    # A whole name is that config alone, also where another name continues it.
    whole = "nuclei/mask-rcnn_efficientnet-lite0_horfpn_5e"
    assert f"{whole}-scratch" in names
    assert list_names(whole, folder=tmp_path) == [whole]


def test_no_such_config_says_where_all_are(tmp_path):
    result = run_words("configs", "nosuch", folder=tmp_path)
    assert result.returncode == 2
    assert "no config has a name like 'nosuch'; `hordet configs` lists them all" in result.stderr


@pytest.mark.parametrize(
    ("words", "program"),
    [((), "hordet"), (("weights",), "hordet weights"), (("train",), "hordet train")],
)
def test_missing_words_name_the_help(words, program, tmp_path):
    result = run_words(*words, folder=tmp_path)
    assert result.returncode == 2
    assert "are required: " in result.stderr
    assert f"`{program} --help` says what each is" in result.stderr
