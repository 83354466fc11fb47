"""Weights by name at the start of a training: fetched, tried on their part, and used."""

import os
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

sys.path.insert(0, str(Path(__file__).parents[1] / "checkpoints"))
from source import serve

from hordet.checkpoints.fit import read_shapes
from hordet.checkpoints.weights import RemoteFile, Weights, read_weights
from hordet.cli import main
from hordet.engine.initial_weights import require_initial_weights
from hordet.errors import CheckpointError
from hordet.hornet import HorNet

RESNET = dict(type="mmdet.ResNet", depth=18)


@pytest.fixture
def by_hand(monkeypatch, tmp_path, installed):
    """Put a state dict into `pretrained` under a name that stands for just its model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))
    place = RemoteFile("a page", "MIT", url="https://example.org/toy.pth")
    monkeypatch.setitem(
        read_weights(), "toy", Weights("toy", "toy.pth", "a toy", 1, (place,), None, "MIT")
    )
    Path("pretrained").mkdir()

    def put(state):
        tensors = state.get("model", state)
        shapes = {k: [*v.shape] for k, v in tensors.items() if v.is_floating_point()}
        monkeypatch.setitem(read_shapes(), "toy", shapes)
        torch.save(state, "pretrained/toy.pth")

    return put


def training(backbone):
    init = dict(type="Pretrained", checkpoint="hordet://toy")
    return Config(dict(model=dict(type="any", backbone=backbone | dict(init_cfg=init))))


def test_weights_that_lack_output_norms_are_whole(by_hand):
    state = {k: v for k, v in HorNet("nano").state_dict().items() if not k.startswith("norm")}
    by_hand({"model": state})
    require_initial_weights(training(dict(type="hordet.HorNet", arch="nano")))


def test_weights_that_leave_a_parameter_random_are_refused(by_hand):
    """mmengine loads ResNet without counting; one tensor of 62 is missing."""
    from mmdet.models.backbones import ResNet

    state = ResNet(18).state_dict()
    by_hand(state)
    require_initial_weights(training(RESNET))
    del state["layer3.0.conv1.weight"]
    by_hand(state)
    with pytest.raises(CheckpointError, match=r"1 of its parameters stay random \(layer3.0.conv1"):
        require_initial_weights(training(RESNET))


def test_weights_of_another_model_are_refused(by_hand):
    by_hand({"model": HorNet("nano").state_dict()})
    with pytest.raises(CheckpointError, match="does not fill mmdet.ResNet"):
        require_initial_weights(training(RESNET))


def test_a_training_fetches_checks_and_starts(monkeypatch, tmp_path, capsys, drawn_images):
    """All of `hordet train` on a COCO config, in its tiny form, with a source that cuts."""
    from hordet.checkpoints import download

    state = {k: v for k, v in HorNet("nano").state_dict().items() if not k.startswith("norm")}
    monkeypatch.chdir(tmp_path)
    torch.save({"model": state}, "toy.pth")
    monkeypatch.delenv("HORDET_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    cache = tmp_path / "cache"
    cache.mkdir()
    for folder in drawn_images.glob("shapes-*"):
        (cache / folder.name).symlink_to(folder)
    monkeypatch.setenv("HORDET_CACHE", str(cache))
    words = ["train", "coco/mask-rcnn_hornet-nano_horfpn_12e", "--tiny", "--work-dir", "work"]
    options = ["type=Pretrained", "checkpoint=hordet://toy"]
    options = [f"model.backbone.init_cfg.{option}" for option in options]
    with serve() as source:
        source.files["/toy.pth"] = Path("toy.pth").read_bytes()
        source.cut = os.path.getsize("toy.pth") * 3 // 10
        place = RemoteFile("a page", "MIT", url="https://example.org/toy.pth")
        row = Weights("toy", "toy.pth", "a toy", 1, (place,), None, "MIT")
        monkeypatch.setitem(read_weights(), "toy", row)
        shapes = {key: [*tensor.shape] for key, tensor in state.items()}
        monkeypatch.setitem(read_shapes(), "toy", shapes)
        monkeypatch.setenv("HORDET_MIRROR", source.address)
        assert main([*words, "--cfg-options", *options]) == 0
    printed = capsys.readouterr()
    assert [part for _, part in source.asked][1] == f"bytes={source.cut}-"
    assert "this first file is trusted" in printed.err
    assert "hordet://toy" in printed.out and Path("work/epoch_1.pth").is_file()
