"""Every backbone of the comparison under HorFPN: one train step, a gradient everywhere."""

import copy

import pytest
import torch
from mmengine.structures import PixelData

from hordet.benchmark import backbones as table
from hordet.benchmark.peers import PEERS
from hordet.registry import MODELS

# Models that take their size at construction, and those whose windows need a multiple of it.
ONE_SIZE = {"BoTNet-50-TS", "CoAtNet-0"}
PADDED = {"HaloNet-50-TS": (256, 256)}


@pytest.fixture
def documented(repository):
    """The rows of the generated page: cells by name."""
    lines = (repository / "docs" / "backbones.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return {row[0]: row[1:] for row in cells[2:]}


def test_the_page_lists_every_backbone(documented):
    assert list(documented) == list(PEERS)


@pytest.mark.parametrize("name", PEERS)
def test_train_step_under_horfpn(name, documented):
    config, size = table.resize_backbone(PEERS[name], table.TRAINED)
    assert size == PADDED.get(name, (64, 96))
    assert ("img_size" in config) == (name in ONE_SIZE)
    with torch.device("meta"):
        backbone = MODELS.build(copy.deepcopy(config))
    outs = table.compute_maps(backbone, size)
    channels = [out.shape[1] for out in outs]
    assert [size[0] // out.shape[2] for out in outs] == [4, 8, 16, 32]
    if hasattr(backbone, "out_channels"):
        assert (list(backbone.out_channels), backbone.out_strides) == (channels, (4, 8, 16, 32))
    if name in ONE_SIZE:  # relative positions are counted at the page's size
        with torch.device("meta"):
            backbone = MODELS.build(dict(config, img_size=table.COUNTED))
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    assert documented[name][0] == ", ".join(map(str, channels))
    assert documented[name][2] == f"{parameters / 1e6:.2f}"

    torch.manual_seed(0)
    model = table.build_retinanet(config, channels)
    for module in model.modules():  # by chance, Swin's drop path leaves out a branch altogether
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    with torch.no_grad():  # scales that start at zero would hide what they multiply
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    assert table.run_train_step(model, size) > 0
    weights = {n: p for n, p in model.named_parameters() if p.ndim > 1}
    assert not [name for name, weight in weights.items() if not weight.grad.any()]


def test_the_step_finds_what_does_not_train():
    model = table.build_retinanet(PEERS["GhostNet 1.0"], (24, 40, 80, 160))
    model.neck.register_parameter("unused", torch.nn.Parameter(torch.ones(1)))
    with pytest.raises(
        ValueError, match="no finite gradient for 1 parameters, such as neck.unused"
    ):
        table.run_train_step(model, table.TRAINED)


def test_figures_of_resnet_50():
    """By arithmetic: the classifier is 2,049,000 of torchvision's 25,557,032 parameters."""
    row = table.measure_backbone("ResNet-50", PEERS["ResNet-50"])
    backbone, whole = row.parameters
    assert backbone == 25_557_032 - 2_049_000
    laterals, fusions = 3840 * 256 + 4 * 256, 4 * 249_600
    assert whole - backbone == laterals + fusions
    pixels = [800 * 1280 // stride**2 for stride in row.strides]
    laterals = sum(256 * c * p for c, p in zip(row.channels, pixels, strict=True))
    neck = row.multiply_adds[1] - row.multiply_adds[0]
    assert neck == laterals + 248_192 * sum(pixels)  # gates are no products of matrices
    assert 1 < row.loss < 3
    assert (
        "| ResNet-50 | 256, 512, 1024, 2048 | any | 23.51 | 25.49 | 83.41 |"
        in table.format_backbone_table([row])
    )


@pytest.mark.parametrize(
    "name", ["ResNet-50", "EfficientNet-Lite0", "ShuffleNetV2 1.0", "ConvNeXt-T", "Swin-T"]
)
def test_train_step_under_horuperhead(name, documented):
    from mmseg.registry import MODELS as MMSEG_MODELS
    from mmseg.structures import SegDataSample

    channels = [int(width) for width in documented[name][0].split(", ")]
    head = dict(
        type="hordet.HorUPerHead",
        in_channels=channels,
        in_index=[0, 1, 2, 3],
        channels=32,
        num_classes=5,
        norm_cfg=dict(type="BN"),
    )
    model = MMSEG_MODELS.build(
        dict(type="EncoderDecoder", backbone=copy.deepcopy(PEERS[name]), decode_head=head)
    )
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 5, (1, 64, 96))))
    sample.set_metainfo(dict(img_shape=(64, 96)))
    loss, _ = model.parse_losses(model.train().loss(torch.randn(2, 3, 64, 96), [sample] * 2))
    loss.backward()
    assert 1 < loss.item() < 5  # ln 5 = 1.6
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    scores = model.eval().encode_decode(torch.randn(1, 3, 64, 96), [sample.metainfo])
    assert scores.shape == (1, 5, 64, 96)
