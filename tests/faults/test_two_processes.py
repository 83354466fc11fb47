"""A process of several dies: the job ends with the reason, or torchrun starts it again."""

import os
import re
import subprocess
import sys
import time

import pytest

from hordet.datasets import write_shapes

KILLER = """
import os, signal
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class KillRank(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        marker = Path("killed")
        if runner.iter == 3 and get_rank() == int(os.environ["KILL"]) and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""
OPTIONS = [
    "train_cfg.max_epochs=1",
    "train_cfg.val_interval=1",
    "train_dataloader.batch_size=2",
    "default_hooks.checkpoint.by_epoch=False",
    "default_hooks.checkpoint.interval=2",
]


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "restarts"), [(1, 1), (0, 0)])
def test_a_process_is_killed(repository, tmp_path, rank, restarts):
    write_shapes(tmp_path / "data", num_train=20, num_val=2, size=(64, 64))
    (tmp_path / "killer.py").write_text(KILLER)
    base = repository / "configs" / "shapes" / "mask-rcnn_hornet-nano_horfpn_7e.py"
    (tmp_path / "c.py").write_text(
        f"_base_ = {str(base)!r}\n"
        "custom_imports = dict(imports=['hordet.registry', 'killer'])\n"
        "custom_hooks = [dict(type='KillRank')]\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--max-restarts", str(restarts), "--master-port", "0"]
    train = [str(repository / "tools" / "train.py"), "c.py", "--data-root", "data"]
    train += ["--work-dir", "work", "--resume", "--cfg-options", *OPTIONS]
    path = os.pathsep.join([str(tmp_path), str(repository), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [*torchrun, *train],
        cwd=tmp_path,
        env={**os.environ, "KILL": str(rank), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    ended = time.time()
    text = result.stdout + result.stderr
    assert re.search(r"exitcode: -9|Signal 9 \(SIGKILL\)", text), text[-3000:]
    if restarts:
        assert result.returncode == 0, text[-3000:]
        assert "resumed epoch: 0, iter: 2" in text
        assert (tmp_path / "work" / "iter_5.pth").is_file()
    else:
        assert result.returncode != 0
        assert ended - (tmp_path / "killed").stat().st_mtime < 60
