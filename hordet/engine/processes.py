"""One process among several: how they meet, who checks the data, what is said of a lost one."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, get_rank, init_dist, is_distributed
from mmengine.utils.dl_utils import set_multi_processing
from torch.distributed import PrefixStore

from hordet.datasets.checks.before_training import check_datasets
from hordet.datasets.plain_copies import use_copies
from hordet.datasets.shapes.cache import draw_missing_shapes
from hordet.errors import DatasetError, LostProcessError, UserError

# How gloo, NCCL and torch's store say that the process at the other end is gone.
_GONE = "closed by peer|reset by peer|Broken pipe|remote process exited|communicator was aborted"


def connect_processes(cfg: Config) -> None:
    """Let processes that a launcher started know one another; the Runner then finds it done.

    Args:
        cfg: The config, with its `launcher`.

    Raises:
        UserError: torchrun on several machines is to restart what fails, and could not; or the
            launcher needs GPUs, and there are none.
    """
    if cfg.get("launcher", "none") == "none" or is_distributed():
        return
    gpus = torch.cuda.is_available()
    if not gpus and cfg.launcher != "pytorch":
        raise UserError(
            f"--launcher {cfg.launcher} gives each process a GPU, and there is none. Start "
            "processes on CPUs by torchrun, which needs no --launcher"
        )
    env = cfg.get("env_cfg") or {}
    set_multi_processing(**env.get("mp_cfg", {}), distributed=True)
    options = {**env.get("dist_cfg", {}), **_store_of_this_start()}
    if gpus:
        init_dist(cfg.launcher, **options)
    else:  # mmengine would choose a CUDA device first
        torch.distributed.init_process_group(**options)


def _store_of_this_start() -> dict[str, Any]:
    """Return what keeps the starts of one torchrun apart, as arguments of `init_process_group`.

    torchrun shares one store with all starts of its processes. The addresses of those that died
    still stand there, and who starts again under the same names would try to reach these
    (https://github.com/pytorch/pytorch/issues/135712).
    """
    environ = os.environ
    shared = environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not shared or environ.get("TORCHELASTIC_MAX_RESTARTS", "0") == "0":
        return {}
    if environ["GROUP_WORLD_SIZE"] != "1":
        raise UserError(
            "torchrun --max-restarts on several machines: each counts restarts for itself, and "
            "their shared store would lead a restarted process to dead ones. Start torchrun with "
            "the environment variable TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 and --rdzv-backend c10d"
        )
    store, rank, world_size = next(torch.distributed.rendezvous("env://"))
    store = PrefixStore(f"start_{environ['TORCHELASTIC_RESTART_COUNT']}", store)
    return dict(store=store, rank=rank, world_size=world_size)


@contextmanager
def explain_lost_processes() -> Iterator[None]:
    """Say in words that another process is gone, in place of the network's error.

    Raises:
        LostProcessError: It is. Its own output tells why.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_distributed() or not re.search(_GONE, str(error)):
            raise
        raise LostProcessError(
            f"process {get_rank()} stops, for another process of this job has ended. Why, stands "
            "in that one's output, and in the launcher's summary below. The same command with "
            "--resume goes on from the last checkpoint"
        ) from error


def check_data(cfg: Config) -> None:
    """Draw and check the data in one process a machine; the others wait and learn what it found.

    Args:
        cfg: The config, with its `launcher`; where that started several processes which do not
            know one another yet, they meet here. Annotation files that mmdet cannot read as they
            are give way to plain copies.

    Raises:
        DatasetError: In every process, if the data of any machine are not as the config says.
    """
    connect_processes(cfg)
    failure = None
    copies: dict[str, str] = {}
    place = int(os.environ.get("LOCAL_RANK", get_rank())) if is_distributed() else 0
    if place == 0:
        try:
            draw_missing_shapes(cfg)
            copies = check_datasets(cfg)
        except Exception as error:  # whatever it is, the others must not wait for ever
            failure = error
    found = all_gather_object((str(failure) if failure else None, copies))
    if failure:
        raise failure
    for message, _ in found:
        if message:
            raise DatasetError(message)
    use_copies(cfg, found[max(0, get_rank() - place)][1])  # of this machine
