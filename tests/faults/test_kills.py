"""Real processes under real SIGKILLs, in small; the whole is `python tests/faults/kills.py`."""

import re
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "kills", [2, pytest.param(200, marks=pytest.mark.slow)], ids=["a few", "200"]
)
def test_killed_and_resumed_is_the_same_run(repository, drawn_images, monkeypatch, kills):
    monkeypatch.setenv("HORDET_CACHE", str(drawn_images))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    script = repository / "tests" / "faults" / "kills.py"
    command = [sys.executable, str(script), "--kills", str(kills), "--seed", "2"]
    command += ["--task", "segmentation"] if kills < 10 else []
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(rf"^{kills} kills .* every end equal bit for bit", result.stdout, re.MULTILINE)
