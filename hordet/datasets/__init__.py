"""Data: the generated `shapes`, loading that names what is wrong, checks before a run, roots.

Importing this package registers the transforms; data sets themselves are mmdet's and mmseg's.
"""

from hordet.datasets.check import check_datasets
from hordet.datasets.errors import DatasetError, DatasetWarning
from hordet.datasets.inspection import inspect_data
from hordet.datasets.loading import LoadImageFromFile, LoadSegAnnotations
from hordet.datasets.placed import PlacedBatchSampler, placed
from hordet.datasets.roots import set_data_root
from hordet.datasets.shapes import cached_shapes, write_shapes
from hordet.datasets.timed_backend import TimedBackend
from hordet.datasets.tolerant import TolerantDataset, worker_errors_in_words

__all__ = [
    "DatasetError",
    "DatasetWarning",
    "LoadImageFromFile",
    "LoadSegAnnotations",
    "PlacedBatchSampler",
    "TimedBackend",
    "TolerantDataset",
    "cached_shapes",
    "check_datasets",
    "inspect_data",
    "placed",
    "set_data_root",
    "worker_errors_in_words",
    "write_shapes",
]
