"""Mask2Former (Cheng et al., CVPR 2022), HorNet-T 7x7 on ADE20K, crops of 512.

mmseg's recipe whole, pixel decoder (MSDeformAttn), 160,000 iterations of batch 16; only the
backbone is another. HorNet's authors used such a model and released neither recipe nor weights.

Cost: 41.69 M parameters, 223.74 G multiply-adds at 2048 x 512 (mmcv's counter, which leaves
attention out; 267.80 G with it).
Expected: none known; it has not been trained.
Weights: hordet://hornet-tiny-7x7, the authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train mask2former_hornet-tiny-7x7_160k
Batch: 8 processes x 2 images.
"""

_base_ = [
    "mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py",
    "../_base_/hooks.py",
]

model = dict(
    backbone=dict(
        _delete_=True,
        type="hordet.HorNet",
        drop_path_rate=0.4,
        init_cfg=dict(type="Pretrained", checkpoint="hordet://hornet-tiny-7x7"),
    ),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
)
data_root = "{{$HORDET_DATA:data}}/ade/ADEChallengeData2016"
load = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="hordet.LoadSegAnnotations", num_classes=150),
]
train_pipeline = [*load, *_base_.train_pipeline[2:]]
test_pipeline = [load[0], _base_.test_pipeline[1], load[1], _base_.test_pipeline[3]]
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
custom_imports = dict(imports=["mmdet.models", "hordet.registry"])
