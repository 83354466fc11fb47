"""COCO's 1x: 12 epochs of batch 16 = 8 processes x 2 images, steps of 1/10 after 8 and 11."""

_base_ = "../default_runtime.py"

optim_wrapper = dict(
    type="OptimWrapper",
    constructor="hordet.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(decay_rate=0.95, decay_type="layer_wise"),
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
train_cfg = dict(type="hordet.EpochBasedTrainLoop", max_epochs=12, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

default_hooks = dict(checkpoint=dict(save_best="coco/segm_mAP"))
