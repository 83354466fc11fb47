"""One process among several: who checks the data, and how the others learn of it."""

import os

from mmengine.config import Config
from mmengine.dist import all_gather_object, get_rank, init_dist, is_distributed
from mmengine.utils.dl_utils import set_multi_processing

from hordet.datasets import DatasetError, check_datasets


def check_data(cfg: Config) -> None:
    """Check the data in one process of each machine; the others wait and learn of its faults.

    Args:
        cfg: The config, with its `launcher`; where that started several processes which do not
            know one another yet, they meet here.

    Raises:
        DatasetError: In every process, if the data of any machine are not as the config says.
    """
    if cfg.get("launcher", "none") != "none" and not is_distributed():
        # As the Runner does later, and skips then.
        env = cfg.get("env_cfg") or {}
        set_multi_processing(**env.get("mp_cfg", {}), distributed=True)
        init_dist(cfg.launcher, **env.get("dist_cfg", {}))
    failure = None
    if not is_distributed() or int(os.environ.get("LOCAL_RANK", get_rank())) == 0:
        try:
            check_datasets(cfg)
        except Exception as error:  # whatever it is, the others must not wait for ever
            failure = error
    messages = all_gather_object(str(failure) if failure else None)
    if failure:
        raise failure
    for message in filter(None, messages):
        raise DatasetError(message)
