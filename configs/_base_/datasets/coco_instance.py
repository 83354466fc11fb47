"""Instance segmentation on COCO 2017 in its usual layout, with the training crops of DETR.

After a flip, one of two: the short side to one of 480, 512, ..., 800; or to 400, 500 or 600, then a
crop of 384 to 600 pixels a side, then as the first. The long side stays within 1333. Tested at
1333 x 800. Two images a process.
"""

data_root = "{{$HORDET_DATA:data}}/coco"
resize = dict(
    type="RandomChoiceResize",
    scales=[
        (1333, 480),
        (1333, 512),
        (1333, 544),
        (1333, 576),
        (1333, 608),
        (1333, 640),
        (1333, 672),
        (1333, 704),
        (1333, 736),
        (1333, 768),
        (1333, 800),
    ],
    keep_ratio=True,
    resize_type="mmdet.Resize",
)
resize_before_crop = dict(
    type="RandomChoiceResize",
    scales=[(1333, 400), (1333, 500), (1333, 600)],
    keep_ratio=True,
    resize_type="mmdet.Resize",
)
crop = dict(
    type="mmdet.RandomCrop",
    crop_type="absolute_range",
    crop_size=(384, 600),
    allow_negative_crop=True,
)
train_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="mmdet.RandomFlip", prob=0.5),
    dict(type="RandomChoice", transforms=[[resize], [resize_before_crop, crop, resize]]),
    dict(type="mmdet.PackDetInputs"),
]
test_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="mmdet.Resize", scale=(1333, 800), keep_ratio=True),
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
                dict(type="mmdet.Resize", scale=(1000, 600), keep_ratio=True),
                dict(type="mmdet.Resize", scale=(1333, 800), keep_ratio=True),
                dict(type="mmdet.Resize", scale=(1666, 1000), keep_ratio=True),
            ],
            [dict(type="mmdet.RandomFlip", prob=0.0), dict(type="mmdet.RandomFlip", prob=1.0)],
            [dict(type="mmdet.PackDetInputs")],
        ],
    ),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=dict(type="mmdet.AspectRatioBatchSampler"),
    dataset=dict(
        type="mmdet.CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017/"),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmdet.CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type="hordet.CocoMetric",
    ann_file="{{$HORDET_DATA:data}}/coco/annotations/instances_val2017.json",
    metric=["bbox", "segm"],
)
test_evaluator = val_evaluator
