"""Draw why HorFPN starts as context and has a skip: four numbers of a fusion before training.

python docs/draw_starts.py docs/starts.png
"""

import sys
from collections.abc import Callable

import matplotlib
import torch
from torch import Tensor, nn

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from hordet.layers import GnConv

CHANNELS, SIZE = 64, 9
LEVELS = {"P5": 1.0, "P4": 2**0.5, "P3": 3**0.5, "P2": 2.0}  # laterals of variance 1, summed
STARTS = ("3x3 (FPN)", "near linear", "context", "context + skip")
COLORS = ("#9aa5b1", "#f0a35e", "#4f8fc0", "#2f5f86")


def build(start: str, input_std: float = 1.0) -> Callable[[Tensor], Tensor]:
    """Return a fusion of 64 channels as it starts."""
    if start == "3x3 (FPN)":
        layer = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        nn.init.xavier_uniform_(layer.weight)
        return layer
    gnconv = GnConv(CHANNELS, CHANNELS, 2)
    if start == "near linear":
        gnconv.init_near_linear()
        return gnconv
    gnconv.init_context(input_std)
    return (lambda x: x + gnconv(x)) if start == "context + skip" else gnconv


def differentiate_middle(fusion: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the Jacobian of the middle pixel: (C, C, H, W)."""
    x = torch.randn(1, CHANNELS, SIZE, SIZE)
    middle = SIZE // 2
    return torch.autograd.functional.jacobian(lambda z: fusion(z)[0, :, middle, middle], x)[:, 0]


def compute_effective_rank(matrix: Tensor) -> float:
    """Return exp of the entropy of the normalized singular values (Roy and Vetterli, 2007)."""
    values = torch.linalg.svdvals(matrix)
    shares = values / values.sum()
    return torch.exp(-(shares * shares.clamp_min(1e-12).log()).sum()).item()


def measure_products(start: str, level_std: float) -> float:
    """Return the share of the output's variance that is no linear function of the input.

    `(f(x) - f(-x)) / 2` is odd: for order 2 it is the linear part and products of three. The
    rest is products of two and constants.
    """
    fusion = build(start, level_std)
    x = level_std * torch.randn(4, CHANNELS, 32, 32)
    with torch.no_grad():
        whole, mirrored = fusion(x), fusion(-x)
    even = (whole + mirrored) / 2
    return (even.var() / whole.var()).item()


def draw_bars(axes: Axes, names: list[str], values: list[float], title: str) -> None:
    """Draw a bar a name, with its value."""
    colors = [COLORS[STARTS.index(name)] if name in STARTS else COLORS[2] for name in names]
    bars = axes.barh(names, values, color=colors)
    axes.bar_label(bars, fmt="%.3g", padding=3)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10)
    axes.margins(x=0.15)


def main(path: str) -> None:
    """Measure and draw."""
    torch.manual_seed(0)
    figure, panels = pyplot.subplots(2, 2, figsize=(9.6, 5), dpi=110, layout="constrained")
    ranks, paths = [], []
    for start in STARTS:
        jacobian = differentiate_middle(build(start))
        ranks.append(compute_effective_rank(jacobian.flatten(1)))
        middle = jacobian[:, :, SIZE // 2, SIZE // 2].square().sum()
        paths.append(1 - (middle / jacobian.square().sum()).item())
    draw_bars(panels[0, 0], list(STARTS), ranks, "effective rank of 64, at the start")
    draw_bars(panels[0, 1], list(STARTS), paths, "share of the response to neighboring pixels")
    for start in ("near linear", "context"):
        shares = [measure_products(start, std) for std in LEVELS.values()]
        color = COLORS[STARTS.index(start)]
        panels[1, 0].plot(list(LEVELS), shares, "o-", color=color, label=start)
    panels[1, 0].set_title("share of even products in the output's variance", fontsize=10)
    panels[1, 0].set_ylim(0)
    panels[1, 0].legend()
    fan_in = {"3x3 (FPN)": 9 * CHANNELS, "1x1": CHANNELS, "1x1 to the gate": 32, "depthwise": 49}
    title = "inputs of a layer: how far one AdamW step moves it"
    draw_bars(panels[1, 1], list(fan_in), list(map(float, fan_in.values())), title)
    figure.savefig(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
