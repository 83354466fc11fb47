"""Instance segmentation on `shapes`: 400 + 100 generated images of 128 x 128, 6 classes.

`hordet://shapes` is a folder in the cache (HORDET_CACHE, or ~/.cache/hordet). hordet draws the
images there in a few seconds, when they are needed first.
"""

data_root = "hordet://shapes"
metainfo = dict(
    classes=("circle", "square", "triangle", "star", "ring", "cross"),
    palette=[
        [220, 60, 60],
        [60, 120, 230],
        [240, 200, 40],
        [60, 190, 90],
        [170, 80, 220],
        [240, 130, 40],
    ],
)

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
tta_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="mmdet.Resize", scale=(112, 112), keep_ratio=True),
                dict(type="mmdet.Resize", scale=(128, 128), keep_ratio=True),
                dict(type="mmdet.Resize", scale=(144, 144), keep_ratio=True),
            ],
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
    ann_file="hordet://shapes/annotations/instances_val.json",
    metric=["bbox", "segm"],
)
test_evaluator = val_evaluator
