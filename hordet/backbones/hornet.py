"""HorNet as a component of OpenMMLab."""

from typing import Any

from mmengine.model import BaseModule

from hordet import hornet
from hordet.checkpoints import load_weights
from hordet.registry import MODELS


@MODELS.register_module()
class HorNet(hornet.HorNet, BaseModule):
    """`hordet.hornet.HorNet`, which configs build by name and mmengine fills with weights.

    Args:
        arguments: Those of `hordet.hornet.HorNet`, in its order.
        init_cfg: None, or dict(type='Pretrained', checkpoint=PATH) with a file of the authors, of
            mmengine or a bare state dict; a classification head is ignored and the output norms,
            which classification files lack, stay as they are.
        options: Those of `hordet.hornet.HorNet`.
    """

    _is_init: bool  # of BaseModule

    def __init__(
        self, *arguments: Any, init_cfg: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Build the model."""
        super().__init__(*arguments, **options)
        self.init_cfg = init_cfg

    def init_weights(self) -> None:
        """Load `init_cfg`'s file and report its coverage; without one, keep the initialization.

        Raises:
            ValueError: `init_cfg` is of a type other than 'Pretrained'.
            hordet.checkpoints.CheckpointError: The file cannot be read or is of another model.
        """
        if not self.init_cfg or self._is_init:
            return
        if self.init_cfg.get("type") != "Pretrained":
            raise ValueError(
                f"got init_cfg={self.init_cfg}; allowed is dict(type='Pretrained', "
                "checkpoint=PATH), or None for the authors' initialization."
            )
        load_weights(self, self.init_cfg["checkpoint"], minimum_share=0.9)
        self._is_init = True
