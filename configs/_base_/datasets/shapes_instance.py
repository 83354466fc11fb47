"""Instance segmentation on `shapes`: 400 + 100 generated images of 128 x 128, 6 classes.

The images lie in the cache folder (HORDET_CACHE, or ~/.cache/hordet); reading this config makes
them if they are not there, in a few seconds.
"""

# With `_base_` set first, mmengine reads this as a plain config, where an import is an import.
_base_ = []
from hordet.datasets.shapes import files as shapes  # noqa: E402

data_root = str(shapes.ensure_shapes())
metainfo = dict(classes=shapes.DEFAULT_CLASSES, palette=list(shapes.DEFAULT_PALETTE))

train_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="mmdet.RandomFlip", prob=0.5),
    dict(type="mmdet.PackDetInputs"),
]
test_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="mmdet.Resize", scale=(128, 128), keep_ratio=True),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="mmdet.PackDetInputs"),
]
# Multi-scale test: three sizes, each also flipped.
tta_scales = [(112, 112), (128, 128), (144, 144)]
tta_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="mmdet.Resize", scale=scale, keep_ratio=True) for scale in tta_scales],
            [dict(type="mmdet.RandomFlip", prob=0.0), dict(type="mmdet.RandomFlip", prob=1.0)],
            [dict(type="mmdet.PackDetInputs")],
        ],
    ),
]
# Images this small decode faster than a worker process hands them over.
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="mmdet.CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_train.json",
        data_prefix=dict(img="train/"),
        metainfo=metainfo,
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmdet.CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_val.json",
        data_prefix=dict(img="val/"),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type="hordet.CocoMetric",
    ann_file=data_root + "/annotations/instances_val.json",
    metric=["bbox", "segm"],
)
test_evaluator = val_evaluator
