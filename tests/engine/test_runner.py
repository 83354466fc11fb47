"""What the tools share: fitting a config to the machine, and the line of numbers at the end."""

from pathlib import Path

import mmdet
import pytest
import torch

from hordet.engine import runner as run
from hordet.errors import ConfigError
from hordet.evaluation.headline import describe_metrics

CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"
CONFIG = CONFIGS / "mask_rcnn" / "mask-rcnn_r50_fpn_1x_coco.py"


@pytest.fixture
def no_launcher(monkeypatch):
    """A process that nobody started as one of many, without CUDA."""
    for name in ("WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_work_dir(no_launcher, cache_folder):
    assert run.read_config(CONFIG).work_dir == "work_dirs/mask-rcnn_r50_fpn_1x_coco"
    assert run.read_config(CONFIG, options={"work_dir": "here"}).work_dir == "here"
    assert (
        run.read_config(CONFIG, options={"work_dir": "here"}, work_dir="there").work_dir == "there"
    )
    # A dry run does not write into the folder of a training.
    options = {"work_dir": "here"}
    dry = run.read_config(CONFIG, options=options, tiny=True)
    assert dry.work_dir == "work_dirs/tiny/mask-rcnn_r50_fpn_1x_coco"
    assert run.read_config(CONFIG, work_dir="there", tiny=True).work_dir == "there"


def test_data_root(no_launcher):
    cfg = run.read_config(CONFIG, data_root="/data/mine")
    assert cfg.train_dataloader.dataset.data_root == "/data/mine"
    assert cfg.val_evaluator.ann_file == "/data/mine/annotations/instances_val2017.json"
    options = {"val_evaluator.ann_file": "elsewhere/truth.json"}
    with pytest.raises(ConfigError, match="does not lie in the data root"):
        run.read_config(CONFIG, options=options, data_root="/data/mine")


def test_sync_bn_becomes_bn_on_a_cpu(no_launcher, tmp_path):
    (tmp_path / "sync.py").write_text(
        f"_base_ = {str(CONFIG)!r}\n"
        "sync_bn = 'torch'\n"
        "model = dict(backbone=dict(norm_cfg=dict(type='SyncBN')))\n"
    )
    cfg = run.read_config(tmp_path / "sync.py")
    assert "sync_bn" not in cfg and cfg.model.backbone.norm_cfg.type == "BN"
    assert cfg.launcher == "none" and "model_wrapper_cfg" not in cfg


def test_torchrun_is_recognized(no_launcher, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    cfg = run.read_config(CONFIG)
    assert cfg.launcher == "pytorch"
    assert cfg.env_cfg.dist_cfg.backend == "gloo" and cfg.model_wrapper_cfg.device_ids is None


def test_a_gpu_keeps_the_config_as_it_is(no_launcher, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cfg = run.read_config(
        CONFIG, options={"model.backbone.norm_cfg.type": "SyncBN"}, launcher="slurm"
    )
    assert cfg.launcher == "slurm" and cfg.env_cfg.dist_cfg.backend == "nccl"
    assert cfg.model.backbone.norm_cfg.type == "SyncBN"


def test_summary():
    coco = {"coco/bbox_mAP": 0.668, "coco/bbox_mAP_50": 0.84, "coco/segm_mAP": 0.6514}
    assert describe_metrics(coco) == "box AP 0.668  box AP50 0.840  mask AP 0.651"
    assert describe_metrics({"aAcc": 95.0, "mIoU": 87.04}) == "mIoU 0.870  aAcc 0.950"
    quality = {"coco_panoptic/PQ": 39.4, "coco_panoptic/SQ": 77.8, "coco_panoptic/PQ_st": 29.5}
    assert describe_metrics(quality) == "PQ 0.394  PQ of stuff 0.295"
    assert describe_metrics({"val/coco/bbox_mAP": 0.5}) == "box AP 0.500"
    assert describe_metrics({"pascal_voc/AP50": 0.3}) == "pascal_voc/AP50 0.3"
    assert describe_metrics({}) == ""


@pytest.mark.parametrize("wanted", [True, False])
def test_channels_last_in_training_and_in_prediction(no_launcher, cache_folder, tmp_path, wanted):
    leaf = Path(__file__).parents[2] / "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py"
    options = {"channels_last": wanted, "model.neck.spatial": "gf"}
    cfg = run.read_config(leaf, tiny=True, options=options, work_dir=str(tmp_path))
    runner = run.build_training_runner(cfg)
    runner.train()
    assert run.read_last_validation(runner)
    predicting = run.load_model(cfg, tmp_path / "epoch_1.pth")
    for model in (runner.model, predicting):
        weight = model.rpn_head.rpn_conv.weight
        assert weight.is_contiguous() is not wanted
        assert weight.is_contiguous(memory_format=torch.channels_last) is wanted
    for name, weight in runner.model.state_dict().items():
        assert torch.equal(weight, predicting.state_dict()[name])


def test_out_must_fit_the_task(no_launcher):
    cfg = run.read_config(CONFIG)
    with pytest.raises(ConfigError, match=r"--out maps: detection writes a \.pkl"):
        run.build_test_runner(cfg, "x.pth", out="maps")
    with pytest.raises(ConfigError, match="needs a tta_pipeline"):
        run.build_test_runner(cfg, "x.pth", tta=True)
