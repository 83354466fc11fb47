"""HorNet: freezing, checkpoints, recomputation, errors. Parity is in test_parity.py."""

import pytest
import torch

from hordet.backbones import HorNet
from hordet.errors import CheckpointError

ARCH = dict(base_channels=16, depths=(1, 2, 1, 1), orders=(2, 3, 4, 5))
NORMS = {"norm0", "norm1"}


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [
        (-1, set()),
        (0, {"downsample_layers.0"}),
        (
            2,
            {
                "downsample_layers.0",
                "downsample_layers.1",
                "stages.0",
                "stages.1",
                "norm0",
                "norm1",
            },
        ),
    ],
)
def test_frozen_stages(frozen, expected):
    model = HorNet(ARCH, frozen_stages=frozen)
    model.train()
    names = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert {".".join(n.split(".")[: 1 if n.startswith("norm") else 2]) for n in names} == expected
    modes = {n: m.training for n, m in model.named_modules()}
    assert all(not modes[n] for n in expected)
    assert modes["stages.3"]
    torch.manual_seed(0)
    before = {n: p.clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.1)
    sum(o.square().mean() for o in model(torch.randn(1, 3, 64, 64))).backward()
    optimizer.step()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == set(before) - names


def test_recomputation_changes_no_gradient():
    x = torch.randn(2, 3, 64, 64)
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = HorNet(ARCH, with_cp=with_cp, drop_path_rate=0.5, layer_scale_init_value=1.0)
        torch.manual_seed(1)  # the same paths are dropped
        sum(o.square().mean() for o in model.train()(x)).backward()
        gradients.append([p.grad for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)


def test_drop_path_grows_with_depth():
    model = HorNet("nano", drop_path_rate=0.9)
    rates = [block.drop_path.probability for stage in model.stages for block in stage]
    assert rates == pytest.approx([0.1 * i for i in range(10)])


@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
def test_near_linear_start_keeps_every_branch_awake(spatial):
    """Each block's branches are as large as its input; the official start leaves them at 1 %."""
    shares = {}
    for init in ("official", "near_linear"):
        torch.manual_seed(0)
        model = HorNet("nano", spatial, layer_scale_init_value=1.0, init=init)
        found = shares[init] = []
        for stage in model.stages:
            for block in stage:
                block.gnconv.register_forward_hook(
                    lambda module, args, out, found=found: found.append(out.std().item())
                )
        model(torch.randn(2, 3, 64, 64))
    assert 0.3 < min(shares["near_linear"]) and max(shares["near_linear"]) < 3
    assert max(shares["official"]) < 0.1


@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
def test_near_linear_start_survives_padding(spatial):
    """A norm over channels that are all zero has a huge gradient; blocks would multiply it."""
    torch.manual_seed(0)
    model = HorNet("nano", spatial, layer_scale_init_value=1.0, init="near_linear")
    x = torch.randn(1, 3, 64, 128)
    x[..., 40:] = 0
    sum(o.square().mean() for o in model(x)).backward()
    assert max(p.grad.norm() for p in model.parameters()) < 100


def official_classification_file(path, spatial="dw7x7"):
    """A file as the authors publish them: no prefix, no norm0..3, a head."""
    torch.manual_seed(3)
    model = HorNet(ARCH | dict(base_channels=32), spatial=spatial)
    state = {k: torch.randn_like(v) for k, v in model.state_dict().items() if k[:4] != "norm"}
    extra = {"norm.weight": torch.ones(256), "head.weight": torch.ones(10, 256)}
    torch.save({"model": state | extra}, path)
    return state


@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
def test_official_weights_load(tmp_path, spatial):
    state = official_classification_file(tmp_path / "official.pth", spatial)
    model = HorNet(
        ARCH | dict(base_channels=32),
        spatial=spatial,
        gf_sizes=((24, 13), (12, 7)),
        init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "official.pth")),
    )
    model.init_weights()
    for key, value in state.items():
        got = model.state_dict()[key]
        if key.endswith("complex_weight"):  # resized: corners are aligned
            assert got.shape[1:3] in ((24, 13), (12, 7))
            torch.testing.assert_close(got[:, 0, 0], value[:, 0, 0])
            torch.testing.assert_close(got[:, -1, -1], value[:, -1, -1])
        else:
            torch.testing.assert_close(got, value, rtol=0, atol=0)
    assert torch.equal(model.norm3.weight, torch.ones(256)), "output norms keep their start"


def test_checkpoint_of_another_model(tmp_path):
    torch.save({"model": {"conv1.weight": torch.ones(3)}}, tmp_path / "resnet.pth")
    model = HorNet(ARCH, init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "resnet.pth")))
    with pytest.raises(CheckpointError, match=r"0 of \d+ tensors match"):
        model.init_weights()


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        (dict(arch="huge"), "nano, tiny, small, base, large"),
        (dict(arch=dict(base_channels=16, depths=(1, 1))), "base_channels, depths, orders"),
        (dict(arch=ARCH, out_indices=(0, 4)), "stages of 0 to 3"),
        (dict(arch=ARCH, out_indices=(2, 1)), "ascending"),
        (dict(arch=ARCH, out_indices=()), "ascending"),
        (dict(arch=ARCH, frozen_stages=5), "to 4"),
        (dict(arch=ARCH, init="xavier"), "'official' and 'near_linear'"),
        (dict(arch=ARCH, gf_sizes=((14, 8),)), "one \\(h, w\\) each"),
        (dict(arch=dict(ARCH, base_channels=2, orders=(1, 1, 1, 5)), spatial="gf"), "nearest 32"),
    ],
)
def test_bad_arguments(kwargs, words):
    with pytest.raises(ValueError, match=words):
        HorNet(**kwargs)


def test_image_too_small():
    with pytest.raises(ValueError, match="31 x 64 pixels.*at least 32"):
        HorNet(ARCH)(torch.randn(1, 3, 31, 64))
    assert HorNet(ARCH, out_indices=(0,))(torch.randn(1, 3, 31, 64))[0].shape == (1, 16, 7, 16)


def test_init_cfg_of_another_type():
    model = HorNet(ARCH, init_cfg=dict(type="Xavier", layer="Conv2d"))
    with pytest.raises(ValueError, match="Pretrained"):
        model.init_weights()
