"""The text of a segmentor's leaf: every number with the figure of the data that it follows."""

from hordet.new_config.leaf_parts import (
    CHANNELS,
    Backbone,
    data,
    items,
    middle,
    note,
    quoted,
    steps,
    times,
    wrapped,
)
from hordet.new_config.map_folder import MapFigures, MapSplit
from hordet.new_config.rules import SegmentationChoices


def segmentation_leaf(
    figures: MapFigures, choices: SegmentationChoices, backbone: Backbone, bases: list[str]
) -> str:
    """Return the text of a segmentor's config; arguments as of `detection_leaf`."""
    number = len(figures.classes)
    channels = CHANNELS[backbone.name]
    decode, aux = (
        (f"in_channels={channels}, ", f"in_channels={channels[2]}, ")
        if backbone.weights
        else ("", "")
    )
    model = backbone.lines() or "    backbone=dict(layer_scale_init_value=0.1),\n"
    settings = ", ".join(part for part in ("size=crop_size", backbone.preprocessing()) if part)
    load = f'dict(type="hordet.LoadSegAnnotations", num_classes={number})'
    interval = choices.schedule.val_interval
    return f"""\
{note("UperNet", "HorUPerHead", figures, choices.schedule, backbone)}
_base_ = {items(bases)}
{data(figures)}
scale = {choices.scale}  # images are {middle(figures)}
crop_size = {choices.crop}  # half of it: more and cheaper steps
# A pixel counts by its class, 1 / sqrt(share of the pixels), so that rare classes are learned, too.
class_weight = [
{wrapped([f"{weight:g}" for weight in choices.class_weight])}
]
# mmseg's mean does not take weights beside ignored pixels; mmengine takes the mean of what is left.
loss_decode = dict(
    type="CrossEntropyLoss", use_sigmoid=False, class_weight=class_weight, reduction="none"
)
model = dict(
    data_preprocessor=dict({settings}),
{model}    decode_head=dict({decode}num_classes={number}, loss_decode=loss_decode),
    auxiliary_head=dict({aux}num_classes={number}),
)
train_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    {load},
    dict(type="RandomResize", scale=scale, ratio_range=(0.5, 1.25), keep_ratio=True),
    dict(type="mmseg.RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmseg.PhotoMetricDistortion"),
    dict(type="mmseg.PackSegInputs"),
]
test_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    {load},
    dict(type="mmseg.PackSegInputs"),
]
dataset = dict(
    type="mmseg.BaseSegDataset",
    data_root=data_root,
    img_suffix={quoted(figures.img_suffix)},
    seg_map_suffix={quoted(figures.seg_map_suffix)},
    reduce_zero_label={figures.reduce_zero_label},
    metainfo=metainfo,
)
train_dataloader = dict(
    batch_size={choices.schedule.batch_size},
    dataset=dict(
        _delete_=True,
        **dataset,
{_source(figures.train)}        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **dataset,
{_source(figures.val)}        test_mode=True,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
tta_scales = [{", ".join(str(times(choices.scale, by)) for by in (0.75, 1.0, 1.25))}]
tta_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="Resize", scale=size, keep_ratio=True) for size in tta_scales],
            [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)],
            [{load}],
            [dict(type="mmseg.PackSegInputs")],
        ],
    ),
]
{steps(choices.schedule, backbone)}
# {len(figures.train.names)} images, {number} classes; rare classes are learned last.
train_cfg = dict(max_iters={choices.schedule.length}, val_interval={interval})
default_hooks = dict(checkpoint=dict(interval={interval}, save_best="mIoU"))
"""


def _source(split: MapSplit) -> str:
    """Where a data set's images and maps are, and which of them are meant."""
    listed = f"        ann_file={quoted(split.ann_file)},\n" if split.ann_file else ""
    folders = f"img_path={quoted(split.images)}, seg_map_path={quoted(split.maps)}"
    return f"{listed}        data_prefix=dict({folders}),\n"
