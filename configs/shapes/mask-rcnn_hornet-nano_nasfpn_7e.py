"""As mask-rcnn_hornet-nano_horfpn_7e.py with mmdet's NAS-FPN (Ghiasi et al., CVPR 2019).

Three stacked cells on P2 to P6; mmdet's COCO config stacks seven on P3 to P7.

Cost: 4.54 M parameters, 0.81 M of them in the neck (HorFPN: 3.84 and 0.11).
Expected: not run in full yet; mask-rcnn_hornet-nano_horfpn_7e.py says what HorFPN reaches.
Train: hordet train mask-rcnn_hornet-nano_nasfpn_7e
"""

_base_ = "mask-rcnn_hornet-nano_horfpn_7e.py"

model = dict(
    data_preprocessor=dict(pad_size_divisor=64),  # its merging cells want whole multiples
    neck=dict(type="NASFPN", stack_times=3),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(_delete_=True)))  # no fusions of one kind
