"""The parity tests notice what they are there for: each mutation of the maths makes them fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MUTATIONS = {
    "none": None,
    "scale dropped": ("gnconv.py", "self.dwconv(q, self.scale)", "self.dwconv(q)"),
    "halves not interleaved": (
        "global_filter.py",
        "halves.flatten(-2)",
        "halves.transpose(-2, -1).flatten(-2)",
    ),
    "gate order reversed": (
        "gnconv.py",
        "split(self.dims, dim=1)",
        "split(self.dims[::-1], dim=1)[::-1]",
    ),
    "filter resized without aligned corners": (
        "global_filter.py",
        "align_corners=True",
        "align_corners=False",
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_parity_notices(mutation, tmp_path):
    shutil.copytree(ROOT / "hordet", tmp_path / "hordet")
    shutil.copytree(ROOT / "tests", tmp_path / "tests")
    if MUTATIONS[mutation]:
        name, old, new = MUTATIONS[mutation]
        path = tmp_path / "hordet" / "layers" / name
        assert path.read_text().count(old) == 1
        path.write_text(path.read_text().replace(old, new))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_parity.py",
         "-k", "test_parity and (gnconv or glf or gnmod)"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "HORDET_SHARED": str(tmp_path / "none")},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert " passed" in run.stdout, run.stdout + run.stderr
    assert run.returncode == (1 if MUTATIONS[mutation] else 0), run.stdout
    assert (" failed" in run.stdout) == bool(MUTATIONS[mutation])
