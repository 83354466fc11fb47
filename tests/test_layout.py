"""The rules that keep each line in its room: which part may import which."""

import ast
import subprocess
import sys

import pytest

SIDE_ROOMS = ("ops", "optim", "hooks", "datasets", "evaluation", "checkpoints")


def imports_of(path):
    """Dotted names of everything a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def imports_of_package(repository, name):
    files = sorted((repository / "hordet" / name).rglob("*.py"))
    assert files
    return {imported for file in files for imported in imports_of(file)}


def test_layers_know_torch_alone(repository):
    known = {name.split(".")[0] for name in imports_of_package(repository, "layers")}
    assert known <= {"torch", "typing", "collections", "contextlib", "functools", "hordet"}
    inner = {n for n in imports_of_package(repository, "layers") if n.startswith("hordet")}
    assert all(name.startswith("hordet.layers") for name in inner)
    code = (
        "import sys, hordet.layers; print({'mmengine', 'mmcv', 'mmdet', 'mmseg'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize("room", SIDE_ROOMS)
def test_side_rooms_do_not_import_one_another(repository, room):
    for name in imports_of_package(repository, room):
        parts = name.split(".")
        if parts[0] == "hordet" and len(parts) > 1:
            assert parts[1] not in {*SIDE_ROOMS} - {room}, f"hordet/{room} imports {name}"


@pytest.mark.parametrize("room", ["backbones", "necks", "heads"])
def test_parts_of_a_model_do_not_import_one_another(repository, room):
    for name in imports_of_package(repository, room):
        parts = name.split(".")
        if parts[0] == "hordet" and len(parts) > 1:
            allowed = {room, "layers", "hornet", "registry", "checkpoints", "run_lengths"}
            assert parts[1] in allowed


def test_run_lengths_know_no_other_room(repository):
    names = imports_of(repository / "hordet" / "run_lengths.py")
    assert not [name for name in names if name.startswith("hordet")]


def test_nothing_imports_the_tools(repository):
    for file in (repository / "hordet").rglob("*.py"):
        assert not any(name.split(".")[0] == "tools" for name in imports_of(file)), file
    for file in (repository / "tools").glob("*.py"):
        assert len(file.read_text().splitlines()) <= 150
