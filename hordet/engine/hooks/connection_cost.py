"""Makes a training pay for the connections that SCL keeps."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from hordet.errors import ConfigError
from hordet.neighbours.scl import count_connections
from hordet.ops.unwrapping import unwrap_model
from hordet.registry import HOOKS


@HOOKS.register_module()
class ConnectionCostHook(Hook):
    """Add `cost` times the number of connections kept to the losses of each step.

    The connections are those of `fusion='scl'` and of `conv_cfg=dict(type='hordet.SparseConv2d')`,
    wherever in the model. The log gets `loss_connections`, which is in the sum of the losses, and
    `connections_kept`, their share, which is not. See `hordet.neighbours.scl` for the method
    (sparse connectivity learning), and for a weight decay that leaves masks alone.

    Args:
        cost: The loss of one connection, above 0.

    Raises:
        ConfigError: `cost` is not above 0. When the training starts: the model has no connections
            to learn.
    """

    def __init__(self, cost: float) -> None:
        """See the class."""
        if not cost > 0:
            raise ConfigError(f"ConnectionCostHook: got cost={cost}; allowed is more than 0.")
        self.cost = cost
        self._handle: Any = None

    def before_train(self, runner: Runner) -> None:
        """Listen to the losses of the model, the wrapped one if processes share it."""
        model = unwrap_model(runner.model)
        try:
            count_connections(model)
        except ValueError as error:
            raise ConfigError(f"ConnectionCostHook: {error}") from error
        self._remove()  # that of a training which ended in an error
        self._handle = model.register_forward_hook(self._add_cost, with_kwargs=True)

    def _add_cost(
        self, model: nn.Module, arguments: tuple, keywords: dict[str, Any], losses: Any
    ) -> Any:
        # mmengine calls every model as model(inputs, data_samples, mode=...).
        mode = keywords.get("mode", arguments[2] if len(arguments) > 2 else None)
        if mode != "loss":
            return losses
        kept, of = count_connections(model)
        share = kept.detach() / of
        return {**losses, "loss_connections": self.cost * kept, "connections_kept": share}

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        self._remove()

    def _remove(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
