"""ADE20K's 160k: 160,000 iterations of batch 16 = 8 processes x 2 images, linear fall to 0."""

_base_ = "../default_runtime.py"

optim_wrapper = dict(
    type="OptimWrapper",
    constructor="hordet.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(decay_rate=0.9, decay_type="stage_wise"),
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
# The two multiply, as in the authors' code: the fall starts at once, under the warm-up.
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=160000),
]
train_cfg = dict(type="hordet.IterBasedTrainLoop", max_iters=160000, val_interval=16000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

env_cfg = dict(cudnn_benchmark=True)  # crops of one size
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=16000, save_best="mIoU"),
)
