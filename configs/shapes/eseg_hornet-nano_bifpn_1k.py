"""ESeg (Meng et al., 2022) on generated shapes: HorNet-nano, BiFPN over P2 to P9, ESegHead.

P7 to P9 of 128 pixels are single cells: the group norm needs no batch, where a batch norm has eight
numbers a channel.

Cost: 2.97 M parameters, 0.20 G multiply-adds (with HorUPerHead: 3.29 M, 0.25 G).
Expected: not run in full yet; upernet_hornet-nano_horuperhead_1k.py says what HorUPerHead reaches.
Train: hordet train eseg_hornet-nano_bifpn_1k
"""

_base_ = "upernet_hornet-nano_horuperhead_1k.py"

model = dict(
    neck=dict(
        type="hordet.GraphFPN",
        in_channels=[32, 64, 128, 256],
        out_channels=64,
        num_outs=8,
        stack_times=2,
        norm_cfg=dict(type="GN", num_groups=8),
    ),
    decode_head=dict(
        _delete_=True,
        type="hordet.ESegHead",
        in_channels=[64, 64, 64, 64, 64, 64, 64, 64],
        channels=64,
        num_classes=7,
        dropout_ratio=0.0,
        norm_cfg=dict(type="BN"),
    ),
    auxiliary_head=None,
)
