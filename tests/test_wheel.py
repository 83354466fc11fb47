"""What a release holds: the command, its data, and configs and tools beside the package."""

import shutil
import subprocess
import sys
import zipfile

import pytest

from hordet import __version__


@pytest.mark.slow
def test_a_release_holds_what_it_needs(repository, tmp_path):
    """The wheel is made from the source distribution, as on an index."""
    pytest.importorskip("build", reason="the extra 'test' is not installed")
    pytest.importorskip("twine", reason="the extra 'test' is not installed")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("hordet", "configs", "tools"):
        shutil.copytree(repository / name, source / name, symlinks=True)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "model-index.yml"):
        shutil.copy(repository / name, source)
    for words in (
        ("build", "--no-isolation", "--outdir", str(tmp_path), str(source)),
        ("twine", "check", "--strict", *(str(tmp_path / f"*.{end}") for end in ("whl", "gz"))),
    ):
        done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    assert len(list(tmp_path.glob("*.tar.gz"))) == 1
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        index = file.read("hordet/.mim/model-index.yml").decode()
        (commands,) = (file.read(name).decode() for name in names if "entry_points" in name)
        (about,) = (file.read(name).decode() for name in names if name.endswith("/METADATA"))
    assert "hordet = hordet.cli:main" in commands
    assert "Requires-Python: >=3.10\n" in about and "License-Expression: Apache-2.0\n" in about
    for path in (repository / "hordet").rglob("*"):
        if path.suffix in (".py", ".html", ".typed", ".gz") and "__pycache__" not in path.parts:
            assert path.relative_to(repository).as_posix() in names
    for kind in ("configs", "tools"):
        for path in (repository / kind).rglob("*.py"):
            assert f"hordet/.mim/{path.relative_to(repository).as_posix()}" in names
    for line in index.splitlines():
        if line.startswith("  - "):
            assert f"hordet/.mim/{line.removeprefix('  - ')}" in names


def test_the_citation_names_this_version(repository):
    text = (repository / "CITATION.cff").read_text()
    assert f"\nversion: {__version__}\n" in text
