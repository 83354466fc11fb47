"""Sum of feature maps with one learned weight each, as BiFPN fuses its inputs."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

WeightMethod = Literal["fast", "softmax", "sum"]
WEIGHT_METHODS = ("fast", "softmax", "sum")
EPSILON = 1e-4


class WeightedSum(nn.Module):
    """Weighted feature fusion (Tan et al., EfficientDet, CVPR 2020, section 3.3).

    - 'fast', fast normalized fusion: sum_i w_i x_i / (1e-4 + sum_j w_j) with w = ReLU(weight).
    - 'softmax', softmax-based fusion: sum_i softmax(weight)_i x_i.
    - 'sum': sum_i x_i, without weights, as FPN and PANet do.

    Every weight starts at 1. One map alone passes as it is: a weight would have no effect.

    Args:
        num_inputs: How many maps are summed.
        method: One of the above.

    Shape:
        `num_inputs` maps of equal shape (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: `method` is unknown.
    """

    def __init__(self, num_inputs: int, method: WeightMethod = "fast") -> None:
        """Create the weights of shape (num_inputs,), where the method has any."""
        super().__init__()
        if method not in WEIGHT_METHODS:
            allowed = ", ".join(map(repr, WEIGHT_METHODS))
            raise ValueError(f"got a weight method {method!r}; allowed are {allowed}.")
        self.num_inputs = num_inputs
        self.method = method
        self.weight: nn.Parameter | None = None
        if method != "sum" and num_inputs > 1:
            self.weight = nn.Parameter(torch.ones(num_inputs))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Sum the maps: list of (N, C, H, W) -> (N, C, H, W), dtype kept."""
        if self.weight is None:
            result = maps[0]
            for x in maps[1:]:
                result = result + x
            return result
        if self.method == "fast":
            weights = self.weight.relu()
            weights = weights / (EPSILON + weights.sum())
        else:
            weights = self.weight.softmax(dim=0)
        result = weights[0] * maps[0]
        for weight, x in zip(weights[1:], maps[1:], strict=True):
            result = result + weight * x
        return result

    def std_of(self, stds: Sequence[float]) -> float:
        """Return the std of the fresh layer's output for independent inputs of these stds."""
        share = 1.0 if self.weight is None else 1 / self.num_inputs
        return share * sum(std**2 for std in stds) ** 0.5

    def extra_repr(self) -> str:
        """Describe the layer in `print(model)`."""
        return f"{self.num_inputs}, method={self.method!r}"
