"""HorBiFPN: mask-rcnn_hornet-nano_bifpn_7e.py with gnConvs in place of its convolutions.

Cost: 4.27 M parameters, 0.55 M of them in the neck (HorFPN: 3.84 and 0.11).
Expected: box AP 0.737, mask AP 0.729 (measured here, seed 0, at the same rate for all, before each
pixel was normalized in front of its gnConv).
Train: hordet train mask-rcnn_hornet-nano_horbifpn_7e
"""

_base_ = "mask-rcnn_hornet-nano_bifpn_7e.py"

model = dict(neck=dict(fusion="gnconv"))
