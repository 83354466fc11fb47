"""Semantic segmentation on `shapes`: the images of shapes_instance.py, background as class 0."""

data_root = "hordet://shapes"
metainfo = dict(
    classes=("background", "circle", "square", "triangle", "star", "ring", "cross"),
    palette=[
        [0, 0, 0],
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
# Multi-scale test: ratios 0.75, 1 and 1.25, each also flipped.
tta_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="Resize", scale=(96, 96), keep_ratio=True),
                dict(type="Resize", scale=(128, 128), keep_ratio=True),
                dict(type="Resize", scale=(160, 160), keep_ratio=True),
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
