"""Data are checked once a machine, and every process learns what was found."""

import json
import multiprocessing
import os
import signal

import pytest
import torch
from mmengine.config import Config

from hordet.engine import processes
from hordet.engine.runner import read_config
from hordet.errors import DatasetError, UserError


def check_as_one_of_two(rank, folder, fault):
    """Check data in a process of two, and write down what it raised and whether it looked."""
    os.environ["LOCAL_RANK"] = str(rank)
    looked = []

    def check(cfg):
        looked.append(rank)
        if fault:
            raise fault

    processes.check_datasets = check
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    raised = None
    try:
        processes.check_data(Config(dict(launcher="pytorch")))
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
    (folder / f"{rank}.json").write_text(json.dumps([looked, raised]))


@pytest.mark.parametrize(
    ("fault", "own", "told"),
    [
        (None, None, None),
        (DatasetError("no file"), "DatasetError: no file", "DatasetError: no file"),
        (OSError("disk"), "OSError: disk", "DatasetError: disk"),
    ],
    ids=["good", "faulty", "broken"],
)
def test_one_process_checks_the_data_and_all_learn_of_it(tmp_path, fault, own, told):
    start = multiprocessing.get_context("fork").Process
    both = [start(target=check_as_one_of_two, args=(k, tmp_path, fault)) for k in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    results = [json.loads((tmp_path / f"{k}.json").read_text()) for k in range(2)]
    assert results == [[[0], own], [[], told]]


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
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    assert [os.environ[name] for name in names] == ["2", "0", "4", "node7", "15003"]


def test_processes_that_do_not_know_one_another_meet_first(monkeypatch):
    done = []
    monkeypatch.setattr(
        processes, "set_multi_processing", lambda **settings: done.append(("settings", settings))
    )
    monkeypatch.setattr(processes, "init_dist", lambda *args, **kw: done.append((args, kw)))
    monkeypatch.setattr(processes, "check_datasets", lambda cfg: done.append("checked"))
    with pytest.raises(UserError, match="--launcher mpi gives each process a GPU"):
        processes.check_data(Config(dict(launcher="mpi")))
    with pytest.raises(UserError, match="for processes that srun starts, and SLURM_PROCID, "):
        processes.check_data(Config(dict(launcher="slurm")))
    done.clear()
    set_variables_of_slurm(monkeypatch, MASTER_ADDR="host")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    env_cfg = dict(mp_cfg=dict(mp_start_method="fork"), dist_cfg=dict(backend="nccl"))
    processes.check_data(Config(dict(launcher="slurm", env_cfg=env_cfg)))
    settings = dict(mp_start_method="fork", distributed=True)
    assert done == [("settings", settings), (("slurm",), dict(backend="nccl")), "checked"]


def meet_and_die(rank, number, port, folder):
    """Meet the other process of a start of torchrun, write down whom, and end without a goodbye."""
    address = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=rank, WORLD_SIZE=2)
    names = dict(USE_AGENT_STORE=True, MAX_RESTARTS=1, RESTART_COUNT=number)
    names = {f"TORCHELASTIC_{name}": value for name, value in names.items()}
    for name, value in dict(**address, **names, LOCAL_RANK=rank, GROUP_WORLD_SIZE=1).items():
        os.environ[name] = str(value)
    dist_cfg = dict(backend="gloo")
    processes.connect_processes(Config(dict(launcher="pytorch", env_cfg=dict(dist_cfg=dist_cfg))))
    met = processes.all_gather_object(f"{number}.{rank}")
    (folder / f"{number}.{rank}.json").write_text(json.dumps(met))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_restarted_process_does_not_look_for_the_dead(tmp_path):
    """torchrun's agent keeps one store, where the addresses of the first start still stand."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    start = multiprocessing.get_context("fork").Process
    for number in range(2):
        both = [
            start(target=meet_and_die, args=(rank, number, store.port, tmp_path))
            for rank in range(2)
        ]
        for process in both:
            process.start()
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [-signal.SIGKILL] * 2
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


@pytest.mark.parametrize(
    "message",
    [
        "[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:46297.",
        "[gloo/transport/tcp/pair.cc:544] Read error [127.0.0.1]:1: Connection reset by peer",
        "NCCL error: remote process exited or there was a network error, NCCL version 2.27.5",
        "NCCL communicator was aborted on rank 1.",
    ],
)
def test_a_lost_process_in_words(monkeypatch, message):
    monkeypatch.setattr(processes, "is_distributed", lambda: True)
    with pytest.raises(processes.LostProcessError, match="0 stops, because another process"):
        with processes.explain_lost_processes():
            raise torch.distributed.DistBackendError(message)
    with pytest.raises(RuntimeError, match="^mat1 and mat2"), processes.explain_lost_processes():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    monkeypatch.setattr(processes, "is_distributed", lambda: False)
    with pytest.raises(RuntimeError, match="^Broken pipe"), processes.explain_lost_processes():
        raise RuntimeError("Broken pipe")


def test_images_are_drawn_before_the_data_are_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path))
    cfg = read_config("shapes/upernet_hornet-nano_horuperhead_1k")
    assert not list(tmp_path.iterdir())
    processes.check_data(cfg)
    images = list(tmp_path.glob("shapes-4ad86ac5e02b/*/*.png"))
    assert len(images) == 500


def test_one_process_checks_whatever_its_environment_says(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(DatasetError, match="There is no folder nowhere"):
        dataset = dict(type="mmdet.CocoDataset", data_root="nowhere")
        processes.check_data(Config(dict(train_dataloader=dict(dataset=dataset))))
