"""What the wheel holds: `mim` and `hordet::` bases find configs and tools beside the package."""

import shutil
import subprocess
import sys
import zipfile

import pytest


@pytest.mark.slow
def test_the_wheel_has_configs_and_tools(repository, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("hordet", "configs", "tools"):
        shutil.copytree(repository / name, source / name, symlinks=True)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "model-index.yml"):
        shutil.copy(repository / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", str(source), "-w", str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        index = file.read("hordet/.mim/model-index.yml").decode()
    for kind in ("configs", "tools"):
        for path in (repository / kind).rglob("*.py"):
            assert f"hordet/.mim/{path.relative_to(repository).as_posix()}" in names
    for line in index.splitlines():
        if line.startswith("  - "):
            assert f"hordet/.mim/{line.removeprefix('  - ')}" in names
