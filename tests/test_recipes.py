"""The published rows: settings and costs of the authors' 21 configs, to the letter."""

import ast
import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from hordet.checkpoints import find_weights
from hordet.config.load import load_config

ROOT = Path(__file__).resolve().parents[1]
DETECTION, SEGMENTATION = "object_detection/configs", "semantic_segmentation/configs"
# Name: the authors' config, and the part and key of its costs in pipelines.json.
ROWS = {
    "coco/mask-rcnn_hornet-small-7x7_fpn_1x": (
        f"{DETECTION}/horfpn/fpn_mask_rcnn_hornet_small_7x7_1x_coco_in1k",
        ("det", "hornet_s_7x7+fpn"),
    )
}
for kind in ("7x7", "gf"):
    ROWS[f"coco/mask-rcnn_hornet-small-7x7_horfpn-{kind}_1x"] = (
        f"{DETECTION}/horfpn/horfpn_{kind}_mask_rcnn_hornet_small_7x7_1x_coco_in1k",
        ("det", f"hornet_s_7x7+horfpn_{kind}"),
    )
    ROWS[f"ade20k/upernet_hornet-small-7x7_horuperhead-{kind}_160k"] = (
        f"{SEGMENTATION}/horfpn/horfpn_{kind}_upernet_hornet_small_7x7_512_160k_ade20k",
        ("seg", f"hornet_s_7x7+gnuper_{kind}"),
    )
    for arch in ("tiny", "small", "base", "large"):
        images, crop = ("in22k", 640) if arch == "large" else ("in1k", 512)
        ROWS[f"coco/cascade-mask-rcnn_hornet-{arch}-{kind}_fpn_3x"] = (
            f"{DETECTION}/hornet/cascade_mask_rcnn_hornet_{arch}_{kind}_3x_coco_{images}",
            ("published_check", f"cascade_{arch}_{kind}"),
        )
        ROWS[f"ade20k/upernet_hornet-{arch}-{kind}_uperhead_160k"] = (
            f"{SEGMENTATION}/hornet/upernet_hornet_{arch}_{kind}_{crop}_160k_ade20k",
            ("published_check", f"upernet_{arch}_{kind}"),
        )


def config_of(name):
    return load_config(ROOT / "configs" / f"{name}.py")


def authors_configs(reference):
    """The literal settings of the authors' configs, by path."""
    return json.loads((reference / "variants.json").read_text())["configs"]


def test_every_config_of_the_authors_has_its_config(reference):
    assert {f"{theirs}.py" for theirs, _ in ROWS.values()} == set(authors_configs(reference))


@pytest.mark.parametrize("name", ROWS)
def test_recipe_is_the_authors(reference, name):
    cfg, want = config_of(name), authors_configs(reference)[f"{ROWS[name][0]}.py"]
    optim = cfg.optim_wrapper
    assert optim.optimizer == dict(
        type="AdamW",
        lr=want["lr"],
        betas=tuple(want["betas"]),
        weight_decay=want["weight_decay"],
        fused=True,  # the same update in one pass over memory
    )
    assert optim.paramwise_cfg == dict(want["paramwise"], mode="official")
    assert optim.get("clip_grad") == want["optimizer_config"].get("grad_clip")
    assert cfg.train_dataloader.batch_size == want["samples_per_gpu"]
    assert cfg.auto_scale_lr.base_batch_size == 8 * want["samples_per_gpu"]
    warm_up, then = cfg.param_scheduler
    policy = want["lr_config"]
    assert (warm_up.type, warm_up.end) == ("LinearLR", policy["warmup_iters"])
    assert warm_up.start_factor == policy["warmup_ratio"]
    if name.startswith("coco/"):
        assert cfg.train_cfg.max_epochs == then.end == want["runner"]["max_epochs"]
        assert (then.milestones, then.gamma) == (policy["step"], 0.1)
        assert cfg.get("sync_bn") == ("torch" if "cascade" in name else None)
        return
    assert cfg.train_cfg.max_iters == then.end == want["runner"]["max_iters"]
    assert (then.power, then.eta_min) == (policy["power"], policy["min_lr"])
    assert dict(cfg.model.test_cfg) == ast.literal_eval(want["test_cfg"])
    crop = tuple(want["crop"])
    assert cfg.model.data_preprocessor.size == crop
    steps = cfg.train_dataloader.dataset.pipeline
    assert steps[3].crop_size == crop and steps[2].scale == (4 * crop[0], crop[0])
    assert cfg.test_dataloader.dataset.pipeline[1].scale == (4 * crop[0], crop[0])
    scales = [step.scale for step in cfg.tta_pipeline[1].transforms[0]]
    assert scales == [(4 * n, n) for n in (int(crop[0] * r / 4) for r in range(2, 8))]
    assert cfg.sync_bn == "torch"


@pytest.mark.parametrize("name", ROWS)
def test_model_is_the_authors(reference, name):
    model, want = config_of(name).model, authors_configs(reference)[f"{ROWS[name][0]}.py"]
    backbone = model.backbone
    assert backbone.drop_path_rate == want["drop_path_rate"]
    assert f"pretrained/{find_weights(backbone.init_cfg.checkpoint).file}" == want["pretrained"]
    assert backbone.get("with_cp", False) == want["use_checkpoint"]
    sizes = re.findall(r"h=(\d+), w=(\d+)", "".join(want["gnconv"]))
    assert (backbone.get("spatial") == "gf") == bool(sizes)
    if sizes:  # two stages have filters; det T/S/B have HorNet's default sizes
        gf_sizes = backbone.get("gf_sizes", ((14, 8), (7, 4)))
        assert [tuple(size) for size in gf_sizes] == [(int(h), int(w)) for h, w in sizes]
    part = model.neck if name.startswith("coco/") else model.decode_head
    assert part.in_channels == [want["base_dim"] * 2**i for i in range(4)]
    gn = want["gn_conv_cfg"] or (want["head"] or [None, {}])[1]
    if not gn:
        assert part.type == ("FPN" if name.startswith("coco/") else "UPerHead")
        return
    assert part.spatial == {"gnconv": "dw7x7", "gngf": "gf"}[gn["type"]]
    assert part.order == gn["order"]
    if part.spatial == "gf":
        assert part.gf_size == (32, 17)
    else:
        assert part.kernel_size == gn["kernel_size"] == 7


@pytest.mark.parametrize("name", ROWS)
def test_cost_is_the_published(reference, cost_of, name):
    part, key = ROWS[name][1]
    want = json.loads((reference / "pipelines.json").read_text())[part][key]
    cost = cost_of(f"configs/{name}.py")
    assert cost.parameters == want["params"]
    # The numbers of the authors' code under mmcv 1, as it prints them.
    assert f"{cost.multiply_adds / 1e9:.2f}" == f"{want['mmcv1_GFLOPs']:.2f}"
    assert cost.fft / 1e9 == pytest.approx(want["fft_correct_G"], abs=6e-4)
    assert cost.matrix_multiply_adds / 1e9 == pytest.approx(want["conv_linear_G"], abs=6e-3)
    if "published" in want:
        published = [round(cost.parameters / 1e6), round(cost.multiply_adds / 1e9)]
        assert published == want["published"]


def test_learning_rate_of_160k():
    """The product of warm-up and linear fall, as mmcv 1 computed it."""
    cfg = config_of("ade20k/upernet_hornet-small-7x7_uperhead_160k")
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
