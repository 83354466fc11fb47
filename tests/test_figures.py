"""Figures that stand in several places agree: counter, lab notes, metafiles, page, reference."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from hordet.benchmark import zoo

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("cache_folder")
INDEX = zoo.read_metafiles(ROOT)
LEAVES = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("configs/[!_]*/*.py"))
GRID = {"r50": "r50", "r101": "r101", "swin-small": "swin_s", "hornet-small-7x7": "hornet_s_7x7"}
KINDS = {"": "", "-7x7": "_7x7", "-gf": "_gf"}
DETECTION, SEGMENTATION = (
    "configs/coco/mask-rcnn_{}_{}_1x.py",
    "configs/ade20k/upernet_{}_{}_160k.py",
)


def each(leaves):
    """Parametrize a test; deformable attention is counted with values, which takes a minute."""
    slow = pytest.mark.slow
    leaves = [pytest.param(n, marks=slow) if "mask2former" in n else n for n in leaves]
    return pytest.mark.parametrize("leaf", leaves)


def note_of(leaf):
    return ast.get_docstring(ast.parse((ROOT / leaf).read_text()))


@each(LEAVES)
def test_lab_note(cost_of, leaf):
    note, cost = note_of(leaf), cost_of(leaf)
    stated = re.search(r"([\d.]+) M parameters, ([\d.]+) G multiply-adds", note)
    if stated is None:
        # Configs for training from scratch state minutes, and the parameters in round figures.
        stated = re.search(r"Cost: ([\d.]+) M parameters", note)
        assert float(stated[1]) == pytest.approx(cost.parameters / 1e6, rel=0.05)
        return
    assert stated[1] == f"{cost.parameters / 1e6:.2f}"
    assert stated[2] == f"{cost.multiply_adds / 1e9:.2f}"
    assert ("of FFT" in note) == (cost.fft > 0)
    if cost.fft:
        assert f"{cost.fft / 1e9:.2f} G\nof FFT" in note


@each(LEAVES)
def test_page(cost_of, leaf):
    """docs/zoo.md has the line of each config as it is written today."""
    line = zoo.format_zoo_table(
        [zoo.ZooRow(leaf, cost_of(leaf), "", INDEX.get(leaf, {}))]
    ).splitlines()[-1]
    page = (ROOT / "docs" / "zoo.md").read_text().splitlines()
    assert line in page, f"run the command at the top of docs/zoo.md; it lacks\n{line}"


def test_index_names_every_config_of_its_folders():
    imported = yaml.safe_load((ROOT / "model-index.yml").read_text())["Import"]
    assert sorted(imported) == sorted(
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("configs/*/metafile.yml")
    )
    for file in imported:
        folder, content = (ROOT / file).parent, yaml.safe_load((ROOT / file).read_text())
        names = [model["Name"] for model in content["Models"]]
        assert sorted(names) == sorted(leaf.stem for leaf in folder.glob("*.py"))
        collections = {collection["Name"] for collection in content["Collections"]}
        assert {model["In Collection"] for model in content["Models"]} == collections


@each([leaf for leaf in LEAVES if leaf in INDEX])
def test_counts_of_a_metafile(cost_of, leaf):
    metadata, cost = INDEX[leaf]["Metadata"], cost_of(leaf)
    counted = {"Parameters": cost.parameters, "FLOPs": cost.multiply_adds}
    assert {key: metadata[key] for key in counted} == counted, f"{leaf} has {counted}"
    published = metadata.get("Published")
    if published:
        assert published["Parameters (M)"] == round(cost.parameters / 1e6)
        assert published["FLOPs (G)"] == round(cost.multiply_adds / 1e9)


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if leaf in INDEX])
def test_results_of_a_metafile(leaf):
    """Results are other people's, say so, and are those of the lab note."""
    entry, note = INDEX[leaf], note_of(leaf)
    assert leaf.endswith(f"/{entry['Name']}.py")
    published = entry["Metadata"].get("Published")
    assert not published or published["Source"] == "HorNet's authors"
    results = entry.get("Results", [])
    expected = re.search(r"Expected: (.*)\n", note)[1]
    assert bool(results) == ("published by" in expected)
    for result in results:
        assert result["Source"] in expected and "not run here" in result["Source"]
        assert all(f"{value} " in expected for value in result["Metrics"].values())


@pytest.mark.parametrize("backbone", GRID)
@pytest.mark.parametrize("kind", KINDS)
def test_study_agrees_with_the_authors_necks(cost_of, reference, backbone, kind):
    """Their neck and head on four backbones, measured under mmcv 1."""
    pipelines = json.loads((reference / "pipelines.json").read_text())
    neck = ("horfpn" if kind else "fpn") + kind
    head = ("horuperhead" if kind else "uperhead") + kind
    for part, leaf, name in (
        ("det", DETECTION.format(backbone, neck), "horfpn" if kind else "fpn"),
        ("seg", SEGMENTATION.format(backbone, head), "gnuper" if kind else "uper"),
    ):
        want, cost = pipelines[part][f"{GRID[backbone]}+{name}{KINDS[kind]}"], cost_of(leaf)
        assert cost.parameters == want["params"]
        # mmseg's ResNets have SyncBN, which mmcv's counter leaves out, and the reference BN.
        assert cost.multiply_adds / 1e9 == pytest.approx(want["mmcv1_GFLOPs"], rel=2e-3)
        assert cost.fft / 1e9 == pytest.approx(want["fft_correct_G"], abs=6e-4)


@pytest.mark.parametrize("backbone", [*GRID, "convnext-tiny", "convnext-small"])
def test_what_gnconv_saves(cost_of, backbone):
    """At 1280 x 800 about 29 of FPN's multiply-adds, at 2048 x 512 near half of UperNet's."""

    def giga(pattern, part):
        return cost_of(pattern.format(backbone, part)).multiply_adds / 1e9

    for kind in ("7x7", "gf"):
        saved = giga(DETECTION, "fpn") - giga(DETECTION, f"horfpn-{kind}")
        assert 28.9 < saved < 30.5
        share = 1 - giga(SEGMENTATION, f"horuperhead-{kind}") / giga(SEGMENTATION, "uperhead")
        assert 0.43 < share < 0.49
