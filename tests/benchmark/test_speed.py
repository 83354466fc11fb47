"""Timing: what a candidate is, what the figures mean, and one real comparison."""

import json
from pathlib import Path

import pytest
import torch

from hordet.benchmark import speed
from hordet.benchmark.candidates import Candidate, read_candidate_config
from hordet.benchmark.memory import measure_peak_memory
from hordet.benchmark.roofline import Roofline, measure_roofline
from hordet.benchmark.speed import SpeedRow, SpeedSettings, time_candidates
from hordet.benchmark.speed_report import draw_speed_plot, format_speed_table

NAIVE = Path(__file__).parents[1] / "references" / "naive_hornet.py"


def test_words():
    candidate = Candidate.parse("horfpn-gf:compiled:bfloat16")
    assert candidate == Candidate("horfpn-gf", "compiled", "bfloat16")
    assert Candidate.parse(str(candidate)) == candidate
    assert Candidate.parse("fpn") == Candidate("fpn", "eager", "float32")


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("fpn:fused", "'fused' is neither a form .*naive.* nor a dtype"),
        ("fpm", "components are fpn"),
    ],
)
def test_unknown_words(word, words):
    with pytest.raises(ValueError, match=words):
        Candidate.parse(word)


def test_rows():
    row = SpeedRow("fpn", (4.0, 1.0, 2.0, 3.0, 100.0), (2.0, 1.0, 3.0), 10, 20, 0.5)
    assert (row.median, row.cpu_median) == (3.0, 2.0)
    assert row.spread == pytest.approx((52.0 - 1.5) / 2 / 3.0)
    assert json.loads(json.dumps(row.as_dict()))["peak_memory"] == 20


def test_report(tmp_path):
    rows = [
        SpeedRow("a:eager:float32", (0.1, 0.1), (0.2, 0.2), 10**9, 2**20, 0.25),
        SpeedRow("b", (0.2, 0.2), (0.3, 0.3), 0, 2**21, 0.0),
    ]
    roofline = Roofline({"float32": 4e10}, 2e10, {"float32": 3e10})
    table = format_speed_table(rows, roofline, SpeedSettings())
    assert "float32 40 GFLOP/s; one processor's 30; copies 20.0 GB/s" in table
    assert "| a:eager:float32 | 100.0 | 0.0% | 1.00 | 200.0 | 1.00 | 1 | 1.0 | 25% |" in table
    assert "| b | 200.0 | 0.0% | 2.00 | 300.0 | 1.50 | 2 |  |  |" in table
    draw_speed_plot(rows, roofline, SpeedSettings(), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_a_gpu_is_measured_by_large_products_several_an_event(monkeypatch):
    """A stand-in of CUDA's events: a call alone would time its launch, 2048^3 is too small."""
    calls, sizes, modes = [], [], []

    class Event:
        def __init__(self, enable_timing):
            self.at = 0

        def record(self):
            self.at = len(calls)

        def elapsed_time(self, end):
            return float(end.at - self.at)  # a millisecond a call

    def multiply(a, b, out):
        calls.append(1)
        sizes.append(len(a))
        modes.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))

    def make(*shape, device=None):
        return torch.empty(shape, device="meta")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch, "mm", multiply)
    monkeypatch.setattr(torch, "randn", make)
    monkeypatch.setattr(torch, "ones", make)
    monkeypatch.setattr(torch.Tensor, "copy_", lambda self, source: calls.append(1))
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    roofline = measure_roofline("cuda", ("float32", "tf32", "bfloat16", "float16"))
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before
    assert max(sizes) == 8192 and len(calls) > 4 * 2 * 7 * 5
    assert list(roofline.gemm) == ["float32", "tf32", "bfloat16", "float16"]
    assert roofline.gemm["tf32"] == pytest.approx(2 * 8192**3 / 1e-3)
    assert modes[0] == ("highest", False) and ("high", True) in modes

    table = format_speed_table(
        [SpeedRow("a:eager:tf32", (0.1, 0.1), (0.1, 0.1), 10**9, 2**20, 0.25)],
        roofline,
        SpeedSettings(device="cuda"),
    )
    assert "float32 and its convolutions without TF32, tf32 both with it" in table


@pytest.mark.parametrize(("dtype", "wanted"), [("tf32", True), ("float32", False)])
def test_a_candidate_is_timed_in_its_precision(dtype, wanted):
    """Its process sets TF32 for both passes, products and convolutions alike."""
    seen = []

    class Pipe:
        def send(self, answer):
            assert isinstance(answer, int), answer  # the operations

        def recv(self):
            seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
            raise KeyboardInterrupt

    settings = SpeedSettings(threads=torch.get_num_threads())
    with pytest.raises(KeyboardInterrupt):
        speed._serve(Pipe(), Candidate("block", dtype=dtype), settings)
    assert seen == [("high", True) if wanted else ("highest", False)]


def test_half_precision_of_a_gpu_is_a_candidate():
    candidate = Candidate.parse("fpn:float16")
    with candidate.autocast("cpu"):
        assert torch.get_autocast_dtype("cpu") == torch.float16
    with pytest.raises(ValueError, match="tf32 is a precision of GPUs"):
        time_candidates([Candidate("block", dtype="tf32")], SpeedSettings())


def test_roofline_is_of_this_world():
    roofline = measure_roofline(dtypes=("float32",))
    assert 1e8 < roofline.gemm["float32"] < 1e14
    assert 1e8 < roofline.bandwidth < 1e13


@pytest.mark.slow  # CI runs it
def test_comparison():
    candidates = [Candidate("block"), Candidate("block", "naive")]
    rows, roofline = time_candidates(
        candidates, SpeedSettings(threads=1, naive_file=NAIVE), repeats=2
    )
    # 32 x 32 pixels: projections 2 C^2, C^2 and between gates, MLP 8 C^2, depthwise.
    c, mixed, pixels = 256, 256 * (2 - 2**-3), 32 * 32
    between = 32 * 64 + 64 * 128 + 128 * 256
    macs = pixels * (2 * c * c + c * c + between + 8 * c * c + 49 * mixed)
    assert [row.flops for row in rows] == [2 * macs] * 2
    for row in rows:
        assert len(row.seconds) == 2 and row.peak_memory >= 0
        peak = roofline.gemm_cpu["float32"]
        assert row.fraction == pytest.approx(row.flops / peak / row.cpu_median)


def test_peak_memory_of_a_second_call():
    def run():
        torch.ones(64, 2**18).mul(2)  # twice 64 MB, one after the other

    run()
    assert 2**26 < measure_peak_memory(run, "cpu") < 1.2 * 2**27


def test_only_the_naive_detector_takes_the_stock_road():
    config = Path(__file__).parents[2] / "configs/coco/mask-rcnn_hornet-small-7x7_horfpn-7x7_1x.py"
    for form, mask_head, metric in (
        ("naive", "FCNMaskHead", "mmdet.CocoMetric"),
        ("eager", "hordet.RleMaskHead", "hordet.CocoMetric"),
    ):
        cfg = read_candidate_config(Candidate(str(config), form), {}, None)
        assert cfg.model.roi_head.mask_head.type == mask_head
        assert cfg.test_evaluator.type == metric


def test_a_failing_candidate_is_named():
    with pytest.raises(RuntimeError, match="block:naive:float32.*published equations"):
        time_candidates([Candidate("block", "naive")], SpeedSettings(threads=1), repeats=1)
