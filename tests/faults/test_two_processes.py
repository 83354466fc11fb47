"""A process of several dies: the job ends with the reason, or torchrun starts it again."""

import os
import re
import subprocess
import sys
import time

import pytest

from hordet.datasets.shapes.files import write_shapes

# A module that the config imports. The process that finds the marker of the kill was started again.
KILLER = """
import os, signal
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

KILLED = Path("killed")
if KILLED.exists():
    Path("again").touch()


@HOOKS.register_module()
class KillRank(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 3 and get_rank() == int(os.environ["KILL"]) and not KILLED.exists():
            KILLED.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""
OPTIONS = [
    "train_cfg.max_epochs=1",
    "train_cfg.val_interval=1",
    "train_dataloader.batch_size=2",
    "default_hooks.checkpoint.by_epoch=False",
    "default_hooks.checkpoint.interval=2",
]
LIMIT = 60  # seconds


@pytest.fixture
def job(repository, tmp_path):
    """Run a training of five iterations in two processes, one of which is killed in the fourth."""
    write_shapes(tmp_path / "data", num_train=20, num_val=2, size=(64, 64))
    (tmp_path / "killer.py").write_text(KILLER)
    base = repository / "configs" / "shapes" / "mask-rcnn_hornet-nano_horfpn_7e.py"
    (tmp_path / "c.py").write_text(
        f"_base_ = {str(base)!r}\n"
        "custom_imports = dict(imports=['hordet.registry', 'killer'])\n"
        "custom_hooks = [dict(type='KillRank')]\n"
    )

    def run(rank, restarts):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
        torchrun += ["--standalone", "--max-restarts", str(restarts)]
        train = [str(repository / "tools" / "train.py"), "c.py", "--data-root", "data"]
        train += ["--work-dir", "work", "--resume", "--cfg-options", *OPTIONS]
        path = os.pathsep.join([str(tmp_path), str(repository), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            [*torchrun, *train],
            cwd=tmp_path,
            env={**os.environ, "KILL": str(rank), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_the_job_ends_and_says_why(job, tmp_path, rank):
    result = job(rank, restarts=0)
    seconds = time.time() - (tmp_path / "killed").stat().st_mtime
    text = result.stdout
    assert result.returncode != 0 and seconds < LIMIT, (seconds, text[-3000:])
    reason = rf"Root Cause.*\n.*\n.*\n.*\n.*rank +: {rank} .*\n.*exitcode +: -9 .*\(SIGKILL\)"
    assert re.search(reason, text), text[-3000:]
    assert f"error: process {1 - rank} stops, for another process of this job has ended" in text
    assert "Traceback" not in text.partition("torch/distributed/elastic")[0]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_restart_goes_on_from_the_last_checkpoint(job, tmp_path, rank):
    result = job(rank, restarts=1)
    text = result.stdout
    assert result.returncode == 0, text[-3000:]
    times = {name: (tmp_path / name).stat().st_mtime for name in ("killed", "again")}
    assert times["again"] - times["killed"] < LIMIT, times
    assert re.search(r"exitcode: -9", text) and "resumed at iteration 2 from " in text
    assert (tmp_path / "work" / "iter_5.pth").is_file()
