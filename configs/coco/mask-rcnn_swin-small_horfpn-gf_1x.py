"""Mask R-CNN, Swin-S, HorFPN-GF: the global-filter neck on COCO 2017.

Cost: 68.52 M parameters, 323.35 G multiply-adds at 1280 x 800 (mmcv's counter) and 0.50 G
of FFT, which that does not count.
Expected: none known; the paper's neck table is not reproduced here.
Weights and schedule: as mask-rcnn_swin-small_fpn_1x.py.
Train: torchrun --nproc-per-node 8 -m hordet train mask-rcnn_swin-small_horfpn-gf_1x
Batch: 8 processes x 2 images.
"""

_base_ = "mask-rcnn_swin-small_fpn_1x.py"

model = dict(neck=dict(type="hordet.HorFPN", spatial="gf", init="official", skip=False))
