"""As mask-rcnn_hornet-nano_horfpn_7e.py with mmdet's PAFPN (after Liu et al., CVPR 2018).

P6 is a subsampled P5. mask-rcnn_hornet-nano_pafpn_7e.py is the paper's, on GraphFPN.

Cost: 4.13 M parameters, 0.40 M of them in the neck (HorFPN: 3.84 and 0.11).
Expected: not run in full yet; mask-rcnn_hornet-nano_horfpn_7e.py says what HorFPN reaches.
Train: hordet train mask-rcnn_hornet-nano_mmdet-pafpn_7e
"""

_base_ = "mask-rcnn_hornet-nano_horfpn_7e.py"

model = dict(neck=dict(type="PAFPN"))
