"""The tests notice what they are there for: each mutation of the maths makes a named one fail.

A mutation changes the syntax tree of one function, so that it survives other names of local
variables and another format. One process imports the libraries and tries all whose tests run in
it; a mutation whose test starts processes of its own is made in a copy of the package.
"""

import ast
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.slow  # minutes; CI runs them
ROOT = Path(__file__).parents[1]
PARITY = "tests/test_parity.py::test_parity"
FUSION = "tests/layers/test_gn_fusion.py::test_skip_of_concatenated_levels_is_their_mean"
HORFPN = "tests/necks/test_hor_fpn.py::test_each_level_starts_for_the_sums_that_it_gets"
RATES = "tests/engine/test_layer_decay.py::test_custom_keys_multiply_in_every_mode"
CHOSEN = "gnconv or glf or gnmod or block"
MEMORY = "tests/layers/test_recompute.py::test_training_keeps_less_in_memory"
# What a CPU can tell of a fault on a GPU.
AUTOCAST = (
    "tests/layers/test_recompute.py::test_the_second_computation_is_under_the_autocast_of_the_first"
)
SCALER = "tests/engine/hooks/test_finite.py::test_a_loss_scaler_leaves_its_step_out_by_itself"
TIES = "tests/heads/test_targets.py::test_assignments_are_those_of_mmdet"


class Mutation(NamedTuple):
    """What is changed, and which test must fail.

    `change` takes each node of the function and returns another, or None to leave it.
    """

    file: str
    function: str
    change: Callable[[ast.AST], ast.AST | None]
    test: str = PARITY
    chosen: str = CHOSEN


def source(node):
    return ast.unparse(node)


def expression(text):
    return ast.parse(text, mode="eval").body


def drop_scale(node):
    if source(node) != "self.dwconv(q, self.scale)":
        return None
    return expression("self.dwconv(q, 1.0)")


def drop_layer_scale(node):
    return ast.Constant(None) if source(node) == "self.gamma1" else None


def is_call(node, method):
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == method
    )


def put_halves_one_after_the_other(node):
    if not is_call(node, "flatten"):
        return None
    return expression(f"{source(node.func.value)}.transpose(-2, -1).flatten(-2)")


def reverse_gates(node):
    if not is_call(node, "split"):
        return None
    return expression(f"{source(node.func.value)}.split(self.dims[::-1], dim=1)[::-1]")


def leave_corners(node):
    if not (isinstance(node, ast.keyword) and node.arg == "align_corners"):
        return None
    return ast.keyword("align_corners", ast.Constant(False))


def note_nothing(node):
    return ast.Pass() if isinstance(node, ast.If) else None


def drop_skip(node):
    return ast.Pass() if isinstance(node, ast.If) and source(node.test) == "self.skip" else None


def start_near_linear(node):
    return expression("module.init_near_linear()") if is_call(node, "init_context") else None


def leave_autocast(node):
    return expression("nullcontext()") if isinstance(node, ast.IfExp) else None


def ignore_scaler(node):
    is_verdict = isinstance(node, ast.If) and "found_inf" in source(node.test)
    return ast.Pass() if is_verdict else None


def take_one_best_box(node):
    return ast.Constant(False) if source(node) == "self.gt_max_assign_all" else None


def forget_rate(node):
    return ast.Constant(1.0) if source(node) == "multipliers.get('lr_mult', 1.0)" else None


MUTATIONS = {
    "scale dropped": Mutation("layers/gnconv.py", "GnConv.forward", drop_scale),
    "gate order reversed": Mutation("layers/gnconv.py", "GnConv.forward", reverse_gates),
    "halves not interleaved": Mutation(
        "layers/global_filter.py", "GlobalLocalFilter.forward", put_halves_one_after_the_other
    ),
    "filter resized without aligned corners": Mutation(
        "layers/global_filter.py", "GlobalLocalFilter._resize", leave_corners
    ),
    "layer scale dropped": Mutation("hornet/block.py", "Block.forward", drop_layer_scale),
    "nothing recomputed": Mutation(
        "layers/recompute.py", "make_recomputable", note_nothing, MEMORY, "float32"
    ),
    "skip dropped": Mutation("layers/gn_fusion.py", "GnFusion.forward", drop_skip, FUSION, "skip"),
    "context start dropped": Mutation(
        "necks/hor_fpn.py", "HorFPN._init_gnconvs", start_near_linear, HORFPN, "level"
    ),
    "recomputed outside autocast": Mutation(
        "layers/recompute.py", "_compute_again", leave_autocast, AUTOCAST, "autocast"
    ),
    "verdict of the loss scaler ignored": Mutation(
        "engine/hooks/finite.py", "FiniteLossHook._guard", ignore_scaler, SCALER, "scaler"
    ),
    "one best box of an object": Mutation(
        "heads/targets.py", "MaxIoUAssigner.assign_wrt_overlaps", take_one_best_box, TIES, "1000"
    ),
    "rate dropped": Mutation(
        "engine/layer_decay.py",
        "LayerDecayOptimWrapperConstructor._describe_group",
        forget_rate,
        RATES,
        "same",
    ),
}
# The test of memory starts processes.
IN_ONE_PROCESS = {name: each for name, each in MUTATIONS.items() if each.test != MEMORY}


class Mutator(ast.NodeTransformer):
    """Applies a change to each node of a function and counts what it changed."""

    def __init__(self, change):
        self.change, self.count = change, 0

    def visit(self, node):
        changed = self.change(node)
        if changed is None:
            return self.generic_visit(node)
        self.count += 1
        return changed


def find(tree, name):
    """Return the definition of a function by its dotted name."""
    for part in name.split("."):
        tree = next(node for node in tree.body if getattr(node, "name", None) == part)
    return tree


def mutate(text, mutation):
    """Return the source of a module with one function changed."""
    tree = ast.parse(text)
    mutator = Mutator(mutation.change)
    function = find(tree, mutation.function)
    function.body = [mutator.visit(statement) for statement in function.body]
    assert mutator.count == 1, f"{mutation.function} has {mutator.count} places for this mutation"
    return ast.unparse(ast.fix_missing_locations(tree))


def compile_mutation(mutation):
    """Return the code object of the changed function."""
    path = ROOT / "hordet" / mutation.file
    code = compile(mutate(path.read_text(), mutation), str(path), "exec")
    for part in mutation.function.split("."):
        codes = [each for each in code.co_consts if isinstance(each, CodeType)]
        code = next(each for each in codes if each.co_name == part)
    return code


def find_function(mutation):
    """Return the function itself, as imported."""
    found = importlib.import_module("hordet." + mutation.file.removesuffix(".py").replace("/", "."))
    for part in mutation.function.split("."):
        found = getattr(found, part)
    return found


class Failures:
    """A plugin of pytest that keeps the tests that failed and those that passed."""

    def __init__(self):
        self.failed, self.passed = [], []

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.when == "call":
            self.passed.append(report.nodeid)


def run_mutations():
    """Print, as the last line, which tests failed and passed by mutation, and without one."""
    found = {}
    for name, mutation in IN_ONE_PROCESS.items():
        words = ["-q", "-n0", "-p", "no:cacheprovider", mutation.test, "-k", mutation.chosen]
        plain = f"{mutation.test} -k {mutation.chosen}"
        if plain not in found:
            found[plain] = _run(words)
        function = find_function(mutation)
        kept, function.__code__ = function.__code__, compile_mutation(mutation)
        found[name] = _run(["-x", *words])
        function.__code__ = kept
    print("\n" + json.dumps(found))


def _run(words):
    failures = Failures()
    pytest.main(words, plugins=[failures])
    return failures.failed, failures.passed


def start(folder, *words):
    """Run Python in a checkout, without shared data."""
    folders = [str(folder), *(str(folder / name) for name in ("tests", "tests/references"))]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    env["HORDET_SHARED"] = str(folder / "none")
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def tried():
    result = start(ROOT, "-c", "import test_mutations; test_mutations.run_mutations()")
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_without_a_mutation_they_pass(tried):
    plain = [name for name in tried if name not in MUTATIONS]
    assert len(plain) == 7
    for name in plain:
        failed, passed = tried[name]
        assert not failed and passed, name


@pytest.mark.parametrize("name", IN_ONE_PROCESS)
def test_a_mutation_fails(name, tried):
    failed, _ = tried[name]
    assert len(failed) == 1 and failed[0].startswith(MUTATIONS[name].test)


@pytest.mark.parametrize("name", [name for name in MUTATIONS if name not in IN_ONE_PROCESS])
def test_a_mutation_fails_in_a_process_of_its_own(name, tmp_path):
    for folder in ("hordet", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    mutation = MUTATIONS[name]
    path = tmp_path / "hordet" / mutation.file
    path.write_text(mutate(path.read_text(), mutation))
    words = ["-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", mutation.test]
    result = start(tmp_path, *words, "-k", mutation.chosen)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"FAILED {mutation.test}" in result.stdout, result.stdout
    # It is the memory that is too much; nothing else went wrong in the copy.
    assert "assert float(out.split()[-1]) < limit" in result.stdout, result.stdout
