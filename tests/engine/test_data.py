"""Data are checked once a machine, and every process learns what was found."""

import json
import os

import pytest
import torch
from forking import run_forked
from mmengine.config import Config

from hordet.engine import data, processes
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

    data.check_datasets = check
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    raised = None
    try:
        data.check_data(Config(dict(launcher="pytorch")))
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
    assert run_forked(check_as_one_of_two, [(k, tmp_path, fault) for k in range(2)]) == [0, 0]
    results = [json.loads((tmp_path / f"{k}.json").read_text()) for k in range(2)]
    assert results == [[[0], own], [[], told]]


def test_processes_that_do_not_know_one_another_meet_first(monkeypatch):
    done = []
    monkeypatch.setattr(
        processes, "set_multi_processing", lambda **settings: done.append(("settings", settings))
    )
    monkeypatch.setattr(processes, "init_dist", lambda *args, **kw: done.append((args, kw)))
    monkeypatch.setattr(data, "check_datasets", lambda cfg: done.append("checked"))
    with pytest.raises(UserError, match="--launcher mpi gives each process a GPU"):
        data.check_data(Config(dict(launcher="mpi")))
    with pytest.raises(UserError, match="for processes that srun starts, and SLURM_PROCID, "):
        data.check_data(Config(dict(launcher="slurm")))
    done.clear()
    own = dict(PROCID=2, LOCALID=0, NTASKS=4, NODELIST="node[7-8]", JOB_ID=15003)
    for name, value in own.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # what is set from these is taken back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("MASTER_ADDR", "host")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    env_cfg = dict(mp_cfg=dict(mp_start_method="fork"), dist_cfg=dict(backend="nccl"))
    data.check_data(Config(dict(launcher="slurm", env_cfg=env_cfg)))
    settings = dict(mp_start_method="fork", distributed=True)
    assert done == [("settings", settings), (("slurm",), dict(backend="nccl")), "checked"]


def test_images_are_drawn_before_the_data_are_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path))
    cfg = read_config("shapes/upernet_hornet-nano_horuperhead_1k")
    assert not list(tmp_path.iterdir())
    data.check_data(cfg)
    images = list(tmp_path.glob("shapes-4ad86ac5e02b/*/*.png"))
    assert len(images) == 500


def test_one_process_checks_whatever_its_environment_says(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(DatasetError, match="There is no folder nowhere"):
        dataset = dict(type="mmdet.CocoDataset", data_root="nowhere")
        data.check_data(Config(dict(train_dataloader=dict(dataset=dataset))))
