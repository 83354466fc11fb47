"""Draw gnConv of order 3 as boxes and arrows, widths to scale.

python docs/draw_gnconv.py docs/gnconv.png
"""

import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.patches import FancyBboxPatch

ORDER, CHANNELS = 3, 128
DIMS = [CHANNELS >> (ORDER - 1 - k) for k in range(ORDER)]
UNIT = 1.0 / 64  # of height, a channel
MAPS, MIXER, WEIGHTS = "#cfe3f5", "#f7dcb4", "#e3e3e3"


class Drawing:
    """An axes with boxes, gates and arrows."""

    def __init__(self) -> None:
        """Start empty."""
        self.figure, self.axes = pyplot.subplots(figsize=(9.6, 4.6), dpi=110)
        self.axes.set(xlim=(-0.3, 12.6), ylim=(-0.3, 5.2), aspect="equal")
        self.axes.axis("off")

    def box(self, x: float, y: float, height: float, text: str, color: str, width: float) -> None:
        """Draw a box around (x, y)."""
        style = "round,pad=0,rounding_size=0.06"
        corner = (x - width / 2, y - height / 2)
        self.axes.add_patch(FancyBboxPatch(corner, width, height, style, fc=color, ec="#444444"))
        self.axes.text(x, y, text, ha="center", va="center", fontsize=8)

    def arrow(self, *points: tuple[float, float]) -> None:
        """Draw a line through points, with a head at the last."""
        *path, last = points
        for (x0, y0), (x1, y1) in zip(path, path[1:], strict=False):
            self.axes.plot([x0, x1], [y0, y1], color="#444444", lw=1)
        style = dict(arrowstyle="-|>", color="#444444", lw=1, shrinkA=0, shrinkB=0)
        self.axes.annotate("", last, path[-1], arrowprops=style)

    def gate(self, x: float, y: float) -> None:
        """Draw an elementwise product."""
        self.axes.plot([x], [y], "o", ms=15, mfc="white", mec="#444444")
        self.axes.text(x, y - 0.02, "×", ha="center", va="center", fontsize=14)


def draw(path: str) -> None:
    """Draw the figure into a file."""
    drawing = Drawing()
    low = 0.4  # the row of p
    drawing.box(0.2, 2.5, CHANNELS * UNIT, f"x\n{CHANNELS}", MAPS, 0.7)
    drawing.arrow((0.55, 2.5), (1.02, 2.5))
    drawing.box(1.6, 2.5, 4.6, f"proj_in\n1×1\n{CHANNELS} → {2 * CHANNELS}", WEIGHTS, 1.15)
    drawing.box(2.95, low, DIMS[0] * UNIT, f"$p_0$  {DIMS[0]}", MAPS, 0.9)
    drawing.arrow((2.18, low), (2.5, low))

    middles, y = [], 1.25
    for k, width in enumerate(DIMS):
        height = width * UNIT
        middles.append(y + height / 2)
        drawing.box(2.95, middles[k], height, f"$q_{k}$  {width}", MAPS, 0.9)
        drawing.arrow((2.18, middles[k]), (2.5, middles[k]))
        drawing.arrow((3.4, middles[k]), (3.9, middles[k]))
        y += height + 0.1
    middle, height = (middles[0] + middles[-1]) / 2 + 0.38, y - 1.25
    drawing.box(4.5, middle, height, f"f\ndepthwise\n7×7\n{sum(DIMS)}", MIXER, 1.2)

    x, before = 3.4, low
    for k, width in enumerate(DIMS):
        where = 5.9 + 2.0 * k
        if k:
            text = f"1×1\n{DIMS[k - 1]} → {width}"
            drawing.box(where - 1.0, low, 0.75, text, WEIGHTS, 1.02)
            drawing.arrow((x, before), (where - 1.51, low))
            x = where - 0.49
        drawing.arrow((x, before), (where - 0.17, low))
        drawing.arrow((5.1, middles[k]), (where, middles[k]), (where, low + 0.17))
        drawing.axes.text(5.2, middles[k] + 0.09, f"$f(q_{k})$", fontsize=9)
        drawing.gate(where, low)
        drawing.axes.text(where, low - 0.45, f"$p_{k + 1}$  {width}", ha="center", fontsize=9)
        x = where + 0.17
    drawing.arrow((x, low), (x + 0.45, low))
    drawing.box(x + 1.0, low, 0.75, f"proj_out\n{CHANNELS} → {CHANNELS}", WEIGHTS, 1.2)
    drawing.arrow((x + 1.6, low), (x + 2.0, low))
    drawing.figure.savefig(path, bbox_inches="tight", pad_inches=0.05)


if __name__ == "__main__":
    draw(sys.argv[1])
