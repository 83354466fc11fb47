"""Training data that know their place: what a run needs to go on within an epoch.

Loader workers read ahead and each has a random state of its own, which nothing outside can save.
So the numbers a worker draws for a sample follow from the run's seed and the sample's place alone,
and a resumed run draws the same. Without workers, samples draw from the process's own random
state, which a checkpoint holds.
"""

from collections.abc import Iterator
from itertools import islice

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from torch.utils.data import BatchSampler, Sampler

from hordet.registry import DATA_SAMPLERS


class SamplePosition(int):
    """An index into a data set, together with whole numbers that name the sample's place.

    Attributes:
        numbers: The run's seed, the rank, the pass over the data, the batch, the place in it.
        passes: Passes over the data before this one.
        iteration: Batches before this one, in all passes.
    """

    numbers: tuple[int, ...]
    passes: int
    iteration: int


@DATA_SAMPLERS.register_module()
class PlacedBatchSampler(Sampler):
    """Batches of `SamplePosition`s, which may begin within a pass over the data.

    Args:
        sampler: Yields indices.
        batch_size: Images a batch.
        seed: The run's seed.
        drop_last: Leave out a last batch that is not full.
        batch_sampler: Config of a batch sampler that groups the indices, such as mmdet's
            AspectRatioBatchSampler; torch's by default.

    Attributes:
        begin: Pass over the data and batch within it at which the next iteration begins.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        seed: int = 0,
        drop_last: bool = False,
        batch_sampler: dict | None = None,
    ) -> None:
        """See the class."""
        self.sampler = sampler
        self.batch_size = batch_size
        self.seed = seed
        self.drop_last = drop_last
        self.begin = (0, 0)
        self._config = batch_sampler
        self._length = len(self._new_batch_sampler())

    def __iter__(self) -> Iterator[list[SamplePosition]]:
        """Yield the batches of one pass; an infinite sampler makes one endless pass."""
        number, skipped = self.begin
        self.begin = (number + 1, 0)
        if isinstance(self.sampler, InfiniteSampler):
            # It remembers how far it was read; workers of a pass that was given up read ahead.
            self.sampler.indices = self.sampler._indices_of_rank()
        batches = islice(self._new_batch_sampler(), skipped, None)
        for position, batch in enumerate(batches, skipped):
            yield [self._place(index, number, position, i) for i, index in enumerate(batch)]

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        return self._length

    def _place(self, index: int, number: int, position: int, within: int) -> SamplePosition:
        place = SamplePosition(index)
        place.numbers = (self.seed, get_rank(), number, position, within)
        place.passes, place.iteration = number, number * self._length + position
        return place

    def _new_batch_sampler(self) -> BatchSampler:
        # A new one each time: mmdet's keeps half-filled batches of a pass that was given up.
        if self._config is None:
            return BatchSampler(self.sampler, self.batch_size, self.drop_last)
        defaults = dict(sampler=self.sampler, batch_size=self.batch_size)
        return DATA_SAMPLERS.build(dict(self._config), default_args=defaults)


def place_batches(loader: dict, seed: int, max_skipped: int) -> dict:
    """Return the config of a training data loader with places and with tolerance, not changed else.

    Args:
        loader: The config.
        seed: The run's seed.
        max_skipped: See `TolerantDataset`.
    """
    loader = dict(loader)
    batches = dict(type="hordet.PlacedBatchSampler", seed=seed)
    batches.update(drop_last=loader.pop("drop_last", False))
    batches.update(batch_sampler=loader.pop("batch_sampler", None))
    dataset = dict(type="hordet.TolerantDataset", dataset=loader["dataset"])
    loader.update(batch_sampler=batches, dataset=dict(dataset, max_skipped=max_skipped))
    return loader
