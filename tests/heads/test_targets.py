"""Assignments, samples and mask targets are mmdet's, without a read of a device's value."""

import numpy as np
import pytest
import torch
from mmdet.models.task_modules.assigners import MaxIoUAssigner as MmdetMaxIoUAssigner
from mmdet.models.task_modules.samplers import RandomSampler as MmdetRandomSampler
from mmdet.registry import TASK_UTILS
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode

from hordet.engine.prepare import EQUAL_PARTS, prepare_training
from hordet.heads import FCNMaskHead, MaxIoUAssigner, RandomSampler
from hordet.heads import fcn_mask_head as heads

FIELDS = ("gt_inds", "max_overlaps", "labels")


def draw_case(generator):
    """Boxes on a coarse grid, so that many overlaps are equal; sometimes none of a kind."""

    def boxes(number, side):
        corner = torch.randint(0, side, (number, 2), generator=generator)
        size = torch.randint(0, 4, (number, 2), generator=generator)  # 0: a box without area
        return torch.cat([corner, corner + size], dim=1).float()

    def integer(high):
        return int(torch.randint(0, high, (), generator=generator))

    side = 2 + integer(6)
    truth = boxes(integer(7) if integer(8) else 0, side)
    priors = boxes(integer(40) if integer(20) else 0, side)
    if len(truth) and len(priors) and integer(2):
        priors = torch.cat([priors, truth])
    return priors, truth, boxes(integer(4), side), torch.randint(0, 9, (len(truth),))


def settings(generator):
    def choose(*values):
        return values[int(torch.randint(0, len(values), (), generator=generator))]

    return dict(
        pos_iou_thr=choose(0.3, 0.5, 0.7),
        neg_iou_thr=choose(0.3, 0.5, (0.1, 0.3), 0),
        min_pos_iou=choose(0.0, 0.3, 0.5, 1.0),
        gt_max_assign_all=choose(True, False),
        match_low_quality=choose(True, False),
        ignore_iof_thr=choose(-1, 0.5),
        ignore_wrt_candidates=choose(True, False),
    )


def assign_both(options, priors, truth, labels, ignored):
    for kind in (MmdetMaxIoUAssigner, MaxIoUAssigner):
        found = kind(**options).assign(
            InstanceData(priors=priors),
            InstanceData(bboxes=truth, labels=labels),
            None if ignored is None else InstanceData(bboxes=ignored),
        )
        yield [found.num_gts, *(getattr(found, field) for field in FIELDS)]


def require_equal(pair):
    want, got = pair
    assert want[0] == got[0]
    for field, one, other in zip(FIELDS, want[1:], got[1:], strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other), field


@pytest.mark.parametrize("cases", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_assignments_are_those_of_mmdet(cases):
    generator = torch.Generator().manual_seed(0)
    positives = overwritten = 0
    for _ in range(cases):
        priors, truth, ignored, labels = draw_case(generator)
        options = settings(generator)
        pair = [*assign_both(options, priors, truth, labels, ignored)]
        require_equal(pair)
        positives += int((pair[0][1] > 0).sum())
        if len(truth) and len(priors):
            overlaps = MaxIoUAssigner(**options).iou_calculator(truth, priors)
            best = overlaps.max(dim=1, keepdim=True)[0]
            overwritten += int(((overlaps == best).sum(dim=0) > 1).sum())
    assert positives > cases and overwritten > cases  # ties decide, and often


def test_assignments_on_the_nuclei(shared_data):
    import json

    from mmdet.models.task_modules.prior_generators import AnchorGenerator

    folder = shared_data / "nuclei"
    files = [*folder.rglob("instances_train.json")]
    if not files:
        pytest.skip(f"no nuclei at {folder}")
    data = json.loads(files[0].read_text())
    by_image = {image["id"]: [] for image in data["images"]}
    for annotation in data["annotations"]:
        left, top, width, height = annotation["bbox"]
        by_image[annotation["image_id"]].append([left, top, left + width, top + height])
    anchors = AnchorGenerator(strides=[8, 16, 32], ratios=[0.5, 1.0, 2.0], scales=[2])
    priors = torch.cat(anchors.grid_priors([(32, 32), (16, 16), (8, 8)], device="cpu"))
    rpn = dict(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, match_low_quality=True)
    assigned = 0
    for boxes in by_image.values():
        truth = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
        pair = [*assign_both(rpn, priors, truth, torch.zeros(len(truth), dtype=torch.long), None)]
        require_equal(pair)
        assigned += int((pair[0][1] > 0).sum())
    assert assigned > 100


READS = ("item", "tolist", "nonzero", "cpu", "numpy", "__bool__", "__int__", "__index__")


class Waits(TorchDispatchMode):
    """Notes operators whose result has a size that depends on values: a GPU's host waits."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        places = [place for place in args[1] if place is not None] if "index" in name else []
        if name in (
            "nonzero",
            "masked_select",
            "_local_scalar_dense",
            "unique_dim",
            "_unique2",
        ) or (
            name in ("index", "index_put", "index_put_", "_index_put_impl_")
            and any(place.dtype == torch.bool for place in places)
        ):
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def test_no_value_of_the_device_is_read(monkeypatch):
    """mmdet's assigner reads one an object; each makes the host wait for a GPU."""
    reads = []

    def count(name):
        real = getattr(torch.Tensor, name)

        def read(self, *args, **kwargs):
            reads.append(name)
            return real(self, *args, **kwargs)

        return read

    options = dict(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3)
    overlaps, labels = torch.rand(20, 50), torch.zeros(20, dtype=torch.long)
    for name in READS:
        monkeypatch.setattr(torch.Tensor, name, count(name))
    for kind, expected in ((MmdetMaxIoUAssigner, 20), (MaxIoUAssigner, 0)):
        reads.clear()
        with Waits() as waits:
            kind(**options).assign_wrt_overlaps(overlaps, labels)
        assert len(reads) == expected
        assert bool(waits.found) == bool(expected), waits.found


def test_samples_are_those_of_mmdet_on_a_cpu(monkeypatch):
    drawn = []
    for kind in (MmdetRandomSampler, RandomSampler):
        torch.manual_seed(3)
        drawn.append(kind(8, 0.5).random_choice(torch.arange(100, 200), 8))
    assert torch.equal(*drawn)
    devices = []
    real = torch.randperm

    def look(number, device=None):
        devices.append(device)
        return real(number)

    monkeypatch.setattr(torch, "randperm", look)
    gallery = torch.arange(4)
    RandomSampler(8, 0.5).random_choice(gallery, 2)
    assert devices == [gallery.device]  # mmdet leaves it out: the host


def head():
    return FCNMaskHead(
        num_convs=1,
        in_channels=2,
        conv_out_channels=2,
        num_classes=2,
        loss_mask=dict(type="mmdet.CrossEntropyLoss", use_mask=True, loss_weight=1.0),
    )


@pytest.mark.parametrize("soft", [False, True])
def test_mask_targets_are_those_of_mmdet(monkeypatch, soft):
    from mmdet.structures.mask import BitmapMasks

    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    results, truths = [], []
    for number, objects in ((40, 3), (0, 2), (7, 1)):
        corner = torch.rand(number, 2) * 30 - 4  # partly outside
        boxes = torch.cat([corner, corner + torch.rand(number, 2) * 20], dim=1)
        chosen = torch.randint(0, objects, (number,))
        results.append(InstanceData(pos_priors=boxes, pos_assigned_gt_inds=chosen))
        masks = (rng.random((objects, 24, 28)) > 0.4).astype(np.uint8)
        truths.append(ConfigDict(masks=BitmapMasks(masks, 24, 28)))
    cfg = ConfigDict(mask_size=(5, 7), soft_mask_target=soft)
    made = head()
    wanted = super(FCNMaskHead, made).get_targets(results, truths, cfg)
    sizes = []
    real = heads.roi_align

    def look(masks, *args):
        sizes.append(len(masks))
        return real(masks, *args)

    monkeypatch.setattr(heads, "roi_align", look)
    got = made.get_targets(results, truths, cfg)
    assert torch.equal(got, wanted) and got.dtype == wanted.dtype
    assert got.shape == (47, 5, 7) and 0 < got.mean() < 1
    assert sizes == [3, 1]  # the objects, not the boxes


def test_polygons_are_left_to_mmdet():
    from mmdet.structures.mask import PolygonMasks

    polygon = [np.array([2.0, 2, 10, 2, 10, 10, 2, 10])]
    truth = [ConfigDict(masks=PolygonMasks([polygon], 16, 16))]
    boxes = torch.tensor([[0.0, 0, 12, 12]])
    result = [InstanceData(pos_priors=boxes, pos_assigned_gt_inds=torch.zeros(1, dtype=torch.long))]
    targets = head().get_targets(result, truth, ConfigDict(mask_size=6))
    assert targets.shape == (1, 6, 6) and targets.sum() == 16


def test_a_training_takes_them_and_a_scope_keeps_mmdets():
    parts = {kind: dict(type=kind) for kind in EQUAL_PARTS}
    kept = dict(type="mmdet.MaxIoUAssigner")
    model = dict(train_cfg=dict(rpn=parts, rcnn=[dict(assigner=kept)]), other=dict(type="FPN"))
    cfg = Config(dict(default_scope="mmdet", model=model, optim_wrapper=dict(type="OptimWrapper")))
    prepare_training(cfg)
    chosen = cfg.model.train_cfg.rpn
    assert [chosen[kind].type for kind in EQUAL_PARTS] == [f"hordet.{k}" for k in EQUAL_PARTS]
    assert cfg.model.train_cfg.rcnn[0].assigner.type == "mmdet.MaxIoUAssigner"
    assert cfg.model.other.type == "FPN"
    made = TASK_UTILS.build(dict(type="hordet.MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5))
    assert type(made) is MaxIoUAssigner
