"""An image that the tests of this folder share."""

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def photo(tmp_path_factory):
    """An image file of 96 x 128 pixels with structure at several scales."""
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((16, 16, 1)))
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    noise = rng.integers(-40, 40, coarse.shape)
    cv2.imwrite(str(path), np.clip(coarse + noise, 0, 255).astype(np.uint8))
    return str(path)
