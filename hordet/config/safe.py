"""Configs as data: `--safe-config` evaluates a file by itself, and never executes it.

A config of OpenMMLab is a Python file that mmengine hands to `exec`. Here its syntax tree is
evaluated by a small interpreter that knows numbers, text, containers of them, names that the file
gave before and values of its bases, as measured over the packaged configs of hordet, mmdet and
mmseg; whatever it does not know is refused. JSON and YAML are parsed as data. Merging is mmengine's
own `Config._merge_a_into_b` with `_dict_to_config_dict`: both copy and compare containers alone,
and what they are given holds no other objects (`_Reader.measure`).
Reading is bounded: files, bytes, steps, items, lengths of texts, sizes of numbers (`MAX_...`).

What a config may *name* (types, files) is checked by `hordet.config.allowed`.
"""

import ast
import copy
import importlib.util
import json
import keyword
import os
import re
import unicodedata
import uuid
from collections import ChainMap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from mmengine.config import Config, ConfigDict

from hordet.errors import ConfigError

# Installed packages whose own configs may be bases, as `package::path`.
WITH_CONFIGS = ("hordet", "mmdet", "mmseg")
SUFFIXES = (".py", ".json", ".yaml", ".yml")
# Environment variables whose value may stand in a text, as `{{$NAME:default}}`: where data are.
VARIABLES = ("HORDET_DATA",)
# Bounds; the largest packaged config needs at most a tenth of each, and a third of the depth.
MAX_READS = 200  # of files: one that is a base twice counts twice
MAX_BYTES = 500_000  # of a file and its bases
MAX_FORMATTED = 100_000  # bytes of those with f-strings: Python 3.11 parses one in quadratic time
MAX_STEPS = 200_000  # nodes evaluated in a file and its bases
MAX_ITEMS = 100_000  # values in a container, with all in it; parts of a YAML file
MAX_TEXT = 100_000  # characters of a text
MAX_ALL_TEXT = 1_000_000  # characters of all texts in a value, each as often as it stands there
MAX_KEY = 1000  # characters of a key
MAX_NAMES = 2000  # settings of a config: keys of the outermost dict
MAX_DEPTH = 50  # containers in containers, bases of bases
MAX_BITS = 256  # of a whole number
MAX_DIGITS = 100  # characters of a number in JSON and YAML

# Said of keys that cannot be settings.
NAMES_ARE = "settings have names of Python: letters, digits and _, no word of the language"

_SCALARS = (bool, int, float, str, type(None))
_CONTAINERS = (dict, ConfigDict, list, tuple, set)
_FUNCTIONS = ("dict", "enumerate", "float", "int", "len", "list", "range", "set", "str", "sum",
              "tuple")  # fmt: skip
_SUBSTITUTION = re.compile(
    r"\{\{['\"]?\s{0,9}\$(\w{1,99})\s{0,9}:\s{0,9}([^\s{}]{0,999}?)\s{0,9}['\"]?\}\}"
)
_FORMATTED = re.compile(rb"(?i)(?<!['\"\w])(?:f|fr|rf)['\"]")
_BASE_VALUE = re.compile(r"\{\{\s*_base_\.([\w.]+)\s*\}\}")
# Faults of a file that make an ordinary Python raise.
_FAULTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class _Refused(Exception):
    """Something in a file is no data; the message names file, line and item."""


def read_data(path: Path) -> Config:
    """Read a config and its bases as data; nothing of them is executed.

    Args:
        path: A Python, JSON or YAML file. Its bases lie in its own folder tree (the folder, or the
            nearest one above it that holds a folder `_base_`), or come with hordet, mmdet or mmseg.

    Returns:
        What `Config.fromfile` returns for the same file, where that is data.

    Raises:
        ConfigError: A file holds more than data, asks for too much work, or cannot be read.
    """
    path = Path(os.path.abspath(path))
    try:
        reader = _Reader(path)
        values, text = reader.read(path, ())
        return Config(values, cfg_text=text, filename=str(path))
    except _Refused as error:
        raise ConfigError(
            f"{path} holds more than data, which --safe-config refuses:\n  {error}\n"
            "Write the value itself; if you trust whoever wrote the file, leave out --safe-config"
        ) from error
    except (OSError, KeyError, TypeError, RecursionError, MemoryError) as error:
        message = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{path} cannot be read as a config: {message}") from error


class _Reader:
    """Reads a config and its bases, within one budget of work.

    Args:
        path: The config.
    """

    def __init__(self, path: Path) -> None:
        self.steps = self.reads = self.bytes = self.formatted = 0
        folders = [path.parent, *path.parent.parents]
        self.roots = [next((f for f in folders if (f / "_base_").is_dir()), path.parent).resolve()]
        self.roots += filter(None, map(_find_configs, WITH_CONFIGS))

    def read(self, file: Path, children: tuple[Path, ...]) -> tuple[dict, str]:
        """Return the merged values and the text of a file.

        Args:
            file: The file.
            children: The configs that it is a base of, outermost first.
        """
        if file in children or len(children) > MAX_DEPTH:
            raise _Refused(f"{file}: it is a base of itself")
        if file.suffix not in SUFFIXES:
            raise _Refused(f"{file}: got {file.suffix or 'no suffix'}; read are {SUFFIXES}")
        text = self.read_text(file)
        markers: dict[str, str] = {}
        if file.suffix == ".py":
            module = _Module(self, file, text, markers)
            bases = module.list_bases()
        else:
            values = self.parse(file, text, markers)
            bases = values.get("_base_", [])
        base = ConfigDict()
        texts = []
        for word in bases if type(bases) is list else [bases]:
            target, scope = self.find_base(word, file)
            part, part_text = self.read(target, (*children, file))
            if twice := base.keys() & part.keys():
                raise _Refused(f"{file}: two of its bases have {', '.join(sorted(twice))}")
            base.update(Config._dict_to_config_dict(ConfigDict(part), scope))
            texts.append(part_text)
        if file.suffix == ".py":
            values = module.evaluate(base)
        if len(values) > MAX_NAMES:
            raise _Refused(f"{file}: it has more than {MAX_NAMES:,} settings")
        for key in values:
            _check_name(key, str(file))
        values.pop("_deprecation_", None)
        self.measure(values, str(file))
        try:
            values = _substitute(values, markers, base)
            values.pop("_base_", None)
            merged = Config._merge_a_into_b(values, base)
        except _FAULTS as error:
            raise _Refused(f"{file}: {type(error).__name__}: {error}") from error
        merged = {key: value for key, value in merged.items() if not key.startswith("__")}
        self.measure(merged, str(file))
        if len(merged) > MAX_NAMES:
            raise _Refused(f"{file}: it has more than {MAX_NAMES:,} settings")
        return merged, "\n".join([*texts, f"{file}\n{text}"])

    def parse(self, file: Path, text: str, markers: dict[str, str]) -> dict:
        """Return what a JSON or YAML file holds; `{{_base_.x}}` become markers."""

        def mark(match: re.Match) -> str:
            return json.dumps(_add_marker(markers, match[1]))

        text = _BASE_VALUE.sub(mark, text)
        try:
            content = _load_json(text) if file.suffix == ".json" else _load_yaml(text)
        except _Refused as error:
            raise _Refused(f"{file}: {error}") from error
        except (*_FAULTS, yaml.YAMLError) as error:  # also tags of YAML that call Python
            raise _Refused(f"{file}: {' '.join(str(error).split())}") from error
        self.measure(content, str(file))
        if not isinstance(content, dict):
            raise _Refused(f"{file}: it holds a {type(content).__name__}, not keys and values")
        return _fill(content, str(file))

    def find_base(self, word: Any, file: Path) -> tuple[Path, str | None]:
        """Return the file of a base, and the scope of its types."""
        what = f"{file}: the base {word!r}"
        if type(word) is not str or not word.isprintable() or "\\" in word or "{{" in word:
            raise _Refused(f"{what} is no path")
        package, mark, inside = word.partition("::")
        relative = PurePosixPath(inside if mark else word)
        if relative.is_absolute() or word.startswith("~"):
            raise _Refused(f"{what} is no relative path")
        if mark:
            root = _find_configs(package) if package in WITH_CONFIGS else None
            if root is None:
                raise _Refused(f"{what}: configs come with {', '.join(WITH_CONFIGS)} as installed")
            if ".." in relative.parts:
                raise _Refused(f"{what} leads out of the configs of {package}")
            target, roots = root / relative, [root]
        else:
            target, roots = Path(os.path.normpath(file.parent / relative)), self.roots
        if not any(target.resolve().is_relative_to(root) for root in roots):
            raise _Refused(
                f"{what} lies outside {roots[0]}; allowed are files in that folder, and of the "
                "packages' configs"
            )
        if not target.is_file():
            raise _Refused(f"{what} is no file")
        # The configs of hordet say in whose scope they are; a package's own types need no scope.
        return target, None if not mark or package == "hordet" else package

    def read_text(self, file: Path) -> str:
        """Return the text of a file.

        Raises:
            _Refused: It is large or no UTF-8 text, or many files were read before.
        """
        self.reads += 1
        if self.reads > MAX_READS:
            raise _Refused(
                f"{file}: it is one of more than {MAX_READS} files to read; each base counts as "
                "often as it is named"
            )
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        self.bytes += len(content)
        if self.bytes > MAX_BYTES:
            raise _Refused(f"{file}: with all bases it has more than {MAX_BYTES:,} bytes")
        if file.suffix == ".py" and _FORMATTED.search(content):
            self.formatted += len(content)
            if self.formatted > MAX_FORMATTED:
                raise _Refused(
                    f"{file}: it has f-strings, and files with f-strings have more than "
                    f"{MAX_FORMATTED:,} bytes"
                )
        try:
            return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as error:
            raise _Refused(f"{file}: it is no UTF-8 text ({error.reason})") from error

    def count(self, where: str, steps: int = 1) -> None:
        """Spend some steps."""
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise _Refused(f"{where}: it asks for more than {MAX_STEPS:,} steps of work")

    def measure(self, value: Any, where: str) -> None:
        """Refuse a value that is large, deep or holds anything but plain data."""
        left, size = [(value, 0)], 0  # one after another, so that shared parts count each time
        letters = nested = 0
        while left:
            item, depth = left.pop()
            size += 1
            if type(item) in _SCALARS:
                if type(item) is str:
                    letters += len(item)
                    _check_length(item, where)
                elif type(item) is int and item.bit_length() > MAX_BITS:
                    raise _Refused(f"{where}: a number of more than {MAX_BITS} bits")
            elif type(item) not in _CONTAINERS:
                raise _Refused(f"{where}: a value of type {type(item).__name__} is no plain data")
            elif isinstance(item, dict):
                nested += depth
                for key in item:
                    _check_key(key, where)
                    letters += len(key) if type(key) is str else 0
                left += [(part, depth + 1) for part in dict.values(item)]
            else:
                nested += depth
                left += [(part, depth + 1) for part in item]
            if size + len(left) > MAX_ITEMS or depth > MAX_DEPTH:
                raise _Refused(
                    f"{where}: a value holds more than {MAX_ITEMS:,} items, or is more than "
                    f"{MAX_DEPTH} deep"
                )
            if letters > MAX_ALL_TEXT:
                raise _Refused(
                    f"{where}: the texts in a value have more than {MAX_ALL_TEXT:,} characters"
                )
        # mmengine copies a container once for each container that it lies in.
        self.count(where, (size + nested) // 10)


class _Module:
    """Evaluates one Python config.

    Args:
        reader: Whose budget is spent.
        file: The file.
        text: Its text.
        markers: Filled with what stands for a value of a base: marker, dotted keys.
    """

    def __init__(self, reader: _Reader, file: Path, text: str, markers: dict[str, str]) -> None:
        self.reader, self.file, self.text, self.markers = reader, file, text, markers
        try:
            self.body = ast.parse(text).body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise _Refused(f"{file}: {type(error).__name__}: {error}") from error
        self.names: ChainMap[str, Any] = ChainMap()
        self.lines: list[bytes] = []  # of the text, once they are asked for

    def list_bases(self) -> list[str]:
        """Return the words of `_base_`."""
        found = [
            node
            for node in self.body
            if isinstance(node, ast.Assign)
            and any(
                isinstance(target, ast.Name) and target.id == "_base_" for target in node.targets
            )
        ]
        if not found:
            return []
        if len(found) > 1 or len(found[0].targets) > 1:
            raise self.refuse(found[-1], "a second _base_")
        value = found[0].value
        items = value.elts if isinstance(value, ast.List) else [value]
        for item in items:
            if not (isinstance(item, ast.Constant) and isinstance(item.value, str)):
                raise self.refuse(value, "a _base_ that is no path, nor a list of paths")
        return [item.value for item in items]  # type: ignore[attr-defined]

    def evaluate(self, base: ConfigDict) -> dict:
        """Return the names that the file gives, with their values."""
        self.names = ChainMap({"_base_": base})
        for node in self.body:
            try:
                self.run(node)
            except _FAULTS as error:
                raise self.refuse(node, f"{type(error).__name__}: {error}") from error
            except RecursionError as error:
                raise self.refuse(node, "too many parts in parts") from error
        return {key: value for key, value in self.names.items() if key != "_base_"}

    def refuse(self, node: ast.AST, words: str) -> _Refused:
        """Return the error that names this place."""
        return _Refused(f"{self.file}, line {getattr(node, 'lineno', '?')}: {words}")

    def run(self, node: ast.stmt) -> None:
        """Carry out a statement."""
        self.reader.count(f"{self.file}, line {node.lineno}")
        match node:
            case ast.Assign(targets=[ast.Name(id="_base_")]):
                pass
            case ast.Assign(targets=targets, value=value):
                result = self.value(value, self.names)
                self.reader.measure(result, f"{self.file}, line {node.lineno}")
                for target in targets:
                    self.assign(target, result, self.names)
            case ast.Expr(value=ast.Constant(value=str())):
                pass  # a docstring
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr="update" | "pop")) as call):
                self.change(call)
            case ast.Delete(targets=[ast.Name(id=name)]) if name != "_base_":
                del self.names[name]
            case ast.Delete(targets=[ast.Attribute() | ast.Subscript() as target]):
                owner, key = self.place(target)
                del owner[key]
            case _:
                raise self.refuse(node, f"{_describe(node)}, which is not data")

    def assign(self, target: ast.expr, value: Any, names: ChainMap[str, Any]) -> None:
        """Give a value to a name, several names, a key or an item."""
        match target:
            case ast.Name(id=name):
                if name in ("_base_", "dict") or name.startswith("__"):
                    raise self.refuse(target, f"an assignment to the name {name}")
                if names is self.names and len(names.maps[0]) > MAX_NAMES:
                    raise self.refuse(target, f"more than {MAX_NAMES:,} names")
                names[name] = value
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                if type(value) not in (list, tuple) or len(value) != len(targets):
                    raise self.refuse(target, f"{len(targets)} names for another number of values")
                for part, item in zip(targets, value, strict=True):
                    self.assign(part, item, names)
            case ast.Attribute() | ast.Subscript() if names is self.names:
                owner, key = self.place(target)
                owner[key] = value
                self.reader.measure(owner, f"{self.file}, line {target.lineno}")
            case _:
                raise self.refuse(target, f"an assignment to {_describe(target)}")

    def place(self, node: ast.Attribute | ast.Subscript) -> tuple[Any, Any]:
        """Return the container that a target lies in, and its key or index."""
        owner = self.value(node.value, self.names)
        if isinstance(node, ast.Attribute):
            self.check_attribute(owner, node)
            return owner, node.attr
        key = self.value(node.slice, self.names)
        if type(owner) in (dict, ConfigDict):
            _check_key(key, f"{self.file}, line {node.lineno}")
        elif type(owner) is not list or type(key) is not int:
            raise self.refuse(node, "a change of something else than a dict or a list")
        return owner, key

    def change(self, call: ast.Call) -> None:
        """Carry out `x.update(values)` or `x.pop(key)` of a dict."""
        owner = self.value(call.func.value, self.names)  # type: ignore[attr-defined]
        arguments = [self.value(item, self.names) for item in call.args]
        if type(owner) not in (dict, ConfigDict) or call.keywords or len(arguments) != 1:
            raise self.refuse(call, f"a call of {ast.unparse(call.func)[:50]}")
        if call.func.attr == "pop":  # type: ignore[attr-defined]
            _check_key(arguments[0], f"{self.file}, line {call.lineno}")
            type(owner).pop(owner, arguments[0])
        else:
            self.reader.measure(arguments[0], f"{self.file}, line {call.lineno}")
            type(owner).update(owner, dict(arguments[0]))
            self.reader.measure(owner, f"{self.file}, line {call.lineno}")

    def value(self, node: ast.expr, names: ChainMap[str, Any]) -> Any:
        """Return the value of an expression."""
        self.reader.count(f"{self.file}, line {getattr(node, 'lineno', '?')}")
        match node:
            case ast.Constant(value=value):
                return self.constant(node, value)
            case ast.Name(id=name):
                self.reader.count(f"{self.file}, line {node.lineno}", len(names.maps) // 10)
                if name not in names:
                    raise self.refuse(node, f"the name {name}, which the file does not give before")
                return names[name]
            case ast.List(elts=items):
                return self.items(items, names)
            case ast.Tuple(elts=items):
                return tuple(self.items(items, names))
            case ast.Set(elts=[ast.Set(elts=[ast.Attribute() as reference])]):
                return self.reference(reference)
            case ast.Set(elts=items):
                return self.make_set(node, self.items(items, names))
            case ast.Dict(keys=keys, values=values):
                return self.make_dict(node, keys, values, names)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                number = self.number(operand, self.value(operand, names))
                return -number if isinstance(sign, ast.USub) else +number
            case ast.BinOp(left=left, op=operator, right=right):
                return self.combine(node, self.value(left, names), operator,
                                    self.value(right, names))  # fmt: skip
            case ast.Attribute(value=owner, attr=name):
                held = self.value(owner, names)
                self.check_attribute(held, node)
                return held[name]
            case ast.Subscript(value=owner, slice=index):
                return self.item(node, self.value(owner, names), index, names)
            case ast.JoinedStr(values=parts):
                return self.bounded(node, self.join(node, parts, names))
            case ast.ListComp(elt=item) | ast.GeneratorExp(elt=item):
                return [self.value(item, given) for given in self.loop(node, 0, names)]
            case ast.DictComp(key=key, value=value):
                result = {}
                for given in self.loop(node, 0, names):
                    name = self.value(key, given)
                    _check_key(name, f"{self.file}, line {node.lineno}")
                    result[name] = self.value(value, given)
                return result
            case ast.Call():
                return self.call(node, names)
            case _:
                raise self.refuse(node, f"{_describe(node)}, which is not data")

    def constant(self, node: ast.AST, value: Any) -> Any:
        """Return a literal."""
        if type(value) not in _SCALARS:
            raise self.refuse(node, f"a value of type {type(value).__name__}")
        if type(value) is str:
            _check_length(value, f"{self.file}, line {getattr(node, 'lineno', '?')}")
            # mmengine substitutes in the text of the file, where an escaped brace is none.
            if "{{" in value and not self.is_written(node, "{{"):
                return value
            return _fill(value, f"{self.file}, line {getattr(node, 'lineno', '?')}")
        return self.number(node, value) if type(value) is int else value

    def is_written(self, node: ast.AST, words: str) -> bool:
        """Tell whether the lines of a literal hold some text; True where that is unknown."""
        if not self.lines:
            self.lines = self.text.encode().split(b"\n")
        begin, end = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
        if not begin or not end:
            return True
        lines = self.lines[begin - 1 : end]
        self.reader.count(f"{self.file}, line {begin}", sum(map(len, lines)) // 1000)
        lines[-1] = lines[-1][: node.end_col_offset]  # type: ignore[attr-defined]
        lines[0] = lines[0][node.col_offset :]  # type: ignore[attr-defined]
        return words.encode() in b"\n".join(lines)

    def number(self, node: ast.AST, value: Any) -> Any:
        """Return a number, refused where it is none or huge."""
        if type(value) not in (bool, int, float):
            raise self.refuse(node, f"arithmetic on a {type(value).__name__}")
        if type(value) is int and value.bit_length() > MAX_BITS:
            raise self.refuse(node, f"a number of more than {MAX_BITS} bits")
        return value

    def bounded(self, node: ast.AST, value: Any) -> Any:
        """Return a text or list, refused where it is too long."""
        if len(value) > MAX_ITEMS:
            raise self.refuse(node, f"a value of more than {MAX_ITEMS:,} items")
        self.reader.count(f"{self.file}, line {getattr(node, 'lineno', '?')}", len(value) // 100)
        return value

    def items(self, nodes: list[ast.expr], names: ChainMap[str, Any]) -> list:
        """Return the values of several expressions, starred ones unpacked."""
        values: list = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                values += self.sequence(node, self.value(node.value, names))
            else:
                values.append(self.value(node, names))
            if len(values) > MAX_ITEMS:
                raise self.refuse(node, f"a value of more than {MAX_ITEMS:,} items")
        return values

    def sequence(self, node: ast.AST, value: Any) -> list:
        """Return the items of a container."""
        if type(value) not in (*_CONTAINERS, range, str):
            raise self.refuse(node, f"a loop over a {type(value).__name__}")
        return list(self.bounded(node, value))

    def make_set(self, node: ast.AST, values: list) -> set:
        if any(type(value) not in _SCALARS for value in values):
            raise self.refuse(node, "a set of other things than numbers and text")
        return set(values)

    def make_dict(
        self,
        node: ast.expr,
        keys: list[ast.expr | None],
        values: list[ast.expr],
        names: ChainMap[str, Any],
    ) -> dict:
        result: dict = {}
        for key_node, value_node in zip(keys, values, strict=True):
            value = self.value(value_node, names)
            if key_node is None:  # **value
                if type(value) not in (dict, ConfigDict):
                    raise self.refuse(node, f"** of a {type(value).__name__}")
                # An entry of a dict takes ten times the memory of an item of a list.
                self.reader.count(f"{self.file}, line {node.lineno}", len(value) // 10)
                result.update(dict.items(value))
                continue
            key = self.value(key_node, names)
            _check_key(key, f"{self.file}, line {node.lineno}")
            result[key] = value
        return result

    def combine(self, node: ast.expr, left: Any, operator: ast.operator, right: Any) -> Any:
        """Return the result of an operator."""
        kinds = (list, str, tuple)
        if isinstance(operator, ast.Add) and type(left) in kinds and type(left) is type(right):
            return self.bounded(node, left + right)
        if isinstance(operator, ast.Mult) and (type(left) in kinds or type(right) in kinds):
            many, times = (left, right) if type(left) in kinds else (right, left)
            if type(times) is not int or len(many) * max(times, 0) > MAX_ITEMS:
                raise self.refuse(node, f"a value of more than {MAX_ITEMS:,} items")
            return self.bounded(node, many * times)
        a, b = self.number(node, left), self.number(node, right)
        match operator:
            case ast.Add():
                result = a + b
            case ast.Sub():
                result = a - b
            case ast.Mult():
                result = a * b
            case ast.Div():
                result = a / b
            case ast.FloorDiv():
                result = a // b
            case ast.Mod():
                result = a % b
            case ast.Pow() if abs(b) <= MAX_BITS:
                result = a**b
            case _:
                raise self.refuse(node, f"the operator {type(operator).__name__}")
        return self.number(node, result)

    def check_attribute(self, owner: Any, node: ast.Attribute) -> None:
        """Refuse an attribute that is no key of a base's dict; none is looked up on an object."""
        if type(owner) is not ConfigDict or hasattr(ConfigDict, node.attr):
            raise self.refuse(node, f"the attribute {node.attr} of a {type(owner).__name__}")

    def reference(self, node: ast.Attribute) -> str:
        """Return the marker of `{{_base_.x.y}}`, as mmengine puts the value in after all else."""
        keys: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            keys.insert(0, inner.attr)
            inner = inner.value
        if not (isinstance(inner, ast.Name) and inner.id == "_base_"):
            raise self.refuse(node, f"the substitution {{{{{ast.unparse(node)[:50]}}}}}")
        return _add_marker(self.markers, ".".join(keys))

    def item(
        self, node: ast.Subscript, owner: Any, index: ast.expr, names: ChainMap[str, Any]
    ) -> Any:
        """Return an item or a slice."""
        if type(owner) not in (dict, ConfigDict, list, tuple, str):
            raise self.refuse(node, f"an item of a {type(owner).__name__}")
        if isinstance(index, ast.Slice):
            ends = [
                None if end is None else self.value(end, names)
                for end in (index.lower, index.upper, index.step)
            ]
            if any(type(end) not in (int, type(None)) for end in ends):
                raise self.refuse(node, "a slice by other things than whole numbers")
            return self.bounded(node, owner[slice(*ends)])
        key = self.value(index, names)
        if type(key) not in _SCALARS:
            raise self.refuse(node, f"an item by a {type(key).__name__}")
        return owner[key]

    def format(self, part: ast.expr, names: ChainMap[str, Any]) -> str:
        """Return a part of an f-string."""
        match part:
            case ast.Constant(value=str() as text):
                return text
            case ast.FormattedValue(value=inner, conversion=-1, format_spec=None):
                value = self.value(inner, names)
                if type(value) in _SCALARS:
                    return str(value)
        raise self.refuse(part, "a part of an f-string that is no plain value")

    def join(self, node: ast.AST, parts: list[ast.expr], names: ChainMap[str, Any]) -> str:
        """Return the text of an f-string, refused before it is joined where it is too long."""
        texts, length = [], 0
        for part in parts:
            texts.append(self.format(part, names))
            length += len(texts[-1])
            if length > MAX_TEXT:
                raise self.refuse(node, f"a text of more than {MAX_TEXT:,} characters")
        return "".join(texts)

    def loop(
        self, node: Any, depth: int, names: ChainMap[str, Any]
    ) -> Iterator[ChainMap[str, Any]]:
        """Yield the names of each turn of a comprehension: those around it, and its own."""
        if depth == len(node.generators):
            yield names
            return
        part = node.generators[depth]
        if part.ifs or part.is_async:
            raise self.refuse(node, "a condition in a comprehension")
        given = names if depth else names.new_child()
        for item in self.sequence(node, self.value(part.iter, names)):
            self.assign(part.target, item, given)
            yield from self.loop(node, depth + 1, given)

    def call(self, node: ast.Call, names: ChainMap[str, Any]) -> Any:
        """Return the result of one of the few functions; the name's value is never looked up."""
        if isinstance(node.func, ast.Name) and node.func.id in names:
            raise self.refuse(node, f"a call of {node.func.id}, to which the file gives a value")
        match node:
            case ast.Call(func=ast.Name(id="dict"), args=args, keywords=keywords) if (
                not args or keywords and len(args) == 1
            ):
                keys: list[ast.expr | None] = [None] * len(args)
                keys += [
                    ast.Constant(k.arg, lineno=node.lineno) if k.arg else None for k in keywords
                ]
                return self.make_dict(node, keys, [*args, *(k.value for k in keywords)], names)
            case ast.Call(func=ast.Name(id=name), args=[_, *_] as args, keywords=[]) if (
                name in _FUNCTIONS and not any(isinstance(arg, ast.Starred) for arg in args)
            ):
                return self.apply(node, name, [self.value(arg, names) for arg in args])
            case ast.Call(func=ast.Name(id="list" | "tuple" | "set" as name), args=[], keywords=[]):
                return {"list": [], "tuple": (), "set": set()}[name]
        raise self.refuse(node, f"a call of {ast.unparse(node.func)[:50]}")

    def apply(self, node: ast.Call, name: str, values: list) -> Any:
        """Return the result of a function of `_FUNCTIONS`."""
        first = values[0]
        if name == "range":
            if len(values) > 3 or any(type(value) is not int for value in values):
                raise self.refuse(node, "a range of other things than whole numbers")
            return self.bounded(node, range(*values))
        if len(values) > 1:
            raise self.refuse(node, f"a call of {name} with {len(values)} values")
        if name in ("int", "float", "str"):
            if type(first) not in _SCALARS or type(first) is str and len(first) > 100:
                raise self.refuse(node, f"{name} of a {type(first).__name__}")
            return str(first) if name == "str" else self.number(
                node, int(first) if name == "int" else float(first)
            )  # fmt: skip
        items = self.sequence(node, first)
        if name == "dict":
            if type(first) not in (dict, ConfigDict):
                raise self.refuse(node, f"dict of a {type(first).__name__}")
            return dict(dict.items(first))
        if name == "sum":
            total: Any = 0
            for item in items:
                total = self.number(node, total + self.number(node, item))
            return total
        if name == "len":
            return len(items)
        if name == "enumerate":
            return list(enumerate(items))
        if name == "set":
            return self.make_set(node, items)
        return tuple(items) if name == "tuple" else items


def _find_configs(package: str) -> Path | None:
    """Return the folder of a package's own configs."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return (Path(spec.origin).parent / ".mim" / "configs").resolve()


def _describe(node: ast.AST) -> str:
    """Say what a part of a syntax tree is."""
    line = ast.unparse(node).partition("\n")[0]
    return f"{type(node).__name__} ({line[:50]})"


def _check_key(key: Any, where: str) -> None:
    """Refuse a key of a dict that a dumped config would not hold as it is."""
    if type(key) not in (bool, int, float, str, type(None)):
        raise _Refused(f"{where}: a key of type {type(key).__name__}")
    # mmengine dumps a key between quotes without escaping any in it.
    if type(key) is str and len(key) > MAX_KEY:
        raise _Refused(f"{where}: a key of more than {MAX_KEY:,} characters")
    if type(key) is str and (not key.isprintable() or re.search(r"['\"\\]|__\w+__", key)):
        raise _Refused(f"{where}: the key {key[:50]!r}, which holds quotes or the like")
    if type(key) is int and key.bit_length() > MAX_BITS:
        raise _Refused(f"{where}: a number of more than {MAX_BITS} bits")


def _check_name(key: Any, where: str) -> None:
    """Refuse a setting that no Python config could give by an assignment, as a dumped one does."""
    if type(key) is not str:
        raise _Refused(f"{where}: the key {key!r} is no text")
    if not is_name(key):
        raise _Refused(f"{where}: the key {key[:50]!r} cannot name a setting; {NAMES_ARE}")


def is_name(key: str) -> bool:
    """Tell whether a dumped config can give a setting of this name.

    Args:
        key: A key of the outermost dict of a config.
    """
    same = unicodedata.normalize("NFKC", key) == key  # or Python reads another name
    return same and key.isidentifier() and not keyword.iskeyword(key) and key != "dict"


def _check_length(text: str, where: str) -> None:
    if len(text) > MAX_TEXT:
        raise _Refused(f"{where}: a text of more than {MAX_TEXT:,} characters")


def _load_json(text: str) -> Any:
    """Return the values of a JSON file, whose numbers are short and finite."""

    def refuse(word: str) -> Any:
        raise _Refused(f"{word} is no number of JSON; write a large number such as 1e30")

    def read_float(word: str) -> float:
        number = _check_digits(word, float)
        if abs(number) == float("inf"):
            refuse(word[:20])
        return number

    return json.loads(
        text,
        parse_constant=refuse,
        parse_float=read_float,
        parse_int=lambda word: _check_digits(word, int),
    )


def _check_digits(word: str, kind: Any) -> Any:
    if len(word) > MAX_DIGITS:
        raise _Refused(f"the number {word[:20]}... has more than {MAX_DIGITS} characters")
    return kind(word)


class _YamlLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML's safe loader for short and finite numbers and few merged keys.

    libyaml's part splits the text; what values are made of is PyYAML's SafeConstructor either way.
    """

    merged = 0

    def construct_yaml_int(self, node: Any) -> int:
        """Return a whole number; PyYAML's time grows with the square of 1:00:00..."""
        _check_digits(str(node.value), str)
        return super().construct_yaml_int(node)

    def construct_yaml_float(self, node: Any) -> float:
        """Return a finite number."""
        _check_digits(str(node.value), str)
        number = super().construct_yaml_float(node)
        if number - number != 0:
            raise _Refused(f"{node.value} is no finite number; write a large one such as 1.0e+30")
        return number

    def flatten_mapping(self, node: Any) -> None:
        """Put in what `<<` merges; merged dicts of merged dicts grow by powers."""
        super().flatten_mapping(node)
        self.merged += len(node.value)
        if self.merged > MAX_ITEMS:
            raise _Refused(f"its << merge more than {MAX_ITEMS:,} keys")


for _kind in ("int", "float"):
    _YamlLoader.add_constructor(
        f"tag:yaml.org,2002:{_kind}", getattr(_YamlLoader, f"construct_yaml_{_kind}")
    )


def _load_yaml(text: str) -> Any:
    """Return the values of a YAML file, whose parts are counted before any is made."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=_YamlLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if number > MAX_ITEMS or depth > MAX_DEPTH:
            raise _Refused(
                f"it has more than {MAX_ITEMS:,} parts, or is more than {MAX_DEPTH} deep"
            )
    return yaml.load(text, Loader=_YamlLoader)


def _substitute(value: Any, markers: dict[str, str], base: ConfigDict) -> Any:
    """Return a copy with the values of a base in the places of their markers, as mmengine does.

    mmengine's own function copies everything anew at each level.
    """
    if isinstance(value, dict):
        value = copy.copy(value)
        for key, item in list(dict.items(value)):
            value[key] = _substitute(item, markers, base)
    elif isinstance(value, list | tuple):
        return type(value)([_substitute(item, markers, base) for item in value])
    elif isinstance(value, str) and value in markers:
        found: Any = base
        for key in markers[value].split("."):
            found = found[key]
        return found
    return value


def _add_marker(markers: dict[str, str], keys: str) -> str:
    marker = f"_{keys}_{uuid.uuid4().hex}"
    markers[marker] = keys
    return marker


def _fill(value: Any, where: str) -> Any:
    """Put the allowed environment variables into texts; refuse every other substitution."""
    if isinstance(value, dict):
        return {key: _fill(item, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, where) for item in value]
    if type(value) is not str or "{{" not in value:
        return value

    def look_up(match: re.Match) -> str:
        name, default = match.groups()
        if name not in VARIABLES:
            return match[0]
        return os.environ.get(name) or default

    filled = _SUBSTITUTION.sub(look_up, value)
    _check_length(filled, where)
    if "{{" in filled:
        raise _Refused(
            f"{where}: the substitution {value[:80]!r}; allowed are {{{{_base_.KEY}}}} and "
            f"{{{{${VARIABLES[0]}:default}}}} in a text"
        )
    return filled
