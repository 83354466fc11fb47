"""RetinaNet, EfficientNet-B0 (AdvProp), HorFPN-7x7 on COCO 2017: a backbone of timm by name.

Cost: 12.76 M parameters, 150.89 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: none known; it has not been trained.
Weights: timm's tf_efficientnet_b0.ap_in1k (AdvProp: Xie et al., CVPR 2020), which timm downloads;
without a network, give its file as checkpoint. They expect other images than most.
Train: torchrun --nproc-per-node 8 -m hordet train retinanet_efficientnet-b0-advprop_horfpn-7x7_1x
Batch: 8 processes x 2 images.
"""

_base_ = [
    "../_base_/models/retinanet.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/schedules/1x_boxes.py",
]

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(
        _delete_=True,
        type="hordet.TimmBackbone",
        model_name="tf_efficientnet_b0.ap_in1k",
        out_indices=(2, 3, 4),  # strides 8, 16, 32
        norm_eval=True,
        init_cfg=dict(type="Pretrained", checkpoint="timm://tf_efficientnet_b0.ap_in1k"),
    ),
    neck=dict(type="hordet.HorFPN", in_channels=[40, 112, 320]),
)
