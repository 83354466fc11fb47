"""Two hosts of one job, each a network namespace: they train together, and one is cut off."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from packaging.version import Version

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ADDRESSES = ("192.0.2.1", "192.0.2.2")  # for documentation: no host anywhere has them
ITERATIONS = 6
PATIENCE = 60  # seconds; the time-out of the config
LONG = 7200  # seconds, of what takes one minute where nothing else runs
CONFIG = f"""
_base_ = ["{HERE}/small.py"]
custom_hooks = [*_base_.custom_hooks, dict(type="WaitForFile", path="go_on")]
train_dataloader = dict(num_workers=1)
train_cfg = dict(max_iters={ITERATIONS}, val_interval={ITERATIONS})
env_cfg = dict(dist_cfg=dict(timeout={PATIENCE}))
"""
SPLIT = """
runner_type = "FlexibleRunner"
strategy = dict(type="hordet.FullyShardedStrategy")
"""


class Hosts:
    """Two network namespaces, joined by a cable of which each holds an end, `veth0`."""

    def __init__(self, folder):
        self.folder = folder
        self.names = [f"hordet-{os.getpid()}-{letter}" for letter in "ab"]
        self.running = []
        self.cable = None

    def lay_cable(self):
        self.add_names()
        first, second = self.names
        cable = ["link", "add", "veth0", "type", "veth", "peer", "name", "veth0"]
        run("ip", "-n", first, *cable, "netns", second)
        self.switch_on()

    def lay_slow_cable(self, late, share):
        """Lay one whose frames are `late` seconds under way, and of which a `share` is lost."""
        self.add_names()
        devices = [f"slow{os.getpid()}{letter}" for letter in "ab"]  # 15 letters at most
        script = str(HERE / "slow_cable.py")
        command = [sys.executable, script, str(late), str(share), *devices]
        pipe = subprocess.PIPE
        self.cable = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
        if self.cable.stdout.readline() != "ready\n":
            raise OSError(self.cable.stderr.read().strip())
        for name, device in zip(self.names, devices, strict=True):
            run("ip", "link", "set", device, "netns", name, "name", "veth0")
            run("ip", "-n", name, "link", "set", "veth0", "mtu", "9000")  # jumbo frames
        self.switch_on()

    def add_names(self):
        for name in self.names:
            run("ip", "netns", "add", name)

    def switch_on(self):
        for name, address in zip(self.names, ADDRESSES, strict=True):
            run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "veth0")
            for device in ("lo", "veth0"):
                run("ip", "-n", name, "link", "set", device, "up")

    def switch(self, state):
        """Set the first host's end of the cable up or down."""
        run("ip", "-n", self.names[0], "link", "set", "veth0", state)

    def train(self, *words):
        """Start a training on both hosts."""
        for rank, name in enumerate(self.names):
            command = ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run"]
            command += ["--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1"]
            command += ["--master-addr", ADDRESSES[0], "--master-port", "29511"]
            command += ["-m", "hordet", "train", "c.py", "--work-dir", "work", "--seed", "0"]
            path = os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")])
            cache = self.folder.parents[1] / f"cache_{rank}"  # each host draws its own, once
            own = dict(GLOO_SOCKET_IFNAME="veth0", PYTHONPATH=path, HORDET_CACHE=str(cache))
            with (self.folder / f"{rank}.log").open("w") as log:
                self.running.append(
                    subprocess.Popen(
                        [*command, *words],
                        cwd=self.folder,
                        env={**os.environ, **own, "OMP_NUM_THREADS": "1"},
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )

    def read_logs(self):
        return [(self.folder / f"{rank}.log").read_text() for rank in range(2)]

    def wait(self, limit):
        """Wait until both have ended; return their exit codes and what they said."""
        until = time.monotonic() + limit
        while any(process.poll() is None for process in self.running):
            assert time.monotonic() < until, "\n---\n".join(self.read_logs())[-6000:]
            time.sleep(0.2)
        codes = [process.returncode for process in self.running]
        self.running.clear()
        return codes, self.read_logs()

    def list_processes(self):
        """The processes that are in the namespaces."""
        return [
            int(word) for name in self.names for word in run("ip", "netns", "pids", name).split()
        ]

    def remove(self):
        for name in self.names:
            listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
            for process in listed.stdout.split():
                os.kill(int(process), signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
        if self.cable:
            self.cable.kill()
            self.cable.communicate()
        for process in self.running:
            process.wait()


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def join_hosts(folder, lay, *words):
    """Two hosts that `lay`, a method of `Hosts`, has joined; none of it is left behind."""
    if not shutil.which("ip"):
        pytest.skip("no command ip: apt-get install iproute2")
    folder.mkdir()
    (folder / "go_on").touch()
    made = Hosts(folder)
    try:
        try:
            lay(made, *words)
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield made
    finally:
        made.remove()


@pytest.fixture
def hosts(tmp_path):
    with join_hosts(tmp_path / "run", Hosts.lay_cable) as made:
        yield made


@pytest.fixture(scope="module", params=[False, True], ids=["ddp", "fsdp"])
def split(request):
    if request.param and Version(torch.__version__) < Version("2.7"):
        pytest.skip("fully_shard of torch 2.6 does not run on a CPU: its stream records no event")
    return request.param


@pytest.fixture(scope="module")
def want(split, tmp_path_factory):
    """The weights of a training that nothing disturbs."""
    folder = tmp_path_factory.mktemp("through") / "run"
    with join_hosts(folder, Hosts.lay_cable) as hosts:
        (folder / "c.py").write_text(CONFIG + SPLIT * split)
        hosts.train()
        codes, logs = hosts.wait(LONG)
        assert codes == [0, 0], "\n---\n".join(logs)[-6000:]
        assert "batches of 2 x 2 processes" in logs[0]
        assert hosts.list_processes() == []
        return read_weights(folder / "work")


def wait_for(path, hosts, limit=LONG):
    until = time.monotonic() + limit
    while not path.is_file():
        ended = any(process.poll() is not None for process in hosts.running)
        assert not ended and time.monotonic() < until, "\n---\n".join(hosts.read_logs())[-6000:]
        time.sleep(0.05)


def read_weights(folder):
    saved = torch.load(folder / f"iter_{ITERATIONS}.pth", weights_only=False)
    return saved["state_dict"]


def check_weights(want, work):
    got = read_weights(work)
    assert want.keys() == got.keys()
    for name, value in want.items():
        assert torch.equal(got[name], value), name


@pytest.mark.slow
def test_a_host_that_is_cut_off_ends_the_job_and_a_resume_ends_as_without(want, hosts, split):
    (hosts.folder / "c.py").write_text(CONFIG + SPLIT * split)
    work = hosts.folder / "work"
    (hosts.folder / "go_on").unlink()
    hosts.train()
    wait_for(work / "iter_2.pth", hosts)
    hosts.switch("down")
    (hosts.folder / "go_on").touch()
    codes, logs = hosts.wait(3 * PATIENCE)
    assert 0 not in codes and not (work / f"iter_{ITERATIONS}.pth").exists()
    for rank, log in enumerate(logs):
        assert f"error: process {rank} stops, because nothing came from another process" in log, log
    assert hosts.list_processes() == []

    hosts.switch("up")
    hosts.train("--resume")
    codes, logs = hosts.wait(LONG)
    assert codes == [0, 0] and "resumed at iteration 2 " in logs[0], "\n---\n".join(logs)[-6000:]
    check_weights(want, work)
    assert hosts.list_processes() == []


@pytest.mark.slow
def test_packets_that_are_late_or_lost_change_nothing(want, tmp_path, split):
    """200 ms from host to host and back, and 5 % of the frames are lost."""
    with join_hosts(tmp_path / "run", Hosts.lay_slow_cable, 0.1, 0.05) as hosts:
        (hosts.folder / "c.py").write_text(CONFIG + SPLIT * split)
        hosts.train()
        codes, logs = hosts.wait(LONG)
        assert codes == [0, 0], "\n---\n".join(logs)[-6000:]
        check_weights(want, hosts.folder / "work")
        assert hosts.list_processes() == []
        hosts.cable.terminate()
        count, lost = map(int, hosts.cable.communicate()[0].split())
        assert count > 500 and lost > 10
