"""Parts by name: HorNet-T 7x7 with the authors' weights, and HorFPN-7x7.

A config puts them into its model: `model = dict(backbone=_base_.hornet_tiny, neck=_base_.horfpn)`.
"""

hornet_tiny = dict(
    drop_path_rate=0.4,
    init_cfg=dict(type="Pretrained", checkpoint="hordet://hornet-tiny-7x7"),
)
horfpn = dict(type="hordet.HorFPN", spatial="dw7x7", order=2, kernel_size=7)
