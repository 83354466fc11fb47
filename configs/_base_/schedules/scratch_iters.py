"""As scratch.py, by iterations, which is how segmentation counts."""

_base_ = "scratch.py"

param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False),
]
train_cfg = dict(_delete_=True, type="hordet.IterBasedTrainLoop", max_iters=1000, val_interval=500)
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=500)
)
