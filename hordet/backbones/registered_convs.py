"""Convolutions with a regularizer and activations, under their names in the registry.

`conv_cfg=dict(type='hordet.DropConnectConv2d', p=0.2)` and `act_cfg=dict(type='hordet.PFPLUS')`
work in every component of mmdet and mmseg that has these keys.
"""

from typing import Any

from mmcv.cnn import build_conv_layer

from hordet.layers.drop_connect import DropConnect
from hordet.layers.fplus import FPLUS, PFPLUS
from hordet.layers.frequency_dropout import FrequencyDropout
from hordet.neighbours.scl import SparseConnectivity
from hordet.registry import MODELS


@MODELS.register_module(name="FPLUS")
def build_fplus(inplace: bool = False) -> FPLUS:
    """Build a `hordet.layers.fplus.FPLUS`.

    Args:
        inplace: Of no effect; mmcv's ConvModule gives it to every activation.
    """
    return FPLUS()


@MODELS.register_module(name="PFPLUS")
def build_pfplus(
    trainable: bool = True, amplitude: float = 1.0, bend: float = 1.0, inplace: bool = False
) -> PFPLUS:
    """Build a `hordet.layers.fplus.PFPLUS`.

    Args:
        trainable: As of the class.
        amplitude: As of the class.
        bend: As of the class.
        inplace: Of no effect; mmcv's ConvModule gives it to every activation.

    Raises:
        ValueError: As the class.
    """
    return PFPLUS(trainable, amplitude, bend)


@MODELS.register_module()
class SparseConv2d(SparseConnectivity):
    """A convolution whose connections are learned (SCL).

    Args:
        arguments: Of the convolution.
        balance: As of `hordet.neighbours.scl.SparseConnectivity`.
        conv_cfg: Type of the convolution, such as dict(type='Conv3d'); None for nn.Conv2d.
        options: Of the convolution.
    """

    def __init__(
        self,
        *arguments: Any,
        balance: bool = True,
        conv_cfg: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Build the convolution and its mask."""
        super().__init__(build_conv_layer(conv_cfg, *arguments, **options), balance=balance)


@MODELS.register_module()
class DropConnectConv2d(DropConnect):
    """A convolution with dropout on its weights.

    Args:
        arguments: Of the convolution.
        p: As of `hordet.layers.drop_connect.DropConnect`.
        conv_cfg: Type of the convolution; None for nn.Conv2d.
        options: Of the convolution.

    Raises:
        ValueError: As `DropConnect`.
    """

    def __init__(
        self,
        *arguments: Any,
        p: float = 0.5,
        conv_cfg: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Build the convolution."""
        super().__init__(build_conv_layer(conv_cfg, *arguments, **options), p)


@MODELS.register_module()
class FrequencyDropoutConv2d(FrequencyDropout):
    """A convolution whose output channels are filtered at random in training.

    Args:
        arguments: Of the convolution.
        p: As of `hordet.layers.frequency_dropout.FrequencyDropout`.
        conv_cfg: Type of the convolution; None for nn.Conv2d.
        options: Of the convolution.

    Raises:
        ValueError: As `FrequencyDropout`.
    """

    def __init__(
        self,
        *arguments: Any,
        p: float = 0.5,
        conv_cfg: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Build the convolution."""
        super().__init__(build_conv_layer(conv_cfg, *arguments, **options), p)
