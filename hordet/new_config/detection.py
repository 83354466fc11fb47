"""The text of a detector's config; comments name the statistic from which each number comes."""

from pathlib import Path

import numpy as np

from hordet.datasets.detection_limits import SCORED
from hordet.new_config.coco_folder import CocoSplit, CocoStatistics
from hordet.new_config.rules import DetectionChoices
from hordet.new_config.text import (
    CHANNELS,
    BackboneChoice,
    find_median_side,
    format_data,
    format_note,
    format_steps,
    join_items,
    quote,
    scale_size,
)
from hordet.new_config.words import format_count


def write_detection_config(
    statistics: CocoStatistics,
    choices: DetectionChoices,
    backbone: BackboneChoice,
    bases: list[str],
) -> str:
    """Return the text of a detector's config.

    Args:
        statistics: Statistics of the data.
        choices: From `rules.choose_detection`.
        backbone: The backbone of the model.
        bases: Paths of the base configs of model, data and schedule, relative to the config.
    """
    low, half, high = np.quantile(statistics.sides, [0.1, 0.5, 0.95])
    masks = statistics.with_mask
    model = backbone.format_settings()
    parts = [backbone.format_preprocessing(), "" if masks else "pad_mask=False"]
    settings = ", ".join(part for part in parts if part)
    if settings:
        model = f"    data_preprocessor=dict({settings}),\n" + model
    if backbone.weights:
        model += f"    neck=dict(in_channels={CHANNELS[backbone.name]}),\n"
    if not masks:
        model = '    type="FasterRCNN",  # only boxes are annotated\n' + model
    number = len(statistics.classes)
    heads = f"        bbox_head=dict(num_classes={number}),\n"
    if masks:
        heads += f'        mask_head=dict(type="hordet.RleMaskHead", num_classes={number}),\n'
    else:
        heads += "        mask_roi_extractor=None,\n        mask_head=None,\n"
    detector = "Mask R-CNN" if masks else "Faster R-CNN"
    metrics = '["bbox", "segm"]' if masks else '["bbox"]'
    crop = crop_step = ""
    if choices.crop:
        crop = "# Crops of the original size keep the cost of a step.\n"
        crop_step = f"""\
    dict(
        type="mmdet.RandomCrop",
        crop_size=({choices.crop}, {choices.crop}),
        allow_negative_crop=False,
    ),
"""
    interval = choices.schedule.val_interval
    beyond = choices.max_per_img > max(SCORED)
    scored = f", proposal_nums={(*SCORED[:2], choices.max_per_img)}" if beyond else ""
    return f"""\
{format_note(detector, "HorFPN", statistics, choices.schedule, backbone)}
_base_ = {join_items(bases)}
{format_data(statistics)}
# The median object has a side of {half:.0f} pixels; images are {find_median_side(statistics)}.
scale = {choices.scale}  # images times {choices.enlarged:.2f}
model = dict(
{model}    rpn_head=dict(
        anchor_generator=dict(
            # Times strides of 4 to 64: 10 to 95 % of the sides are {low:.0f} to {high:.0f} pixels.
            scales={choices.anchor_scales},
            ratios={choices.anchor_ratios},  # height / width of 10, 50 and 90 % of the boxes
        )
    ),
    roi_head=dict(
{heads}    ),
    # {statistics.median_objects} objects in a median image, at most {statistics.most_objects}.
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=300),
        rcnn=dict(sampler=dict(num={choices.sampled})),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=500, max_per_img={max(300, choices.max_per_img)}),
        rcnn=dict(max_per_img={choices.max_per_img}),
    ),
)
# If images have no up and down (microscopy, aerial images), let RandomFlip flip both ways:
# prob=0.75, direction=["horizontal", "vertical", "diagonal"].
{crop}train_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask={masks}),
    dict(type="mmdet.RandomFlip", prob=0.5),
    dict(
        type="RandomResize",
        scale=scale,
        ratio_range=(0.8, 1.25),
        keep_ratio=True,
        resize_type="mmdet.Resize",
    ),
{crop_step}    dict(type="mmdet.FilterAnnotations", min_gt_bbox_wh=(1, 1), by_mask={masks}),
    dict(type="mmdet.PackDetInputs"),
]
test_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="mmdet.Resize", scale=scale, keep_ratio=True),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask={masks}),
    dict(type="mmdet.PackDetInputs"),
]
train_dataloader = dict(
    batch_size={choices.schedule.batch_size},
    dataset=dict(
        data_root=data_root,
{_format_source(statistics.train)}        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
{_format_source(statistics.val)}        metainfo=metainfo,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(
    ann_file={_format_scored_file(statistics)}, metric={metrics}{scored}
)
test_evaluator = val_evaluator
tta_scales = [{", ".join(str(scale_size(choices.scale, by)) for by in (0.8, 1.0, 1.2))}]
tta_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="mmdet.Resize", scale=size, keep_ratio=True) for size in tta_scales],
            [dict(type="mmdet.RandomFlip", prob=0.0), dict(type="mmdet.RandomFlip", prob=1.0)],
            [dict(type="mmdet.PackDetInputs")],
        ],
    ),
]
{format_steps(choices.schedule, backbone, "neck.fpn_convs")}
# {statistics.train.num_images} images, {format_count(number, "class")}; shorter if it overfits.
train_cfg = dict(max_epochs={choices.schedule.length}, val_interval={interval})
default_hooks = dict(checkpoint=dict(save_best="coco/{"segm" if masks else "bbox"}_mAP"))
"""


def _format_scored_file(statistics: CocoStatistics) -> str:
    """Return the annotation file of validation as an expression of the config."""
    name = statistics.val.ann_file
    return quote(name) if Path(name).is_absolute() else f"data_root + {quote('/' + name)}"


def _format_source(split: CocoSplit) -> str:
    """Return the settings that name a split's annotations and images."""
    return f"""\
        ann_file={quote(split.ann_file)},
        data_prefix=dict(img={quote(split.images)}),
"""
