"""Convolutional models of torchvision as backbones: ShuffleNet, above all, which timm lacks."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from hordet.backbones.wrapped import WrappedBackbone
from hordet.errors import did_you_mean
from hordet.registry import MODELS

PROBE = (256, 384)  # (H, W): multiples of every stride, and no square


@MODELS.register_module()
class TorchvisionBackbone(WrappedBackbone):
    """A classification model of torchvision, cut off behind the last output.

    Its features are the outputs of its top-level modules (of `features`, where it has that): their
    strides and channels are read from a forward without values. Maps of another layout than
    (N, C, H, W), as in torchvision's Swin, are no features; take `hordet.TimmBackbone` for those.

    Args:
        model_name: torchvision's name, such as 'shufflenet_v2_x1_0'.
        out_indices: Ascending indices into the features. None: the last feature of each of the
            strides 4, 8, 16, 32.
        norm_eval: Keep every BatchNorm in eval mode, for batches of few images.
        init_cfg: None, or dict(type='Pretrained', checkpoint=PATH) with a file under torchvision's
            names (a classifier in it is ignored), or a checkpoint of hordet.

    Attributes:
        out_indices: The features that are returned.
        out_channels: Channels of each output.
        out_strides: Stride of each output in pixels of the image.

    Shape:
        (N, 3, H, W) -> one (N, out_channels[i], H / out_strides[i], W / out_strides[i]) an output,
        sizes rounded up.

    Raises:
        ValueError: An unknown model, one without a pyramid, or an index outside its features.
        hordet.checkpoints.CheckpointError: The weights cannot be read, or are of another model.
    """

    def __init__(
        self,
        model_name: str,
        out_indices: Sequence[int] | None = None,
        norm_eval: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        """Build the model up to the last feature that `out_indices` asks for."""
        super().__init__(model_name, norm_eval, init_cfg)
        names = models.list_models(module=models)
        if model_name not in names:
            hint = did_you_mean(model_name, names) or "."
            raise ValueError(
                f"got model_name={model_name!r}, which torchvision does not have{hint} "
                f"Allowed are {', '.join(names)}."
            )
        model = models.get_model(model_name, weights=None)
        shapes = self._probe(model)
        strides = [PROBE[0] // shape[2] for shape in shapes.values()]
        channels = [shape[1] for shape in shapes.values()]
        self._choose_outputs(strides, channels, out_indices, out_norm=False)
        nodes = {list(shapes)[i]: str(i) for i in self.out_indices}
        self.model = create_feature_extractor(model, return_nodes=nodes)
        self.train()

    @staticmethod
    def _probe(model: nn.Module) -> dict[str, torch.Size]:
        """Return the shape (1, C, H, W) of the output of each module that makes a map, by name."""
        shapes: dict[str, torch.Size] = {}
        probe: Any = copy.deepcopy(model).to("meta").eval()
        parent, prefix = (
            (probe.features, "features.") if hasattr(probe, "features") else (probe, "")
        )
        for name, module in parent.named_children():

            def note(_: nn.Module, __: Any, out: Any, name: str = prefix + name) -> None:
                if isinstance(out, Tensor) and out.ndim == 4:
                    height, width = out.shape[2:]
                    if height * PROBE[1] == width * PROBE[0]:
                        shapes[name] = out.shape

            module.register_forward_hook(note)
        try:
            with torch.no_grad():
                probe(torch.zeros(1, 3, *PROBE, device="meta"))
        except (AssertionError, RuntimeError):
            return {}  # a transformer of one size of image
        return shapes

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature pyramid: (N, 3, H, W) -> one map an output."""
        if self.model.training != self.training:
            self.train(self.training)  # a copy of torchvision's graph forgets its mode
        return self._normed(list(self.model(x).values()))
