r"""Users' words in figures: as they are, in fonts that have their characters.

matplotlib reads `$...$` as mathematics, which fails at `\frac{`, and draws an empty box for each
character that its font lacks.
"""

import functools
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties

# A font of one weight serves for all; that matplotlib says so once a family is no news.
logging.getLogger("matplotlib.font_manager").addFilter(
    lambda record: "font weight" not in record.getMessage()
)
BASE = "DejaVu Sans"  # comes with matplotlib
# Fonts of matplotlib that have a box for every character, or glyphs of TeX at wrong places.
_UNFIT = ("Last Resort", "cm")
LONGEST = 60  # characters of a name; more would leave no room for the image


def name_classes(classes: Sequence[str]) -> list[str]:
    """Return the names of classes as figures show them.

    Args:
        classes: Their names.

    Returns:
        One line each, cut after LONGEST characters; `class 3` (counted from 0) where no installed
        font has the characters.
    """
    missing = _choose_fonts(frozenset("".join(classes)))[1]
    return [
        f"class {number}" if _is_lacking(name, missing) else _fit(name)
        for number, name in enumerate(classes)
    ]


def explain_numbers(classes: Sequence[str]) -> str:
    """Return why `name_classes` has numbers, and the cure; nothing where it has none."""
    missing = _choose_fonts(frozenset("".join(classes)))[1]
    numbered = [name for name in classes if _is_lacking(name, missing)]
    if not numbered:
        return ""
    return (
        f"drawings show {len(numbered)} of {len(classes)} classes by number, counted from 0: no "
        f"installed font has the characters of {_fit(numbered[0])!r}. Install one that has, such "
        "as fonts-noto-cjk"
    )


def spell(text: str) -> str:
    """Return other words, such as a file name, in one line, `?` for what no font has."""
    missing = _choose_fonts(frozenset(text))[1]
    return "".join("?" if mark in missing else mark for mark in " ".join(text.split()))


def plain_text(*texts: str) -> dict[str, Any]:
    """Return options of matplotlib's text that show these texts as they are."""
    families, _ = _choose_fonts(frozenset("".join(texts)))
    return dict(parse_math=False, usetex=False, fontfamily=list(families))


def _is_lacking(name: str, missing: frozenset[str]) -> bool:
    return bool(missing & {*"".join(name.split())}) or not name.strip()


def _fit(name: str) -> str:
    line = " ".join(name.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


@functools.lru_cache(maxsize=256)
def _choose_fonts(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Choose the font families for characters, and name the characters that none has."""
    wanted = {mark for mark in characters if not mark.isspace()}
    missing = frozenset(wanted) - _covered(BASE, wanted)
    families = [BASE]
    while missing:
        best = max(_list_families(), key=lambda name: len(_covered(name, missing)))
        covered = _covered(best, missing)
        if not covered:
            break
        families.append(best)
        missing -= covered
    return tuple(families), missing


def _covered(family: str, missing: Iterable[str]) -> frozenset[str]:
    glyphs = _list_glyphs(family)
    return frozenset(mark for mark in missing if mark.isprintable() and ord(mark) in glyphs)


@functools.cache
def _list_families() -> tuple[str, ...]:
    """List the installed families, also those that are newer than matplotlib's own list."""
    manager = font_manager.fontManager
    known = {str(entry.fname) for entry in manager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            try:
                manager.addfont(path)
            except (OSError, RuntimeError, ValueError):  # none that FreeType reads
                continue
    names = {entry.name for entry in manager.ttflist if entry.style == "normal"}
    return tuple(sorted(name for name in names if not name.startswith((".", *_UNFIT))))


@functools.cache
def _list_glyphs(family: str) -> frozenset[int]:
    """List the characters of a family."""
    try:
        path = font_manager.findfont(FontProperties(family=[family]), fallback_to_default=False)
        return frozenset(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()
