"""Several processes of one job: connecting them, and messages on lost ones."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_rank, init_dist, is_distributed
from mmengine.utils.dl_utils import set_multi_processing
from torch.distributed import PrefixStore

from hordet.errors import ConfigError, LostProcessError, UserError

# In these words gloo, NCCL and torch's store report that another process has ended.
_GONE = "closed by peer|reset by peer|Broken pipe|remote process exited|communicator was aborted"
# In these words gloo and NCCL report that another process says nothing more.
_SILENT = (
    "Timed out waiting|timeout caused pair closure|No route to host|Network is unreachable|"
    "collective operation timeout|Connection timed out"
)


def connect_processes(cfg: Config) -> None:
    """Connect the processes that a launcher started; the Runner then uses this connection.

    Args:
        cfg: The config, with its `launcher`.

    Raises:
        UserError: The launcher did not start this process; torchrun is to restart failed processes
            on several machines, which would not work; or MPI's processes have no GPUs.
        ConfigError: The time-out is no number of seconds.
    """
    if cfg.get("launcher", "none") == "none" or is_distributed():
        return
    if cfg.launcher == "pytorch" and not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        raise UserError(
            "--launcher pytorch is for processes of torchrun, and this one is none of them. Start "
            "them by `torchrun --nproc-per-node 2 -m hordet train CONFIG`, or leave --launcher out"
        )
    gpus = torch.cuda.is_available()
    if not gpus and cfg.launcher == "mpi":
        raise UserError(
            "--launcher mpi gives each process a GPU, and this machine has none. Start processes "
            "on CPUs by torchrun, which needs no --launcher, or by srun with --launcher slurm"
        )
    if cfg.launcher == "slurm":
        _read_slurm()
    env = cfg.get("env_cfg") or {}
    set_multi_processing(**env.get("mp_cfg", {}), distributed=True)
    options = {**env.get("dist_cfg", {}), **_make_store_of_start()}
    seconds = options.get("timeout")
    if seconds is not None and (not isinstance(seconds, int | float) or seconds <= 0):
        raise ConfigError(
            f"env_cfg.dist_cfg.timeout is {seconds!r}; it must be a number of seconds above 0, or "
            "left out"
        )
    if gpus:
        init_dist(cfg.launcher, **options)
    else:  # mmengine would choose a CUDA device first
        if seconds is not None:
            options["timeout"] = timedelta(seconds=seconds)
        torch.distributed.init_process_group(**options)


def _read_slurm() -> None:
    """Set the variables by which torch connects processes, from those that srun gives each process.

    Each job has a port of its own, so that jobs on one machine do not meet; a MASTER_PORT or
    MASTER_ADDR that is set stays.
    """
    environ = os.environ
    names = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NODELIST", "SLURM_JOB_ID")
    if missing := [name for name in names if name not in environ]:
        raise UserError(
            f"--launcher slurm is for processes that srun starts, and {', '.join(missing)} is not "
            "set. Start them by `srun -n 2 hordet train CONFIG --launcher slurm`, or leave "
            "--launcher out"
        )
    rank, local_rank, count, nodes, job = (environ[name] for name in names)
    environ.update(RANK=rank, LOCAL_RANK=local_rank, WORLD_SIZE=count)
    if "MASTER_ADDR" not in environ:
        hosts = subprocess.run(
            ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True
        )
        environ["MASTER_ADDR"] = hosts.stdout.split()[0]
    # Below the ports that Linux gives to outgoing connections.
    environ.setdefault("MASTER_PORT", str(15000 + int(job) % 15000))


def _make_store_of_start() -> dict[str, Any]:
    """Return arguments of `init_process_group` that give each start of torchrun its own store.

    torchrun uses one store for all starts of its processes. The store still holds the addresses of
    processes that ended, and restarted processes would try to connect to these
    (https://github.com/pytorch/pytorch/issues/135712).
    """
    environ = os.environ
    shared = environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not shared or environ.get("TORCHELASTIC_MAX_RESTARTS", "0") == "0":
        return {}
    if environ["GROUP_WORLD_SIZE"] != "1":
        raise UserError(
            "torchrun --max-restarts on several machines: each machine counts its own restarts, "
            "and restarted processes would try to connect to processes that have ended. Start "
            "torchrun with the environment variable TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 and "
            "--rdzv-backend c10d"
        )
    store, rank, world_size = next(torch.distributed.rendezvous("env://"))
    store = PrefixStore(f"start_{environ['TORCHELASTIC_RESTART_COUNT']}", store)
    return dict(store=store, rank=rank, world_size=world_size)


@contextmanager
def explain_lost_processes() -> Iterator[None]:
    """Replace the network's error by a clear message if another process has ended or is silent.

    Raises:
        LostProcessError: Another process has ended, and its output says why; or nothing came from
            it within the time-out.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_distributed():
            raise
        if re.search(_GONE, str(error)):
            raise LostProcessError(
                f"process {get_rank()} stops, because another process of this job has ended. The "
                "reason is in the output of that process and in the launcher's summary below. The "
                "same command with --resume continues from the last checkpoint"
            ) from error
        if re.search(_SILENT, str(error)):
            raise LostProcessError(
                f"process {get_rank()} stops, because nothing came from another process of this "
                "job within the time-out (env_cfg.dist_cfg.timeout in seconds; torch's own is 30 "
                "minutes). Its machine, or the network to it, is down or hangs. When both are "
                "back, the same command with --resume continues from the last checkpoint"
            ) from error
        raise
