"""A checkpoint file runs no code, mmengine's own checkpoints open, and damage is named."""

import argparse
import os
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from hordet.checkpoints import load_checkpoint
from hordet.errors import CheckpointError


class Malicious:
    """Makes a folder when unpickled by an ordinary unpickler."""

    def __init__(self, function, *arguments):
        self.recipe = (function, arguments)

    def __reduce__(self):
        return self.recipe


def saved(tmp_path, content, name="file.pth", **options):
    torch.save(content, tmp_path / name, **options)
    return tmp_path / name


def test_history_buffers_and_numpy_values_open(tmp_path):
    buffer = HistoryBuffer([1.0, 3.0], [1, 1])
    meta = {"seed": np.int64(3), "best": np.float32(0.5), "palette": np.arange(6).reshape(2, 3)}
    path = saved(tmp_path, {"message_hub": {"loss": buffer}, "meta": meta})
    loaded = load_checkpoint(path)
    assert loaded["message_hub"]["loss"].statistics("mean") == 2.0
    assert loaded["message_hub"]["loss"].max() == 3.0
    assert loaded["meta"]["seed"] == 3 and loaded["meta"]["best"] == np.float32(0.5)
    np.testing.assert_array_equal(loaded["meta"]["palette"], [[0, 1, 2], [3, 4, 5]])


def test_both_numpy_names_open(tmp_path):
    path = saved(tmp_path, {"a": np.float64(2.5)}, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    old, new = b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"
    assert (old in content) != (new in content)
    other = content.replace(old, new) if old in content else content.replace(new, old)
    (tmp_path / "other.pth").write_bytes(other)
    assert load_checkpoint(path) == load_checkpoint(tmp_path / "other.pth") == {"a": 2.5}


def test_parsed_arguments_open(tmp_path):
    path = saved(tmp_path, {"model": {"w": torch.ones(2)}, "args": argparse.Namespace(lr=0.1)})
    assert load_checkpoint(path)["args"].lr == 0.1


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.arange(3.0)}, tmp_path / "a.safetensors")
    assert load_checkpoint(tmp_path / "a.safetensors")["w"].tolist() == [0, 1, 2]
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:20])
    with pytest.raises(CheckpointError, match="truncated or not a safetensors"):
        load_checkpoint(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (lambda folder: Malicious(os.mkdir, folder), "mkdir"),
        (lambda folder: Malicious(eval, f"__import__('os').mkdir({folder!r})"), "eval"),
        (lambda folder: Malicious(getattr, HistoryBuffer, "__init__"), "getattr"),
        (lambda folder: Malicious(getattr, HistoryBuffer, "__subclasses__"), "getattr"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_named(tmp_path, payload, named, zipped):
    folder = str(tmp_path / "made")
    content = {"w": torch.ones(1), "x": payload(folder)}
    path = saved(tmp_path, content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=named) as caught:
        load_checkpoint(path)
    assert "pickled code" in str(caught.value)
    assert not os.path.exists(folder)


def test_whole_modules_are_refused(tmp_path):
    path = saved(tmp_path, torch.nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear"):
        load_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated(tmp_path, zipped, share):
    path = saved(tmp_path, {"w": torch.ones(1000)}, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match="truncated or damaged") as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x89PNG\r\n"])
def test_not_a_checkpoint(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="(is|,) not a checkpoint"):
        load_checkpoint(tmp_path / "a.pth")


def test_missing_names_its_neighbors(tmp_path):
    saved(tmp_path, {}, "epoch_3.pth")
    with pytest.raises(CheckpointError, match="epoch_3.pth"):
        load_checkpoint(tmp_path / "epoch_4.pth")


def test_not_a_dict(tmp_path):
    with pytest.raises(CheckpointError, match="holds a Tensor"):
        load_checkpoint(saved(tmp_path, torch.ones(3)))


def test_allow_list_does_not_leak(tmp_path):
    load_checkpoint(saved(tmp_path, OrderedDict(w=torch.ones(1))))
    assert HistoryBuffer not in torch.serialization.get_safe_globals()


def test_mmengine_uses_it(tmp_path, installed):
    path = str(
        saved(tmp_path, {"model": {"w": torch.ones(1)}, "meta": {"config": "raise SystemExit"}})
    )
    loaded = CheckpointLoader.load_checkpoint(path)
    assert list(loaded["state_dict"]) == ["w"]  # mmengine knows only this name
    assert "config" not in loaded["meta"]  # mmengine would execute it on resume
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        CheckpointLoader.load_checkpoint(str(tmp_path / "none.pth"))


def test_pretrained_init_reads_the_authors_form(tmp_path, installed):
    from mmengine.model import BaseModule

    class Net(BaseModule):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.layer = torch.nn.Linear(2, 2)

    weights = {"layer.weight": torch.full((2, 2), 7.0), "layer.bias": torch.zeros(2)}
    path = str(saved(tmp_path, {"model": weights}))
    net = Net(init_cfg={"type": "Pretrained", "checkpoint": path})
    net.init_weights()
    assert net.layer.weight.eq(7).all()


@pytest.mark.parametrize("stated", ["in the name", "beside it"])
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_what_is_hashed_is_what_is_read(tmp_path, monkeypatch, name, stated):
    """Another file comes to the path between the check and the reading: the checked one is read."""
    from hordet.checkpoints import load, load_and_hash, save_checkpoint

    path, other = tmp_path / name, tmp_path / f"other-{name}"
    digest = save_checkpoint({"w": torch.arange(4.0)}, path)
    swapped = save_checkpoint({"w": torch.zeros(9)}, other)
    if stated == "beside it":
        (tmp_path / f"{name}.sha256").write_text(f"{digest}  {name}\n")
    asked = f"{path}#sha256={digest}" if stated == "in the name" else path
    hash_open_file = load.hash_open_file

    def hash_then_swap(file):
        found = hash_open_file(file)
        os.replace(other, path)
        return found

    monkeypatch.setattr(load, "hash_open_file", hash_then_swap)
    content, read = load_and_hash(asked)
    assert content["w"].tolist() == [0, 1, 2, 3] and read == digest
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_checkpoint(asked)
    (tmp_path / f"{name}.sha256").unlink(missing_ok=True)
    assert load_and_hash(path)[1] == swapped


class Bytes:
    """Becomes a bytearray of a stated length when it is unpickled."""

    def __reduce__(self):
        return bytearray, (3_000_000_000,)


@pytest.mark.parametrize("zipped", [True, False])
def test_memory_that_the_file_does_not_hold_is_refused(tmp_path, zipped):
    options = dict(_use_new_zipfile_serialization=zipped)
    path = saved(tmp_path, {"w": torch.ones(2), "b": Bytes()}, **options)
    assert path.stat().st_size < 2000
    with pytest.raises(CheckpointError, match="makes a bytearray, .* can fill the memory"):
        load_checkpoint(path)

    class Scalar:
        def __reduce__(self):
            return np.float64(1.0).__reduce__()[0], (np.dtype("S2000000000"),)

    path = saved(tmp_path, {"b": Scalar()}, **options)
    with pytest.raises(CheckpointError, match="numpy.scalar"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "form",
    ["{0}  {1}\n", "{0} *{1}\n", "{0}\n", "{0}", "\\{0}  {1}\n", "SHA256 ({1}) = {0}\n"],
)
@pytest.mark.parametrize("upper", [False, True])
def test_every_form_of_a_sum_beside_a_file_is_compared(tmp_path, form, upper):
    from hordet.checkpoints import compute_sha256

    path = saved(tmp_path, {"w": torch.ones(2)})
    right = compute_sha256(path)
    beside = tmp_path / "file.pth.sha256"
    beside.write_text(form.format(right.upper() if upper else right, path.name))
    assert load_checkpoint(path)["w"].sum() == 2
    beside.write_text(form.format("A" * 64 if upper else "a" * 64, path.name))
    with pytest.raises(CheckpointError, match="is damaged: its SHA-256"):
        load_checkpoint(path)


@pytest.mark.parametrize("text", ["", "\n", "none\n", "abc  file.pth\n"])
def test_a_file_of_sums_without_a_sum_is_told(tmp_path, text):
    path = saved(tmp_path, {"w": torch.ones(2)})
    (tmp_path / "file.pth.sha256").write_text(text)
    with pytest.raises(CheckpointError, match=r"sha256 holds no SHA-256\. Write one .* or remove"):
        load_checkpoint(path)
