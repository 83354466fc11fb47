"""Instance segmentation of fluorescence nuclei (DSB 2018): 256 x 256 and 320 x 256, one class, RLE.

Layout: `annotations/instances_{train,val}.json`, `train/`, `val/`. About 30 nuclei an image, up to
several hundred, most of them 10 to 30 pixels wide.
"""

data_root = "{{$HORDET_DATA:data}}/nuclei"
metainfo = dict(classes=("nucleus",), palette=[(220, 20, 60)])

# Half of the nuclei are below 13 pixels, three cells of the finest level, so images are enlarged
# by half; crops keep the cost. From scratch: every flip and turn of a nucleus is a nucleus.
train_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="mmdet.RandomFlip", prob=0.75, direction=["horizontal", "vertical", "diagonal"]),
    dict(
        type="RandomResize",
        scale=(480, 384),
        ratio_range=(0.8, 1.25),
        keep_ratio=True,
        resize_type="mmdet.Resize",
    ),
    dict(type="mmdet.RandomCrop", crop_size=(256, 256), allow_negative_crop=False),
    dict(type="mmdet.FilterAnnotations", min_gt_bbox_wh=(1, 1), by_mask=True),
    dict(type="mmdet.PackDetInputs"),
]
test_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="mmdet.Resize", scale=(480, 384), keep_ratio=True),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="mmdet.PackDetInputs"),
]
# Multi-scale test: 0.83 to 1.2 of the single scale, each also flipped.
tta_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="mmdet.Resize", scale=(400, 320), keep_ratio=True),
                dict(type="mmdet.Resize", scale=(480, 384), keep_ratio=True),
                dict(type="mmdet.Resize", scale=(576, 461), keep_ratio=True),
            ],
            [dict(type="mmdet.RandomFlip", prob=0.0), dict(type="mmdet.RandomFlip", prob=1.0)],
            [dict(type="mmdet.PackDetInputs")],
        ],
    ),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
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
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
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
    ann_file="{{$HORDET_DATA:data}}/nuclei/annotations/instances_val.json",
    metric=["bbox", "segm"],
)
test_evaluator = val_evaluator
