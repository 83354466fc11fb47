"""ADE20K as ade20k.py has it, enlarged to (2560, 640) and crops of 640 x 640."""

_base_ = "ade20k.py"

crop_size = (640, 640)
scale = (2560, 640)
load = _base_.train_pipeline[0]
annotations = _base_.train_pipeline[1]
train_pipeline = [
    load,
    annotations,
    dict(type="RandomResize", scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="mmseg.RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    *_base_.train_pipeline[4:],
]
test_pipeline = [
    load,
    dict(type="Resize", scale=scale, keep_ratio=True),
    annotations,
    dict(type="mmseg.PackSegInputs"),
]
resizes = [
    dict(type="Resize", scale=(1280, 320), keep_ratio=True),
    dict(type="Resize", scale=(1920, 480), keep_ratio=True),
    dict(type="Resize", scale=(2560, 640), keep_ratio=True),
    dict(type="Resize", scale=(3200, 800), keep_ratio=True),
    dict(type="Resize", scale=(3840, 960), keep_ratio=True),
    dict(type="Resize", scale=(4480, 1120), keep_ratio=True),
]
tta_pipeline = [
    load,
    dict(type="TestTimeAug", transforms=[resizes, *_base_.tta_pipeline[1]["transforms"][1:]]),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
