"""Faster R-CNN (Ren et al., NeurIPS 2015) on HorNet-T and a stock FPN; the rest is mmdet's."""

_base_ = "mmdet::_base_/models/faster-rcnn_r50_fpn.py"

default_scope = "mmdet"
model = dict(
    backbone=dict(_delete_=True, type="hordet.HorNet", arch="tiny"),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
