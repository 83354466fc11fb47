"""hordet new-config by its words, and the dry run of what it writes."""

import io
import shutil
import sys

import pytest
from in_process import run_words
from own_data import write_coco, write_maps

from hordet.cli.main import build_parser


@pytest.fixture(scope="module")
def tool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")

    def run(name, *arguments):
        return run_words(name, *arguments, folder=folder, HORDET_CACHE=str(folder / "cache"))

    run.folder = folder
    return run


def test_it_says_what_it_saw_and_what_comes_next_and_keeps_what_is_there(tool):
    boxes = [(0, 0, 30, 20), (50, 10, 20, 20)]
    root = write_coco(tool.folder / "bolts", dict(train=(4, boxes), val=(2, boxes)))
    result = tool("new-config", "--coco", root)
    assert result.returncode == 0, result.stderr
    leaf = "own_configs/bolts/mask-rcnn_hornet-nano_horfpn_75e.py"
    assert "2 classes: bolt 4, nut 4" in result.stdout and f"wrote {leaf}" in result.stdout
    # No weights here: said, with the commands that fetch them.
    assert "HorNet-nano from random weights" in result.stdout
    assert "hordet weights get efficientnet-lite0" in result.stdout
    commands = [line.split()[1:] for line in result.stdout.split("next:\n")[1].splitlines()]
    assert [words[0] for words in commands] == ["check", "train", "train"]
    assert commands[1][1:] == [leaf, "--tiny"]
    before = (tool.folder / leaf).read_text()
    again = tool("new-config", "--coco", root)
    assert again.returncode == 2 and "is there already" in again.stderr
    assert (tool.folder / leaf).read_text() == before
    # What training would refuse is said, with an exit code of its own.
    shutil.move(root / "train" / "train_0.png", tool.folder)
    lacking = tool("new-config", "--coco", root, "--force")
    assert lacking.returncode == 1 and "error: 1 of 4 images" in lacking.stdout


class GoneReader(io.StringIO):
    """Standard output whose reader, such as `head`, has gone away."""

    def write(self, text):
        raise BrokenPipeError


def test_a_reader_that_goes_away_costs_no_config(tmp_path, monkeypatch):
    boxes = [(0, 0, 30, 20), (50, 10, 20, 20)]
    root = write_coco(tmp_path / "bolts", dict(train=(4, boxes), val=(2, boxes)))
    words = ["new-config", "--coco", str(root), "--out", str(tmp_path / "c.py")]
    arguments = build_parser().parse_args(words)
    monkeypatch.setattr(sys, "stdout", GoneReader())
    with pytest.raises(BrokenPipeError):
        arguments.module.run(arguments)
    assert "bolt" in (tmp_path / "c.py").read_text()


@pytest.mark.slow
def test_weights_that_are_named_must_be_there(tool):
    result = tool("new-config", "--ade-like", tool.folder, "--weights", "absent.pth")
    assert result.returncode == 2
    assert "there is no file of weights absent.pth" in result.stderr
    assert "hordet weights get efficientnet-lite0" in result.stderr


@pytest.mark.slow
def test_a_config_trains_on_its_data_without_an_edit(tool):
    root = write_maps(tool.folder / "fields", dict(training=4, validation=2))
    result = tool("new-config", "--ade-like", root, "--out", "fields.py", "--batch-size", "2")
    assert result.returncode == 0, result.stderr
    short = ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "train_dataloader.num_workers=0"]
    short += ["train_dataloader.persistent_workers=False"]
    trained = tool("train", "fields.py", "--cfg-options", *short)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.splitlines()[-1].startswith("mIoU ")


@pytest.mark.slow
def test_a_detector_trains_on_its_data_and_dry(tool):
    boxes = [(0, 0, 30, 20), (50, 10, 20, 20)]
    root = write_coco(tool.folder / "nuts", dict(train=(4, boxes), val=(2, boxes)))
    assert tool("new-config", "--coco", root, "--out", "nuts.py").returncode == 0
    checked = tool("check", "nuts.py")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "6 images, 0 errors, 0 warnings" in checked.stdout
    short = ["train_cfg.max_epochs=1", "train_cfg.val_interval=1"]
    for words in (["--tiny"], ["--cfg-options", *short]):
        trained = tool("train", "nuts.py", *words)
        assert trained.returncode == 0, trained.stderr
        assert trained.stdout.splitlines()[-1].startswith("box AP ")
