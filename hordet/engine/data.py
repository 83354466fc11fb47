"""A run's data before it starts: drawn where they are missing, checked, and read as checked."""

import os

from mmengine.config import Config
from mmengine.dist import all_gather_object, get_rank, is_distributed

from hordet.datasets.checks.before_training import check_datasets
from hordet.datasets.plain_copies import use_copies
from hordet.datasets.shapes.cache import draw_missing_shapes
from hordet.engine.processes import connect_processes
from hordet.errors import DatasetError


def check_data(cfg: Config) -> None:
    """Draw and check the data in one process a machine; the others wait and learn what it found.

    Args:
        cfg: The config, with its `launcher`; processes that are not connected yet are connected.
            Annotation files that mmdet cannot read as they are give way to plain copies.

    Raises:
        DatasetError: The data of any machine do not fit the config; raised in every process.
    """
    connect_processes(cfg)
    failure: Exception | None = None
    copies: dict[str, str] = {}
    local_rank = int(os.environ.get("LOCAL_RANK", get_rank())) if is_distributed() else 0
    if local_rank == 0:
        try:
            draw_missing_shapes(cfg)
            copies = check_datasets(cfg)
        except Exception as error:  # after any error the others must not wait forever
            failure = error
    found = all_gather_object((str(failure) if failure else None, copies))
    if failure:
        raise failure
    for message, _ in found:
        if message:
            raise DatasetError(message)
    use_copies(cfg, found[max(0, get_rank() - local_rank)][1])  # of this machine
