"""The notebook of the docs runs from its first cell to its last."""

import json
import os
import sys
from pathlib import Path

import pytest


def read_cells(repository):
    notebook = json.loads((repository / "docs/first_training.ipynb").read_text())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_kept_without_outputs(repository):
    for cell in read_cells(repository):
        assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.slow
def test_the_notebook_runs(repository, tmp_path, drawn_images, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="the extra 'test' is not installed")
    nbformat = pytest.importorskip("nbformat", reason="the extra 'test' is not installed")
    pytest.importorskip("ipykernel", reason="the extra 'test' is not installed")
    monkeypatch.setenv("HORDET_CACHE", str(drawn_images))
    monkeypatch.setenv("PYTHONPATH", f"{repository}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    notebook = nbformat.read(repository / "docs/first_training.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    trained, seen, drawn = [cell for cell in notebook.cells if cell.cell_type == "code"][1:]
    printed = "".join(output.get("text", "") for output in trained.outputs)
    assert "mIoU" in printed.splitlines()[-1]
    assert "'circle': " in seen.outputs[-1]["data"]["text/plain"]
    assert any("image/png" in output.get("data", {}) for output in drawn.outputs)
