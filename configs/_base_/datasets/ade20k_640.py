"""ADE20K as ade20k.py has it, enlarged to (2560, 640) and crops of 640 x 640."""

_base_ = "ade20k.py"

crop_size = (640, 640)
scale = (2560, 640)
load, annotations, pack = (_base_.train_pipeline[i] for i in (0, 1, -1))
train_pipeline = [
    load,
    annotations,
    dict(type="RandomResize", scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="mmseg.RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    *_base_.train_pipeline[4:],
]
test_pipeline = [load, dict(type="Resize", scale=scale, keep_ratio=True), annotations, pack]
resizes = [
    dict(type="Resize", scale=(int(2560 * r), int(640 * r)), keep_ratio=True)
    for r in _base_.img_ratios
]
tta_pipeline = [
    load,
    dict(type="TestTimeAug", transforms=[resizes, *_base_.tta_pipeline[1]["transforms"][1:]]),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
