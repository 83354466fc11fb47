"""HorNet by timm's names, for code that takes its backbones from timm.

After `import hordet.hornet.timm_models`, `timm.create_model('hornet_tiny_7x7', features_only=True)`
builds the pyramid, as for any other model of timm; so do libraries on top of timm.
"""

from collections.abc import Sequence
from typing import Any

from timm.models import FeatureInfo, register_model

from hordet.hornet.architectures import ARCHITECTURES
from hordet.hornet.model import HorNet
from hordet.layers.gnconv import Spatial

__all__: list[str] = []


def _create(
    name: str,
    arch: str,
    spatial: Spatial,
    pretrained: bool = False,
    features_only: bool = False,
    in_chans: int = 3,
    out_indices: Sequence[int] = (0, 1, 2, 3),
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Any = None,
    cache_dir: Any = None,
    **options: Any,
) -> HorNet:
    """Build a model with the keywords of timm's entry points.

    Raises:
        ValueError: A classifier or timm's weights are asked for.
    """
    if not features_only:
        raise ValueError(f"{name} is a feature pyramid and no classifier; give features_only=True")
    if pretrained:
        raise ValueError(
            f"timm has no weights of {name}; leave pretrained out and give checkpoint_path=FILE, "
            "or use hordet.hornet.HorNet.from_pretrained(FOLDER)"
        )
    model: Any = HorNet(arch, spatial, in_channels=in_chans, out_indices=out_indices, **options)
    model.feature_info = FeatureInfo(model.feature_info, tuple(out_indices))
    return model


def _register(arch: str, spatial: Spatial, ending: str) -> None:
    def entry_point(**options: Any) -> HorNet:
        return _create(entry_point.__name__, arch, spatial, **options)

    entry_point.__name__ = f"hornet_{arch}_{ending}"
    entry_point.__doc__ = f"HorNet-{arch}, {spatial}; the options are those of `_create`."
    globals()[entry_point.__name__] = register_model(entry_point)


for _arch in ARCHITECTURES:
    _register(_arch, "dw7x7", "7x7")
    _register(_arch, "gf", "gf")
