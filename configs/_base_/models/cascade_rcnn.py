"""Cascade R-CNN of boxes (Cai and Vasconcelos, CVPR 2018) on HorNet-T and a stock FPN.

The rest is mmdet's.
"""

_base_ = "mmdet::_base_/models/cascade-rcnn_r50_fpn.py"

default_scope = "mmdet"
model = dict(
    backbone=dict(_delete_=True, type="hordet.HorNet", arch="tiny"),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
