"""The limits of a machine: its matrix products per second and its memory bandwidth."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from hordet.engine.amp import use_tf32

# By device: sides of the square matrices, of which the fastest product counts, and calls that are
# timed together. A GPU needs large products, and a call alone would time its launch as well.
SIDES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
CALLS = {"cpu": 1, "cuda": 10}
COPIED_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Roofline:
    """The limits of a machine, measured.

    Attributes:
        gemm: Floating-point operations per second of the fastest matrix product, by dtype.
        bandwidth: Bytes that a large copy reads and writes per second.
        gemm_cpu: Floating-point operations per second of processor time, by dtype.
    """

    gemm: dict[str, float]
    bandwidth: float
    gemm_cpu: dict[str, float] = field(default_factory=dict)


def measure_roofline(device: str = "cpu", dtypes: tuple[str, ...] = ("float32",)) -> Roofline:
    """Measure a machine with torch's current number of threads.

    Args:
        device: 'cpu' or 'cuda'.
        dtypes: Names of torch's dtypes, or 'tf32' (CUDA): float32 rounded to TF32. 'float32' is
            never rounded.
    """
    gemm, gemm_cpu = {}, {}
    for name in dtypes:
        gemm[name] = gemm_cpu[name] = 0.0
        dtype = torch.float32 if name == "tf32" else getattr(torch, name)
        for side in SIDES[device]:
            a, b = (torch.randn(side, side, device=device).to(dtype) for _ in "ab")
            out = torch.empty_like(a)
            with use_tf32(name == "tf32"):
                times = _measure_fastest(partial(torch.mm, a, b, out=out), device, CALLS[device])
            gemm[name] = max(gemm[name], 2 * side**3 / times[0])
            gemm_cpu[name] = max(gemm_cpu[name], 2 * side**3 / times[1])
    source = torch.ones(COPIED_BYTES // 4, device=device)
    target = torch.empty_like(source).fill_(0)
    seconds, _ = _measure_fastest(lambda: target.copy_(source), device, CALLS[device])
    return Roofline(gemm, 2 * COPIED_BYTES / seconds, gemm_cpu)


def merge_rooflines(first: Roofline, second: Roofline) -> Roofline:
    """Return the higher values of two measurements of a machine, which are nearer to its limits."""

    def higher(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
        return {name: max(value, other[name]) for name, value in one.items()}

    return Roofline(
        higher(first.gemm, second.gemm),
        max(first.bandwidth, second.bandwidth),
        higher(first.gemm_cpu, second.gemm_cpu),
    )


def _measure_fastest(
    function: Callable[[], object], device: str, calls: int = 1, repeats: int = 7
) -> tuple[float, float]:
    """Return the fewest seconds of a call: by the clock, and of processor time."""
    function()
    times = [time_call(function, device, calls) for _ in range(repeats)]
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


def time_call(function: Callable[[], object], device: str, calls: int = 1) -> tuple[float, float]:
    """Return the seconds of one call: by the clock, and of processor time (on CUDA both the clock).

    Processor time is summed over threads and does not include waiting for other programs.

    Args:
        function: What is called.
        device: 'cpu' or 'cuda'.
        calls: How often it is called between two readings of the clock, which is then divided.
    """
    if device == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            function()
        end.record()
        torch.cuda.synchronize()
        seconds = start.elapsed_time(end) / 1000 / calls
        return seconds, seconds
    start_time, start_cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        function()
    wall, cpu = time.perf_counter() - start_time, time.process_time() - start_cpu
    return wall / calls, cpu / calls


def compute_spread(values: Sequence[float]) -> float:
    """Return half the distance between the quartiles of two or more values."""
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2
