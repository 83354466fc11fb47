"""A checkpoint is written whole or not at all, and is the one that was stated."""

import errno
import os

import pytest
import torch
from mmengine.runner import CheckpointLoader

from hordet.checkpoints import compute_sha256, load_checkpoint, save_checkpoint, split_sha256
from hordet.errors import CheckpointError

# FIPS 180-2, appendix B.1: the sum of the three bytes "abc".
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
OTHER = "0" * 64


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_every_kind_of_tensor_returns(tmp_path, suffix):
    shared = torch.arange(6.0)
    state = {
        "a": shared[:3],
        "b": shared[2:].view(2, 2).t(),  # shares memory and does not lie in order
        "count": torch.tensor(7),
        "half": torch.ones(2, dtype=torch.bfloat16, requires_grad=True),
    }
    path = tmp_path / "new" / f"weights{suffix}"
    digest = save_checkpoint(state, path)
    assert digest == compute_sha256(path)
    back = load_checkpoint(path)
    assert {*back} == {*state}
    for key, value in state.items():
        assert back[key].dtype == value.dtype and torch.equal(back[key], value)
    assert os.listdir(path.parent) == [path.name]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # colleagues can read it


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "a.pth"
    save_checkpoint({"w": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"a\.pth is there already.*--force"):
        save_checkpoint({"w": torch.ones(1)}, path)
    assert load_checkpoint(path)["w"].item() == 0
    save_checkpoint({"w": torch.ones(1)}, path, overwrite=True)
    assert load_checkpoint(path)["w"].item() == 1


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, suffix, step):
    path = tmp_path / f"a{suffix}"
    save_checkpoint({"w": torch.zeros(1)}, path)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint({"w": torch.ones(1)}, path, overwrite=True)
    assert load_checkpoint(path)["w"].item() == 0
    assert os.listdir(tmp_path) == [path.name]


def test_another_ending(tmp_path):
    with pytest.raises(CheckpointError, match=r"written as \.pth or \.safetensors"):
        save_checkpoint({}, tmp_path / "a.bin")
    assert not os.listdir(tmp_path)


def test_a_stated_sum_is_checked_before_anything_is_written(tmp_path):
    state = {"w": torch.arange(3.0)}
    digest = save_checkpoint(state, tmp_path / "a.safetensors")
    assert save_checkpoint(state, tmp_path / "b.safetensors", sha256=digest.upper()) == digest
    with pytest.raises(CheckpointError, match=f"not written.*{digest}, and {OTHER} is stated"):
        save_checkpoint(state, tmp_path / "c.safetensors", sha256=OTHER)
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "b.safetensors"]


def test_sum_of_a_known_file(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert compute_sha256(tmp_path / "abc") == ABC


def test_names_with_a_sum():
    assert split_sha256("a/b.pth") == (split_sha256(f"a/b.pth#sha256={ABC}")[0], None)
    assert split_sha256(f"a.pth#sha256={ABC.upper()}")[1] == ABC
    for wrong in ("", "abc", ABC + "0", ABC[:-1] + "g"):
        with pytest.raises(CheckpointError, match="64 hexadecimal digits"):
            split_sha256(f"a.pth#sha256={wrong}")


def test_only_the_stated_file_is_opened(tmp_path, installed):
    path = tmp_path / "a.pth"
    digest = save_checkpoint({"w": torch.ones(1)}, path)
    assert load_checkpoint(f"{path}#sha256={digest}")["w"].item() == 1
    for load in (load_checkpoint, CheckpointLoader.load_checkpoint):
        with pytest.raises(CheckpointError, match=rf"a\.pth has the SHA-256 {digest}, and {OTHER}"):
            load(f"{path}#sha256={OTHER}")
    assert "w" in CheckpointLoader.load_checkpoint(f"{path}#sha256={digest}")
