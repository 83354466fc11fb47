"""RetinaNet (Lin et al., ICCV 2017) on HorNet-T and a stock FPN of P3 to P7; the rest is mmdet's.

Levels start at stride 8. The backbone does not return its stride 4, where mmdet's ResNet does and
the neck leaves it out: DistributedDataParallel rejects parameters that no loss reaches.
"""

_base_ = "mmdet::_base_/models/retinanet_r50_fpn.py"

default_scope = "mmdet"
model = dict(
    backbone=dict(_delete_=True, type="hordet.HorNet", arch="tiny", out_indices=(1, 2, 3)),
    neck=dict(in_channels=[128, 256, 512], start_level=0),
)
