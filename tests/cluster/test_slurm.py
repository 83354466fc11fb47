"""A Slurm of one machine: the batch file of the docs trains on beyond what stops its job."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
ITERATIONS = 16
ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY")
CONFIG = """
_base_ = ["{here}/small.py"]
custom_hooks = [*_base_.custom_hooks, dict(type="WaitForSignal", starts={starts})]
train_dataloader = dict(num_workers=0, persistent_workers=False)
train_cfg = dict(max_iters={iterations}, val_interval={iterations})
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


def submit(slurm, folder, name, *options, starts):
    """Submit the batch file of the docs with a config of its own; return the job's number."""
    root = HERE.parents[1]
    config = folder / f"{name}.py"
    config.write_text(CONFIG.format(here=HERE, starts=starts, iterations=ITERATIONS))
    command = ["sbatch", "--parsable", f"--output={folder}/{name}.log", *options]
    command += [root / "docs/train.sbatch", config, "--work-dir", folder / name, "--seed", "0"]
    return call(slurm, *command, cwd=folder).strip()


def call(slurm, *command, cwd=None):
    done = subprocess.run(command, env=slurm, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def show(slurm, *what):
    """What Slurm says of a job or a node, by its names."""
    return dict(re.findall(r"(\w+)=(\S*)", call(slurm, "scontrol", "show", "--oneliner", *what)))


def wait_for(slurm, job, work, disturb=None, limit=7200):
    """Wait until a job has ended for good; return Slurm's fields about it.

    Args:
        slurm: The environment.
        job: The job's number.
        work: The work folder of its training.
        disturb: Called whenever a step waits anew, with `slurm`, the job's number, Slurm's fields
            and the number of the process that waits.
        limit: Seconds.
    """
    until, met = time.monotonic() + limit, 0
    while True:
        fields = show(slurm, "job", job)
        if fields["JobState"] in ENDED:
            return fields
        log = work.with_suffix(".log")
        assert time.monotonic() < until, f"{fields}\n{log.read_text()[-3000:]}"
        waiting = work / "waiting"
        lines = waiting.read_text().splitlines(keepends=True) if waiting.is_file() else []
        if disturb is not None and len(lines) > met and lines[met].endswith("\n"):
            disturb(slurm, job, fields, int(lines[met]))
            met += 1
        time.sleep(1)


def end_soon(slurm, job, fields, process):
    """Move the job's time limit to two or three minutes from now, until it has met it.

    Of these the last two are the batch file's to save. The next start has hours again: however
    slow the machine is, it comes to its third step.
    """
    hours, minutes, _ = fields["RunTime"].split(":")
    change = ("scontrol", "update", f"JobId={job}")
    call(slurm, *change, f"TimeLimit={60 * int(hours) + int(minutes) + 3}")
    until = time.monotonic() + 600
    while (found := show(slurm, "job", job))["Restarts"] == fields["Restarts"]:
        assert found["JobState"] not in ENDED and time.monotonic() < until, found
        time.sleep(1)
    call(slurm, *change, "TimeLimit=240")


def ask_step(slurm, job, fields, process):
    call(slurm, "scancel", "--signal=USR1", f"{job}.0")


def kill_step(slurm, job, fields, process):
    call(slurm, "scancel", "--signal=KILL", f"{job}.0")


def kill_process(slurm, job, fields, process):
    os.kill(process, signal.SIGKILL)


def drain_node(slurm, job, fields, process):
    """Drain the node, requeue its job, see that it does not start there, and resume the node."""
    try:
        update = ("scontrol", "update", "NodeName=localhost")
        call(slurm, *update, "State=DRAIN", "Reason=test")
        assert show(slurm, "job", job)["JobState"] == "RUNNING"
        call(slurm, "scontrol", "requeue", job)
        until = time.monotonic() + 120
        while (found := show(slurm, "job", job))["Reason"] in ("None", "BeginTime"):
            assert time.monotonic() < until, found
            time.sleep(0.5)
        assert found["JobState"] == "PENDING", found
        assert show(slurm, "node", "localhost")["State"] == "IDLE+DRAIN"
    finally:
        call(slurm, *update, "State=RESUME")


def read_weights(folder):
    return torch.load(folder / f"iter_{ITERATIONS}.pth", weights_only=False)["state_dict"]


@pytest.fixture(scope="module")
def want(slurm, tmp_path_factory):
    """The weights of a job that nothing stops."""
    folder = tmp_path_factory.mktemp("through")
    found = wait_for(slurm, submit(slurm, folder, "through", starts=0), folder / "through")
    log = (folder / "through.log").read_text()
    assert (found["JobState"], found["Restarts"]) == ("COMPLETED", "0"), log[-3000:]
    return read_weights(folder / "through")


def check_weights(want, folder):
    got = read_weights(folder)
    assert want.keys() == got.keys()
    for name, value in want.items():
        assert torch.equal(got[name], value), name


@pytest.mark.slow
def test_a_job_that_meets_its_time_limit_twice_ends_with_the_same_weights(slurm, want, tmp_path):
    stopped = submit(slurm, tmp_path, "stopped", "--signal=USR1@120", starts=2)
    found = wait_for(slurm, stopped, tmp_path / "stopped", end_soon)
    log = (tmp_path / "stopped.log").read_text()
    assert (found["JobState"], found["Restarts"]) == ("COMPLETED", "2"), log[-3000:]
    assert log.count("was stopped; it goes on later") == 2
    assert "DUE TO TIME LIMIT" not in log
    check_weights(want, tmp_path / "stopped")


@pytest.mark.slow
def test_a_job_that_is_asked_killed_and_drained_ends_with_the_same_weights(slurm, want, tmp_path):
    disturbances = iter([ask_step, kill_step, kill_process, drain_node])
    job = submit(slurm, tmp_path, "disturbed", starts=4)
    work = tmp_path / "disturbed"
    found = wait_for(slurm, job, work, lambda *words: next(disturbances)(*words))
    log = (tmp_path / "disturbed.log").read_text()
    assert (found["JobState"], found["Restarts"]) == ("COMPLETED", "4"), log[-3000:]
    ends = re.findall(r"start (\d) of job \d+ was (\w+); it goes on later", log)
    assert ends == [("1", "stopped"), ("2", "killed"), ("3", "killed")], log
    # Each start waited after its third step. A checkpoint is written every other iteration, and
    # one step after the wait where the processes were asked.
    resumed = re.findall(r"resumed at iteration (\d+) ", log)
    assert resumed[:3] == ["4", "6", "8"], log
    # Slurm asks what it requeues, and kills what has not ended 30 seconds later.
    assert resumed[3:] in (["12"], ["10"]), log
    check_weights(want, work)


@pytest.mark.slow
def test_a_job_that_its_user_cancels_is_not_put_back(slurm, tmp_path):
    job = submit(slurm, tmp_path, "unwanted", starts=1)
    found = wait_for(
        slurm,
        job,
        tmp_path / "unwanted",
        lambda slurm, job, *_: call(slurm, "scancel", job),
    )
    log = (tmp_path / "unwanted.log").read_text()
    assert (found["JobState"], found["Restarts"]) == ("CANCELLED", "0"), log[-3000:]
    assert "it goes on later" not in log
