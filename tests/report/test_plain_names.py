"""Names that matplotlib would read as mathematics, or that its font cannot write, in plots."""

import warnings
from types import SimpleNamespace

import numpy as np

from hordet.report import plots
from hordet.visualization import fonts

NAMES = ("$x^$ \\frac{", "漂浮物")


def test_plots_take_any_name(monkeypatch):
    monkeypatch.setattr(fonts, "_list_families", lambda: (fonts.BASE,))
    fonts._choose_fonts.cache_clear()
    written = []
    monkeypatch.setattr(plots, "embed_figure", lambda figure, kind="svg": written.append(figure))
    plots.plot_confusion(np.array([[3, 1], [2, 4]]), NAMES, NAMES)
    runs = [
        SimpleNamespace(name=name, get_curve=lambda key: ([1, 2], [1.0, 2.0])) for name in NAMES
    ]
    plots.plot_training_curves(runs)
    fonts._choose_fonts.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in written:
            figure.canvas.draw()
    labels = [text.get_text() for text in written[0].axes[0].get_xticklabels()]
    assert labels == ["$x^$ \\frac{", "class 1"] and len(written) == 4
    assert [text.get_text() for text in written[1].axes[0].get_legend().get_texts()] == [
        "$x^$ \\frac{",
        "???",
    ]
