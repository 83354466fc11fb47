"""A config that a run writes is read again as it was, by mmengine and as data."""

import math
import random

import pytest
from mmengine.config import Config

from hordet.config.dump import write_config, write_configs_readably
from hordet.config.load import load_config
from hordet.config.names import find_configs
from hordet.config.safe import read_data

# Of keys and values that mmengine's own text cannot hold, or that are read otherwise.
ODD = [
    {"class": 1, "from": {"import": [{"lambda": 2}]}},
    {"None": 1, "a": {"True": 2, "x y": 3}},
    {"classes": ["{{7*7}}", "{{ fileDirname }}", "{{_base_.a}}", "{{$HOME:b}}", "{{{{", "a}}"]},
    {"a": {"{{x}}": [{"y": ("{{",)}]}},
    {"a": float("inf"), "b": [-math.inf, (math.nan,)], "c": {"class": math.inf}},
    {"a": set(), "b": {"{{1}}"}, "c": (), "d": [], "e": {}, "f": (1,), "g": [((),)]},
    {"a": {1: "b", 2.5: None, None: 3}, "b": "'\"\n\\ \x00 é 圆 \\x7b"},
]


@pytest.fixture(autouse=True)
def _restore(monkeypatch):
    monkeypatch.setattr(Config, "pretty_text", Config.pretty_text)


@pytest.mark.parametrize("formatted", [True, False])
@pytest.mark.parametrize("number", range(len(ODD)))
def test_what_is_written_is_read_again(tmp_path, number, formatted):
    write_configs_readably()
    cfg = Config(dict(x=ODD[number]), format_python_code=formatted)
    cfg.dump(tmp_path / "c.py")
    for again in (Config.fromfile(tmp_path / "c.py"), read_data(tmp_path / "c.py")):
        assert repr(again.to_dict()) == repr(dict(x=dict(sorted_by_text(ODD[number]))))


def sorted_by_text(values):
    """Return the items as a written config has them."""
    if not isinstance(values, dict):
        kind = type(values)
        return kind(map(sorted_by_text, values)) if kind in (list, tuple) else values
    return {key: sorted_by_text(values[key]) for key in sorted(values, key=str)}


def test_a_key_with_quotes_can_be_written(tmp_path):
    """A safe reading refuses such a key; mmengine reads it, and could not write it."""
    write_configs_readably()
    Config(dict(x={"driver's": 1, 'a"b': 2})).dump(tmp_path / "c.py")
    assert Config.fromfile(tmp_path / "c.py").x == {"driver's": 1, 'a"b': 2}


def test_the_text_is_mmengines():
    original = Config.pretty_text.fget
    for name in random.Random(3).sample(sorted(find_configs()), 3):
        cfg = load_config(name)
        assert write_config(cfg) == original(cfg), name


def test_a_long_config_is_not_set():
    """It would take minutes."""
    cfg = Config(dict(x=list(range(100_000))))
    assert write_config(cfg).startswith("x=[\n0,\n1,\n")
