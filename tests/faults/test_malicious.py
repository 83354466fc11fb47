"""Checkpoints made to do harm: none runs code, fills the memory, or chooses what is removed."""

import argparse
import os
import pickle
import subprocess
import warnings
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from hordet.checkpoints import load, load_checkpoint, trust_pickle
from hordet.engine.hooks.checkpoint import _keep_within
from hordet.errors import CheckpointError


class Calls:
    """Calls a function when it is unpickled by an ordinary unpickler."""

    def __init__(self, function, *arguments, state=None):
        self.recipe = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.recipe


def poisoned_buffer(made):
    """A log history whose statistics call the shell."""
    buffer = HistoryBuffer([1.0], [1])
    buffer._statistics_methods = {"mean": Calls(os.system, f"mkdir {made}")}
    return buffer


def poisoned_array(made):
    array = np.empty(1, dtype=object)
    array[0] = Calls(os.mkdir, made)
    return array


# What stands where in the file.
FILES = {
    "os.system": lambda made: {"x": Calls(os.system, f"mkdir {made}")},
    "eval": lambda made: {"x": Calls(eval, f"__import__('os').mkdir({made!r})")},
    "exec": lambda made: {"x": Calls(exec, f"import os; os.mkdir({made!r})")},
    "subprocess": lambda made: {"x": Calls(subprocess.Popen, ["mkdir", made])},
    "import": lambda made: {"x": Calls(__import__, "antigravity")},
    "deep within": lambda made: {"state_dict": {"a": [({"b": (Calls(os.mkdir, made),)},)]}},
    "as a key": lambda made: {Calls(os.mkdir, made): 1},
    "message hub": lambda made: {"message_hub": {"log_scalars": {"l": poisoned_buffer(made)}}},
    "array of objects": lambda made: {"meta": {"palette": poisoned_array(made)}},
    "namespace": lambda made: {"args": argparse.Namespace(lr=Calls(os.mkdir, made))},
    "getattr": lambda made: {"x": Calls(getattr, Calls(__import__, "os"), "mkdir")},
    "getattr of an allowed class": lambda made: {"x": Calls(getattr, HistoryBuffer, "__init__")},
    "torch.load": lambda made: {"x": Calls(torch.load, made)},
    "torch.hub": lambda made: {"x": Calls(torch.hub.load, made, "model")},
    "nested pickle": lambda made: {"x": Calls(pickle.loads, pickle.dumps(Calls(os.mkdir, made)))},
    "state of a class": lambda made: {"x": Calls(HistoryBuffer, state=Calls(os.mkdir, made))},
    "whole file": lambda made: Calls(os.mkdir, made),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", FILES)
def test_nothing_runs(tmp_path, name, zipped):
    made = str(tmp_path / "made")
    path = tmp_path / "file.pth"
    torch.save(FILES[name](made), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"holds pickled code.*--trust-pickle"):
        load_checkpoint(path)
    assert os.listdir(tmp_path) == ["file.pth"]


def rezipped(path, target, method=zipfile.ZIP_STORED, change=lambda name, content: content):
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w", method) as copy:
        for part in source.infolist():
            copy.writestr(part.filename, change(part.filename, source.read(part)))
    return target


def test_a_bomb_is_refused_unopened(tmp_path):
    torch.save({"w": torch.zeros(4)}, tmp_path / "a.pth")
    bomb = rezipped(
        tmp_path / "a.pth",
        tmp_path / "bomb.pth",
        zipfile.ZIP_DEFLATED,
        lambda name, content: bytes(10**8) if name.endswith("data/0") else content,
    )
    assert bomb.stat().st_size < 10**6
    with pytest.raises(CheckpointError, match="is refused: unpacked it is 100,000,"):
        load_checkpoint(bomb)


def test_paths_in_a_zip_write_nothing(tmp_path):
    torch.save({"w": torch.zeros(4)}, tmp_path / "a.pth")
    trick = rezipped(tmp_path / "a.pth", tmp_path / "b.pth")
    with zipfile.ZipFile(trick, "a") as archive:
        archive.writestr("a/../../outside.txt", "x")
        archive.writestr("../outside.txt", "x")
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_checkpoint(trick)
    assert sorted(os.listdir(tmp_path)) == ["a.pth", "b.pth"]
    assert not (tmp_path.parent / "outside.txt").exists()


def test_a_resumed_checkpoint_does_not_choose_what_is_removed(tmp_path):
    info = {
        "best_ckpt": "/home/somebody/thesis.pth",
        "best_ckpt_mIoU": "../../other/best.pth",
        "keep_ckpt_ids": [1, "../../other/iter_2", 3],
        "iter": 7,
    }
    _keep_within(tmp_path, info)
    assert info == {
        "best_ckpt": str(tmp_path / "thesis.pth"),
        "best_ckpt_mIoU": str(tmp_path / "best.pth"),
        "keep_ckpt_ids": [1, 3],
        "iter": 7,
    }


def test_trust_is_given_in_words_and_warned_of(tmp_path, monkeypatch):
    torch.save({"x": Calls(SimpleNamespace)}, tmp_path / "a.pth")
    monkeypatch.setattr(load, "_POLICY", {"weights_only": True})
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "a.pth")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trust_pickle()
    assert "may run any code of their authors" in str(caught[0].message)
    assert load_checkpoint(tmp_path / "a.pth")["x"] == SimpleNamespace()
