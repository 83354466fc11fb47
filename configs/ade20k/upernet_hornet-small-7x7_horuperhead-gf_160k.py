"""UperNet, HorNet-S 7x7, HorUPerHead-GF: global-filter fusion in the head on ADE20K.

Cost: 74.66 M parameters, 575.14 G multiply-adds at 2048 x 512 (mmcv's counter) and 0.81 G
of FFT, which that does not count.
Expected: none known; the paper's head table is not reproduced here.
Weights, schedule and test: as upernet_hornet-small-7x7_uperhead_160k.py.
Train: torchrun --nproc-per-node 8 -m hordet train upernet_hornet-small-7x7_horuperhead-gf_160k
Batch: 8 processes x 2 images.
"""

_base_ = "upernet_hornet-small-7x7_uperhead_160k.py"

model = dict(
    decode_head=dict(
        type="hordet.HorUPerHead",
        spatial="gf",
        order=2,
        gf_size=(32, 17),
        init="official",
        skip=False,
    )
)
optim_wrapper = dict(clip_grad=dict(max_norm=0.1, norm_type=2))
