"""Stochastic depth."""

from torch import Tensor, nn

from hordet.ops.upstream import disable_compiler


class DropPath(nn.Module):
    """Drops a residual branch for some of the images, in training (Huang et al., ECCV 2016).

    Args:
        probability: Of an image to go without the branch; the others get it times
            1 / (1 - probability).

    Shape:
        (N, ...) of four dimensions -> the same.
    """

    def __init__(self, probability: float = 0.0) -> None:
        """Keep the probability."""
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """Drop the branch of some images: (N, ...) -> (N, ...)."""
        return self._drop(branch) if self.training and self.probability else branch

    @disable_compiler
    def _drop(self, branch: Tensor) -> Tensor:
        """Outside of compiled code, which would be compiled anew for each block's probability."""
        kept = 1 - self.probability
        images = branch.new_empty(len(branch), 1, 1, 1).bernoulli_(kept)
        return branch * (images / kept if kept else images)

    def extra_repr(self) -> str:
        """Describe the layer in `print(model)`."""
        return f"{self.probability:.3g}"
