"""Training reads past a few broken images, and says in words why it stops."""

import os
import re
import signal
import time

import pytest
from torch.utils.data import DataLoader, Dataset

from hordet.datasets import tolerant
from hordet.datasets.tolerant import TolerantDataset, explain_worker_errors
from hordet.errors import DatasetError


class Images(Dataset):
    """Ten numbers; some cannot be read, some only at the third attempt."""

    metainfo = dict(classes=("a",))

    def __init__(self, broken=(), flaky=(), end=None, slow=0.0):
        self.broken, self.flaky, self.end, self.slow = broken, flaky, end, slow
        self.attempts = {}

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.attempts[index] = self.attempts.get(index, 0) + 1
        if index == self.end:
            os.kill(os.getpid(), signal.SIGKILL)
        if index in self.broken:
            raise DatasetError(f"Cannot decode the image {index}.jpg")
        if index in self.flaky and self.attempts[index] < 3:
            raise OSError("stale file handle")
        time.sleep(self.slow)
        return index


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(tolerant, "PAUSES", (0.0, 0.0))


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(tolerant, "print_log", lambda text, *args, **kwargs: lines.append(text))
    return lines


def read(dataset, **options):
    loader = DataLoader(dataset, batch_size=2, collate_fn=list, **options)
    batches, iterator = [], iter(loader)
    while True:
        with explain_worker_errors():
            batch = next(iterator, None)
        if batch is None:
            return batches
        batches += batch


def test_what_can_be_read_is_left_alone(said):
    dataset = TolerantDataset(Images())
    assert read(dataset) == list(range(10)) and said == []
    assert dataset.metainfo == dict(classes=("a",)) and len(dataset) == 10


def test_storage_that_comes_back_is_read(said):
    inner = Images(flaky=(4,))
    assert read(TolerantDataset(inner)) == list(range(10)) and said == []
    assert inner.attempts[4] == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_replaced_and_counted(said, workers):
    dataset = TolerantDataset(Images(broken=(3, 6)), max_skipped=20)
    result = read(dataset, num_workers=workers)
    assert len(result) == 10 and not {3, 6} & set(result)
    assert [i for i in result if i in (0, 1, 2)][:3] == [0, 1, 2]
    assert int(dataset._skipped) >= 2  # workers count together
    if not workers:
        assert re.match(
            r"Skipped a training sample, 1 of at most 20: Cannot decode.*3\.jpg", said[0]
        )


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_stop_the_run_in_one_sentence(said, workers):
    dataset = TolerantDataset(Images(broken=range(10)), max_skipped=2)
    with pytest.raises(DatasetError, match="could not be read, and train_cfg.max_skipped") as error:
        read(dataset, num_workers=workers)
    assert "Traceback" not in str(error.value) and "\n" not in str(error.value)


def test_a_worker_that_is_killed_is_no_riddle():
    with pytest.raises(DatasetError, match=r"from outside \((is killed|exited).*num_workers"):
        read(TolerantDataset(Images(end=4)), num_workers=1)


def test_storage_that_hangs_is_timed_out():
    with pytest.raises(DatasetError, match="timed out after 1.*train_dataloader.timeout"):
        read(TolerantDataset(Images(slow=30)), num_workers=1, timeout=1)


def test_a_mistake_in_code_is_no_broken_image():
    class Wrong(Images):
        def __getitem__(self, index):
            raise KeyError("gt_masks")

    with pytest.raises(KeyError):
        read(TolerantDataset(Wrong()))


def test_a_setting_that_a_transform_does_not_know_is_told(said):
    class Resizes(Images):
        def __getitem__(self, index):
            raise NotImplementedError('Do not support sampling function for "big"')

    words = r"cannot use image \d .*NotImplementedError: Do not support .* settings of the pipeline"
    with pytest.raises(DatasetError, match=words):
        read(TolerantDataset(Resizes()))
