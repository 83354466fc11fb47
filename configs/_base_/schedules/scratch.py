"""Training from scratch on little data: AdamW, short warm-up, then a cosine down to 0, by epochs.

A child sets `train_cfg.max_epochs`; the cosine ends there.
"""

_base_ = "../default_runtime.py"

optim_wrapper = dict(
    type="OptimWrapper",
    # Decay 1: every layer learns at the same rate; it keeps weight decay off norms and biases.
    constructor="hordet.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(decay_rate=1.0, decay_type="layer_wise"),
    optimizer=dict(type="AdamW", lr=1.5e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=20.0),  # gates multiply
)
auto_scale_lr = dict(enable=False, base_batch_size=4)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(type="hordet.EpochBasedTrainLoop", max_epochs=12, val_interval=6)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=1))
