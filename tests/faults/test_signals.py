"""Signals to the whole process group, and two runs on one work folder: no step is lost."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hordet.checkpoints import load_checkpoint
from hordet.datasets.shapes.files import write_shapes

OPTIONS = [
    "train_cfg.val_interval=1000",
    "train_dataloader.batch_size=2",
    "train_dataloader.num_workers=2",
    "train_dataloader.persistent_workers=True",
    "default_hooks.logger.interval=1",
    "default_hooks.checkpoint.interval=1000",
]
LOOPS = {
    "epochs": ("mask-rcnn_hornet-nano_horfpn_7e.py", "train_cfg.max_epochs=1000"),
    "iterations": ("upernet_hornet-nano_horuperhead_1k.py", "train_cfg.max_iters=1000"),
}
LIMIT = 600  # seconds, on a machine that is busy with other work


@pytest.fixture
def start(repository, tmp_path):
    """Start a training with two loader workers as the leader of a process group."""
    write_shapes(tmp_path / "data", num_train=20, num_val=2, size=(64, 64))
    (tmp_path / "temporary").mkdir()
    begun = []

    def run(*words, loop="epochs"):
        name, length = LOOPS[loop]
        config = repository / "configs" / "shapes" / name
        command = [sys.executable, "-m", "hordet", "train", config, "--data-root", "data"]
        command += ["--work-dir", "work", "--resume", *words, "--cfg-options", *OPTIONS]
        command += [length]
        path = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": path,
                "OMP_NUM_THREADS": "1",
                "TMPDIR": str(tmp_path / "temporary"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        begun.append(process)
        return process

    yield run
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def count_logged(folder):
    """Iterations that all starts of a run have logged."""
    files = folder.glob("*/vis_data/scalars.json")
    return sum(file.read_text().count('"loss"') for file in files)


def wait_for_iteration(process, folder, more=1):
    wanted, until = count_logged(folder) + more, time.monotonic() + LIMIT
    while count_logged(folder) < wanted:
        assert process.poll() is None, process.stdout.read()[-3000:]
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("name", "times", "loop"),
    [
        ("SIGTERM", 1, "epochs"),
        ("SIGUSR1", 1, "iterations"),  # its workers start before the loop does
        pytest.param("SIGTERM", 20, "epochs", marks=pytest.mark.slow),
        pytest.param("SIGHUP", 20, "epochs", marks=pytest.mark.slow),
        pytest.param("SIGTERM", 5, "iterations", marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_the_group_ends_like_one_to_the_parent(start, tmp_path, name, times, loop):
    work, last = tmp_path / "work", 0
    for _ in range(times):
        process = start(loop=loop)
        wait_for_iteration(process, work, more=2)
        os.killpg(process.pid, getattr(signal, name))
        text, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 75, text[-3000:]
        assert f"asked to stop by {name}" in text and "Traceback" not in text
        newest = work / re.search(r"is saved in (?:\S*/)?(iter_\d+\.pth)", text)[1]
        done = load_checkpoint(newest)["meta"]["iter"]
        assert done >= last + 2 and newest.with_name(f"{newest.name}.sha256").is_file()
        last = done
        # torch's own folder of compiled code is for the next run, too.
        left = [path.name for path in (tmp_path / "temporary").iterdir()]
        assert [name for name in left if not name.startswith("torchinductor")] == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
def test_a_signal_before_the_first_step_can_be_told_from_a_fault(start, tmp_path):
    process, until = start(), time.monotonic() + LIMIT
    caught = 0
    while not caught & 1 << signal.SIGUSR1 - 1:  # not yet listened for; Python itself starts
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)
        assert time.monotonic() < until
    os.killpg(process.pid, signal.SIGUSR1)
    text, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 75, text[-3000:]
    assert "asked to stop by SIGUSR1 while no step is running" in text
    assert not (tmp_path / "work").exists()


def test_a_signal_while_python_leaves_changes_nothing():
    code = """
import os, signal, sys
from hordet.cli.train import listen_between_steps

class Last:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGUSR1):
        kill(pid, number)

if sys.argv[1:] == ["listens"]:
    listen_between_steps()
sys.kept_to_the_end = Last()
"""
    for words, code_wanted in ((["listens"], 0), ([], -signal.SIGUSR1)):
        process = subprocess.run([sys.executable, "-c", code, *words])
        assert process.returncode == code_wanted


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_the_second_run_on_a_work_folder_is_refused(start, tmp_path, times):
    first = start()
    wait_for_iteration(first, tmp_path / "work")
    for _ in range(times):
        second = start()
        text, _ = second.communicate(timeout=LIMIT)
        assert second.returncode == 2, text[-3000:]
        said = rf"work is in use by another run: process {first.pid} on \S+, since "
        assert re.search(said, text)
    wait_for_iteration(first, tmp_path / "work", more=2)  # it has lost nothing
    forced = start("--force")
    wait_for_iteration(forced, tmp_path / "work", more=2)
    os.killpg(first.pid, signal.SIGKILL)
    os.killpg(forced.pid, signal.SIGKILL)
    first.wait()
    third = start()  # a killed run holds nothing
    wait_for_iteration(third, tmp_path / "work")
