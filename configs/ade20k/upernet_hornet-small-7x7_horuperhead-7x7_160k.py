"""UperNet, HorNet-S 7x7, HorUPerHead-7x7: gnConv fusion in the head on ADE20K.

Cost: 74.28 M parameters, 577.43 G multiply-adds at 2048 x 512 (mmcv's counter).
Expected: none known; the paper's head table is not reproduced here.
Weights, schedule and test: as upernet_hornet-small-7x7_uperhead_160k.py.
Train: torchrun --nproc-per-node 8 -m hordet train upernet_hornet-small-7x7_horuperhead-7x7_160k
Batch: 8 processes x 2 images.
"""

_base_ = "upernet_hornet-small-7x7_uperhead_160k.py"

model = dict(
    decode_head=dict(
        type="hordet.HorUPerHead",
        spatial="dw7x7",
        order=2,
        kernel_size=7,
        init="official",
        skip=False,
    )
)
