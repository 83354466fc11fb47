"""What counts as equal to the model, and what an export says on its way."""

import warnings

import pytest
import torch

from hordet.export.compare import measure_differences
from hordet.export.program import write_program
from hordet.ops.upstream import silence_warnings


def test_large_values_are_compared_by_their_share():
    """Logits of 20 have seven digits in float32, too."""
    want = {"logits": torch.tensor([20.0, -20.0, 0.5]), "labels": torch.tensor([1, 2])}
    got = {"logits": want["logits"] + torch.tensor([1e-3, 0, 0]), "labels": want["labels"]}
    found = measure_differences(got, want)
    assert found["logits"] == pytest.approx(5e-5, rel=1e-2) and found["labels"] == 0
    got["logits"] = want["logits"] + torch.tensor([0, 0, 1e-3])
    assert measure_differences(got, want)["logits"] == pytest.approx(5e-5, rel=1e-2)
    want, got = ({"level": each["logits"]} for each in (want, got))
    assert measure_differences(got, want)["level"] == pytest.approx(1e-3, rel=1e-2)


class SplitsConstant(torch.nn.Module):
    """A graph of which ONNX's optimizer keeps a constant, and says so."""

    def __init__(self):
        super().__init__()
        self.register_buffer("constant", torch.arange(6.0))

    def forward(self, image):
        first, second = self.constant.split([2, 4])
        return {"out": image + first.sum() * second.sum()}


def test_writing_says_nothing(tmp_path, capfd, monkeypatch):
    pytest.importorskip("onnxscript", reason="no onnxscript here; pip install -e '.[export]'")
    program = torch.export.export(SplitsConstant(), (torch.zeros(1, 3, 4, 4),))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_program(program, tmp_path / "a.onnx", {})
    assert capfd.readouterr() == ("", "")


def test_warnings_of_torchvision_about_itself_are_silent():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        silence_warnings()
        words = "`create_unbacked_symint` is deprecated, please use `new_dynamic_size` instead"
        warnings.warn(words, FutureWarning, stacklevel=1)
    assert not caught
