"""The peak memory of a piece of work."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch


def measure_peak_memory(run: Callable[[], None], device: str) -> int:
    """Return the bytes that one call needs at its highest, above those before it."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    gc.collect()
    # What earlier calls freed and the allocator kept would hide this call's need.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = read_resident_memory("VmRSS")
    run()
    return read_resident_memory("VmHWM") - before


def read_resident_memory(key: str) -> int:
    """Return a size of this process in bytes, from Linux: 'VmRSS' now, 'VmHWM' at its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)
