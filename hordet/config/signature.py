"""Which keywords a class takes, with `**kwargs` followed up to its base classes."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import cache


@cache
def get_keywords(owner: Callable) -> frozenset[str] | None:
    """Return the names that `owner(...)` takes by keyword, or None if that cannot be decided.

    Args:
        owner: A class or a function.
    """
    if not inspect.isclass(owner):
        names, catch_all = _read_signature(owner)
        return None if catch_all else names
    result: set[str] = set()
    for base in inspect.getmro(owner):
        initializer = vars(base).get("__init__")
        if initializer is None:
            continue
        if base is object:
            return frozenset(result)
        names, catch_all = _read_signature(initializer)
        if names is None:
            return None
        result |= names
        if catch_all is None:
            return frozenset(result)
        taken = _find_taken_keys(initializer, catch_all, base.__name__)
        if taken is None:
            return None
        result |= taken
    return None


def _read_signature(function: Callable) -> tuple[frozenset[str] | None, str | None]:
    """Return the keywords that a signature names (None: unknown), and its `**kwargs` by name."""
    if hasattr(function, "__wrapped__"):  # a decorator may rename keywords
        return None, None
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C
        return None, None
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    catch_all = [p.name for p in parameters if p.kind is p.VAR_KEYWORD]
    return frozenset(names - {"self", "cls"}), catch_all[0] if catch_all else None


def _find_taken_keys(function: Callable, name: str, owner: str) -> set[str] | None:
    """Return the keys that `owner.__init__` reads from `**name` before handing it to its base.

    None if it does anything else with it: then what it takes cannot be decided.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None
    keys: set[str] = set()
    handed_on = understood = 0
    for node in ast.walk(tree):
        key: ast.AST | None = None
        if isinstance(node, ast.Call):
            if any(k.arg is None and _is_name(k.value, name) for k in node.keywords):
                handed_on += _is_call_of_base(node.func, owner)
            elif (
                isinstance(node.func, ast.Attribute)
                and _is_name(node.func.value, name)
                and node.args
            ):
                key = node.args[0]
        elif isinstance(node, ast.Subscript) and _is_name(node.value, name):
            key = node.slice
        elif isinstance(node, ast.Compare) and any(_is_name(c, name) for c in node.comparators):
            key = node.left
        if isinstance(key, ast.Constant):
            keys.add(str(key.value))
            understood += 1
    used = sum(_is_name(node, name) for node in ast.walk(tree))
    return keys if handed_on and handed_on + understood == used else None


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _is_call_of_base(function: ast.AST, owner: str) -> bool:
    """Tell `super().__init__` and `super(owner, self).__init__` from other calls."""
    if not (isinstance(function, ast.Attribute) and function.attr == "__init__"):
        return False
    call = function.value
    if not (isinstance(call, ast.Call) and _is_name(call.func, "super")):
        return False
    return not call.args or _is_name(call.args[0], owner)
