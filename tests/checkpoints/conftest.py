"""Fixtures of the checkpoint tests."""

import pytest
from mmengine.runner import CheckpointLoader

from hordet.checkpoints import install


@pytest.fixture
def installed():
    """hordet's loaders in mmengine, for one test."""
    before = CheckpointLoader._schemes.copy()
    install()
    yield
    CheckpointLoader._schemes = before
