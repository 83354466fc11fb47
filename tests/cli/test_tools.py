"""The tools as a person runs them: real files, exit codes and messages.

The trainings, what goes on from them, and what must import little are processes of their own. The
others run in this one, where the libraries are imported already: five seconds less each.
"""

import hashlib
import json
import os
import pickle
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from in_process import run_words
from safetensors.torch import load_file

DETECTION = "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py"
SEGMENTATION = "configs/shapes/upernet_hornet-nano_horuperhead_1k.py"
PYTHON = [sys.executable]


@pytest.fixture(scope="module")
def tool(pytestconfig, tmp_path_factory):
    """Run a tool in a folder of this module, with stand-in data there.

    In a process of its own if a launcher is given, such as `PYTHON`.
    """
    folder = tmp_path_factory.mktemp("tools")
    changes = {"HORDET_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}

    def run(name, *arguments, launcher=()):
        path = pytestconfig.rootpath / "tools" / name
        arguments = [
            str(pytestconfig.rootpath / word) if str(word).startswith("configs/") else str(word)
            for word in arguments
        ]
        if not launcher:
            return run_words(*words_of(path), *arguments, folder=folder, **changes)
        return subprocess.run(
            [*launcher, str(path), *arguments],
            cwd=folder,
            env=os.environ | changes,
            capture_output=True,
            text=True,
        )

    run.folder = folder
    return run


def words_of(path):
    """What a tool puts before the words that it is given, read from its source."""
    (listed,) = re.findall(r"main\(\[(.*)\*sys\.argv\[1:\]\]\)", path.read_text())
    return [word.strip(' "') for word in listed.split(",") if word.strip()]


def numbers_of(result):
    """The printed metrics by name, from the last line of a run that must have succeeded."""
    assert result.returncode == 0, result.stderr[-3000:] + result.stdout[-1000:]
    line = result.stdout.strip().splitlines()[-1]
    return dict(re.findall(r"([a-zA-Z][a-zA-Z0-9 ]*?) (-?\d\.\d{3})", line.replace("  ", ";")))


@pytest.fixture(scope="module")
def detector(tool):
    """A dry run of training, and the folder of its checkpoint."""
    words = [DETECTION, "--tiny", "--work-dir", "detector", "--seed", "1"]
    result = tool("train.py", *words, launcher=PYTHON)
    return result, tool.folder / "detector"


@pytest.fixture(scope="module")
def segmentor(tool):
    """A dry run of training in mixed precision, and the folder of its checkpoint."""
    words = [SEGMENTATION, "--tiny", "--work-dir", "segmentor", "--amp"]
    result = tool("train.py", *words, launcher=PYTHON)
    return result, tool.folder / "segmentor"


def test_train_prints_its_metrics(detector):
    result, folder = detector
    assert set(numbers_of(result)) == {"box AP", "box AP50", "mask AP", "mask AP50"}
    assert result.stdout.strip().splitlines()[-1].endswith("(detector)")
    assert (folder / "epoch_1.pth").is_file()
    assert "WARNING" not in result.stdout and "Warning" not in result.stderr


def test_the_console_is_short_and_the_log_is_whole(detector):
    result, folder = detector
    lines = result.stdout.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("epoch 1/1  iteration 1/4  "))
    assert 5 <= first <= 12
    named = dict(re.split(r"\s{2,}|(?<=work folder) ", line, maxsplit=1) for line in lines[:first])
    assert named["config"] == Path(DETECTION).stem
    assert re.fullmatch(
        r"MaskRCNN, \d\.\d\d M parameters: HorNet nano, HorFPN, RPNHead, "
        r"StandardRoIHead \(ConvFCBBoxHead, FCNMaskHead\)",
        named["model"],
    )
    assert named["training"].startswith("8 images of 6 classes, CocoDataset in ")
    assert named["validation"].startswith("4 images of 6 classes, CocoDataset in ")
    assert named["schedule"] == "1 epoch of 4 iterations, batches of 2 x 1 process"
    rate = "learning rate 1.5e-3 (up to 3 times that, by custom_keys)"
    assert named["optimizer"] == f"AdamW, {rate}, float32"
    assert named["work folder"] == "detector"
    step = (
        r"epoch 1/1  iteration \d/4  loss \d\.\d\d  gradient norm [\d.]+  lr \d\.\de-\d"
        r".*  [\d.]+ s/it(  \d.* left)?"
    )
    scores = r"box AP -?\d\.\d{3}  box AP50 .*  mask AP .*  mask AP50 -?\d\.\d{3}"
    *steps, validation, last = lines[first:]
    assert len(steps) == 4 and all(re.fullmatch(step, line) for line in steps), steps
    assert re.fullmatch(rf"epoch 1/1  validation  {scores}  \d.* s", validation)
    assert re.fullmatch(rf"{scores}  \(detector\)", last)
    (log,) = folder.glob("*/*.log")
    text = log.read_text()
    parts = ("System environment", "max_epochs=1", "Hooks will be executed", "Average Precision")
    for part in (*parts, "Epoch(train) [1][4/4]", "coco/segm_mAP_50", "creating index..."):
        assert part in text and part not in result.stdout, part
    assert not result.stderr


def test_resume_goes_on_where_it_stopped(tool, detector):
    # A checkpoint of mmengine's, with its pickled log histories, is read by tools/train.py.
    words = [DETECTION, "--tiny", "--work-dir", "detector", "--resume"]
    result = tool("train.py", *words, launcher=PYTHON)
    assert result.returncode == 0, result.stderr[-3000:]
    assert re.search(
        r"^weights +resumed at iteration 4 from detector/epoch_1.pth: (\d+) of \1 tensors match$",
        result.stdout,
        re.MULTILINE,
    )
    assert "Loads checkpoint" not in result.stdout


def test_a_test_leaves_the_training_s_folder_to_the_report(tool, detector):
    folder = detector[1]
    written = folder / f"{Path(DETECTION).stem}.py"
    before = written.read_text()
    options = ["--tiny", "--work-dir", "detector"]
    numbers_of(tool("test.py", DETECTION, folder / "epoch_1.pth", *options))
    assert written.read_text() == before and (folder / "test" / written.name).is_file()
    result = tool("report.py", "detector", "--out", "tested.html")
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tool.folder / "tested.html").is_file()


def test_test_gives_the_numbers_of_the_last_validation(tool, detector):
    result, folder = detector
    words = [DETECTION, folder / "epoch_1.pth", "--tiny", "--out", "predictions.pkl"]
    tested = tool("test.py", *words, launcher=PYTHON)
    assert numbers_of(tested) == numbers_of(result)
    predictions = pickle.loads((tool.folder / "predictions.pkl").read_bytes())
    assert len(predictions) == 4 and "masks" in predictions[0]["pred_instances"]


def test_detection_with_augmentation_and_coco_results(tool, detector):
    _, folder = detector
    arguments = [DETECTION, folder / "epoch_1.pth", "--tiny", "--tta", "--out", "coco.json"]
    names = {"box AP", "box AP50", "mask AP", "mask AP50"}
    assert set(numbers_of(tool("test.py", *arguments))) == names
    for kind, key in (("bbox", "bbox"), ("segm", "segmentation")):
        found = json.loads((tool.folder / f"coco.{kind}.json").read_text())
        assert found and set(found[0]) >= {"image_id", key, "score", "category_id"}


def test_detection_in_patches(tool, detector):
    _, folder = detector
    arguments = [DETECTION, folder / "epoch_1.pth", "--tiny", "--sliced", "--out", "sliced.json"]
    options = ["--cfg-options", "sliced_model.patch_size=64", "sliced_model.batch_size=3"]
    names = {"box AP", "box AP50", "mask AP", "mask AP50"}
    assert set(numbers_of(tool("test.py", *arguments, *options))) == names
    found = json.loads((tool.folder / "sliced.segm.json").read_text())
    assert {tuple(item["segmentation"]["size"]) for item in found} == {(96, 96)}
    # Patches begin at 0 and 32: objects lie where the image has them.
    ends = [item["bbox"][0] + item["bbox"][2] for item in found]
    assert max(ends) > 80 and max(ends) <= 96
    both = tool("test.py", *arguments, "--tta")
    assert both.returncode == 2 and "not allowed with argument" in both.stderr


def test_segmentation_with_augmentation_and_maps(tool, segmentor):
    trained, folder = segmentor
    assert set(numbers_of(trained)) == {"mIoU", "aAcc", "mAcc"}
    options = ["--tiny", "--tta", "--out", "maps", "--verbose"]
    words = [SEGMENTATION, folder / "iter_4.pth", *options]
    tested = tool("test.py", *words, launcher=PYTHON)
    assert set(numbers_of(tested)) == {"mIoU", "aAcc", "mAcc"}
    assert len(list((tool.folder / "maps").glob("*.png"))) == 4
    for result in (trained, tested):
        assert "WARNING" not in result.stdout and "Warning" not in result.stderr
    assert re.search(r"^optimizer +AdamW, .*, mixed precision \(bfloat16\)$", trained.stdout, re.M)
    assert re.search(r"^iteration 4/4  loss ", trained.stdout, re.M)
    for part in (
        "System environment",
        "Hooks will be executed",
        "| background",
        "Iter(test) [4/4]",
    ):
        assert part in tested.stdout and part not in trained.stdout, part
    assert "work folder" in trained.stdout and "work folder" not in tested.stdout


def test_the_report_of_a_detector_and_of_a_segmentor(tool, detector, segmentor):
    _, folder = detector
    result = tool("report.py", folder, "--out", "detector.html")
    assert result.returncode == 0, result.stderr[-3000:]
    page = (tool.folder / "detector.html").read_text()
    for part in (
        "the loss ",  # whether it fell, four iterations cannot promise
        "localization",
        "mask AP50",
        "Worst images",
        "image/jpeg",
        "PyTorch",
    ):
        assert part in page, part
    result = tool("report.py", segmentor[1], folder, "--out", "both.html")
    assert result.returncode == 0, result.stderr[-3000:]
    page = (tool.folder / "both.html").read_text()
    for part in (
        "validated on different images",
        "the weakest class is",
        "Worst images",
        "accuracy",
    ):
        assert part in page, part
    assert not re.search(r'(src|href)="(?!data:)', page) and "<script" not in page
    result = tool("report.py", "nowhere")
    assert (
        result.returncode == 2 and "error: nowhere is not the work folder of a run" in result.stderr
    )


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


@pytest.fixture(scope="module")
def classifier(tool):
    """A classification file as the authors of HorNet publish them, of HorNet-nano."""
    from hordet.backbones import HorNet

    state = {k: torch.rand_like(v) for k, v in HorNet("nano").state_dict().items()}
    state = {key: value for key, value in state.items() if not key.startswith("norm")}
    file = {"model": state | {"norm.weight": torch.ones(256), "head.weight": torch.ones(9, 256)}}
    torch.save(file, tool.folder / "official.pth")
    return state


def test_convert_checkpoint(tool, classifier):
    def digest(name):
        return hashlib.sha256((tool.folder / name).read_bytes()).hexdigest()

    result = tool("convert_checkpoint.py", "official.pth", "there.pth", "--to", "mmpretrain")
    assert result.returncode == 0, result.stderr
    arguments = ["there.pth", "back.safetensors", "--sha256", digest("there.pth")]
    result = tool("convert_checkpoint.py", *arguments, "--config", DETECTION)
    assert result.returncode == 0, result.stderr
    # Forks of OpenMMLab print their own when they are imported.
    lines = [s for s in result.stdout.splitlines() if not s.startswith("Could not import OneDL")]
    conversion, coverage, read, written = lines
    total = len(classifier) + 2
    assert conversion == (
        f"HorNet classification, mmpretrain -> official: {total} of {total} names known"
    )
    assert re.search(rf"{len(classifier)} of {len(classifier) + 8} tensors match", coverage)
    assert "missing: backbone.norm0.weight" in coverage and "head.weight" in coverage
    assert read == f"read    {digest('there.pth')}  there.pth"
    assert written == f"written {digest('back.safetensors')}  back.safetensors"
    back = load_file(tool.folder / "back.safetensors")
    assert all(torch.equal(back[key], value) for key, value in classifier.items())


def test_convert_checkpoint_refuses(tool, classifier, pytestconfig, monkeypatch, capsys):
    folder = tool.folder
    torch.save(torch.nn.Linear(2, 2), folder / "code.pth")
    torch.save({"layer1.0.conv1.weight": torch.ones(1)}, folder / "resnet.pth")
    torch.save({"a": torch.ones(1)}, folder / "unknown.pth")
    (folder / "short.pth").write_bytes((folder / "official.pth").read_bytes()[:3000])
    detection = str(pytestconfig.rootpath / DETECTION)
    (folder / "stated.py").write_text(
        f"_base_ = {detection!r}\n"
        "model = dict(backbone=dict(init_cfg=dict("
        f"type='Pretrained', checkpoint='x/new.pth#sha256={'0' * 64}')))\n"
    )
    # Within this process: ten starts of Python would take a minute.
    monkeypatch.chdir(folder)
    script = str(pytestconfig.rootpath / "tools" / "convert_checkpoint.py")
    before = sorted(os.listdir(folder))
    for words, *arguments in (
        (r"code\.pth holds pickled code: it asks for torch\.nn", "code.pth"),
        (r"short\.pth \(3,000 bytes\) is truncated or damaged", "short.pth"),
        (r"no checkpoint file at none\.pth", "none.pth"),
        (r"is of no known kind of model: 0 of 1 names fit the nearest", "unknown.pth"),
        (r"is of another model: 0 of \d+ tensors match", "resnet.pth", "--config", detection),
        (r"official\.pth has the SHA-256 .* is stated", "official.pth", "--sha256", "1" * 64),
        (r"new\.pth \(not written\) has the SHA", "official.pth", "--config", "stated.py"),
        ("HorNet classification has no names of 'timm'", "official.pth", "--to", "timm"),
        (r"no config file at none\.py", "official.pth", "--config", "none.py"),
        (r"resnet\.pth is there already", "official.pth", "resnet.pth"),
    ):
        source, *options = arguments
        options = options if options[:1] == ["resnet.pth"] else ["new.pth", *options]
        monkeypatch.setattr(sys, "argv", ["convert_checkpoint.py", source, *options])
        with pytest.raises(SystemExit, match="^2$"):
            runpy.run_path(script, run_name="__main__")
        error = capsys.readouterr().err
        assert re.search(f"^error: .*{words}", error), error
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("train.py", "--cfg-options"),
        ("test.py", "--cfg-options"),
        ("benchmark.py", "necks"),
        ("check_dataset.py", "--strict"),
        ("convert_checkpoint.py", "--min-coverage"),
        ("slice_dataset.py", "--min-area-ratio"),
        ("evaluate.py", "--classwise"),
        ("report.py", "--no-predictions"),
        ("demo.py", "--max-upload-mb"),
    ],
)
def test_help_imports_nothing_heavy(tool, name, option):
    result = tool(name, "--help", launcher=[*PYTHON, "-X", "importtime"])
    assert result.returncode == 0 and option in result.stdout
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "argparse" in imported and not imported & {"torch", "mmengine", "numpy", "mmcv", "timm"}


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tool, detector):
    _, folder = detector
    torchrun = [*PYTHON, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    trained = tool("train.py", DETECTION, "--tiny", "--work-dir", "two", launcher=torchrun)
    checkpoint = tool.folder / "two" / "epoch_1.pth"
    one = tool("test.py", DETECTION, checkpoint, "--tiny")
    two = tool("test.py", DETECTION, checkpoint, "--tiny", launcher=torchrun)
    assert numbers_of(trained) == numbers_of(one) == numbers_of(two)
    assert "batches of 2 x 2 processes" in trained.stdout
    for result in (trained, two):  # the first process alone speaks
        assert result.stdout.count("work folder ") == 1
        assert len(re.findall(r"^(?:.*validation|test) .*box AP ", result.stdout, re.M)) == 1
        assert "System environment" not in result.stdout


def test_benchmark_backbones_writes_its_table(tool):
    result = tool(
        "benchmark.py", "backbones", "GhostNet 1.0", "--markdown", "b.md", "--json", "b.json"
    )
    assert result.returncode == 0, result.stderr
    page = (tool.folder / "b.md").read_text()
    assert "Written by `hordet benchmark backbones 'GhostNet 1.0' --markdown b.md" in page
    assert "| GhostNet 1.0 | 24, 40, 80, 160 | any | 0.95 |" in page
    assert page.endswith("\n\n" + result.stdout.rstrip("\n") + "\n")
    (row,) = json.loads((tool.folder / "b.json").read_text())
    assert row["strides"] == [4, 8, 16, 32] and row["config"]["model_name"] == "ghostnet_100"

    wrong = tool("benchmark.py", "backbones", "Ghostnet 1")
    assert wrong.returncode == 2
    assert "no backbone is named 'Ghostnet 1'; did you mean 'GhostNet 1.0'" in wrong.stderr
