"""Learning rates that shrink towards the input of the backbone.

Pretrained early layers need smaller steps than the fresh neck and heads: layer `k` of `K` trains at
`lr * decay_rate^(K - 1 - k)` (Clark et al., "ELECTRA", ICLR 2020; for dense prediction Bao et al.,
"BEiT", ICLR 2022). Layer 0 is the stem, layer K - 1 everything outside the backbone.
"""

import re
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from hordet.errors import did_you_mean
from hordet.registry import OPTIM_WRAPPER_CONSTRUCTORS

KEYS = ("decay_rate", "decay_type", "mode", "num_layers", "custom_keys")
MULTIPLIERS = ("lr_mult", "decay_mult")
DECAY_TYPES = ("layer_wise", "stage_wise")
# The method with which a backbone may declare its layers, or its stages.
METHODS = {"layer_wise": "get_layer_depth", "stage_wise": "get_stage_depth"}
MODES = ("default", "official")

# (stage, block); block -1 is the downsampling before a stage. None is an output norm.
Position = tuple[int, int] | None


def locate_parameter(name: str) -> Position:
    """Return the stage and block of a HorNet or ConvNeXt parameter by its name in the backbone.

    Raises:
        ValueError: The name is not like `downsample_layers.i.*`, `stages.i.j.*` or `norm{i}.*`.
    """
    part, *rest = name.split(".")
    if part == "downsample_layers":
        return int(rest[0]), -1
    if part == "stages":
        return int(rest[0]), int(rest[1])
    if re.fullmatch(r"norm\d*", part):
        return None
    raise ValueError(
        f"got the backbone parameter {name!r}; layer decay knows downsample_layers.i.*, "
        "stages.i.j.* and norm{i}.*: give the backbone a method get_layer_depth(param_name, "
        "prefix='') that returns (layer, number of layers), as mmpretrain's backbones have."
    )


def number_default_layer(
    position: Position, depths: tuple[int, ...], decay_type: str
) -> tuple[int, int]:
    """Number a layer: stem 0, then one for each block or stage, then the head.

    A downsampling layer has the number of the block after it. Output norms have the number of the
    head: pretrained classification weights have no such norms.

    Returns:
        The layer and the number of layers.
    """
    num_layers = 2 + (sum(depths) if decay_type == "layer_wise" else len(depths))
    if position is None:
        return num_layers - 1, num_layers
    stage, block = position
    if (stage, block) == (0, -1):
        return 0, num_layers
    if decay_type == "stage_wise":
        return 1 + stage, num_layers
    return 1 + sum(depths[:stage]) + max(block, 0), num_layers


def number_official_layer(position: Position, num_layers: int, decay_type: str) -> int:
    """Number a layer as the authors' training code does.

    The numbers of 'layer_wise' are for 12 layers of the depths (2, 3, 18, 2) whatever
    `num_layers` is: with 6, scales exceed 1 from layer 8 on, and layer 7 is in the group of the
    head. In 'stage_wise' every downsampling layer is layer 0.
    """
    if position is None:
        return num_layers + 1
    stage, block = position
    if decay_type == "stage_wise":
        return 1 + stage if block >= 0 else 0
    if stage == 0:
        return 1 if block >= 0 else 0
    if stage == 1:
        return 2
    return 3 + max(block, 0) // 2 if stage == 2 else 12


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Groups parameters by layer; parameters of one dimension have no weight decay.

    `paramwise_cfg` holds:

    - decay_rate: Factor from one layer to the one before it, in (0, 1]; with 1 the learning rate
      is the same everywhere, and only norms, biases and layer scales have no weight decay, with any
      backbone.
    - decay_type: 'layer_wise' (one layer for each block; the default) or 'stage_wise'.
    - mode: 'default' asks the backbone for its layers: its method `get_layer_depth(param_name,
      prefix='')`, for 'stage_wise' `get_stage_depth`, or its attribute `depths` (blocks of each
      stage) if parameters have the names of HorNet. 'official' gives the groups of HorNet's
      authors.
    - num_layers: The authors' option of this name; only for 'official'.
    - custom_keys: In mmengine's form and in every mode, {'neck.fpn_convs': dict(lr_mult=3.0)}:
      parameters with the key in their name have `lr_mult` times the learning rate of their layer
      and `decay_mult` times its weight decay. Of several keys in one name the longest counts.

    Each group carries `lr`, `lr_scale`, `weight_decay`, `group_name` and `param_names`; schedulers
    scale each group's own `lr`. Frozen parameters are left out.

    Args:
        optim_wrapper_cfg: Config of the wrapper with its `optimizer`, whose `lr` is the head's.
        paramwise_cfg: As above.

    Raises:
        ValueError: A key or value is unknown, `lr` is missing, a key of `custom_keys` is in no
            parameter's name, or the model has no backbone that declares its layers.
    """

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        """Check and keep the settings."""
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        self.decay_rate: float = self.paramwise_cfg["decay_rate"]
        self.decay_type: str = self.paramwise_cfg.get("decay_type", "layer_wise")
        self.mode: str = self.paramwise_cfg.get("mode", "default")
        self.num_layers: int | None = self.paramwise_cfg.get("num_layers")
        self.custom_keys: dict[str, dict[str, float]] = self.paramwise_cfg.get("custom_keys") or {}

    def _validate_cfg(self) -> None:
        """Check the settings; mmengine's `__init__` calls this."""
        settings = self.paramwise_cfg
        for key in settings:
            if key not in KEYS:
                raise ValueError(
                    f"got paramwise_cfg key {key!r}; allowed are "
                    f"{', '.join(KEYS)}{did_you_mean(key, KEYS)}"
                )
        rate = settings.get("decay_rate")
        if not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise ValueError(
                f"got decay_rate={rate!r}; allowed is a number in (0, 1], such as 0.9 "
                "(1 for the same learning rate everywhere)."
            )
        for key, allowed in (("decay_type", DECAY_TYPES), ("mode", MODES)):
            if settings.get(key, allowed[0]) not in allowed:
                raise ValueError(
                    f"got {key}={settings[key]!r}; allowed are {' and '.join(map(repr, allowed))}."
                )
        official = settings.get("mode") == "official"
        if official != isinstance(settings.get("num_layers"), int):
            raise ValueError(
                f"got mode={settings.get('mode', 'default')!r} with "
                f"num_layers={settings.get('num_layers')!r}; 'official' needs an integer "
                "num_layers, 'default' asks the backbone for its layers and needs None."
            )
        keys = settings.get("custom_keys") or {}
        if not isinstance(keys, dict) or not all(isinstance(v, dict) for v in keys.values()):
            raise ValueError(
                f"got custom_keys={keys!r}; allowed is a dict of dicts, such as "
                "{'neck.fpn_convs': dict(lr_mult=3.0)}. Its keys hold dots, so it is set in a "
                "config file, not by --cfg-options"
            )
        for key, options in keys.items():
            wrong = [name for name in options if name not in MULTIPLIERS]
            values = [options[name] for name in MULTIPLIERS if name in options]
            if wrong or not all(isinstance(v, (int, float)) and v >= 0 for v in values):
                raise ValueError(
                    f"got custom_keys[{key!r}]={dict(options)}; allowed are lr_mult and "
                    "decay_mult, numbers from 0 on, such as dict(lr_mult=3.0)"
                )
        if self.base_lr is None:
            raise ValueError("got an optimizer without lr; layer decay scales it: set lr=.")

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **kwargs: Any) -> None:
        """Append one group for each layer and kind of weight decay to `params`.

        Raises:
            ValueError: `module` has no backbone, or its backbone does not declare its layers.
        """
        module = getattr(module, "module", module)  # of DistributedDataParallel
        backbone = getattr(module, "backbone", None)
        if not isinstance(backbone, nn.Module):
            raise ValueError(
                f"got a {type(module).__name__} without a submodule `backbone`; layer decay needs "
                "one: use mmengine's DefaultOptimWrapperConstructor for this model."
            )
        head = self._number_head(backbone)
        groups: dict[str, dict[str, Any]] = {}
        found = dict.fromkeys(self.custom_keys, 0)  # tensors of each key
        for name, parameter in module.named_parameters():
            key = max((key for key in found if key in name), key=len, default=None)
            if key is not None:
                found[key] += 1
            if not parameter.requires_grad:
                continue
            layer = head
            if name.startswith("backbone."):
                layer = self._number_layer(backbone, name.removeprefix("backbone."))
            group = self._describe_group(head, layer, parameter.ndim > 1, key)
            group = groups.setdefault(group["group_name"], group)
            group["params"].append(parameter)
            group["param_names"].append(name)
        self._require_found(found, [name for name, _ in module.named_parameters()])
        params.extend(groups.values())
        scales = [group["lr_scale"] for group in params] or [1.0]
        keys = "".join(
            f", {key} ({found[key]} tensors) x {options.get('lr_mult', 1.0):g}"
            for key, options in self.custom_keys.items()
        )
        print_log(
            f"Layer decay ({self.decay_type}, {self.mode}): {len(params)} parameter groups, "
            f"learning-rate scales {min(scales):.4g} to {max(scales):.4g}{keys}.",
            logger="current",
        )

    def _describe_group(
        self, head: int, layer: int, decays: bool, key: str | None
    ) -> dict[str, Any]:
        """Return an empty group for the parameters of a layer, of a kind and of a custom key."""
        multipliers = self.custom_keys.get(key, {}) if key is not None else {}
        scale = self.decay_rate ** (head - layer) * multipliers.get("lr_mult", 1.0)
        name = f"layer_{layer}_{'decay' if decays else 'no_decay'}"
        group = dict[str, Any](
            params=[],
            param_names=[],
            group_name=name if key is None else f"{name}_{key}",
            lr_scale=scale,
            lr=scale * self.base_lr,
        )
        if not decays:
            group["weight_decay"] = 0.0
        elif self.base_wd is not None:
            group["weight_decay"] = self.base_wd * multipliers.get("decay_mult", 1.0)
        return group

    @staticmethod
    def _require_found(found: dict[str, int], names: list[str]) -> None:
        """Check that every custom key is in the name of some parameter."""
        for key, number in found.items():
            if not number:
                prefixes = {name.rpartition(".")[0] for name in names}
                prefixes |= {prefix.rpartition(".")[0] for prefix in prefixes}
                raise ValueError(
                    f"custom_keys has {key!r}, which is in no parameter's name"
                    f"{did_you_mean(key, sorted(prefixes))}; name a part of the model that is "
                    "there, or remove the key."
                )

    def _number_head(self, backbone: nn.Module) -> int:
        """Return the number of the last layer: everything outside the backbone."""
        if self.num_layers is not None:
            return self.num_layers + 1
        name, _ = next(backbone.named_parameters())
        return self._get_declared_layer(backbone, name)[1] - 1

    def _number_layer(self, backbone: nn.Module, name: str) -> int:
        """Return the layer number of a parameter of the backbone."""
        if self.num_layers is not None:
            return number_official_layer(locate_parameter(name), self.num_layers, self.decay_type)
        return self._get_declared_layer(backbone, name)[0]

    def _get_declared_layer(self, backbone: nn.Module, name: str) -> tuple[int, int]:
        """Return the layer of a parameter and the number of layers by the backbone."""
        if self.decay_rate == 1:  # one learning rate, whatever the layers
            return 0, 1
        method = getattr(backbone, METHODS[self.decay_type], None)
        if method is not None:
            return method(name, prefix="")
        depths: Any = getattr(backbone, "depths", None)
        if depths is not None:
            return number_default_layer(locate_parameter(name), tuple(depths), self.decay_type)
        raise ValueError(
            f"got the backbone {type(backbone).__name__}, which does not declare its layers for "
            f"decay_type={self.decay_type!r}; it needs the attribute `depths`, or a method "
            f"{METHODS[self.decay_type]}(param_name, prefix=''). Or set decay_rate=1."
        )
