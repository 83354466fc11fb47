"""The zoo's table: published figures beside ours, and what the tool writes."""

import json

import pytest
import yaml
from in_process import run_words

from hordet.benchmark.complexity import Complexity
from hordet.benchmark.zoo import ZooRow, count_configs, format_zoo_table, read_metafiles

CONFIG = """
default_scope = "mmseg"
custom_imports = dict(imports=["hordet.registry"])
norm = dict(type="BN")
model = dict(
    type="EncoderDecoder",
    backbone=dict(type="hordet.HorNet", arch="nano"),
    decode_head=dict(
        type="FCNHead", in_channels=256, channels=8, num_classes=2, norm_cfg=norm,
    ),
)
test_dataloader = dict(dataset=dict(pipeline=[dict(type="Resize", scale=(96, 64))]))
"""
METAFILE = """
Models:
  - Name: one
    Config: configs/a/one.py
    Metadata:
      Published:
        Parameters (M): 2
        FLOPs (G): 0.1
    Results:
      - Task: Semantic Segmentation
        Dataset: ADE20K
        Metrics: {mIoU: 48.1, mIoU(ms+flip): 49}
        Source: published by someone
"""


@pytest.fixture
def zoo(tmp_path):
    """A repository with one config that has a metafile, and one that cannot be counted."""
    for folder in ("a", "b"):
        (tmp_path / "configs" / folder).mkdir(parents=True)
    (tmp_path / "configs/a/one.py").write_text(CONFIG)
    (tmp_path / "configs/b/two.py").write_text(CONFIG.replace("scale=(96, 64)", ""))
    (tmp_path / "model-index.yml").write_text("Import:\n  - configs/a/metafile.yml\n")
    (tmp_path / "configs/a/metafile.yml").write_text(METAFILE)
    return tmp_path


def test_rows(zoo):
    one, two = count_configs(sorted(zoo.glob("configs/*/*.py")), zoo)
    assert (one.config, one.entry["Name"]) == ("configs/a/one.py", "one")
    assert one.cost.input_shape == (3, 96, 64) and not one.problem
    assert (two.cost, two.entry) == (None, {})
    assert "no Resize" in two.problem
    assert json.loads(json.dumps(one.as_dict()))["cost"]["parameters"] == one.cost.parameters


def test_markdown():
    cost = Complexity((3, 1280, 800), 80_465_970, 728_270_000_000, 727_610_000_000, 435_000_000)
    entry = yaml.safe_load(METAFILE.replace("FLOPs (G): 0.1", "FLOPs (G): 728.5"))["Models"][0]
    rows = [
        ZooRow("configs/a/one.py", cost, "", entry),
        ZooRow("configs/a/three.py", cost, "", {}),
        ZooRow("configs/b/two.py", None, "no scale", {}),
    ]
    header, _, one, three, *_, two = (
        s for s in format_zoo_table(rows).splitlines() if s.startswith("| ")
    )
    columns = header.count("|")
    assert one == (
        "| one | 1280 x 800 | 80.47 | 2 (+78.47) | 728.27 | 728.5 (-0.23) | 0.43 | 727.61 "
        "| mIoU 48.1, mIoU(ms+flip) 49 (published by someone) |"
    )
    assert three == "| three | 1280 x 800 | 80.47 |  | 728.27 |  | 0.43 | 727.61 |  |"
    assert two.startswith("| two | not counted: no scale |")
    assert {line.count("|") for line in (one, two, three)} == {columns}


def test_without_metafiles(tmp_path):
    assert read_metafiles(tmp_path) == {}


def test_tool(zoo):
    def run(*words):
        return run_words("benchmark", "complexity", *words, folder=zoo)

    files = ["--markdown", "d/zoo.md", "--json", "zoo.json"]
    result = run("configs/a/one.py", "--shape", "64", "32", *files)
    assert result.returncode == 0, result.stderr
    page = (zoo / "d" / "zoo.md").read_text()
    assert page.startswith("# The zoo\n\nWritten by `hordet benchmark complexity ")
    # The end of what was printed: forks of OpenMMLab print their own when they are imported.
    table = page[page.index("|") :]
    assert result.stdout.rstrip("\n").endswith(table.rstrip("\n")) and "| one | 64 x 32 |" in table
    (row,) = json.loads((zoo / "zoo.json").read_text())
    assert row["cost"]["input_shape"] == [3, 64, 32]

    missing = run("configs/a/on.py")
    assert missing.returncode == 2 and "|" not in missing.stdout
    assert "error: no config file at configs/a/on.py" in missing.stderr
    nothing = run()
    assert nothing.returncode == 2 and "--all is required" in nothing.stderr
    assert "--markdown FILE" in run("--help").stdout
