"""Devices, and a skip where mmcv's own compiled operators are in use.

Importing hordet here, before the test files import mmcv.ops, offers the operators.
"""

import pytest
import torch

from hordet.ops import describe_operators


@pytest.fixture(autouse=True)
def stand_in(request):
    """Skips tests of the operators, not those of the door, beside a compiled mmcv."""
    if request.module.__name__ != "test_install" and describe_operators().provider == "mmcv":
        pytest.skip("a compiled mmcv is in use; these are tests of its stand-in")


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return request.param
