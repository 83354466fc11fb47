"""A Slurm of one machine: the batch file of the docs trains on beyond its job's time limit."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
ITERATIONS = 12
ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY")
CONFIG = """
_base_ = ["{base}"]
custom_imports = dict(imports=["slow_steps"])
custom_hooks = [dict(type="WaitForSignal", starts={stopped_starts})]
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = dict(dataset=dict(indices=8))
train_cfg = dict(max_iters={iterations}, val_interval={iterations})
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of a user of a cluster that runs for the tests of this file."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=os.defpath + ":/usr/sbin")]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
    if os.geteuid():
        pytest.skip("the daemons of Slurm want to be started by root")
    folder = tmp_path_factory.mktemp("slurm")
    script = str(HERE / "slurm.sh")
    try:
        started = subprocess.run([script, "start", folder], capture_output=True, text=True)
        assert started.returncode == 0, started.stderr
        root = HERE.parents[1]
        yield {
            "SLURM_CONF": f"{folder}/slurm.conf",
            "HORDET_CACHE": str(folder / "cache"),
            "HOME": os.environ.get("HOME", "/root"),
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "PYTHONPATH": f"{root}:{HERE}",
            "OMP_NUM_THREADS": "1",
        }
    finally:
        subprocess.run([script, "stop", folder], check=True)


def submit(slurm, folder, name, *options, stopped_starts):
    """Submit the batch file of the docs with a config of its own; return the job's number."""
    root = HERE.parents[1]
    config = folder / f"{name}.py"
    base = root / "configs/shapes/upernet_hornet-nano_horuperhead_1k.py"
    text = CONFIG.format(base=base, stopped_starts=stopped_starts, iterations=ITERATIONS)
    config.write_text(text)
    command = ["sbatch", "--parsable", f"--output={folder}/{name}.log", *options]
    command += [root / "docs/train.sbatch", config, "--work-dir", folder / name, "--seed", "0"]
    sent = subprocess.run(command, env=slurm, cwd=folder, capture_output=True, text=True)
    assert sent.returncode == 0, sent.stderr
    return sent.stdout.strip()


def wait_for(slurm, job, work, limit=1800):
    """Wait until a job has ended for good; return Slurm's fields about it.

    When a step waits, the job's time limit is moved to two or three minutes from then, of which
    the last two are the batch file's to save: a slow machine changes nothing.
    """
    until, moved = time.monotonic() + limit, 0
    while True:
        command = ["scontrol", "show", "job", "--oneliner", job]
        shown = subprocess.run(command, env=slurm, capture_output=True, text=True, check=True)
        fields = dict(re.findall(r"(\w+)=(\S*)", shown.stdout))
        if fields["JobState"] in ENDED:
            return fields
        assert time.monotonic() < until, shown.stdout + work.with_suffix(".log").read_text()[-3000:]
        waiting = work / "waiting"
        if waiting.is_file() and waiting.read_text().count("\n") > moved:
            moved += 1
            hours, minutes, _ = fields["RunTime"].split(":")
            change = f"TimeLimit={60 * int(hours) + int(minutes) + 3}"
            command = ["scontrol", "update", f"JobId={job}", change]
            subprocess.run(command, env=slurm, check=True)
        time.sleep(1)


def read_weights(folder):
    return torch.load(folder / f"iter_{ITERATIONS}.pth", weights_only=False)["state_dict"]


@pytest.mark.slow
def test_a_job_that_meets_its_time_limit_twice_ends_with_the_same_weights(slurm, tmp_path):
    through = submit(slurm, tmp_path, "through", stopped_starts=0)
    found = wait_for(slurm, through, tmp_path / "through")
    log = (tmp_path / "through.log").read_text()
    assert (found["JobState"], found["Restarts"]) == ("COMPLETED", "0"), log[-3000:]

    stopped = submit(slurm, tmp_path, "stopped", "--signal=USR1@120", stopped_starts=2)
    found = wait_for(slurm, stopped, tmp_path / "stopped")
    log = (tmp_path / "stopped.log").read_text()
    assert found["JobState"] == "COMPLETED", log[-3000:]
    assert int(found["Restarts"]) >= 2
    assert log.count("was stopped; it goes on later") == int(found["Restarts"])
    assert "CANCELLED" not in log and "DUE TO TIME LIMIT" not in log

    want, got = read_weights(tmp_path / "through"), read_weights(tmp_path / "stopped")
    assert want.keys() == got.keys()
    for name, value in want.items():
        assert torch.equal(got[name], value), name
