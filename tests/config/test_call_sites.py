"""Every call of the libraries that turns text into code, removes files or makes folders is known.

`call_sites.txt` names each by file, function and what is called, with one word or `word:name`:

- rule:KEY          a parameter KEY reaches it; `hordet.config.allowed` has a rule for KEY
- component:NAME    NAME reaches it; `hordet.config.allowed` refuses NAME
- suffix            a file is opened by its suffix; pickles and YAML are refused, and closed
- scheme            weights by what stands before `://`; others than files and the web are closed
- weights           torch.load, which from 2.6 on unpickles tensors alone, or hordet's own loader
- constant          its argument is written there, or comes from a list that is
- data              JSON, arrays without pickles, a regular expression: no code can come of it
- own               it reads back, moves or removes what the same job wrote
- object            an attribute of a part of the model by its name; it is read, not called
- apart             no config reaches it: inferencers, testing, the config loader that is not used
"""

import ast
import importlib.util
from pathlib import Path

import pytest
import torch

from hordet.config import allowed

PACKAGES = ("mmcv", "mmdet", "mmengine", "mmseg", "timm")
TABLE = Path(__file__).with_name("call_sites.txt")
# By the last part of what is called.
SINKS = {
    *("__import__", "attrgetter", "exec", "eval", "from_pretrained", "fromfile"),
    *("get_object_from_string", "import_module", "import_modules_from_strings"),
    *("load_state_dict_from_url", "load_url", "run_module", "run_path"),
}
# What removes or moves files, and what makes the folders that others write to.
REMOVES = {"makedirs", "mkdir_or_exist", "move", "rmdir", "rmtree", "unlink"}
# By module and name.
OF_MODULES = {
    *(
        "mmengine.load",
        "np.load",
        "os.popen",
        "os.remove",
        "os.rename",
        "os.replace",
        "os.system",
        "pickle.load",
        "pickle.loads",
    ),
    *("torch.compile", "torch.hub.load", "torch.load", "yaml.load", "yaml.unsafe_load"),
    *("dill.load", "dill.loads", "joblib.load", "marshal.loads", "shelve.open"),
}


def name_of(function):
    """Return what is called, such as `torch.load`, up to its first bracket."""
    parts, node = [], function
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        return ".".join([node.id, *reversed(parts)])
    return ast.unparse(function).partition("(")[0]


def calls_of(path):
    """Yield function and callee of every call in a file that turns text into code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    from_fileio = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mmengine")
        for alias in node.names
        if alias.name == "load"
    }

    def walk(node, within):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            within = f"{within}.{node.name}" if within else node.name
        if isinstance(node, ast.Call):
            callee = name_of(node.func)
            last = callee.rpartition(".")[2]
            known = last in SINKS and not (last == "eval" and "." in callee)
            known |= last in REMOVES and (
                callee.partition(".")[0] in ("mmengine", "os", "self", "shutil")
                or "." not in callee
            )
            known |= callee in OF_MODULES or callee.startswith("subprocess.")
            known |= callee in from_fileio or callee == "compile"
            by_name = callee == "getattr" and len(node.args) > 1
            by_name = by_name and not isinstance(node.args[1], ast.Constant)
            known |= by_name and ast.unparse(node.args[0]) != "self"
            if known:
                yield within or "-", callee
        for child in ast.iter_child_nodes(node):
            yield from walk(child, within)

    yield from walk(tree, "")


def find_calls():
    found = set()
    for package in PACKAGES:
        root = Path(importlib.util.find_spec(package).origin).parent
        for path in root.rglob("*.py"):
            if ".mim" not in path.parts:
                name = path.relative_to(root.parent).as_posix()
                found |= {(name, function, callee) for function, callee in calls_of(path)}
    return found


def read_table():
    lines = [line.split() for line in TABLE.read_text().splitlines() if line.strip()]
    return {tuple(line[:3]): line[3] for line in lines}


def test_every_call_is_known():
    """A new release of a library may bring another one: read it, then add a rule and a line."""
    table, found = read_table(), find_calls()
    assert sorted(found - table.keys()) == [] and sorted(table.keys() - found) == []
    assert len(found) > 100


def test_the_reasons_are_true():
    words = {"suffix", "scheme", "weights", "constant", "data", "own", "object", "apart"}
    for site, reason in read_table().items():
        kind, _, name = reason.partition(":")
        good = {
            "rule": name in allowed._RULES,
            "component": name in allowed.REFUSED,
        }.get(kind, kind in words and not name)
        assert good, (site, reason)


def test_the_scan_finds_each_kind(tmp_path):
    (tmp_path / "a.py").write_text(
        "import os, pickle, shutil, subprocess\nfrom mmengine.fileio import load\n"
        "class A:\n    def f(self, x):\n        eval(x); exec(x); self.eval(); pickle.load(x)\n"
        "        load(x); subprocess.run(x); getattr(torch, x); getattr(self, x)\n"
        "        os.remove(x); x.replace(1, 2); shutil.rmtree(x); mkdir_or_exist(x)\n"
    )
    calls = [callee for _, callee in calls_of(tmp_path / "a.py")]
    assert calls[:6] == ["eval", "exec", "pickle.load", "load", "subprocess.run", "getattr"]
    assert calls[6:] == ["os.remove", "shutil.rmtree", "mkdir_or_exist"]


def test_refused_components_exist():
    """A misspelled name would refuse nothing; those of packages that are not installed may lack."""
    names = allowed._registered()
    lacking = {name for name in allowed.REFUSED if name not in names}
    assert lacking <= {"InstaBoost", "MOTChallengeMetric"}, lacking


@pytest.mark.parametrize("name", ["torch.optim.AdamW", "torch.nn.BatchNorm2d"])
def test_classes_of_torch(name):
    assert allowed.resolve(name).__name__ == name.rpartition(".")[2]


def test_torch_load_is_safe_by_default():
    """The reason `weights` rests on it."""
    import inspect

    assert torch.__version__ >= (2, 6)
    assert inspect.signature(torch.load).parameters["weights_only"].default is None
    assert torch.serialization._default_to_weights_only(None)
