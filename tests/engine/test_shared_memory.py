"""Full shared memory is told before a run; a hanging loader ends."""

import multiprocessing.util
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from mmengine.config import ConfigDict

from hordet.engine import shared_memory
from hordet.errors import DatasetError, DatasetWarning

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def with_free(monkeypatch, tmp_path):
    """Let the folder of shared memory have so many bytes free."""
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)

    def set_free(number):
        usage = Usage(1 << 30, 0, number)
        monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda path: usage)

    return set_free


def make_config(train, val=0):
    loaders = dict(train_dataloader=dict(num_workers=train), val_dataloader=dict(num_workers=val))
    return ConfigDict(loaders)


def test_no_room_is_refused_and_little_is_named(with_free, tmp_path, recwarn):
    with_free(100)
    with pytest.raises(DatasetError, match=r"4 loader workers .* 100 bytes free.*--shm-size=8g"):
        shared_memory.check_shared_memory(make_config(4, 2))
    with pytest.raises(DatasetError, match="2 loader workers"):
        shared_memory.check_shared_memory(make_config(0, 2))
    shared_memory.check_shared_memory(make_config(0))
    with_free(64 << 20)
    with pytest.warns(DatasetWarning, match="has 64 MiB free; batches of large images may not fit"):
        shared_memory.check_shared_memory(make_config(4))
    with_free(1 << 30)
    recwarn.clear()
    shared_memory.check_shared_memory(make_config(4))
    assert not recwarn.list


def test_loaders_with_workers_wait_for_a_while():
    cfg = make_config(4)
    cfg.train_dataloader.timeout = 5
    cfg.test_dataloader = dict(num_workers=2)
    shared_memory.limit_waiting(cfg)
    assert cfg.train_dataloader.timeout == 5 and "timeout" not in cfg.val_dataloader
    assert cfg.test_dataloader.timeout == 600


def report_folder(pipe):
    pipe.send(multiprocessing.util.get_temp_dir())
    os._exit(0)  # as a worker that its parent's signal ends


@pytest.mark.parametrize("workers", [0, 2])
def test_a_worker_that_is_ended_leaves_no_folder(tmp_path, workers):
    """In a process of its own, whose temporary folder is empty before and after."""
    code = f"""
import multiprocessing, sys
sys.path[:0] = {[str(Path(__file__).parent)]!r}
from test_shared_memory import make_config, report_folder
from hordet.engine.shared_memory import share_temporary_folder
share_temporary_folder(make_config({workers}))
for _ in range(2):
    near, far = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=report_folder, args=(far,))
    child.start()
    print(near.recv())
    child.join()
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    used, left = {*run.stdout.split()}, {str(path) for path in tmp_path.iterdir()}
    assert (len(used), left) == ((1, set()) if workers else (2, used))


def test_a_long_temporary_folder_does_not_stop_batches(tmp_path):
    """The path of a socket holds about 100 characters; a worker whose has more delivers nothing."""
    long = tmp_path / ("long" * 25)
    long.mkdir()
    code = f"""
import sys, tempfile, torch
sys.path[:0] = {[str(Path(__file__).parent)]!r}
from test_shared_memory import make_config
from hordet.engine.shared_memory import share_temporary_folder
share_temporary_folder(make_config(1))
loader = torch.utils.data.DataLoader(torch.ones(2, 3), num_workers=1, timeout=60)
print(sum(batch.sum().item() for batch in loader), tempfile.gettempdir())
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(long)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0 and run.stdout == f"6.0 {long}\n", run.stderr
    assert [*long.iterdir()] == []


def test_a_long_temporary_folder_where_there_is_no_other(tmp_path, monkeypatch):
    def refuse(prefix):
        raise PermissionError(f"not in {shared_memory.tempfile.tempdir}")

    monkeypatch.setattr(shared_memory.tempfile, "tempdir", str(tmp_path / ("long" * 25)))
    monkeypatch.setattr(shared_memory.tempfile, "mkdtemp", refuse)
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {})
    with pytest.raises(DatasetError, match="not in /tmp. Set TMPDIR to a folder of at most 71"):
        shared_memory.share_temporary_folder(make_config(1))
    assert shared_memory.tempfile.tempdir.endswith("longlong")
