"""TorchvisionBackbone: torchvision's own maps, with strides and channels read from a forward."""

import pytest
import torch
from torch import nn
from torchvision import models

from hordet.backbones import TorchvisionBackbone


def image(height=64, width=96):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_shufflenet_is_torchvisions():
    backbone = TorchvisionBackbone("shufflenet_v2_x1_0").eval()
    assert backbone.out_strides == (4, 8, 16, 32)
    whole = models.shufflenet_v2_x1_0(weights=None).eval()
    whole.load_state_dict(backbone.model.state_dict(), strict=False)
    x, maps = image(), []
    outs = backbone(x)
    for name in ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"):
        x = whole.get_submodule(name)(x)
        maps.append(x)
    assert [out.shape[1] for out in outs] == list(backbone.out_channels)
    for got, want in zip(outs, (maps[1], maps[2], maps[3], maps[5]), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_other_models(name):
    backbone = TorchvisionBackbone(name)
    assert [out.shape[1] for out in backbone(image())] == list(backbone.out_channels)
    assert [96 // out.shape[3] for out in backbone(image())] == [4, 8, 16, 32]


def test_no_parameter_is_unused():
    backbone = TorchvisionBackbone("shufflenet_v2_x0_5", out_indices=(2, 3))
    assert backbone.out_strides == (8, 16)
    sum((out * torch.randn_like(out)).mean() for out in backbone(image())).backward()
    assert not [n for n, p in backbone.named_parameters() if p.grad is None]
    assert not any("stage4" in name for name, _ in backbone.named_parameters())


def test_norm_eval():
    backbone = TorchvisionBackbone("shufflenet_v2_x0_5", norm_eval=True).eval().train()
    modes = {m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)}
    assert modes == {False} and backbone.model.training


def test_weights_from_torchvisions_file(tmp_path):
    classifier = models.shufflenet_v2_x0_5(weights=None)
    torch.save(classifier.state_dict(), tmp_path / "shufflenet.pth")
    init = dict(type="Pretrained", checkpoint=str(tmp_path / "shufflenet.pth"))
    backbone = TorchvisionBackbone("shufflenet_v2_x0_5", init_cfg=init)
    backbone.init_weights()
    for name, value in backbone.model.state_dict().items():
        assert torch.equal(value, classifier.state_dict()[name]), name


def test_names_and_models_that_do_not_fit():
    with pytest.raises(ValueError, match="did you mean 'shufflenet_v2_x1_0'"):
        TorchvisionBackbone("shufflenetv2_x1_0")
    with pytest.raises(ValueError, match="'vit_b_32', which gives no features: no pyramid"):
        TorchvisionBackbone("vit_b_32")
    with pytest.raises(ValueError, match="'regnet_y_400mf', which gives features of stride 2, 32"):
        TorchvisionBackbone("regnet_y_400mf")
    with pytest.raises(ValueError, match="'swin_t', which gives no features"):
        TorchvisionBackbone("swin_t")
    with pytest.raises(ValueError, match=r"shufflenet_v2_x0_5: 0 \(stride 2\), 1 \(stride 4\)"):
        TorchvisionBackbone("shufflenet_v2_x0_5", out_indices=(2, 1))
