"""Processes of one job meet, also after a restart; a lost one is told in words."""

import json
import os
import signal
from datetime import timedelta

import pytest
import torch
from forking import run_forked
from mmengine.config import Config
from mmengine.dist import all_gather_object

from hordet.engine import processes
from hordet.errors import ConfigError, UserError


def set_variables_of_slurm(monkeypatch, **more):
    """Set what srun gives the third of four processes, the first on its machine."""
    own = dict(PROCID=2, LOCALID=0, NTASKS=4, NODELIST="node[7-8]", JOB_ID=15003)
    more |= {f"SLURM_{name}": value for name, value in own.items()}
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)
    for name, value in more.items():
        monkeypatch.setenv(name, str(value))


def test_processes_of_slurm_meet_on_cpus(tmp_path, monkeypatch):
    """By gloo, on the first machine of the job, at a port of the job's own."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames node[7-8]" ] && echo node7 node8\n')
    scontrol.chmod(0o755)
    set_variables_of_slurm(monkeypatch, PATH=f"{tmp_path}:/usr/bin:/bin")
    connected = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda **kw: connected.append(kw))
    monkeypatch.setattr(processes, "set_multi_processing", lambda **settings: None)
    cfg = Config(dict(launcher="slurm", env_cfg=dict(dist_cfg=dict(backend="gloo"))))
    processes.connect_processes(cfg)
    assert connected == [dict(backend="gloo")]
    cfg.env_cfg.dist_cfg.timeout = 90
    processes.connect_processes(cfg)
    assert connected[1] == dict(backend="gloo", timeout=timedelta(seconds=90))
    cfg.env_cfg.dist_cfg.timeout = "90"
    with pytest.raises(ConfigError, match="timeout is '90'; it must be a number of seconds"):
        processes.connect_processes(cfg)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    assert [os.environ[name] for name in names] == ["2", "0", "4", "node7", "15003"]


def meet_and_die(rank, number, port, folder):
    """Meet the other process of a start of torchrun, write down whom, and end without a goodbye."""
    address = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=rank, WORLD_SIZE=2)
    names = dict(USE_AGENT_STORE=True, MAX_RESTARTS=1, RESTART_COUNT=number)
    names = {f"TORCHELASTIC_{name}": value for name, value in names.items()}
    for name, value in dict(**address, **names, LOCAL_RANK=rank, GROUP_WORLD_SIZE=1).items():
        os.environ[name] = str(value)
    dist_cfg = dict(backend="gloo")
    processes.connect_processes(Config(dict(launcher="pytorch", env_cfg=dict(dist_cfg=dist_cfg))))
    met = all_gather_object(f"{number}.{rank}")
    (folder / f"{number}.{rank}.json").write_text(json.dumps(met))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_restarted_process_does_not_look_for_the_dead(tmp_path):
    """torchrun's agent keeps one store, where the addresses of the first start still stand."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for number in range(2):
        arguments = [(rank, number, store.port, tmp_path) for rank in range(2)]
        assert run_forked(meet_and_die, arguments) == [-signal.SIGKILL] * 2
        for rank in range(2):
            met = json.loads((tmp_path / f"{number}.{rank}.json").read_text())
            assert met == [f"{number}.0", f"{number}.1"]


def test_restarts_on_several_machines_need_a_store_each(monkeypatch):
    for name, value in (("USE_AGENT_STORE", "True"), ("MAX_RESTARTS", "3")):
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("GROUP_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 and --rdzv-backend"):
        processes.connect_processes(Config(dict(launcher="pytorch")))


GONE = "another process of this job has ended"
SILENT = "nothing came from another process of this job within the time-out"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:46297.", GONE),
        ("[gloo/transport/tcp/pair.cc:544] Read error [::1]:1: Connection reset by peer", GONE),
        ("NCCL error: remote process exited or there was a network error, version 2.27.5", GONE),
        ("NCCL communicator was aborted on rank 1.", GONE),
        ("[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 60000ms for recv", SILENT),
        ("[gloo/transport/tcp/pair.cc:534] Application timeout caused pair closure", SILENT),
        ("Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7)", SILENT),
    ],
)
def test_a_lost_process_in_words(monkeypatch, message, words):
    monkeypatch.setattr(processes, "is_distributed", lambda: True)
    with pytest.raises(processes.LostProcessError, match=f"0 stops, because {words}"):
        with processes.explain_lost_processes():
            raise torch.distributed.DistBackendError(message)
    with pytest.raises(RuntimeError, match="^mat1 and mat2"), processes.explain_lost_processes():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    monkeypatch.setattr(processes, "is_distributed", lambda: False)
    with pytest.raises(RuntimeError, match="^Broken pipe"), processes.explain_lost_processes():
        raise RuntimeError("Broken pipe")
