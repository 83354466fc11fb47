"""Semantic segmentation of street scenes (CamVid): 480 x 360, 11 classes, 255 = void.

Layout: `images/{train,val}`, `annotations/{train,val}`. Trained and tested at half size, 240 x 180;
scored against the maps at full size.
"""

data_root = "{{$HORDET_DATA:data}}/camvid"
metainfo = dict(
    classes=(
        "Sky",
        "Building",
        "Pole",
        "Road",
        "Pavement",
        "Tree",
        "SignSymbol",
        "Fence",
        "Car",
        "Pedestrian",
        "Bicyclist",
    ),
    palette=[
        [128, 128, 128],
        [128, 0, 0],
        [192, 192, 128],
        [128, 64, 128],
        [60, 40, 222],
        [128, 128, 0],
        [192, 128, 128],
        [64, 64, 128],
        [64, 0, 128],
        [64, 64, 0],
        [0, 128, 192],
    ],
)
crop_size = (180, 240)

train_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="hordet.LoadSegAnnotations", num_classes=11),
    dict(
        type="RandomResize",
        scale=(240, 180),
        ratio_range=(1.0, 2.0),
        keep_ratio=True,
    ),
    dict(type="mmseg.RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmseg.PhotoMetricDistortion"),
    dict(type="mmseg.PackSegInputs"),
]
test_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="Resize", scale=(240, 180), keep_ratio=True),
    # After the resize: the prediction is scaled back and scored against the whole map.
    dict(type="hordet.LoadSegAnnotations", num_classes=11),
    dict(type="mmseg.PackSegInputs"),
]
# Multi-scale test: ratios 0.75 to 1.5, each also flipped.
tta_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="Resize", scale=(180, 135), keep_ratio=True),
                dict(type="Resize", scale=(240, 180), keep_ratio=True),
                dict(type="Resize", scale=(300, 225), keep_ratio=True),
                dict(type="Resize", scale=(360, 270), keep_ratio=True),
            ],
            [
                dict(type="RandomFlip", prob=0.0, direction="horizontal"),
                dict(type="RandomFlip", prob=1.0, direction="horizontal"),
            ],
            [dict(type="hordet.LoadSegAnnotations", num_classes=11)],
            [dict(type="mmseg.PackSegInputs")],
        ],
    ),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmseg.BaseSegDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/train", seg_map_path="annotations/train"),
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmseg.BaseSegDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/val", seg_map_path="annotations/val"),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="hordet.IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
