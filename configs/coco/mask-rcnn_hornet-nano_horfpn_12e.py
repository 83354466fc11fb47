"""Mask R-CNN, HorNet-nano, HorFPN on COCO at 448 x 320, from scratch: for a CPU.

Cost: 4 M parameters; on COCO's 118,000 images days, on a few hundred minutes.
Expected: AP near 0; a hundred images show that the pipeline is right, not how good a model is.
Train: hordet train mask-rcnn_hornet-nano_horfpn_12e --data-root FOLDER
Data: a FOLDER of COCO's layout, with any number of images.
"""

_base_ = [
    "../_base_/models/mask_rcnn_nano.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/scratch.py",
]
scale = (448, 320)
train_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="mmdet.Resize", scale=scale, keep_ratio=True),
    dict(type="mmdet.RandomFlip", prob=0.5),
    dict(type="mmdet.PackDetInputs"),
]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
test_pipeline = [train_pipeline[0], train_pipeline[2], train_pipeline[1], train_pipeline[4]]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
