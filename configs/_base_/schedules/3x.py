"""COCO's 3x: 36 epochs of batch 16 = 8 processes x 2 images, steps of 1/10 after 27 and 33."""

_base_ = "1x.py"

optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.7), optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=36, milestones=[27, 33], gamma=0.1),
]
train_cfg = dict(max_epochs=36)
