"""Mask2Former (Cheng et al., CVPR 2022), HorNet-T 7x7 on COCO 2017, instances.

mmdet's recipe whole, pixel decoder (MSDeformAttn), large-scale jitter, 50 epochs of batch 16; only
the backbone is another. HorNet's authors used such a model and released neither recipe nor weights.

Cost: 41.68 M parameters, 218.51 G multiply-adds at 1280 x 800 (mmcv's counter, which leaves
attention out; 246.18 G with it).
Expected: none known; it has not been trained.
Weights: hordet://hornet-tiny-7x7, the authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train mask2former_hornet-tiny-7x7_50e
Batch: 8 processes x 2 images.
"""

_base_ = ["mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py", "../_base_/hooks.py"]

model = dict(
    backbone=dict(
        _delete_=True,
        type="hordet.HorNet",
        drop_path_rate=0.4,
        init_cfg=dict(type="Pretrained", checkpoint="hordet://hornet-tiny-7x7"),
    ),
    panoptic_head=dict(in_channels=[64, 128, 256, 512]),
)
data_root = "{{$HORDET_DATA:data}}/coco"
load = dict(type="hordet.LoadImageFromFile", to_float32=True)
train_pipeline = [load, *_base_.train_pipeline[1:]]
test_pipeline = [load, *_base_.test_pipeline[1:]]
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="{{$HORDET_DATA:data}}/coco/annotations/instances_val2017.json")
test_evaluator = val_evaluator
custom_imports = dict(imports=["hordet.registry"])
default_hooks = dict(checkpoint=dict(save_best="coco/segm_mAP"))
