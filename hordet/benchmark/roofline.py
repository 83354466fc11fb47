"""What a machine can do at best: its matrix products a second and its memory bandwidth."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

# Sides of the square products; the best of them counts.
SIDES = (1024, 2048)
COPIED_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Roofline:
    """The limits of a machine, measured.

    Attributes:
        gemm: Floating-point operations a second of the best matrix product, by dtype.
        gemm_cpu: The same a second of one processor.
        bandwidth: Bytes read and written a second by a large copy.
    """

    gemm: dict[str, float]
    bandwidth: float
    gemm_cpu: dict[str, float] = field(default_factory=dict)


def measure_roofline(device: str = "cpu", dtypes: tuple[str, ...] = ("float32",)) -> Roofline:
    """Measure a machine with the threads that torch has now.

    Args:
        device: 'cpu' or 'cuda'.
        dtypes: Names of torch's dtypes.
    """
    gemm, gemm_cpu = {}, {}
    for name in dtypes:
        gemm[name] = gemm_cpu[name] = 0.0
        for side in SIDES:
            a, b = (torch.randn(side, side, device=device).to(getattr(torch, name)) for _ in "ab")
            out = torch.empty_like(a)
            times = _best_of(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)
            gemm[name] = max(gemm[name], 2 * side**3 / times[0])
            gemm_cpu[name] = max(gemm_cpu[name], 2 * side**3 / times[1])
    source = torch.ones(COPIED_BYTES // 4, device=device)
    target = torch.empty_like(source).fill_(0)
    seconds, _ = _best_of(lambda: target.copy_(source), device)
    return Roofline(gemm, 2 * COPIED_BYTES / seconds, gemm_cpu)


def merge_rooflines(first: Roofline, second: Roofline) -> Roofline:
    """Return the higher of two measurements of one machine: a limit is what was ever reached."""

    def higher(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
        return {name: max(value, other[name]) for name, value in one.items()}

    return Roofline(
        higher(first.gemm, second.gemm),
        max(first.bandwidth, second.bandwidth),
        higher(first.gemm_cpu, second.gemm_cpu),
    )


def _best_of(function: Callable[[], object], device: str, repeats: int = 7) -> tuple[float, float]:
    """Return the fewest seconds of several calls: by the clock, and of processors."""
    function()
    times = [time_call(function, device) for _ in range(repeats)]
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


def time_call(function: Callable[[], object], device: str) -> tuple[float, float]:
    """Time one call: by the clock, and by the processors that it had (on CUDA the clock twice).

    The second, summed over threads, is what a busy neighbor cannot lengthen by taking turns.
    """
    if device == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        return (start.elapsed_time(end) / 1000,) * 2
    start_time, start_cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start_time, time.process_time() - start_cpu
