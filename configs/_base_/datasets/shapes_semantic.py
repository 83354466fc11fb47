"""Semantic segmentation on `shapes`: the images of shapes_instance.py, background as class 0."""

# With `_base_` set first, mmengine reads this as a plain config, where an import is an import.
_base_ = []
from hordet.datasets.shapes import files as shapes  # noqa: E402

data_root = str(shapes.ensure_shapes())
metainfo = dict(
    classes=("background", *shapes.DEFAULT_CLASSES),
    palette=[[0, 0, 0], *shapes.DEFAULT_PALETTE],
)

train_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="hordet.LoadSegAnnotations", num_classes=7),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmseg.PackSegInputs"),
]
test_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="Resize", scale=(128, 128), keep_ratio=True),
    dict(type="hordet.LoadSegAnnotations", num_classes=7),
    dict(type="mmseg.PackSegInputs"),
]
img_ratios = [0.75, 1.0, 1.25]
tta_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="Resize", scale=(int(128 * r), int(128 * r)), keep_ratio=True)
                for r in img_ratios
            ],
            [
                dict(type="RandomFlip", prob=0.0, direction="horizontal"),
                dict(type="RandomFlip", prob=1.0, direction="horizontal"),
            ],
            [dict(type="hordet.LoadSegAnnotations", num_classes=7)],
            [dict(type="mmseg.PackSegInputs")],
        ],
    ),
]
# Images this small decode faster than a worker process hands them over.
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmseg.BaseSegDataset",
        data_root=data_root,
        data_prefix=dict(img_path="train", seg_map_path="labels/train"),
        img_suffix=".png",
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmseg.BaseSegDataset",
        data_root=data_root,
        data_prefix=dict(img_path="val", seg_map_path="labels/val"),
        img_suffix=".png",
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="hordet.IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
