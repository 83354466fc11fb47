"""GradInit of HorFPN in a detector, by the detector's loss."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from torch.utils.data import DataLoader, Dataset

from hordet.benchmark import backbones as table
from hordet.benchmark.peers import PEERS
from hordet.engine import GradInit
from hordet.engine.hooks import GradInitHook

pytestmark = pytest.mark.slow


class Scenes(Dataset):
    """Images with one object each."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(256, (3, 64, 64), generator=generator, dtype=torch.uint8)
        box = torch.tensor([[8.0, 8.0, 40.0, 40.0]]) + 4 * index
        truth = InstanceData(bboxes=box, labels=torch.tensor([index % 3]))
        meta = dict(img_shape=(64, 64))
        return dict(inputs=image, data_samples=DetDataSample(gt_instances=truth, metainfo=meta))


def test_horfpn_of_a_detector_with_its_own_loss(caplog):
    """The neck of a RetinaNet, whose losses come from a head that is not scaled."""
    torch.manual_seed(0)
    model = table.build_retinanet(PEERS["GhostNet 1.0"], (24, 40, 80, 160))
    model.data_preprocessor = DetDataPreprocessor(mean=[127.5] * 3, std=[64.0] * 3)
    GradInit(iterations=4, lr=0.05, max_norm=0.5)(model.neck)
    loader = DataLoader(Scenes(), batch_size=2, collate_fn=pseudo_collate)
    runner = SimpleNamespace(
        model=model,
        train_loop=SimpleNamespace(dataloader=loader),
        seed=3,
        logger=logging.getLogger("grad_init"),
        _resume=False,
        _load_from=None,
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with caplog.at_level(logging.INFO):
        GradInitHook().before_train(runner)
    assert "GradInit of neck:" in caplog.text
    after = model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    weights = {n for n, p in model.neck.named_parameters(prefix="neck") if p.any()}
    assert changed == weights
    for name in weights:
        ratio = (after[name] / before[name])[before[name].abs() > 1e-4]
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=1e-3)
        assert ratio[0] > 0
