"""UperNet, Swin-S, HorUPerHead-7x7: gnConv fusion in the head on ADE20K.

Cost: 74.35 M parameters, 579.84 G multiply-adds at 2048 x 512 (mmcv's counter).
Expected: none known; the paper's head table is not reproduced here.
Weights, schedule and test: as upernet_swin-small_uperhead_160k.py.
Train: torchrun --nproc-per-node 8 -m hordet train upernet_swin-small_horuperhead-7x7_160k
Batch: 8 processes x 2 images.
"""

_base_ = "upernet_swin-small_uperhead_160k.py"

model = dict(
    decode_head=dict(type="hordet.HorUPerHead", spatial="dw7x7", init="official", skip=False)
)
