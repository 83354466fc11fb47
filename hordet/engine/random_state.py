"""The random states of a process: Python's, numpy's and torch's."""

import random
from typing import Any

import numpy as np
import torch


def get_random_state() -> dict:
    """Return the random states of this process as numbers and tensors, for a checkpoint."""
    numpy_state = np.random.get_state(legacy=True)
    assert isinstance(numpy_state, tuple)  # by `legacy`
    kind, keys, *rest = numpy_state
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict) -> None:
    """Set the random states that `get_random_state` returned, here or in another process."""
    random.setstate(_to_tuples(state["python"]))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def _to_tuples(value: Any) -> Any:
    """Return nested lists as tuples, which a loaded checkpoint may hold as lists."""
    return tuple(_to_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value
