"""Reading on past a broken image, and saying in words what happens in a loader's workers."""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.logging import print_log
from torch.utils.data import Dataset, get_worker_info

from hordet.datasets.batch_sampler import SamplePosition
from hordet.datasets.seeding import seed_sample
from hordet.errors import DatasetError
from hordet.registry import DATASETS

# Seconds before the second and third attempt: network storage comes back, or reads whole.
PAUSES = (0.2, 2.0)


@DATASETS.register_module()
class TolerantDataset(Dataset):
    """A training data set in which a few samples may be unreadable.

    A sample that cannot be read is tried again, then skipped, counted, and another one drawn in
    its place; each time a warning names it. All other attributes are the inner data set's. The
    training loops of `hordet.engine.loops` put it around the data set; a
    validation reads everything.

    Args:
        dataset: A data set or the config of one.
        max_skipped: How many samples may be skipped by this process and its workers together.
    """

    def __init__(self, dataset: Dataset | dict, max_skipped: int = 10) -> None:
        """See the class."""
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.max_skipped = max_skipped
        # In shared memory, so that workers count together.
        self._skipped = torch.zeros(1, dtype=torch.int64).share_memory_()

    def __getattr__(self, name: str) -> Any:
        """Return what the inner data set has under this name."""
        if name in ("dataset", "__setstate__"):  # not there yet: being unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        """Return a sample, or another one for one that cannot be read.

        Raises:
            DatasetError: More than `max_skipped` could not be read.
        """
        if isinstance(index, SamplePosition) and get_worker_info() is not None:
            seed_sample(*index.numbers)
        number = index  # with its place, which a data set that mixes images looks at
        while True:
            try:
                return self._read(number)
            except (DatasetError, OSError) as error:
                self._skipped += 1
                skipped = int(self._skipped)
                if skipped > self.max_skipped:
                    raise DatasetError(
                        f"{skipped} training samples could not be read, and train_cfg.max_skipped "
                        f"allows {self.max_skipped}. The last: {error}"
                    ) from error
                print_log(
                    f"Skipped a training sample, {skipped} of at most {self.max_skipped}: {error}",
                    "current",
                    level=30,
                )
                number = np.random.randint(len(self))

    def _read(self, number: int) -> Any:
        for pause in PAUSES:
            try:
                return self._transform(number)
            except (DatasetError, OSError):
                time.sleep(pause)
        return self._transform(number)

    def _transform(self, number: int) -> Any:
        try:
            return self.dataset[number]
        # Of a resize that leaves nothing of a narrow image, and of a setting of another kind than a
        # transform knows.
        except (cv2.error, NotImplementedError) as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())
            raise DatasetError(
                f"a transform of the pipeline cannot use image {number} of the data set ({words}). "
                "Look at its size and at the settings of the pipeline, or take it out"
            ) from error


def _describe_shared_memory() -> str:
    try:
        return f" ({shutil.disk_usage('/dev/shm').free:,} bytes are free there)"
    except OSError:  # there is none, as on Windows
        return ""


@contextmanager
def explain_worker_errors() -> Iterator[None]:
    """Turn what torch raises for a loader's worker into a DatasetError without a traceback."""
    try:
        yield
    except DatasetError as error:
        # torch hands on a worker's error with its traceback in the message.
        _, found, message = str(error).rpartition("DatasetError: ")
        if not found:
            raise
        raise DatasetError(message.strip()) from error
    except RuntimeError as error:
        if "DataLoader timed out" in str(error):
            raise DatasetError(
                f"{error}. A loader worker hangs, as on storage that no longer answers or where "
                f"/dev/shm is full{_describe_shared_memory()}. Check both, or raise "
                "train_dataloader.timeout (seconds)"
            ) from error
        ended = re.search(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (.*)", str(error))
        if not ended:
            raise
        raise DatasetError(
            f"A loader worker was ended from outside ({ended[1].strip().rstrip('.')}), most often "
            "for want of memory. Lower train_dataloader.num_workers or batch_size, or give the "
            "job more memory (in a container also shared memory, --shm-size)"
        ) from error
