"""HorBiFPN: mask-rcnn_hornet-nano_bifpn_7e.py with gnConvs in place of its convolutions.

Cost: 4.27 M parameters, 0.55 M of them in the neck (HorFPN: 3.84 and 0.11).
Expected: not run in full yet; mask-rcnn_hornet-nano_horfpn_7e.py says what HorFPN reaches.
Train: python tools/train.py THIS
"""

_base_ = "mask-rcnn_hornet-nano_bifpn_7e.py"

model = dict(neck=dict(fusion="gnconv"))
