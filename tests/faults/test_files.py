"""Damaged, full and forbidden: what is whole stays whole, and the user reads why."""

import os
import random
import re
import shutil
import subprocess
import sys

import pytest
import torch

from hordet import checkpoints
from hordet.checkpoints import find_newest_checkpoint
from hordet.checkpoints.backend import FileQueue
from hordet.checkpoints.save import remove_unfinished, write_verified
from hordet.errors import CheckpointError, FileWriteError

PLACES = 50
WRITE = """
import os, sys, torch
from hordet import checkpoints
from hordet.errors import FileWriteError
for folder in sys.argv[1:]:
    path = folder + "/epoch_2.pth"
    try:
        checkpoints.save_checkpoint({"w": torch.zeros(10**6)}, path, overwrite=True)
    except FileWriteError as error:
        print(error, sorted(os.listdir(folder)), open(path).read().strip())
"""


def training(value):
    """What a checkpoint of a training holds, in small."""
    tensors = {"w": torch.full((500,), float(value)), "b": torch.arange(9.0)}
    return dict(state_dict=tensors, optimizer={}, message_hub={}, meta=dict(iter=value))


@pytest.fixture
def run(tmp_path):
    """A work folder with the checkpoints of iterations 1 and 2."""
    from io import BytesIO

    for value in (1, 2):
        buffer = BytesIO()
        torch.save(training(value), buffer)
        write_verified(tmp_path / f"iter_{value}.pth", buffer.getvalue())
        os.utime(tmp_path / f"iter_{value}.pth", (value, value))
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_2.pth"))
    return tmp_path


def test_the_newest_is_taken(run):
    assert find_newest_checkpoint(run) == (run / "iter_2.pth", [])
    (run / "last_checkpoint").unlink()  # killed before the first one was pointed to
    assert find_newest_checkpoint(run) == (run / "iter_2.pth", [])
    (run / "last_checkpoint").write_text("elsewhere/iter_1.pth")  # the folder was moved
    assert find_newest_checkpoint(run) == (run / "iter_1.pth", [])
    assert find_newest_checkpoint(run / "none") == (None, [])
    (run / "iter_3").mkdir()  # as DeepSpeed writes
    (run / "last_checkpoint").write_text("iter_3")
    assert find_newest_checkpoint(run) == (run / "iter_3", [])


def test_bits_flipped_anywhere_are_found(run):
    whole = (run / "iter_2.pth").read_bytes()
    rng = random.Random(0)
    for _ in range(PLACES):
        content = bytearray(whole)
        place = rng.randrange(len(content))
        content[place] ^= 1 << rng.randrange(8)
        (run / "iter_2.pth").write_bytes(content)
        path, skipped = find_newest_checkpoint(run)
        assert path == run / "iter_1.pth", place
        assert "skipped iter_2.pth" in skipped[0] and "is damaged: its SHA-256" in skipped[0]


def test_bits_flipped_without_a_sum_never_reach_the_weights(run):
    """Files of mmengine have no sum; torch reads past flipped bits, the zip's own sums do not."""
    whole = (run / "iter_2.pth").read_bytes()
    (run / "iter_2.pth.sha256").unlink()
    rng, found = random.Random(0), 0
    for _ in range(PLACES):
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (run / "iter_2.pth").write_bytes(content)
        path, _ = find_newest_checkpoint(run)
        found += path.name == "iter_1.pth"
        if path.name == "iter_2.pth":  # between the parts of the zip
            state = checkpoints.load_checkpoint(path)["state_dict"]
            assert all(torch.equal(state[k], v) for k, v in training(2)["state_dict"].items())
    assert found > PLACES // 2


@pytest.mark.parametrize("with_sum", [True, False])
def test_truncated_at_every_twentieth(run, with_sum):
    whole = (run / "iter_2.pth").read_bytes()
    if not with_sum:
        (run / "iter_2.pth.sha256").unlink()
    for part in range(20):
        (run / "iter_2.pth").write_bytes(whole[: len(whole) * part // 20])
        path, skipped = find_newest_checkpoint(run)
        assert path == run / "iter_1.pth" and len(skipped) == 1, part


def test_nothing_whole_is_no_silent_new_start(run):
    for file in run.glob("*.pth"):
        file.write_bytes(b"PK" + bytes(100))
    with pytest.raises(CheckpointError, match="(?s)no checkpoint in .* skipped iter_2.*To start"):
        find_newest_checkpoint(run)


def test_weights_alone_are_nothing_to_resume(run):
    torch.save({"state_dict": {}}, run / "iter_3.pth")
    path, skipped = find_newest_checkpoint(run)
    assert path == run / "iter_2.pth" and skipped == []  # the pointer names it
    (run / "last_checkpoint").unlink()
    path, skipped = find_newest_checkpoint(run)
    assert path == run / "iter_2.pth" and "holds no meta, message_hub, optimizer" in skipped[0]


def test_a_damaged_file_is_never_opened(run):
    (run / "iter_2.pth").write_bytes((run / "iter_1.pth").read_bytes())
    with pytest.raises(CheckpointError, match=r"damaged.*not the one in iter_2\.pth\.sha256"):
        checkpoints.load_checkpoint(run / "iter_2.pth")


def test_unfinished_files_go_and_others_stay(run):
    for name in (".iter_3.pth.123", ".iter_3.pth.sha256.9", ".last_checkpoint.7"):
        (run / name).touch()
    for name in (".notes", ".iter_3.pth", ".bashrc.1"):
        (run / name).touch()
    remove_unfinished(run)
    assert {file.name for file in run.glob(".*")} == {".notes", ".iter_3.pth", ".bashrc.1"}


def test_a_full_disk_and_a_read_only_folder(tmp_path):
    if not shutil.which("unshare"):
        pytest.skip("needs Linux's unshare to mount a small disk")
    script = "mkdir full fixed; mount -t tmpfs -o size=2m none full; mount -t tmpfs none fixed"
    script += "; echo old | tee full/epoch_2.pth > fixed/epoch_2.pth; mount -o remount,ro fixed"
    (tmp_path / "write.py").write_text(WRITE)
    # A namespace of its own: the disks are gone with the process.
    shell = ["unshare", "-rm", "sh", "-ec"]
    if subprocess.run([*shell, script.replace(" f", " probe-f")], cwd=tmp_path).returncode:
        pytest.skip("mounting is not allowed here")
    command = f"{script}; {sys.executable} write.py full fixed"
    result = subprocess.run([*shell, command], cwd=tmp_path, capture_output=True, text=True)
    full, fixed = result.stdout.splitlines()
    assert "cannot write full/epoch_2.pth: No space left on device. It needs 4,00" in full
    assert re.search(r"and .*full has 2,0\d\d,\d{3} bytes free.*\['epoch_2.pth'\] old$", full)
    assert "cannot write fixed/epoch_2.pth: Read-only file system" in fixed
    assert fixed.endswith("['epoch_2.pth'] old")


def test_in_a_thread_nothing_goes_before_what_replaces_it_is_there(tmp_path):
    queue = FileQueue(asynchronous=True)
    queue.write(tmp_path / "iter_1.pth", b"1")
    (tmp_path / "file").touch()
    queue.write(tmp_path / "file" / "iter_2.pth", b"2")  # a file is no folder
    queue.remove(tmp_path / "iter_1.pth")
    with pytest.raises(FileWriteError, match=r"cannot write .*iter_2\.pth"):
        queue.wait()
    assert (tmp_path / "iter_1.pth").read_bytes() == b"1"
    with queue.defer_removals():
        queue.remove(tmp_path / "iter_1.pth")
        queue.write(tmp_path / "iter_2.pth", b"2")
    queue.wait()
    assert {file.name for file in tmp_path.glob("*.pth*")} == {"iter_2.pth", "iter_2.pth.sha256"}
