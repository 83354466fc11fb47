"""As mask-rcnn_hornet-nano_horfpn_7e.py with mmdet's Feature Pyramid Grids (Chen et al., 2020).

The transitions of mmdet's COCO configs, three bottom-up paths in place of nine.

Cost: 4.79 M parameters, 1.06 M of them in the neck (HorFPN: 3.84 and 0.11).
Expected: not run in full yet; mask-rcnn_hornet-nano_horfpn_7e.py says what HorFPN reaches.
Train: hordet train mask-rcnn_hornet-nano_fpg_7e
"""

_base_ = "mask-rcnn_hornet-nano_horfpn_7e.py"

norm_cfg = dict(type="BN")
conv = dict(norm_cfg=norm_cfg, inplace=False, order=("act", "conv", "norm"))
model = dict(
    data_preprocessor=dict(pad_size_divisor=64),  # its upsampling doubles, whatever the target
    neck=dict(
        type="FPG",
        inter_channels=64,
        stack_times=3,
        paths=["bu", "bu", "bu"],
        same_down_trans=None,
        same_up_trans=dict(conv, type="conv", kernel_size=3, stride=2, padding=1),
        across_lateral_trans=dict(conv, type="conv", kernel_size=1),
        across_down_trans=dict(conv, type="interpolation_conv", mode="nearest", kernel_size=3),
        across_up_trans=None,
        across_skip_trans=dict(conv, type="conv", kernel_size=1),
        output_trans=dict(
            type="last_conv", kernel_size=3, inplace=False, order=("act", "conv", "norm")
        ),
        skip_inds=[(0, 1), (0,), (), (), ()],
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(_delete_=True)))  # no fusions of one kind
