"""Every config: a short delta with a lab note that builds without faults; recipes to the letter."""

import ast
import functools
import json
from pathlib import Path

import pytest
import torch
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, PARAM_SCHEDULERS, DefaultScope

from hordet.config import load_config
from hordet.evaluation import complexity_of

ROOT = Path(__file__).resolve().parents[1]
LEAVES = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("configs/[!_]*/*.py"))
NECKS = {
    "configs/coco/mask-rcnn_hornet-small-7x7_fpn_1x.py": "fpn",
    "configs/coco/mask-rcnn_hornet-small-7x7_horfpn-7x7_1x.py": "horfpn_7x7",
    "configs/coco/mask-rcnn_hornet-small-7x7_horfpn-gf_1x.py": "horfpn_gf",
}
HEADS = {
    "configs/ade20k/upernet_hornet-small-7x7_uperhead_160k.py": "uper",
    "configs/ade20k/upernet_hornet-small-7x7_horuperhead-7x7_160k.py": "gnuper_7x7",
    "configs/ade20k/upernet_hornet-small-7x7_horuperhead-gf_160k.py": "gnuper_gf",
}


@pytest.fixture(scope="module", autouse=True)
def cache_folder(tmp_path_factory):
    """Configs of generated data write it to a cache folder: one of this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HORDET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@functools.cache
def config_of(leaf):
    """The config of a leaf; tests only read it."""
    return load_config(ROOT / leaf)


@functools.cache
def model_of(leaf):
    """The model of a leaf, without memory for its parameters."""
    cfg = config_of(leaf)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device("meta"):
        return MODELS.build(cfg.model)


def settings_lines(source):
    """Count the lines that are neither blank, comment nor docstring."""
    tree = ast.parse(source)
    note = tree.body[0] if ast.get_docstring(tree) else None
    skipped = range(note.lineno, note.end_lineno + 1) if note else ()
    lines = enumerate(source.splitlines(), start=1)
    return sum(bool(s.strip()) and s.strip()[0] != "#" and n not in skipped for n, s in lines)


def test_there_are_configs_and_the_count_of_lines_counts():
    assert {*NECKS, *HEADS} <= set(LEAVES)
    assert settings_lines('"""Note\n\nmore."""\n\n# comment\na = 1\nb = dict(\n    c=2,\n)\n') == 4


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaf_is_a_delta_with_a_lab_note(leaf):
    source = (ROOT / leaf).read_text()
    assert settings_lines(source) <= 25
    note = ast.get_docstring(ast.parse(source)) or ""
    for part in ("Cost:", "Expected:", "tools/train.py"):
        assert part in note, f"the lab note lacks {part}"


@pytest.mark.parametrize("leaf", LEAVES)
def test_config_builds(leaf):
    cfg, model = config_of(leaf), model_of(leaf)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    grouped = sum(len(group["params"]) for group in wrapper.optimizer.param_groups)
    assert grouped == sum(p.requires_grad for p in model.parameters())
    undecayed = [
        p for g in wrapper.optimizer.param_groups if not g["weight_decay"] for p in g["params"]
    ]
    assert undecayed and all(p.ndim <= 1 for p in undecayed)
    hooks = [HOOKS.build(hook) for hook in cfg.custom_hooks]
    assert {"FiniteLossHook", "ProgressHook", "PredictionSheetHook"} <= {
        type(hook).__name__ for hook in hooks
    }
    # The best checkpoint is that of a named metric; 'auto' would take mmseg's pixel accuracy.
    assert cfg.default_hooks.checkpoint.get("save_best") != "auto"


def part_sizes(model):
    return {
        name: sum(p.numel() for p in child.parameters())
        for name, child in model.named_children()
        if name != "data_preprocessor"
    }


@pytest.mark.parametrize(("leaf", "part"), [*NECKS.items(), *HEADS.items()])
def test_cost_of_the_lab_note(reference, leaf, part):
    pipelines = json.loads((reference / "pipelines.json").read_text())
    costs = pipelines["det" if leaf in NECKS else "seg"][f"hornet_s_7x7+{part}"]
    assert part_sizes(model_of(leaf)) == costs["parts"]
    cost = complexity_of(config_of(leaf))
    assert cost.parameters == costs["params"]
    # Exactly the numbers of the authors' code under mmcv 1, as it prints them.
    assert f"{cost.multiply_adds / 1e9:.2f}" == costs["mmcv1_string"].ljust(6, "0")
    assert cost.fft / 1e9 == pytest.approx(costs["fft_correct_G"], abs=6e-4)
    assert cost.matrix_multiply_adds / 1e9 == pytest.approx(costs["conv_linear_G"], abs=6e-3)
    note = ast.get_docstring(ast.parse((ROOT / leaf).read_text()))
    assert f"{cost.parameters / 1e6:.2f} M parameters" in note
    assert f"{cost.multiply_adds / 1e9:.2f} G multiply-adds" in note
    assert ("of FFT" in note) == (cost.fft > 0)
    if cost.fft:
        assert f"{cost.fft / 1e9:.2f} G" in note


def official_config(reference, leaf):
    """The literal settings of the authors' config for a leaf."""
    configs = json.loads((reference / "variants.json").read_text())["configs"]
    names = {
        "fpn": "object_detection/configs/horfpn/fpn_mask_rcnn_hornet_small_7x7_1x_coco_in1k.py",
        "uper": "semantic_segmentation/configs/hornet/upernet_hornet_small_7x7_512_160k_ade20k.py",
    }
    for kind in ("7x7", "gf"):
        names[f"horfpn_{kind}"] = (
            f"object_detection/configs/horfpn/horfpn_{kind}_mask_rcnn_hornet_small_7x7_1x_coco_in1k.py"
        )
        names[f"gnuper_{kind}"] = (
            "semantic_segmentation/configs/horfpn/"
            f"horfpn_{kind}_upernet_hornet_small_7x7_512_160k_ade20k.py"
        )
    return configs[names[{**NECKS, **HEADS}[leaf]]]


@pytest.mark.parametrize("leaf", [*NECKS, *HEADS])
def test_recipe_is_the_authors(reference, leaf):
    cfg, want = config_of(leaf), official_config(reference, leaf)
    backbone, optim = cfg.model.backbone, cfg.optim_wrapper
    assert backbone.drop_path_rate == want["drop_path_rate"]
    assert backbone.init_cfg.checkpoint == want["pretrained"]
    assert not backbone.get("with_cp", False) and not want["use_checkpoint"]
    assert optim.optimizer == dict(
        type="AdamW", lr=want["lr"], betas=tuple(want["betas"]), weight_decay=want["weight_decay"]
    )
    assert optim.paramwise_cfg == dict(want["paramwise"], mode="official")
    assert optim.get("clip_grad") == want["optimizer_config"].get("grad_clip")
    assert cfg.train_dataloader.batch_size == want["samples_per_gpu"]
    assert cfg.auto_scale_lr.base_batch_size == 8 * want["samples_per_gpu"]
    warm_up, then = cfg.param_scheduler
    policy = want["lr_config"]
    assert (warm_up.type, warm_up.end) == ("LinearLR", policy["warmup_iters"])
    assert warm_up.start_factor == policy["warmup_ratio"]
    if leaf in NECKS:
        assert cfg.train_cfg.max_epochs == want["runner"]["max_epochs"]
        assert then.milestones == policy["step"]
    else:
        assert cfg.train_cfg.max_iters == then.end == want["runner"]["max_iters"]
        assert (then.power, then.eta_min) == (policy["power"], policy["min_lr"])
        assert dict(cfg.model.test_cfg) == ast.literal_eval(want["test_cfg"])
        assert list(cfg.model.data_preprocessor.size) == want["crop"]
    gn = want["gn_conv_cfg"] or (want["head"] or [None, {}])[1]
    part = cfg.model.neck if leaf in NECKS else cfg.model.decode_head
    if not gn:
        assert part.type == ("FPN" if leaf in NECKS else "UPerHead")
        return
    assert part.spatial == {"gnconv": "dw7x7", "gngf": "gf"}[gn["type"]]
    assert part.order == gn["order"]
    if part.spatial == "gf":
        assert part.gf_size == (32, 17)
    else:
        assert part.kernel_size == gn["kernel_size"] == 7


def test_learning_rate_of_160k():
    """The product of warm-up and linear fall, as mmcv 1 computed it."""
    cfg = config_of("configs/ade20k/upernet_hornet-small-7x7_uperhead_160k.py")
    wrapper = OptimWrapper(torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-4))
    schedulers = [
        PARAM_SCHEDULERS.build(dict(schedule, optimizer=wrapper))
        for schedule in cfg.param_scheduler
    ]
    for iteration in range(3000):
        warm_up = 1 - max(0, 1 - iteration / 1500) * (1 - 1e-6)
        expected = 1e-4 * (1 - iteration / 160000) * warm_up
        assert wrapper.get_lr()["lr"][0] == pytest.approx(expected, rel=1e-3, abs=1e-10)
        wrapper.step()
        for scheduler in schedulers:
            scheduler.step()
