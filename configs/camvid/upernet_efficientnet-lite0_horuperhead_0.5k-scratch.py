"""As upernet_efficientnet-lite0_horuperhead_0.5k.py from random weights: what pretraining is worth.

Cost: 3.57 M parameters; the same time.
Expected: mIoU 0.243, 0.234, 0.227 (measured here, seeds 0, 1, 2), before the class weights, the
skip and the context start; not run in full since.
Train: hordet train upernet_efficientnet-lite0_horuperhead_0.5k-scratch --data-root FOLDER
"""

_base_ = "upernet_efficientnet-lite0_horuperhead_0.5k.py"

model = dict(backbone=dict(init_cfg=None))
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=1.0))
