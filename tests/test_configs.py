"""Every config: a short delta with a lab note that builds without faults."""

import ast
import copy
import functools
from pathlib import Path

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, DefaultScope

from hordet.benchmark.complexity import EmptyOnMeta
from hordet.config.load import load_config

ROOT = Path(__file__).resolve().parents[1]
LEAVES = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("configs/[!_]*/*.py"))
pytestmark = pytest.mark.usefixtures("cache_folder")


@functools.cache
def config_of(leaf):
    """The config of a leaf; tests only read it."""
    return load_config(ROOT / leaf)


@functools.cache
def model_of(leaf):
    """The model of a leaf, without memory for its parameters."""
    cfg = config_of(leaf)
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
    assert len(LEAVES) > 20
    assert settings_lines('"""Note\n\nmore."""\n\n# comment\na = 1\nb = dict(\n    c=2,\n)\n') == 4


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaf_is_a_delta_with_a_lab_note(leaf):
    source = (ROOT / leaf).read_text()
    assert settings_lines(source) <= 25
    note = ast.get_docstring(ast.parse(source)) or ""
    for part in ("Cost:", "Expected:", "tools/train.py"):
        assert part in note, f"the lab note lacks {part}"


@pytest.mark.parametrize("leaf", LEAVES)
def test_config_builds(leaf):
    cfg, model = config_of(leaf), model_of(leaf)
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
