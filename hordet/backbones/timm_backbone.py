"""Any model of timm that gives a feature pyramid, as a backbone for dense prediction.

The model is timm's own, under timm's own parameter names, so that its files load without a remap.
Channels, strides and layers are what the model says of itself (`feature_info`, `group_matcher`).
The outputs are those of timm's `features_only=True`; what no output needs is cut off, because
DistributedDataParallel rejects unused parameters.
"""

import inspect
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from hordet.backbones.wrapped import WrappedBackbone
from hordet.errors import CheckpointError, did_you_mean
from hordet.registry import MODELS

# timm takes two seconds to import: only the models that use it pay, so it is imported below.

HUB = "timm://"


@MODELS.register_module()
class TimmBackbone(WrappedBackbone):
    """A model of timm (Wightman, "PyTorch Image Models") as a backbone.

    Images of any size are taken where timm allows it: by every convolutional model and by Swin
    (where its windows need padding, timm shifts first and pads then, Swin's detectors the other way
    round). Attention over the whole map (BoTNet, CoAtNet) has one size, `img_size`; windows without
    padding (HaloNet) need images of a multiple of their size.

    Args:
        model_name: timm's name, such as 'resnet50' or, with a tag, 'tf_efficientnet_b0.ap_in1k'.
            The tag tells which weights are meant; none are loaded without `init_cfg`. Families of
            weights differ in the mean and std of their images, which the log tells.
        out_indices: Ascending indices into timm's features, of which many models have one of
            stride 2 at index 0. None: the last feature of each of the strides 4, 8, 16, 32.
        in_channels: Channels of the image.
        frozen_stages: -1 trains all; k freezes the stem and the first k stages as timm counts them
            (`group_matcher(coarse=True)`): four in a ResNet, seven in an EfficientNet.
        norm_eval: Keep every BatchNorm in eval mode, for batches of few images.
        with_cp: Recompute activations in the backward pass, as far as the model supports it.
        drop_path_rate: Drop probability of the last block; None is the model's default.
        img_size: (H, W) of the image, for models of one size; None is the model's default.
        out_norm: Add a LayerNorm of its own to each output, as detectors on Swin and ConvNeXt have:
            the last thing that happens to these features is a sum.
        model_kwargs: Further keywords of the model, such as dict(output_stride=16).
        init_cfg: None, or dict(type='Pretrained', checkpoint=...) with a file under timm's names
            (.safetensors or .pth; a classifier in it is ignored), a checkpoint of hordet, or
            'timm://NAME', which timm downloads.

    Attributes:
        out_indices: The features that are returned.
        out_channels: Channels of each output.
        out_strides: Stride of each output in pixels of the image.
        img_size: The only (H, W) that the model takes, or None if it takes others.

    Shape:
        (N, in_channels, H, W) -> one (N, out_channels[i], H / out_strides[i], W / out_strides[i])
        an output. Most models round up; Inception leaves out borders.

    Raises:
        ValueError: An unknown model, one without a pyramid, an option that it does not have, or an
            index outside its features; at forward, an image of a size that it cannot take.
        hordet.checkpoints.CheckpointError: The weights cannot be read, or are of another model.
    """

    def __init__(
        self,
        model_name: str,
        out_indices: Sequence[int] | None = None,
        in_channels: int = 3,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        drop_path_rate: float | None = None,
        img_size: tuple[int, int] | None = None,
        out_norm: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        """Build the model up to the last feature that `out_indices` asks for."""
        super().__init__(model_name, norm_eval, init_cfg)
        self.frozen_stages = frozen_stages
        options = {"drop_path_rate": drop_path_rate, "img_size": img_size}
        self.model_kwargs = {
            "in_chans": in_channels,
            **{key: value for key, value in options.items() if value is not None},
            **(model_kwargs or {}),
        }
        self.model = self._create()
        features = list(getattr(self.model, "feature_info", ()))
        strides = [feature["reduction"] for feature in features]
        channels = [feature["num_chs"] for feature in features]
        self._choose_outputs(strides, channels, out_indices, out_norm)
        self.img_size = self._only_size(self.model)
        self.model.prune_intermediate_layers(list(self.out_indices), prune_norm=True)
        if with_cp:
            self._recompute()
        self._freeze_stages()
        self.train()

    def _create(self) -> Any:
        """Build timm's model, for images of any size where it has that option."""
        import timm

        if not timm.is_model(self.model_name):
            hint = did_you_mean(self.model_name, timm.list_models()) or "."
            raise ValueError(
                f"got model_name={self.model_name!r}, which timm {timm.__version__} does not "
                f"have{hint} timm.list_models('*resnet*') finds names."
            )
        try:
            model = timm.create_model(self.model_name, **self.model_kwargs)
            taken = inspect.signature(type(model)).parameters
            if "dynamic_img_size" in taken and "img_size" not in self.model_kwargs:
                self.model_kwargs.setdefault("dynamic_img_size", True)
                if "always_partition" in taken:  # Swin: shift windows of the last stage too
                    self.model_kwargs.setdefault("always_partition", True)
                model = timm.create_model(self.model_name, **self.model_kwargs)
        except (TypeError, RuntimeError, NotImplementedError) as error:
            # An unknown keyword, an unknown tag, a stride that cannot be had.
            raise ValueError(
                f"got model_name={self.model_name!r} with {self.model_kwargs}, which timm refuses: "
                f"{error}. Leave out what it does not have."
            ) from error
        return model

    def _only_size(self, model: Any) -> tuple[int, int] | None:
        """Return the one size (H, W) of image that a model takes, or None if it takes others."""
        settings = model.pretrained_cfg
        if not settings.get("fixed_input_size") or self.model_kwargs.get("dynamic_img_size"):
            return None
        size = self.model_kwargs.get("img_size", settings["input_size"][-2:])
        return (size, size) if isinstance(size, int) else tuple(size)

    def _recompute(self) -> None:
        """Turn on timm's gradient checkpointing."""
        try:
            self.model.set_grad_checkpointing(True)
        except (AttributeError, AssertionError) as error:
            raise ValueError(
                f"got with_cp=True, which {self.model_name} does not support; leave it False."
            ) from error

    def _groups(self, coarse: bool) -> dict[str, int]:
        """Map each parameter of timm's model to its stage or block, from 0 at the stem."""
        from timm.models import group_parameters

        try:
            matcher = self.model.group_matcher(coarse=coarse)
        except (AttributeError, AssertionError) as error:
            parts = "stages" if coarse else "layers"
            cure = "Leave frozen_stages=-1." if coarse else "Train it without layer decay."
            raise ValueError(
                f"got {self.model_name}, which does not declare its {parts}: timm gives it no "
                f"group_matcher for them. {cure}"
            ) from error
        return group_parameters(self.model, matcher, reverse=True)

    @cached_property
    def _layers(self) -> dict[str, int]:
        return self._groups(coarse=False)

    @cached_property
    def _stages(self) -> dict[str, int]:
        return self._groups(coarse=True)

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Number the layer of a parameter: stem 0, then timm's blocks, then the head.

        Args:
            param_name: Name of the parameter, with `prefix` in front.
            prefix: Name of this backbone in its model, such as 'backbone.'.

        Returns:
            The layer and the number of layers. Output norms are as fresh as the neck and count with
            the head, the last layer.

        Raises:
            ValueError: timm does not declare the layers of this model.
        """
        return self._depth(param_name.removeprefix(prefix), self._layers)

    def get_stage_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Number the stage of a parameter as `get_layer_depth` does its layer."""
        return self._depth(param_name.removeprefix(prefix), self._stages)

    def _depth(self, name: str, groups: dict[str, int]) -> tuple[int, int]:
        """Look up the group of a parameter; the head is one more than timm knows."""
        num_groups = max(groups.values()) + 2
        return groups.get(name.removeprefix("model."), num_groups - 1), num_groups

    def _read(self, source: str) -> dict[str, Any]:
        """Open a file, or what timm downloads, and log which images timm's weights expect."""
        settings = self.model.pretrained_cfg
        mean, std = ([round(255 * value, 2) for value in settings[key]] for key in ("mean", "std"))
        print_log(
            f"timm's weights of {self.model_name} expect RGB images of mean={mean}, std={std}: "
            "the data_preprocessor should say the same.",
            logger="current",
        )
        if source.startswith(HUB):
            return self._download(source.removeprefix(HUB))
        return super()._read(source)

    def _download(self, name: str) -> dict[str, Tensor]:
        """Let timm fetch its weights of a name, fitted to this model's input channels."""
        import timm

        names = timm.list_pretrained(f"{self.model_name.split('.')[0]}.*")
        if name not in names:
            raise ValueError(
                f"got the weights {HUB}{name} for {self.model_name}; timm has "
                f"{' or '.join(HUB + known for known in names) or 'none'}."
            )
        try:
            return timm.create_model(name, pretrained=True, **self.model_kwargs).state_dict()
        except Exception as error:  # whatever the hub's client and the network can raise
            reason = str(error).strip().partition("\n")[0]
            raise CheckpointError(
                f"the weights {HUB}{name} cannot be fetched ({type(error).__name__}: {reason}); "
                f"without a network, get the file of timm/{name} from the Hugging Face hub "
                "elsewhere, and give init_cfg=dict(type='Pretrained', checkpoint=PATH)"
            ) from error

    def _freeze_stages(self) -> None:
        """Take the stem and the first `frozen_stages` stages out of training."""
        if self.frozen_stages == -1:
            return
        groups = self._groups(coarse=True)
        if not -1 <= self.frozen_stages <= max(groups.values()):
            raise ValueError(
                f"got frozen_stages={self.frozen_stages}; allowed for {self.model_name} are -1 "
                f"(train all) to {max(groups.values())} (freeze all)."
            )
        for name, parameter in self.model.named_parameters():
            if groups[name] <= self.frozen_stages:
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> "TimmBackbone":
        """Switch the mode; frozen stages, and with `norm_eval` every BatchNorm, stay in eval."""
        super().train(mode)
        for module in self.model.modules():
            if type(module) is nn.SyncBatchNorm and hasattr(module, "act"):
                # torch's conversion (`sync_bn="torch"`) leaves out the activation inside timm's.
                from timm.layers import SyncBatchNormAct

                module.__class__ = SyncBatchNormAct
            trained = [parameter.requires_grad for parameter in module.parameters()]
            if self.frozen_stages >= 0 and trained and not any(trained):
                module.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature pyramid: (N, in_channels, H, W) -> one map an output."""
        size = tuple(x.shape[-2:])
        if self.img_size not in (None, size):
            raise ValueError(
                f"got images of {size[0]} x {size[1]} pixels; the attention of {self.model_name} "
                f"is made for {self.img_size[0]} x {self.img_size[1]}: resize or pad every image "
                "to one size (mmdet's Pad(size=...), mmseg's crops and slide inference), and give "
                "that as img_size=(H, W)."
            )
        try:
            outs = self.model.forward_intermediates(
                x, indices=list(self.out_indices), output_fmt="NCHW", intermediates_only=True
            )
        except AssertionError as error:  # what timm says of an image that it cannot divide
            raise ValueError(
                f"got images of {size[0]} x {size[1]} pixels, which {self.model_name} cannot "
                f"divide into its windows or patches ({error or 'timm gives no reason'}); pad them "
                "by pad_size_divisor of the data_preprocessor: 32 suits most models, 256 HaloNet."
            ) from error
        return self._normed(outs)
