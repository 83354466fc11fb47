"""UperNet, HorNet-nano, HorUPerHead on ADE20K at crops of 256, from scratch: for a CPU.

Cost: 3.3 M parameters; minutes for the 2,000 iterations of batch 4.
Expected: mIoU near 0; a few images show that the pipeline is right, not how good a model is.
Train: hordet train upernet_hornet-nano_horuperhead_2k --data-root FOLDER
Data: a FOLDER of ADEChallengeData2016's layout, with any number of images.
"""

_base_ = [
    "../_base_/models/upernet_nano.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/scratch_iters.py",
]
crop_size = (256, 256)
# Pixels that are sure teach nothing more, and most of the 150 classes are rare and small (online
# hard example mining, Shrivastava et al., CVPR 2016).
sampler = dict(type="OHEMPixelSampler", thresh=0.9, min_kept=1000)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(sampler=sampler, loss_decode=dict(avg_non_ignore=True)),
)
train_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="hordet.LoadSegAnnotations", num_classes=150),
    dict(type="RandomResize", scale=(1024, 256), ratio_range=(1.0, 2.0), keep_ratio=True),
    dict(type="mmseg.RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmseg.PackSegInputs"),
]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
test_resize = dict(type="Resize", scale=(1024, 256), keep_ratio=True)
test_pipeline = [train_pipeline[0], test_resize, train_pipeline[1], train_pipeline[-1]]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=2000, val_interval=1000)
