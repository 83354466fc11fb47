"""The keys of `recipe`: how a training deals with its data and its time, and what each may be."""

from collections.abc import Callable, Iterator
from typing import Any

from hordet.errors import did_you_mean


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 < value < 1


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 1 and int(value) == value


def _is_range(value: Any) -> bool:
    pair = isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
    return pair and 0 < value[0] <= value[1] < float("inf")


_SWITCH = "True or False"
# By key: what it may be beside False and None, and in words.
RECIPE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "ema": (_is_share, f"{_SWITCH}, or the share of the new weights in a step, below 1"),
    "large_scale_jitter": (_is_range, f"{_SWITCH}, or the smallest and the largest ratio"),
    "copy_paste": (_is_count, f"{_SWITCH}, or the largest number of objects to paste"),
    "mosaic": (_is_share, f"{_SWITCH}, or the share of the training with it, below 1"),
    "color_jitter": (lambda value: False, _SWITCH),
    "repeat_rare_classes": (
        lambda value: _is_share(value) or (_is_number(value) and value == 1),
        f"{_SWITCH}, or the share of images below which a class is rare, at most 1",
    ),
    "balance_classes": (lambda value: False, _SWITCH),
    "early_stopping": (_is_count, f"{_SWITCH}, or the number of validations to wait"),
    "max_minutes": (
        lambda value: _is_number(value) and 0 < value < 1e6,
        "None, or minutes above 0",
    ),
    "fit_batch_size": (_is_share, f"{_SWITCH}, or the share of the GPU's memory, below 1"),
}


def find_recipe_faults(recipe: Any) -> Iterator[str]:
    """Yield a line for each key of a recipe that is unknown, or has a value that it may not have.

    Args:
        recipe: The config's `recipe`.
    """
    if recipe is None:
        return
    if not isinstance(recipe, dict):
        yield f"recipe: got {str(recipe)[:60]!r}; it must be a dict with {', '.join(RECIPE)}"
        return
    for key, value in recipe.items():
        if key not in RECIPE:
            yield (
                f"recipe.{key}: unknown key{did_you_mean(str(key), RECIPE)}; allowed are "
                f"{', '.join(RECIPE)}"
            )
            continue
        is_good, words = RECIPE[key]
        switched = isinstance(value, bool) and (key != "max_minutes" or not value)
        if value is not None and not switched and not is_good(value):
            yield f"recipe.{key}: got {str(value)[:60]!r}; it must be {words}"
