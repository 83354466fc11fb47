"""Whether parts of checkpoints are the same to the last bit."""

from typing import Any

import torch


def assert_equal(one: Any, other: Any, name: str = "") -> None:
    """Assert that two parts have equal types, keys, lengths and values; tensors bit for bit."""
    assert type(one) is type(other), name
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), name
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), name
        for key in one:
            assert_equal(one[key], other[key], f"{name}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), name
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{name}.{index}")
    else:
        assert one == other, name
