"""Checkpoints of odd content: each is read or refused in words, wherever the content stands."""

import json
import struct
import warnings

import numpy as np
import pytest
import torch

from hordet.checkpoints import fill_model, load_checkpoint
from hordet.errors import CheckpointError, DatasetWarning
from hordet.visualization.panels import get_class_colors

PLACES = {
    "bare": lambda state: state,
    "state_dict": lambda state: dict(state_dict=state),
    "model": lambda state: dict(model=state),
    "ema_state_dict": lambda state: dict(state_dict={}, ema_state_dict=state),
}
PLAIN = torch.ones(4, 4)
TENSORS = {
    "meta": lambda: torch.empty(4, 4, device="meta"),
    "sparse": PLAIN.to_sparse,
    "sparse rows": PLAIN.to_sparse_csr,
    "quantized": lambda: torch.quantize_per_tensor(PLAIN, 0.1, 0, torch.qint8),
    "quantized by channel": lambda: torch.quantize_per_channel(
        PLAIN, torch.ones(4), torch.zeros(4), 0, torch.qint8
    ),
    "nested": lambda: torch.nested.nested_tensor([PLAIN, PLAIN[:2]]),
}


@pytest.mark.filterwarnings("ignore")  # torch's, of sparse rows and nested tensors
@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("place", PLACES)
def test_tensors_that_are_not_plain_are_refused(tmp_path, place, kind):
    torch.save(PLACES[place]({"a": PLAIN, "w.weight": TENSORS[kind]()}), tmp_path / "a.pth")
    # torch itself reads some kinds by functions that are not on its list.
    with pytest.raises(CheckpointError, match=r"a\.pth.*w\.weight is a|holds pickled code") as told:
        load_checkpoint(tmp_path / "a.pth")
    assert kind.partition(" ")[0] in str(told.value) or "pickled" in str(told.value)


@pytest.mark.parametrize("name", [1, None, (1, 2), b"w", 1.5, True])
@pytest.mark.parametrize("place", PLACES)
def test_names_that_are_no_text_are_refused(tmp_path, place, name):
    torch.save(PLACES[place]({"a": PLAIN, name: PLAIN}), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=f"a {type(name).__name__}, where a tensor's name"):
        load_checkpoint(tmp_path / "a.pth")


def test_plain_tensors_of_every_type_are_read(tmp_path):
    kinds = (torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64, torch.uint8)
    state = {str(kind): torch.ones(2, 3).to(kind) for kind in kinds}
    torch.save(dict(state_dict=state, meta=5, other={1: 2}), tmp_path / "a.pth")
    assert load_checkpoint(tmp_path / "a.pth")["state_dict"].keys() == state.keys()
    model = torch.nn.Linear(2, 1)
    torch.save({f"module.{k}": v for k, v in model.state_dict().items()}, tmp_path / "b.pth")
    assert fill_model(model, load_checkpoint(tmp_path / "b.pth")).share == 1


@pytest.mark.parametrize("classes", [5, "cat", [1, 2], ["a", None], {"a": 1}, ["a", b"b"], 1.5])
def test_classes_that_are_no_names_are_refused(tmp_path, classes):
    torch.save(dict(state_dict={}, meta=dict(dataset_meta=dict(classes=classes))), tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"meta\.dataset_meta\.classes; it must be a list"):
        load_checkpoint(tmp_path / "a")


@pytest.mark.parametrize("kind", [list, tuple])
def test_names_in_numpys_text_are_text(tmp_path, kind):
    meta = dict(dataset_meta=dict(classes=kind(np.array(["a'b", "圆"]))))
    torch.save(dict(state_dict={}, meta=meta), tmp_path / "a.pth")
    read = load_checkpoint(tmp_path / "a.pth")["meta"]["dataset_meta"]["classes"]
    assert read == kind(["a'b", "圆"]) and {type(name) for name in read} == {str}


@pytest.mark.parametrize(
    "shape", [[2**63, 0], [2**64], [-1], [2**62, 2**62], "x", [1.5], None, [[1]], {}]
)
def test_shapes_in_safetensors_that_no_tensor_has(tmp_path, shape):
    header = json.dumps({"w": dict(dtype="F32", shape=shape, data_offsets=[0, 0])}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="truncated or not a safetensors file"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "palette",
    [[(256, 0, 0)], [(-1, 0, 0)], [(1, 2)], [5], [("a", 1, 2)], [(float("nan"), 0, 0)], [None]],
)
def test_colors_out_of_range_are_made_anew_and_said(palette):
    made = get_class_colors(dict(classes=["a", "b"]))
    with pytest.warns(DatasetWarning, match="palette has the color .* 0 to 255 are allowed"):
        assert get_class_colors(dict(classes=["a", "b"], palette=[(0, 0, 0), *palette])) == made
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right = dict(classes=["a"], palette=[np.array([255, 0, 51]).tolist()])
        assert get_class_colors(right)[1] == [(1, 0, 0.2)]
        assert get_class_colors(dict(classes=["a", "b"], palette="coco")) == made
