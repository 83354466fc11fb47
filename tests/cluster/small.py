"""UperNet of 0.2 M parameters on generated shapes, with the hooks of every run."""

_base_ = ["../../configs/shapes/upernet_hornet-nano_horuperhead_1k.py"]
custom_imports = dict(imports=["slow_steps"])
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, base_channels=8, depths=[1, 1, 1, 1], orders=[2, 2, 2, 3])
    ),
    decode_head=dict(in_channels=[8, 16, 32, 64], channels=32),
    auxiliary_head=dict(in_channels=32),
)
train_dataloader = dict(batch_size=2)
val_dataloader = dict(dataset=dict(indices=4))
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
