"""Storage that hangs becomes an error that names the file; anything else is read as ever."""

import os
import time

import pytest
from mmengine import fileio

from hordet.datasets.shapes.files import write_shapes
from hordet.datasets.transforms import LoadImageFromFile
from hordet.errors import DatasetError

ARGUMENTS = dict(backend="hordet.timed", seconds=0.2)


def test_files_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert fileio.get(str(tmp_path / "a"), backend_args=ARGUMENTS) == b"abc"
    assert fileio.get_text(str(tmp_path / "a"), backend_args=ARGUMENTS) == "abc"
    inner = dict(ARGUMENTS, inner=dict(backend="local"))
    assert fileio.get(str(tmp_path / "a"), backend_args=inner) == b"abc"
    with pytest.raises(FileNotFoundError):
        fileio.get(str(tmp_path / "b"), backend_args=ARGUMENTS)


def test_a_read_that_hangs_ends(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")  # nobody writes to it: like a server that is gone
    began = time.monotonic()
    with pytest.raises(DatasetError, match=r"pipe\.png was not read within 0.2 s"):
        LoadImageFromFile(backend_args=ARGUMENTS).transform(
            dict(img_path=str(tmp_path / "pipe.png"))
        )
    assert time.monotonic() - began < 5


def test_a_image_is_loaded_through_it(tmp_path):
    root = write_shapes(tmp_path / "d", num_train=1, num_val=1, size=(32, 48))
    load = LoadImageFromFile(backend_args=ARGUMENTS)
    assert load.transform(dict(img_path=str(root / "train/000001.png")))["img_shape"] == (32, 48)
