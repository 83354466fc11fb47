"""A config as Python text that can be read again, whatever its keys and values are.

mmengine 0.10 writes each config into the run's folder, its log and its checkpoints. A key that is a
word of Python (`class`) or holds a quote ends the training there, a number that is not finite
cannot be read again, and a text such as '{{ fileDirname }}' is read as a substitution.
"""

import keyword
import math
from typing import Any

from mmengine.config import Config
from yapf.yapflib.yapf_api import FormatCode

# As mmengine sets it.
_STYLE = dict(
    based_on_style="pep8",
    blank_line_before_nested_class_or_def=True,
    split_before_expression_after_opening_paren=True,
)
# Characters; yapf sets some 10,000 a second.
_MAX_SET = 300_000


def write_configs_readably() -> None:
    """Let mmengine write configs by `write_config`. Calling it again changes nothing."""
    Config.pretty_text = property(write_config)


def write_config(cfg: Config) -> str:
    """Return a config as Python text; the same as mmengine's where that can be read again.

    Args:
        cfg: The config. Its `_format_python_code` says whether the text is well set.
    """
    values = cfg.to_dict()
    if _is_named(values):
        text = "\n".join(f"{key}={_write(value)}" for key, value in _sort(values))
    else:
        text = _write_inside(values)
    if getattr(cfg, "_format_python_code", True) and len(text) <= _MAX_SET:
        text, _ = FormatCode(text, style_config=_STYLE)
    return text


def _write(value: Any) -> str:
    if isinstance(value, dict):
        return f"dict({_write_inside(value)})"
    if isinstance(value, list | tuple):
        ends = "[]" if isinstance(value, list) else "()"
        return f"{ends[0]}\n" + "".join(f"{_write(item)},\n" for item in value) + ends[1]
    if isinstance(value, set) and value:
        return f"{{{', '.join(map(_write, value))}}}"
    if isinstance(value, str):
        return repr(value).replace("{{", "{\\x7b")
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return str(value)


def _write_inside(values: dict) -> str:
    """Write what stands between the brackets of `dict()`."""
    if _is_named(values):
        return ",\n".join(f"{key}={_write(value)}" for key, value in _sort(values))
    pairs = (f"{_write(key)}: {_write(value)}" for key, value in _sort(values))
    return "{" + ",\n".join(pairs) + "}"


def _is_named(values: dict) -> bool:
    """Tell whether all keys can be names of arguments, as mmengine prefers them."""
    return all(str(key).isidentifier() and not keyword.iskeyword(str(key)) for key in values)


def _sort(values: dict) -> list[tuple[Any, Any]]:
    return sorted(values.items(), key=lambda pair: str(pair[0]))
