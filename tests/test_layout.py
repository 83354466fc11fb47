"""The rules that keep each line in its room: which room may import which."""

import ast
import subprocess
import sys

import pytest

# Every room and module of hordet/, from the lowest to the highest, and what it may import of the
# others. An arrow points to a row above; so there is no circle. `registry` imports rooms by their
# names in its tables when a component is asked for, which no arrow here shows.
ALLOWED = {
    "errors": "",
    "layers": "",
    "ops": "errors",
    "registry": "",
    "neighbours": "errors layers",
    "hornet": "layers ops",
    "checkpoints": "errors ops",
    "backbones": "checkpoints errors hornet layers neighbours registry",
    "necks": "errors layers neighbours registry",
    "heads": "layers ops registry",
    "visualization": "errors ops",
    "datasets": "errors ops registry",
    "evaluation": "datasets errors ops registry",
    # A dry run needs stand-in images (shapes), and drops weights whose files are not there.
    "config": "checkpoints datasets errors ops registry",
    "engine": "checkpoints config datasets errors evaluation hornet layers neighbours ops registry "
    "visualization",
    "inference": "config datasets engine errors evaluation ops registry visualization",
    "export": "datasets engine errors layers ops visualization",
    "benchmark": "config datasets engine errors evaluation export hornet layers neighbours ops "
    "registry",
    "report": "config datasets engine errors evaluation ops visualization",
    "demo": "datasets errors inference visualization",
    "new_config": "config datasets errors ops visualization",
    "cli": "benchmark checkpoints config datasets demo engine errors evaluation export inference "
    "new_config ops registry report",
    "__init__": "ops",
    "__main__": "cli",
}


def list_imports(path):
    """Dotted names of everything a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "hordet":
                yield from (f"hordet.{alias.name}" for alias in node.names)
            else:
                yield node.module


def list_files(repository, room):
    folder = repository / "hordet" / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def test_the_table_has_every_room_and_no_other(repository):
    names = {path.name.removesuffix(".py") for path in (repository / "hordet").iterdir()}
    assert names - {"__pycache__", ".mim", "py.typed"} == ALLOWED.keys()
    assert len(names - {"__pycache__", ".mim"}) <= 25


def test_no_arrow_of_the_table_points_to_a_higher_room():
    seen = set()
    for room, others in ALLOWED.items():
        assert {*others.split()} <= seen, f"{room} is above something it imports"
        seen.add(room)


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_what_the_table_says(repository, room):
    found = set()
    for file in list_files(repository, room):
        for name in list_imports(file):
            parts = name.split(".")
            if parts[0] == "hordet" and parts[1] not in (room, "__version__"):
                found.add(parts[1])
                assert parts[1] in ALLOWED[room].split(), f"{file} imports {name}"
    assert found == {*ALLOWED[room].split()}, "the table allows what nothing needs"


@pytest.mark.parametrize("room", ["layers", "neighbours", "hornet"])
def test_the_mathematics_knows_torch_alone(repository, room):
    for file in list_files(repository, room):
        known = {name.split(".")[0] for name in list_imports(file)}
        assert (
            not known & {"mmengine", "mmcv", "mmdet", "mmseg", "timm"} or file.stem == "timm_models"
        )
    code = f"import sys, hordet.{room}; print({{'mmengine', 'mmcv', 'mmdet'}} & {{*sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_tools_are_doors_to_the_command(repository):
    for file in (repository / "tools").glob("*.py"):
        assert len(file.read_text().splitlines()) <= 8
        assert {*list_imports(file)} == {"sys", "hordet.cli"}
