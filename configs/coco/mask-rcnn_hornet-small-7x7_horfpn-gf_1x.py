"""Mask R-CNN, HorNet-S 7x7, HorFPN-GF: the global-filter neck on COCO 2017.

Cost: 68.44 M parameters, 320.91 G multiply-adds at 1280 x 800 (mmcv's counter) and 0.50 G
of FFT, which that does not count.
Expected: none known; the paper's neck table is not reproduced here.
Weights and schedule: as mask-rcnn_hornet-small-7x7_fpn_1x.py.
Train: torchrun --nproc-per-node 8 -m hordet train mask-rcnn_hornet-small-7x7_horfpn-gf_1x
Batch: 8 processes x 2 images.
"""

_base_ = "mask-rcnn_hornet-small-7x7_fpn_1x.py"

model = dict(
    neck=dict(
        type="hordet.HorFPN", spatial="gf", order=2, gf_size=(32, 17), init="official", skip=False
    )
)
