"""Every config: plain data, short, with a lab note; it builds without faults."""

import ast
import copy
import functools
import re
from pathlib import Path

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, DefaultScope

from hordet.benchmark.complexity import EmptyOnMeta
from hordet.config.load import load_config
from hordet.config.names import find_config

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("configs/**/*.py"))
CONFIGS = [name for name in FILES if "/_base_/" not in name]
# What a file of data is made of, beside `dict(...)` and `_base_.key`.
NODES = (
    ast.Assign,
    ast.Constant,
    ast.Dict,
    ast.List,
    ast.Load,
    ast.Module,
    ast.Name,
    ast.Slice,
    ast.Starred,
    ast.Store,
    ast.Subscript,
    ast.Tuple,
    ast.USub,
    ast.UnaryOp,
    ast.keyword,
)


@functools.cache
def config_of(name):
    """A config; tests only read it."""
    return load_config(ROOT / name)


@functools.cache
def model_of(name):
    """The model of a config, without memory for its parameters."""
    cfg = config_of(name)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), EmptyOnMeta():
        return MODELS.build(copy.deepcopy(cfg.model)).to("meta")


def settings_lines(source):
    """Count the lines that are neither blank, comment nor docstring."""
    tree = ast.parse(source)
    note = tree.body[0] if ast.get_docstring(tree) else None
    skipped = range(note.lineno, note.end_lineno + 1) if note else ()
    lines = enumerate(source.splitlines(), start=1)
    return sum(bool(s.strip()) and s.strip()[0] != "#" and n not in skipped for n, s in lines)


def test_there_are_configs_and_the_count_of_lines_counts():
    assert len(CONFIGS) > 20
    assert settings_lines('"""Note\n\nmore."""\n\n# comment\na = 1\nb = dict(\n    c=2,\n)\n') == 4


def find_code(tree):
    """Yield what in a module is not data."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            data = isinstance(node.func, ast.Name) and node.func.id == "dict"
        elif isinstance(node, ast.Attribute):
            data = ast.unparse(node).startswith("_base_.")
        elif isinstance(node, ast.Expr):
            data = isinstance(node.value, ast.Constant)  # the lab note
        else:
            data = isinstance(node, NODES)
        if not data:
            yield f"{type(node).__name__} in line {getattr(node, 'lineno', '?')}"


@pytest.mark.parametrize("name", FILES)
def test_file_is_data(name):
    assert list(find_code(ast.parse((ROOT / name).read_text()))) == []


@pytest.mark.parametrize(
    "code",
    ["import os", "a = f'{b}'", "a = [b for b in (1, 2)]", "a = int('1')", "a = b.c", "a = 2 * b"],
)
def test_code_is_told_from_data(code):
    assert list(find_code(ast.parse(code)))


@pytest.mark.parametrize("name", CONFIGS)
def test_config_is_a_delta_with_a_lab_note(name):
    source = (ROOT / name).read_text()
    assert settings_lines(source) <= 25
    note = ast.get_docstring(ast.parse(source)) or ""
    assert "Cost:" in note and "Expected:" in note
    # The command can be pasted: it names this config, and no other has the name.
    commands = [line for line in note.splitlines() if line.startswith("Train:")]
    assert len(commands) == 1
    word = re.search(r"hordet train (\S+)", commands[0])[1]
    assert find_config(word).samefile(ROOT / name)


@pytest.mark.parametrize("name", CONFIGS)
def test_config_builds(name):
    cfg, model = config_of(name), model_of(name)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    grouped = [p for group in wrapper.optimizer.param_groups for p in group["params"]]
    trained = {p for p in model.parameters() if p.requires_grad}
    assert {p for p in grouped if p.requires_grad} == trained and len({*grouped}) == len(grouped)
    names = {parameter: name for name, parameter in model.named_parameters()}
    undecayed = [
        p for g in wrapper.optimizer.param_groups if not g["weight_decay"] for p in g["params"]
    ]
    # No decay on norms, biases, Swin's position biases and Mask2Former's queries; the SGD of mmdet
    # and mmseg decays all.
    assert bool(undecayed) == (cfg.optim_wrapper.optimizer.type == "AdamW")
    spared = ("relative_position", "query_embed", "query_feat", "level_embed")
    assert all(p.ndim <= 1 or any(word in names[p] for word in spared) for p in undecayed)
    hooks = [HOOKS.build(hook) for hook in cfg.custom_hooks]
    assert {"FiniteLossHook", "ProgressHook", "PredictionSheetHook"} <= {
        type(hook).__name__ for hook in hooks
    }
    # The best checkpoint is that of a named metric; 'auto' would take mmseg's pixel accuracy.
    assert HOOKS.build(cfg.default_hooks.checkpoint).save_best != "auto"
