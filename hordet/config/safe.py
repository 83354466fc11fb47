"""Configs as data: what `--safe-config` refuses, before a line of the file is run.

A config of OpenMMLab is a Python file, and a `type` in it may name anything that can be imported.
Here a file may hold numbers, words, containers of them, names given to these before and lists made
over them; types may be registered components, optimizers and modules of torch alone.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import yaml

from hordet.config.faults import list_registered_names, walk_dicts

# Modules of these may be imported by `custom_imports`, and are scopes of types.
PACKAGES = ("hordet", "mmcv", "mmdet", "mmengine", "mmpretrain", "mmseg")
# Full names of classes, beside registered ones.
_CLASSES = ("torch.optim.", "torch.nn.", "hordet.engine.amp.")
_CALLS = {"dict", "float", "int", "list", "set", "str", "tuple"}
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv)
_NODES = (
    ast.alias,  # part of an import, which is named itself
    ast.Assign,
    ast.Constant,
    ast.Dict,
    ast.DictComp,
    ast.FormattedValue,
    ast.GeneratorExp,
    ast.JoinedStr,
    ast.List,
    ast.ListComp,
    ast.Load,
    ast.Module,
    ast.Set,
    ast.Slice,
    ast.Starred,
    ast.Store,
    ast.Subscript,
    ast.Tuple,
    ast.UAdd,
    ast.USub,
    ast.UnaryOp,
    ast.comprehension,
    ast.keyword,
)


def find_code(path: Path) -> Iterator[str]:
    """Yield what a config file and its bases hold beyond data, one line each; nothing is run.

    Args:
        path: A Python, JSON or YAML file that is there.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        try:
            content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except (ValueError, yaml.YAMLError) as error:  # also tags of YAML that call Python
            yield f"{path}: {' '.join(str(error).split())}"
            return
        bases = content.get("_base_", []) if isinstance(content, dict) else []
    else:
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError) as error:
            yield f"{path}: {error}"
            return
        found = list(_code(tree))
        yield from (f"{path}, line {line}: {words}" for line, words in found)
        if found:
            return
        bases = _bases(tree)
    for base in [bases] if isinstance(bases, str) else bases:
        target = path.parent / base
        if "::" in base:
            continue  # comes with an installed package
        if target.is_file():
            yield from find_code(target)


def find_foreign_types(cfg: dict) -> Iterator[str]:
    """Yield the types and imports of a config that are no registered components, one line each."""
    registered = {name for package in PACKAGES for name in list_registered_names(package)}
    for part in walk_dicts(cfg):
        kind = part.get("type")
        if not isinstance(kind, str):
            if kind is not None:
                yield f"type {kind!r} is no word"
            continue
        scope, _, name = kind.rpartition(".")
        allowed = name in registered and (not scope or scope in PACKAGES)
        # A word without a dot and a registration, such as `nms`, is read by its owner.
        if not allowed and scope and not kind.startswith(_CLASSES):
            yield f"type {kind!r} is no registered component, nor of torch.optim or torch.nn"
    imports = (cfg.get("custom_imports") or {}).get("imports") or []
    for module in [imports] if isinstance(imports, str) else imports:
        if module.partition(".")[0] not in PACKAGES:
            yield f"custom_imports: {module!r} is not of {', '.join(PACKAGES)}"


def _code(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and words for every part of a module that is no data."""
    statements = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Name):
            if node.id.startswith("__"):
                yield line, f"the name {node.id}"
        elif isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
            if name not in _CALLS:
                yield line, f"a call of {name}"
        elif isinstance(node, ast.Expr):
            if not isinstance(node.value, ast.Constant):
                yield line, "an expression that stands alone"
        elif isinstance(node, ast.BinOp):
            if not isinstance(node.op, _ARITHMETIC):
                yield line, "arithmetic beyond + - * /"
        elif isinstance(node, ast.Attribute):
            if not ast.unparse(node).startswith("_base_.") or node.attr.startswith("_"):
                yield line, f"the attribute {node.attr}"
        elif isinstance(node, ast.Assign):
            if id(node) not in statements or not all(
                isinstance(target, ast.Name | ast.Tuple) for target in node.targets
            ):
                yield line, "an assignment to something else than a name"
        elif not isinstance(node, (*_NODES, ast.operator)):
            yield line, f"{type(node).__name__}, which is no data"


def _bases(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "_base_":  # type: ignore
            value = ast.literal_eval(node.value)
            return [value] if isinstance(value, str) else list(value)
    return []
