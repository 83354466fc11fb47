"""HorNet without OpenMMLab: what it imports, as a folder, by timm's names."""

import json
import subprocess
import sys

import pytest
import torch

from hordet import backbones
from hordet.hornet import HorNet

ARCH = dict(base_channels=16, depths=(1, 1, 2, 1), orders=(2, 3, 4, 5))


def test_it_runs_where_no_package_of_openmmlab_is(tmp_path):
    """Nor torchvision or timm: torch alone, and safetensors for folders."""
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mmengine", "mmcv", "mmdet", "mmseg", "timm", "torchvision"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Refuse())
import torch
from hordet.hornet import HorNet
from hordet.layers import GnFusion
model = HorNet("nano", spatial="gf", out_indices=(1, 2, 3)).eval()
x = torch.rand(1, 3, 64, 96)
maps = model(x)
print([tuple(m.shape[1:]) for m in maps])
model.save_pretrained("folder")
again = HorNet.from_pretrained("folder")(x)
print(max((a - b).abs().max().item() for a, b in zip(maps, again)))
print({"mmengine", "mmcv", "torchvision", "timm"} & {*sys.modules})
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    shapes, difference, imported = run.stdout.splitlines()
    assert shapes == "[(64, 8, 12), (128, 4, 6), (256, 2, 3)]"
    assert difference == "0.0" and imported == "set()"


@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
def test_the_plain_model_is_the_component(spatial):
    """The same tensors under the same names, and so the same features."""
    plain = HorNet(ARCH | dict(base_channels=32), spatial).eval()
    component = backbones.HorNet(ARCH | dict(base_channels=32), spatial).eval()
    component.load_state_dict(plain.state_dict())
    x = torch.rand(1, 3, 64, 64)
    for one, other in zip(plain(x), component(x), strict=True):
        assert torch.equal(one, other)
    assert isinstance(component, HorNet) and not hasattr(plain, "init_cfg")


def test_a_folder_brings_back_the_model(tmp_path):
    model = HorNet(ARCH, layer_scale_init_value=1.0, in_channels=4).eval()
    model.save_pretrained(tmp_path / "model")
    settings = json.loads((tmp_path / "model" / "config.json").read_text())
    assert settings["model_type"] == "hornet" and settings["in_channels"] == 4
    x = torch.rand(1, 4, 64, 64)
    maps = model(x)
    again = HorNet.from_pretrained(tmp_path / "model")
    assert not again.training and all(map(torch.equal, maps, again(x)))
    # Fewer outputs leave out norms, and the stages that none of them needs.
    fewer = HorNet.from_pretrained(tmp_path / "model", out_indices=(0, 2), frozen_stages=1)
    assert len(fewer.stages) == 3 and all(map(torch.equal, (maps[0], maps[2]), fewer(x)))
    assert not fewer.stages[0][0].gamma1.requires_grad
    # The component of OpenMMLab reads the same folder.
    component = backbones.HorNet.from_pretrained(tmp_path / "model")
    assert all(map(torch.equal, maps, component(x)))


def test_a_folder_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere has no config\.json.*Nothing is downl"):
        HorNet.from_pretrained(tmp_path / "nowhere")
    folder = tmp_path / "model"
    HorNet(ARCH).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"(?s)do not fit {'in_channels': 1}.*size mismatch"):
        HorNet.from_pretrained(folder, in_channels=1)
    with pytest.raises(ValueError, match=r"(?s)do not fit .*gamma1"):
        HorNet.from_pretrained(folder, layer_scale_init_value=0)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace("hornet", "bert"))
    with pytest.raises(ValueError, match="is of model_type 'bert'; allowed is 'hornet'"):
        HorNet.from_pretrained(folder)
    (folder / "config.json").write_text(config)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match="holds a damaged file"):
        HorNet.from_pretrained(folder)


def test_timm_builds_it_by_name():
    import timm

    import hordet.hornet.timm_models

    assert set(hordet.hornet.timm_models.__all__) <= {*timm.list_models("hornet_*")}
    assert len(hordet.hornet.timm_models.__all__) == 10
    model = timm.create_model(
        "hornet_nano_7x7", features_only=True, out_indices=(1, 3), in_chans=1, drop_path_rate=0.1
    )
    assert model.feature_info.channels() == [64, 256]
    assert model.feature_info.reduction() == [8, 32]
    maps = model(torch.rand(1, 1, 64, 64))
    assert [tuple(m.shape) for m in maps] == [(1, 64, 8, 8), (1, 256, 2, 2)]
    with pytest.raises(ValueError, match="hornet_nano_gf is a feature pyramid and no classifier"):
        timm.create_model("hornet_nano_gf")
    with pytest.raises(ValueError, match="timm has no weights of hornet_nano_gf"):
        timm.create_model("hornet_nano_gf", features_only=True, pretrained=True)
