"""The peak memory of a function call."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch


def measure_peak_memory(run: Callable[[], None], device: str) -> int:
    """Return the peak memory of a call in bytes, above the memory before it.

    Args:
        run: The function to call.
        device: 'cpu' (resident memory, on Linux) or 'cuda'.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    gc.collect()
    # Memory that the allocator kept after earlier calls would hide what this call needs.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = read_resident_memory("VmRSS")
    run()
    return read_resident_memory("VmHWM") - before


def read_resident_memory(key: str) -> int:
    """Return the resident memory of this process in bytes, by Linux: 'VmRSS' now, 'VmHWM' peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)
