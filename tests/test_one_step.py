"""Every config takes a training step and a test step, on images of its own classes.

The config's dry run (`hordet.config.tiny`) gives images and sizes; here the model is made shallow
too, so that all of them together take minutes. Types, widths, wiring, pipelines, losses, optimizer
and metrics are the config's own.
"""

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed

from hordet.config.faults import walk_dicts
from hordet.engine import runner as run
from hordet.evaluation.headline import describe_metrics
from hordet.hornet.architectures import ARCHITECTURES

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("cache_folder")
LEAVES = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("configs/[!_]*/*.py"))
# Boxes sampled for the losses, proposed by the RPN, and kept in the result.
SAMPLED, PROPOSED, KEPT = 8, 50, 4
HEADS = ("rpn_head", "roi_head", "bbox_head", "decode_head", "auxiliary_head")
# Widths that stay inside of a head.
NARROW = dict(fc_out_channels=64, channels=64)


@pytest.fixture(scope="module", autouse=True)
def imports_are_no_garbage():
    """Every data set collects garbage when it is built: 0.3 s among all that the tests import."""
    gc.freeze()
    yield
    gc.unfreeze()


def make_shallow(model):
    """Cut, in place, what takes time and wires nothing to anything.

    Depth of the backbone: one block a stage for HorNet and ConvNeXt, two for Swin (a window and a
    shifted one), 50 layers for ResNet. Widths inside of heads. Boxes that heads work on. Widths
    between backbone, neck and heads stay.
    """
    backbone = model.backbone
    kind = backbone.type.rpartition(".")[2]
    if kind == "HorNet":
        arch = backbone.get("arch", "tiny")
        arch = ARCHITECTURES[arch] if isinstance(arch, str) else arch
        backbone.arch = dict(arch, depths=(1, 1, 1, 1))
    elif kind == "SwinTransformer":
        backbone.depths = [2, 2, 2, 2]
    elif kind.startswith("ResNet"):
        backbone.depth = min(backbone.depth, 50)
    elif kind == "TimmBackbone" and backbone.model_name.startswith("convnext"):
        backbone.model_kwargs = dict(depths=(1, 1, 1, 1))
    for part in walk_dicts([model.get(key) for key in HEADS]):
        part.update({key: value for key, value in NARROW.items() if key in part})
    for part in walk_dicts([model.get("train_cfg"), model.get("test_cfg")]):
        if "pos_fraction" in part:
            part.num = SAMPLED
        if "score_thr" in part:
            # An untrained class has a score near 1 in 80: nothing would be kept.
            part.update(max_per_img=KEPT, score_thr=0.0)
        elif "max_per_img" in part:
            part.max_per_img = min(PROPOSED, part.max_per_img)


def first_batch(loader):
    """Build a config's loader; return its first batch and what its data set says of itself."""
    loader = Runner.build_dataloader(loader, seed=0)
    return next(iter(loader)), loader.dataset.metainfo


@pytest.mark.parametrize("leaf", LEAVES)
def test_one_training_step_and_one_test_step(leaf):
    cfg = run.read_config(ROOT / leaf, tiny=True)
    make_shallow(cfg.model)
    init_default_scope(cfg.default_scope)
    set_random_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()

    model.train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    batch, _ = first_batch(cfg.train_dataloader)
    data = model.data_preprocessor(batch, training=True)
    loss, log = model.parse_losses(model(**data, mode="loss"))
    wrapper.backward(loss)
    assert loss.isfinite() and all(value.isfinite() for value in log.values())
    # DistributedDataParallel rejects parameters that no loss reaches.
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert not [name for name, p in trained.items() if p.grad is None]
    wrapper.step()
    assert all(p.isfinite().all() for p in trained.values())

    model.eval()
    batch, metainfo = first_batch(cfg.test_dataloader)
    with torch.no_grad():
        samples = model.test_step(batch)
    evaluator = Evaluator(cfg.test_evaluator)
    evaluator.dataset_meta = metainfo
    evaluator.process(data_samples=samples, data_batch=batch)
    metrics = evaluator.evaluate(len(samples))
    assert metrics and describe_metrics(metrics)
    if "bbox_mAP" in str(metrics):
        assert len(samples[0].pred_instances) >= KEPT


@pytest.mark.slow
@pytest.mark.parametrize("leaf", LEAVES)
def test_dry_run(leaf, tmp_path):
    """The whole model under the tool itself, for four iterations and a validation."""
    command = [sys.executable, str(ROOT / "tools" / "train.py"), str(ROOT / leaf), "--tiny"]
    result = subprocess.run([*command, "--work-dir", "run"], cwd=tmp_path, capture_output=True)
    assert result.returncode == 0, result.stderr[-3000:].decode()
    assert list((tmp_path / "run").glob("*_[14].pth"))
