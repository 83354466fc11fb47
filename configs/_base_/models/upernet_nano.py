"""UperNet small enough to train on a CPU: HorNet-nano and HorUPerHead of 64 channels."""

_base_ = "upernet.py"

model = dict(
    # From scratch in minutes: the published start (layer scales of 1e-6) keeps every block asleep.
    backbone=dict(arch="nano", layer_scale_init_value=1.0, init="near_linear"),
    decode_head=dict(type="hordet.HorUPerHead", channels=64, dropout_ratio=0.0),
    auxiliary_head=dict(channels=32),
    test_cfg=dict(_delete_=True, mode="whole"),
)
