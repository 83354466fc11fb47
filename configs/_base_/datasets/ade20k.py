"""Semantic segmentation on ADE20K (SceneParse150) in its usual layout, crops of 512 x 512.

Resize to (2048, 512) times 0.5 to 2, crop with no category above 0.75, flip, photometric
distortion. Two images a process. Multi-scale test: ratios 0.5 to 1.75 of the single scale, each
also flipped.
"""

data_root = "{{$HORDET_DATA:data}}/ade/ADEChallengeData2016"
crop_size = (512, 512)

train_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="hordet.LoadSegAnnotations", num_classes=150),
    dict(
        type="RandomResize",
        scale=(2048, 512),
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
    ),
    dict(type="mmseg.RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmseg.PhotoMetricDistortion"),
    dict(type="mmseg.PackSegInputs"),
]
test_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="Resize", scale=(2048, 512), keep_ratio=True),
    # After the resize: the prediction is scaled back and scored against the whole map.
    dict(type="hordet.LoadSegAnnotations", num_classes=150),
    dict(type="mmseg.PackSegInputs"),
]
tta_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                # Ratios of the single test scale, as published; not of the original image.
                dict(type="Resize", scale=(1024, 256), keep_ratio=True),
                dict(type="Resize", scale=(1536, 384), keep_ratio=True),
                dict(type="Resize", scale=(2048, 512), keep_ratio=True),
                dict(type="Resize", scale=(2560, 640), keep_ratio=True),
                dict(type="Resize", scale=(3072, 768), keep_ratio=True),
                dict(type="Resize", scale=(3584, 896), keep_ratio=True),
            ],
            [
                dict(type="RandomFlip", prob=0.0, direction="horizontal"),
                dict(type="RandomFlip", prob=1.0, direction="horizontal"),
            ],
            [dict(type="hordet.LoadSegAnnotations", num_classes=150)],
            [dict(type="mmseg.PackSegInputs")],
        ],
    ),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmseg.ADE20KDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmseg.ADE20KDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="hordet.IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
