"""The parts of the check of a GPU; each adds rows to a `GpuCheck`."""

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from mmengine.hooks import Hook
from torch import Tensor, nn
from torch.nn import functional as F

from hordet.benchmark.candidates import Candidate
from hordet.benchmark.roofline import time_call
from hordet.benchmark.speed import SpeedSettings, time_candidates
from hordet.benchmark.table import TableRow
from hordet.config.names import find_config
from hordet.engine.amp import keep_float32, use_tf32
from hordet.engine.determinism import UNORDERED
from hordet.engine.hooks import FiniteLossHook
from hordet.engine.modes import compile_regions, use_triton_gates
from hordet.engine.prepare import use_equal_parts
from hordet.engine.runner import build_training_runner, read_config
from hordet.errors import CompilerError
from hordet.hornet import Block, HorNet
from hordet.layers import GnConv, GnFusion
from hordet.layers.recompute import switch_recomputation
from hordet.registry import MODELS

DETECTOR = "shapes/mask-rcnn_hornet-nano_horfpn_7e"
SEGMENTOR = "shapes/upernet_hornet-nano_horuperhead_1k"
HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
# Largest |found - float64| / |float64| over all outputs; of all gradients four times as much.
TOLERANCES = {"float32": 1e-4, "tf32": 1e-2, "bfloat16": 6e-2, "float16": 1e-2}


@dataclass(frozen=True)
class CheckRow(TableRow):
    """What was found.

    Attributes:
        part: Of the check.
        name: What was looked at.
        verdict: 'ok', 'FAIL', 'measured' (a number without a verdict) or 'not run'.
        numbers: What was measured, or why it failed or was not run.
    """

    part: str
    name: str
    verdict: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> str:
        """Return the numbers as words."""
        texts = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in self.numbers.values())
        pairs = zip(self.numbers, texts, strict=True)
        return ", ".join(f"{key} {' '.join(text.split())}" for key, text in pairs)


class GpuCheck:
    """Collects the rows.

    Args:
        device: 'cuda', or 'cpu' for a dry run.
        folder: Where trainings write.
        report: Gets each row as it is added.
    """

    def __init__(self, device: str, folder: Path, report: Callable[[CheckRow], None]) -> None:
        """Start without a part."""
        self.device, self.folder, self.report = device, folder, report
        self.dry = device == "cpu"
        self.part = ""

    def add(self, name: str, right: bool | None, **numbers: Any) -> None:
        """Add a row; `right` None is a number without a verdict."""
        verdict = {True: "ok", False: "FAIL", None: "measured"}[right]
        self.report(CheckRow(self.part, name, verdict, numbers))

    def skip(self, name: str, why: str) -> None:
        """Add a row of what was not run."""
        self.report(CheckRow(self.part, name, "not run", {"why": why}))

    def attempt(self, name: str, function: Callable[[], dict[str, Any] | None]) -> None:
        """Add whether a function runs, with the numbers that it returns."""
        try:
            self.add(name, True, **(function() or {}))
        except CompilerError as error:
            self.skip(name, str(error))
        except Exception as error:
            self.add(name, False, error=f"{type(error).__name__}: {str(error)[-300:]}")

    @contextmanager
    def precision(self, mode: str, device: str | None = None) -> Iterator[None]:
        """Inside, compute in float32, tf32, bfloat16 or float16."""
        half = torch.autocast(device or self.device, HALF[mode]) if mode in HALF else nullcontext()
        with use_tf32(mode == "tf32"), half:
            yield


def probe_faults(check: GpuCheck) -> None:
    """Look for the faults that reading the code against CUDA's rules found."""
    for mode in HALF:
        check.attempt(f"a block trains in {mode}", partial(_train_block, check, mode))
    check.attempt(
        "a fused optimizer survives an overflow of its scaled loss", partial(_overflow, check)
    )
    check.attempt("torch knows the options of compile_regions", partial(_mark_block, check))
    check.attempt("RoIAlign's gradient in a fixed order", partial(_repeat_gradient, check))
    if check.dry:
        for name in ("recomputation", "with_cp", "kernels without a fixed order"):
            check.skip(name, "needs a GPU; tests measure resident memory on a CPU")
        return
    plain, ours, checkpointed = (
        _measure_kept(recompute, with_cp)
        for recompute, with_cp in ((False, False), (True, False), (True, True))
    )
    check.add("recomputation saves memory", ours < 0.8 * plain, ours=ours, without=plain)
    check.add("with_cp saves memory", checkpointed < 0.4 * plain, bytes=checkpointed)
    for name, warned in _list_unordered(check).items():
        check.add(f"{name} has no fixed order, and torch says so", warned)


def _train_block(check: GpuCheck, mode: str) -> None:
    layer = Block(32, 3).to(check.device)
    x = torch.randn(2, 32, 16, 16, device=check.device, requires_grad=True)
    with check.precision(mode):
        out = layer(x)
    out.float().sum().backward()


def _overflow(check: GpuCheck) -> dict[str, Any]:
    weight = nn.Parameter(torch.ones(4, device=check.device))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    hook = FiniteLossHook()
    optimizer.register_step_pre_hook(partial(hook._guard, {weight: "weight"}))
    scaler = torch.amp.GradScaler(check.device, init_scale=2.0**127)
    for factor in (8.0, 1.0):
        scaler.scale((weight * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    if hook._wrong is not None:
        raise RuntimeError("the guard took the scaler's overflow for a fault of the run")
    return dict(scale=scaler.get_scale())


def _mark_block(check: GpuCheck) -> dict[str, Any]:
    return dict(regions=compile_regions(Block(16, 2).to(check.device)))


def _repeat_gradient(check: GpuCheck) -> dict[str, Any]:
    from mmcv.ops import roi_align

    maps = torch.randn(1, 8, 32, 32, device=check.device, requires_grad=True)
    corners = torch.rand(64, 2, device=check.device) * 16
    rois = torch.cat([corners.new_zeros(64, 1), corners, corners + 12], dim=1)
    torch.use_deterministic_algorithms(True)
    try:
        twice = [
            torch.autograd.grad(roi_align(maps, rois, 7).square().sum(), maps)[0] for _ in "ab"
        ]
    finally:
        torch.use_deterministic_algorithms(False)
    if not torch.equal(*twice):
        raise RuntimeError("two gradients of the same differ")
    return dict(regions=64)


def _measure_kept(recompute: bool, with_cp: bool) -> int:
    """Return the bytes that lie between forward and backward pass."""
    switch_recomputation(recompute)
    try:
        arch = dict(base_channels=32, depths=(6,), orders=(3,))
        net = HorNet(arch, out_indices=(0,), with_cp=with_cp).cuda().train()
        image = torch.randn(1, 3, 512, 512, device="cuda")
        net(image)[0].sum().backward()
        before = torch.cuda.memory_allocated()
        out = net(image)
        kept = torch.cuda.memory_allocated() - before
        del out
        return kept
    finally:
        switch_recomputation(True)


def _list_unordered(check: GpuCheck) -> dict[str, bool]:
    """Return for each kernel of `UNORDERED` whether torch warns of it."""
    x = torch.randn(1, 4, 8, 8, device=check.device, requires_grad=True)
    grid = torch.rand(1, 4, 4, 2, device=check.device)
    offset = torch.zeros(1, 18, 6, 6, device=check.device, requires_grad=True)
    weight = torch.randn(4, 4, 3, 3, device=check.device)
    labels = torch.zeros(1, 8, 8, dtype=torch.long, device=check.device)
    runs: dict[str, Callable[[], Tensor]] = {
        "grid_sample": lambda: F.grid_sample(x, grid, align_corners=False),
        "deform_conv2d": lambda: torchvision.ops.deform_conv2d(x, offset, weight),
        "adaptive_avg_pool2d": lambda: F.adaptive_avg_pool2d(x, 3),
        "nll_loss2d": lambda: F.cross_entropy(x, labels),
    }
    found = {}
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        for name in UNORDERED:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                runs[name]().sum().backward()
            found[name] = any("deterministic" in str(each.message) for each in seen)
    finally:
        torch.use_deterministic_algorithms(False)
    return found


def compare_precisions(check: GpuCheck) -> None:
    """Compare outputs and all gradients in each precision with float64 on the CPU."""
    modes = ("float32", "bfloat16") if check.dry else tuple(TOLERANCES)
    worst = {mode: [(0.0, ""), (0.0, "")] for mode in modes}
    for name, (module, inputs) in _make_cases(check.dry).items():
        want = _differentiate(check, module, inputs, "float32", "cpu", torch.float64)
        for mode in modes:
            found = _differentiate(check, module, inputs, mode, check.device)
            for i, (one, other) in enumerate(zip(found, want, strict=True)):
                error = ((one - other).norm() / other.norm()).nan_to_num(9e9).item()
                worst[mode][i] = max(worst[mode][i], (error, name))
    for mode, ((out, where), (grad, there)) in worst.items():
        right = out <= TOLERANCES[mode] and grad <= 4 * TOLERANCES[mode]
        check.add(mode, right, outputs=out, of=where, gradients=grad, at=there)


def _make_cases(dry: bool) -> dict[str, tuple[nn.Module, list[Tensor]]]:
    torch.manual_seed(0)
    side = 12 if dry else 48
    arch = dict(base_channels=16, depths=(1, 1, 1, 1), orders=(2, 3, 4, 5))
    cases: dict[str, tuple[nn.Module, list[Tensor]]] = {}
    for spatial in ("dw7x7", "gf"):
        x = torch.randn(2, 32, side, side + 3)
        cases[f"block, {spatial}"] = Block(32, 3, spatial, layer_scale_init_value=0.5), [x]
        cases[f"fusion, {spatial}"] = GnFusion(32, 32, spatial=spatial), [x]
        backbone = HorNet(arch, spatial, layer_scale_init_value=0.5)
        cases[f"HorNet, {spatial}"] = backbone, [torch.randn(1, 3, 8 * side, 8 * side)]
    neck = dict(type="hordet.HorFPN", in_channels=[16, 32], out_channels=32, num_outs=3)
    maps = [torch.randn(1, 16, side, side), torch.randn(1, 32, side // 2, side // 2)]
    cases["HorFPN"] = MODELS.build(neck), maps
    for module, _ in cases.values():
        for part in module.modules():
            if isinstance(part, GnConv):
                part.init_near_linear()
    return cases


def _differentiate(
    check: GpuCheck,
    module: nn.Module,
    inputs: list[Tensor],
    mode: str,
    device: str,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """Return all outputs and all gradients, each in one float64 vector."""
    module = copy.deepcopy(module).to(device, dtype)
    xs = [x.detach().clone().to(device, dtype).requires_grad_() for x in inputs]
    with check.precision(mode, device):
        outs = module(xs if len(xs) > 1 else xs[0])
    outs = [outs] if isinstance(outs, Tensor) else list(outs)
    cotangents = [torch.linspace(-1, 1, out.numel()).view(out.shape).to(out) for out in outs]
    torch.autograd.backward(outs, cotangents)
    grads = [each.grad for each in (*xs, *module.parameters()) if each.grad is not None]
    return [
        torch.cat([each.detach().double().flatten().cpu() for each in part])
        for part in (outs, grads)
    ]


def compare_operators(check: GpuCheck) -> None:
    """Compare the operators that mmcv-lite lacks, and their gradients, with the CPU's."""
    from mmcv.ops import batched_nms, deform_conv2d, roi_align, sigmoid_focal_loss
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    draw = torch.Generator().manual_seed(0)
    maps, scores = torch.randn(2, 8, 24, 24, generator=draw), torch.rand(300, generator=draw)
    corners = torch.rand(300, 2, generator=draw) * 80
    boxes = torch.cat([corners, corners + 8 + torch.rand(300, 2, generator=draw) * 40], dim=1)
    rois = torch.cat([(scores > 0.5).float()[:, None], boxes], dim=1)
    offsets = torch.randn(2, 18, 24, 24, generator=draw)
    weight = torch.randn(8, 8, 3, 3, generator=draw)
    logits = torch.randn(40, 5, generator=draw)
    labels = torch.randint(0, 5, (40,), generator=draw)
    value = torch.randn(2, 20, 2, 4, generator=draw)
    places = torch.rand(2, 6, 2, 2, 2, 2, generator=draw)
    shares = torch.rand(2, 6, 2, 2, 2, generator=draw)

    def attend(value: Tensor, places: Tensor, shares: Tensor) -> Tensor:
        shapes = torch.tensor([[4, 4], [2, 2]], device=value.device)
        starts = torch.tensor([0, 16], device=value.device)
        return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, places, shares, 64)

    cases: dict[str, tuple[Callable[..., Tensor], list[Tensor]]] = {
        "RoIAlign": (lambda x: roi_align(x, rois.to(x), 7, 0.25), [maps]),
        "deformable convolution": (
            lambda x, offset, weight: deform_conv2d(x, offset, weight, 1, 1),
            [maps, offsets, weight],
        ),
        "deformable attention": (attend, [value, places, shares]),
        "focal loss": (
            lambda x: sigmoid_focal_loss(x, labels.to(x.device), 2.0, 0.25, None, "none"),
            [logits],
        ),
    }
    for name, (function, inputs) in cases.items():
        check.attempt(name, partial(_compare_on_devices, check, function, inputs))
    kept = [
        batched_nms(
            boxes.to(device),
            scores.to(device),
            torch.zeros(300, dtype=torch.long, device=device),
            dict(type="nms", iou_threshold=0.5),
        )[1].cpu()
        for device in ("cpu", check.device)
    ]
    check.add("nms", torch.equal(*kept), kept=len(kept[0]))


def _compare_on_devices(
    check: GpuCheck, function: Callable[..., Tensor], inputs: list[Tensor]
) -> dict[str, Any]:
    found = []
    for device in ("cpu", check.device):
        own = [x.detach().clone().to(device).requires_grad_() for x in inputs]
        out = function(*own)
        grads = torch.autograd.grad(out.square().sum(), own)
        found.append(torch.cat([each.detach().flatten().cpu() for each in (out, *grads)]))
    error = ((found[0] - found[1]).norm() / found[0].norm()).item()
    if not error <= 1e-4:
        raise RuntimeError(f"it differs from the CPU's by {error:.2g}")
    return dict(error=error)


class _StopHook(Hook):
    """Ends a training after some iterations, as a kill would."""

    priority = "LOWEST"

    def __init__(self, after: int) -> None:
        self.after = after

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        if runner.iter + 1 == self.after:
            raise KeyboardInterrupt


def _train(
    check: GpuCheck,
    config: str,
    name: str,
    amp: str | bool = False,
    compiled: bool = False,
    stop: int = 0,
    resume: str | None = None,
) -> Any:
    """Run a dry training, with a checkpoint each iteration; return its Runner."""
    work_dir = str(check.folder / name)
    options = {"compile_regions": compiled, "log_level": "ERROR"}
    cfg = read_config(find_config(config), tiny=True, work_dir=work_dir, options=options)
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=1)
    cfg.experiment_name = f"{name}_{time.time()}"
    # By mmengine's log, of which errors alone are shown: the check prints one table.
    settings: dict[str, Any] = dict(amp=amp, resume=resume, seed=0)
    runner = build_training_runner(cfg, force=True, verbose=True, **settings)
    if stop:
        runner.register_hook(_StopHook(stop))
    with suppress(KeyboardInterrupt) if stop else nullcontext():
        runner.train()
    return runner


def train_tasks(check: GpuCheck) -> None:
    """Train detection and segmentation for a few steps, in each precision, compiled and not."""
    runs: list[tuple[str | bool, bool]] = [("bfloat16", False)]
    if check.dry:
        check.skip("compiled regions, float32 and float16", "a CPU compiles for minutes")
    else:
        runs = [(False, False), ("bfloat16", False), ("float16", False), ("bfloat16", True)]
    # Compiled ones come last: compilers take long, and the part has its seconds.
    for amp, compiled in runs:
        for config in (DETECTOR, SEGMENTOR):
            kind = f"{amp or 'float32'}{', compiled' if compiled else ''}"
            name = f"{config.split('/')[1]}, {kind}"
            train = partial(_train_once, check, config, name, amp=amp, compiled=compiled)
            check.attempt(f"{config.split('_')[0]}, {kind}", train)


def _train_once(check: GpuCheck, config: str, name: str, **settings: Any) -> dict[str, Any]:
    runner = _train(check, config, name, **settings)
    loss = float(runner.message_hub.get_scalar("train/loss").current())
    if not math.isfinite(loss):
        raise RuntimeError(f"the loss is {loss}")
    return dict(iterations=runner.iter, loss=loss)


def resume_training(check: GpuCheck) -> None:
    """Compare a run in one go, the same run again, and one that is stopped and resumed."""
    for config in (SEGMENTOR,) if check.dry else (DETECTOR, SEGMENTOR):
        start = config.replace("/", "_")
        names = [f"{start}_one", f"{start}_two", f"{start}_resumed"]
        runners = [_train(check, config, name) for name in names[:2]]
        _train(check, config, names[2], stop=2)
        runners.append(_train(check, config, names[2], resume="auto"))
        states = [
            torch.cat([value.double().flatten().cpu() for value in r.model.state_dict().values()])
            for r in runners
        ]
        again, resumed = ((state - states[0]).abs().max().item() for state in states[1:])
        # Atomics let two equal runs differ on a GPU; resuming may add no more than that.
        allowed = 0.0 if check.dry else 10 * max(again, 1e-6)
        check.add(config.split("_")[0], resumed <= allowed, again=again, resumed=resumed)


def compare_kernels(check: GpuCheck) -> None:
    """Compare the Triton kernels of the gates with the plain layers, and time both."""
    if check.dry:
        check.skip("Triton's gates", "tests run them in Triton's interpreter")
        return
    torch.manual_seed(0)
    plain = GnFusion(256, 256).cuda()
    plain.init_near_linear()
    fused = copy.deepcopy(plain)
    use_triton_gates(fused)
    for mode in ("float32", "bfloat16", "float16"):
        x = torch.randn(2, 256, 63, 90)
        found = [_differentiate(check, net, [x], mode, "cuda") for net in (plain, fused)]
        errors = [
            ((one - other).norm() / other.norm()).item() for other, one in zip(*found, strict=True)
        ]
        right = errors[0] <= TOLERANCES[mode] and errors[1] <= 4 * TOLERANCES[mode]
        check.add(f"Triton's gates, {mode}", right, outputs=errors[0], gradients=errors[1])
    maps = torch.randn(8, 256, 200, 272, device="cuda").to(memory_format=torch.channels_last)
    for name, net in (("plain", plain), ("Triton", fused)):

        def forward(net: nn.Module = net) -> None:
            with torch.no_grad(), check.precision("bfloat16"):
                net(maps)

        forward()
        seconds, _ = time_call(forward, "cuda", 10)
        check.add(f"{name} gates, bfloat16, 8 x 256 x 200 x 272", None, ms=seconds * 1e3)


def profile_step(check: GpuCheck) -> None:
    """Count what the host waits for in a training step of Mask R-CNN, and its peak memory."""
    from mmdet.testing import demo_mm_inputs
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import DefaultScope

    config = DETECTOR if check.dry else "coco/mask-rcnn_hornet-small-7x7_horfpn-7x7_1x"
    cfg = read_config(find_config(config))
    cfg.model.backbone.pop("init_cfg", None)
    cfg.optim_wrapper.type = "hordet.Bfloat16OptimWrapper"
    use_equal_parts(cfg)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model: Any = MODELS.build(cfg.model).to(check.device).train()
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    keep_float32(model)
    side = (96, 96) if check.dry else (800, 1088)
    for batch in (1,) if check.dry else (2, 8):
        data = demo_mm_inputs(batch, (3, *side), [10] * batch, num_classes=6, with_mask=True)

        def step(data: Any = data) -> None:
            model.train_step(data, wrapper)

        step()
        if not check.dry:  # the highest of all that ran before would stay
            torch.cuda.reset_peak_memory_stats()
        seconds, _ = time_call(step, check.device, 1 if check.dry else 5)
        peak = 0 if check.dry else torch.cuda.max_memory_allocated()
        with torch.profiler.profile() as profile:
            step()
        counts = count_events({event.key: event.count for event in profile.key_averages()})
        check.add(f"batch {batch}", None, ms=seconds * 1e3, **counts, peak_gb=peak / 1e9)


def count_events(events: dict[str, int]) -> dict[str, int]:
    """Count what a profile of a step says about the host.

    Args:
        events: How often each event happened, by its name in `torch.profiler`.

    Returns:
        `host_reads`: single values and indices that the host asked for; `waits`: times it waited
        for the stream, be it for these or for a copy to the host (0 on a CPU); `launches`: kernels
        that it launched, through CUDA's runtime or, as Triton does, its driver.
    """
    return dict(
        host_reads=events.get("aten::_local_scalar_dense", 0) + events.get("aten::nonzero", 0),
        waits=events.get("cudaStreamSynchronize", 0),
        launches=sum(count for name, count in events.items() if "LaunchKernel" in name),
    )


def time_models(check: GpuCheck) -> None:
    """Time components beside the machine's own limits, with CUDA's events."""
    words = ["block"]
    if not check.dry:
        names = ("fpn", "horfpn-7x7", "horfpn-gf", "convnext-tiny", "hornet-tiny-7x7")
        words = [f"{name}:bfloat16" for name in names]
        words += ["fpn:tf32", "horfpn-7x7:tf32", "horfpn-7x7:float16"]
    settings = SpeedSettings(batch=1 if check.dry else 8, threads=1, device=check.device)
    candidates = [Candidate.parse(word) for word in words]
    rows, roofline = time_candidates(candidates, settings, 2 if check.dry else 7)
    for name, flops in roofline.gemm.items():
        check.add(f"matrix products, {name}", None, tflops=flops / 1e12)
    check.add("copies", None, gb_s=roofline.bandwidth / 1e9)
    for row in rows:
        numbers = dict(ms=row.median * 1e3, share_of_products=row.fraction)
        check.add(row.candidate, None, **numbers, peak_mb=row.peak_memory / 2**20)
