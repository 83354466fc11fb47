"""The tools as a person runs them: real processes, real files, exit codes and messages."""

import json
import os
import pickle
import re
import subprocess
import sys

import pytest
import torch

DETECTION = "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py"
SEGMENTATION = "configs/shapes/upernet_hornet-nano_horuperhead_1k.py"


@pytest.fixture(scope="module")
def tool(pytestconfig, tmp_path_factory):
    """Run a tool in a folder of this module, with two quiet threads and stand-in data there."""
    folder = tmp_path_factory.mktemp("tools")
    environment = {**os.environ, "HORDET_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}

    def run(name, *arguments, launcher=()):
        command = [*(launcher or [sys.executable]), str(pytestconfig.rootpath / "tools" / name)]
        arguments = [
            str(pytestconfig.rootpath / word) if str(word).startswith("configs/") else str(word)
            for word in arguments
        ]
        return subprocess.run(
            [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True
        )

    run.folder = folder
    return run


def numbers_of(result):
    """The printed metrics by name, from the last line of a run that must have succeeded."""
    assert result.returncode == 0, result.stderr[-3000:] + result.stdout[-1000:]
    line = result.stdout.strip().splitlines()[-1]
    return dict(re.findall(r"([a-zA-Z][a-zA-Z0-9 ]*?) (-?\d\.\d{3})", line.replace("  ", ";")))


@pytest.fixture(scope="module")
def detector(tool):
    """A dry run of training, and the folder of its checkpoint."""
    result = tool("train.py", DETECTION, "--tiny", "--work-dir", "detector", "--seed", "1")
    return result, tool.folder / "detector"


def test_train_prints_its_metrics(detector):
    result, folder = detector
    assert set(numbers_of(result)) == {"box AP", "box AP50", "mask AP", "mask AP50"}
    assert result.stdout.strip().splitlines()[-1].endswith("(detector)")
    assert (folder / "epoch_1.pth").is_file()
    assert "WARNING" not in result.stdout and "Warning" not in result.stderr


def test_resume_goes_on_where_it_stopped(tool, detector):
    # A checkpoint of mmengine's, with its pickled log histories, is read by tools/train.py.
    result = tool("train.py", DETECTION, "--tiny", "--work-dir", "detector", "--resume")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "resumed epoch: 1, iter: 4" in result.stdout
    assert re.search(r"(\d+) of \1 tensors match", result.stdout)


def test_test_gives_the_numbers_of_the_last_validation(tool, detector):
    result, folder = detector
    tested = tool(
        "test.py", DETECTION, folder / "epoch_1.pth", "--tiny", "--out", "predictions.pkl"
    )
    assert numbers_of(tested) == numbers_of(result)
    predictions = pickle.loads((tool.folder / "predictions.pkl").read_bytes())
    assert len(predictions) == 4 and "masks" in predictions[0]["pred_instances"]


def test_detection_with_augmentation_and_coco_results(tool, detector, pytestconfig):
    _, folder = detector
    keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip")
    keys += ("flip_direction",)
    (tool.folder / "augmented.py").write_text(
        f"_base_ = {str(pytestconfig.rootpath / DETECTION)!r}\n"
        "model = dict(roi_head=dict(mask_head=None, mask_roi_extractor=None))\n"
        "test_evaluator = dict(metric=['bbox'])\n"
        "tta_pipeline = [dict(type='LoadImageFromFile'), dict(type='TestTimeAug', transforms=["
        "[dict(type='Resize', scale=(96, 96), keep_ratio=True)],"
        "[dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)],"
        f"[dict(type='mmdet.PackDetInputs', meta_keys={keys})]])]\n"
    )
    arguments = ["augmented.py", folder / "epoch_1.pth", "--tiny", "--tta", "--out", "coco.json"]
    assert set(numbers_of(tool("test.py", *arguments))) == {"box AP", "box AP50"}
    boxes = json.loads((tool.folder / "coco.bbox.json").read_text())
    assert boxes and set(boxes[0]) >= {"image_id", "bbox", "score", "category_id"}


def test_segmentation_with_augmentation_and_maps(tool):
    trained = tool("train.py", SEGMENTATION, "--tiny", "--work-dir", "segmentor", "--amp")
    assert set(numbers_of(trained)) == {"mIoU", "aAcc", "mAcc"}
    checkpoint = tool.folder / "segmentor" / "iter_4.pth"
    tested = tool("test.py", SEGMENTATION, checkpoint, "--tiny", "--tta", "--out", "maps")
    assert set(numbers_of(tested)) == {"mIoU", "aAcc", "mAcc"}
    assert len(list((tool.folder / "maps").glob("*.png"))) == 4
    for result in (trained, tested):
        assert "WARNING" not in result.stdout and "Warning" not in result.stderr


def test_a_checkpoint_of_another_model(tool):
    torch.save({"state_dict": {"x": torch.ones(1)}}, tool.folder / "other.pth")
    result = tool("test.py", DETECTION, "other.pth", "--tiny")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert re.search(r"error: other.pth is of another model: 0 of \d+ tensors match", result.stderr)


def test_a_wrong_config_lists_its_faults(tool):
    options = ["--cfg-options", "model.neck.num_out=5", "optim_wraper.x=1"]
    result = tool("train.py", DETECTION, "--tiny", *options)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "has 2 faults" in result.stderr
    assert "did you mean 'num_outs'" in result.stderr
    assert "did you mean 'optim_wrapper'" in result.stderr


def test_missing_data_are_named(tool):
    result = tool("train.py", DETECTION, "--data-root", "nowhere")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "nowhere" in result.stderr


@pytest.mark.parametrize("name", ["train.py", "test.py"])
def test_help_imports_nothing_heavy(tool, name):
    result = tool(name, "--help", launcher=[sys.executable, "-X", "importtime"])
    assert result.returncode == 0 and "--cfg-options" in result.stdout
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "argparse" in imported and not imported & {"torch", "mmengine", "numpy", "hordet"}


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tool, detector):
    _, folder = detector
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    trained = tool("train.py", DETECTION, "--tiny", "--work-dir", "two", launcher=torchrun)
    assert numbers_of(trained)
    checkpoint = tool.folder / "two" / "epoch_1.pth"
    one = tool("test.py", DETECTION, checkpoint, "--tiny")
    two = tool("test.py", DETECTION, checkpoint, "--tiny", launcher=torchrun)
    assert numbers_of(one) == numbers_of(two)
