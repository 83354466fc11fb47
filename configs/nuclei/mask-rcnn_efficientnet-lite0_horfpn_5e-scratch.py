"""As mask-rcnn_efficientnet-lite0_horfpn_5e.py from random weights: what pretraining is worth.

Cost: 4.08 M parameters; the same time.
Expected: mask AP 0.434, 0.445, 0.402, mask AP50 0.789, 0.807, 0.764 (measured here, seeds 0, 1, 2),
before the skip, the context start and the rate of the fusions; not run in full since.
Train: hordet train mask-rcnn_efficientnet-lite0_horfpn_5e-scratch --data-root FOLDER
"""

_base_ = "mask-rcnn_efficientnet-lite0_horfpn_5e.py"

model = dict(backbone=dict(init_cfg=None))
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=1.0))
