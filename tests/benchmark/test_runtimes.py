"""A model in several runtimes: its table, and one real comparison of few images."""

import json

import pytest

from hordet.benchmark import runtimes
from hordet.benchmark.forms import FORMS
from hordet.benchmark.runtimes import RuntimeRow, RuntimeTask, format_runtime_table
from hordet.cli.main import main
from hordet.errors import ExportError

NAME = "hordet://shapes-hornet-nano"


def test_the_table_names_what_was_not_measured(tmp_path):
    rows = [
        RuntimeRow("eager", {"mask AP": 0.5}, (0.1, 0.2, 0.3, 0.2), 12.0),
        RuntimeRow("onnx-int8", {"mask AP": 0.4877}, (0.05, 0.05, 0.05, 0.05), 3.25),
        RuntimeRow("openvino", problem="OpenVINO is not installed"),
    ]
    table = format_runtime_table(rows, RuntimeTask(None, "", tmp_path))
    assert table.startswith("4 images in turns, one by one, CPU, 2 threads.\n\n")
    assert "| runtime | mask AP | ms | spread | of the first | MiB |" in table
    assert "| PyTorch, eager | 0.5000 | 200.0 | 37.5% | 1.00 | 12.0 |" in table
    assert "| ONNX Runtime, int8 | 0.4877 | 50.0 | 0.0% | 0.25 | 3.2 |" in table
    assert table.endswith("- OpenVINO was not measured: OpenVINO is not installed\n")
    alone = format_runtime_table(rows[2:], RuntimeTask(None, "", tmp_path))
    assert "0 images" in alone and alone.endswith("is not installed\n")


@pytest.mark.slow
def test_runtimes_see_the_same_images(tmp_path, monkeypatch, capsys):
    """Few images are scored by the truth of these alone; one form that fails ends no other."""
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))
    export = runtimes.export_model

    def export_onnx_alone(model, cfg, path, settings):
        if path.suffix == ".xml":
            raise ExportError("OpenVINO is not installed")
        return export(model, cfg, path, settings)

    monkeypatch.setattr(runtimes, "export_model", export_onnx_alone)
    words = ["benchmark", "runtimes", NAME, NAME, "--images", "3", "--threads", "1", "--int8", "2"]
    words += ["--forms", "eager", "onnx", "onnx-fp16", "onnx-int8", "openvino"]
    words += ["--files", str(tmp_path / "files"), "--json", str(tmp_path / "rows.json")]
    assert main(words) == 1  # of OpenVINO, which is named
    assert "- OpenVINO was not measured: OpenVINO is not installed" in capsys.readouterr().out
    rows = {row["form"]: row for row in json.loads((tmp_path / "rows.json").read_text())}
    assert list(rows) == ["eager", "onnx", "onnx-fp16", "onnx-int8", "openvino"]
    measured = [row for row in rows.values() if not row["problem"]]
    assert len(measured) == 4 and all(len(row["seconds"]) == 3 for row in measured)
    # The truth of all images would leave most of them without a prediction.
    eager = rows["eager"]["metrics"]["mask AP"]
    assert eager > 0.3 and rows["onnx"]["metrics"]["mask AP"] == pytest.approx(eager, abs=1e-3)
    assert rows["onnx-fp16"]["megabytes"] < 0.7 * rows["onnx"]["megabytes"]
    assert rows["onnx-int8"]["megabytes"] < 0.5 * rows["onnx"]["megabytes"]
    assert FORMS["onnx"].file in {path.name for path in (tmp_path / "files").iterdir()}
