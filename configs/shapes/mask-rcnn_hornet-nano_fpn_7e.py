"""As mask-rcnn_hornet-nano_horfpn_7e.py with the stock FPN (Lin et al., CVPR 2017) of mmdet.

Cost: 3.91 M parameters, 0.18 M of them in the neck (HorFPN: 3.84 and 0.11).
Expected: not run in full yet; mask-rcnn_hornet-nano_horfpn_7e.py says what HorFPN reaches.
Train: hordet train mask-rcnn_hornet-nano_fpn_7e
"""

_base_ = "mask-rcnn_hornet-nano_horfpn_7e.py"

model = dict(neck=dict(type="FPN"))
