"""UperNet, HorNet-nano, HorUPerHead on CamVid at 240 x 180, from scratch.

Cost: 3.3 M parameters; 2,000 iterations of batch 4 in @@ minutes on two CPU cores.
Expected: @@ (measured here, one seed).
Train: python tools/train.py THIS --data-root FOLDER
"""

_base_ = [
    "../_base_/models/upernet_nano.py",
    "../_base_/datasets/camvid_semantic.py",
    "../_base_/schedules/scratch_iters.py",
]
model = dict(
    data_preprocessor=dict(size=(180, 240)),
    decode_head=dict(num_classes=11),
    auxiliary_head=dict(num_classes=11),
)
train_cfg = dict(max_iters=2000, val_interval=1000)
