"""The text of a segmentor's config; comments name the statistic from which each number comes."""

from hordet.new_config.map_folder import MapSplit, MapStatistics
from hordet.new_config.rules import SegmentationChoices
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
    wrap_values,
)


def write_segmentation_config(
    statistics: MapStatistics,
    choices: SegmentationChoices,
    backbone: BackboneChoice,
    bases: list[str],
) -> str:
    """Return the text of a segmentor's config; arguments as of `write_detection_config`."""
    number = len(statistics.classes)
    channels = CHANNELS[backbone.name]
    decode, aux = (
        (f"in_channels={channels}, ", f"in_channels={channels[2]}, ")
        if backbone.weights
        else ("", "")
    )
    model = backbone.format_settings() or "    backbone=dict(layer_scale_init_value=0.1),\n"
    settings = ", ".join(
        part for part in ("size=crop_size", backbone.format_preprocessing()) if part
    )
    load = f'dict(type="hordet.LoadSegAnnotations", num_classes={number})'
    interval = choices.schedule.val_interval
    return f"""\
{format_note("UperNet", "HorUPerHead", statistics, choices.schedule, backbone)}
_base_ = {join_items(bases)}
{format_data(statistics)}
scale = {choices.scale}  # images are {find_median_side(statistics)}
crop_size = {choices.crop}  # half an image: more and cheaper steps
# Weights in proportion to 1 / sqrt(share of the pixels), so that rare classes are learned too.
class_weight = [
{wrap_values([f"{weight:g}" for weight in choices.class_weight])}
]
# mmseg's own mean fails with weights and ignored pixels; mmengine takes the mean instead.
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
    img_suffix={quote(statistics.img_suffix)},
    seg_map_suffix={quote(statistics.seg_map_suffix)},
    reduce_zero_label={statistics.reduce_zero_label},
    metainfo=metainfo,
)
train_dataloader = dict(
    batch_size={choices.schedule.batch_size},
    dataset=dict(
        _delete_=True,
        **dataset,
{_format_source(statistics.train)}        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **dataset,
{_format_source(statistics.val)}        test_mode=True,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
tta_scales = [{", ".join(str(scale_size(choices.scale, by)) for by in (0.75, 1.0, 1.25))}]
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
{format_steps(choices.schedule, backbone)}
# {len(statistics.train.names)} images, {number} classes; rare classes are learned last.
train_cfg = dict(max_iters={choices.schedule.length}, val_interval={interval})
default_hooks = dict(checkpoint=dict(interval={interval}, save_best="mIoU"))
"""


def _format_source(split: MapSplit) -> str:
    """Return the settings that name a split's images and maps."""
    listed = f"        ann_file={quote(split.ann_file)},\n" if split.ann_file else ""
    folders = f"img_path={quote(split.images)}, seg_map_path={quote(split.maps)}"
    return f"{listed}        data_prefix=dict({folders}),\n"
