"""The table of weights by name: complete, without a second truth beside it."""

import re

import pytest
import yaml

from hordet.checkpoints import find_published, find_weights, is_named, list_shipped
from hordet.checkpoints.weights import TABLE, read_weights
from hordet.config.names import find_configs
from hordet.errors import CheckpointError


def test_the_table_has_the_authors_files_and_the_others():
    rows = read_weights()
    assert len([n for n in rows if re.match(r"hornet-(tiny|small|base)-(7x7|gf)$", n)]) == 6
    assert len([n for n in rows if n.startswith("hornet-large")]) == 3
    assert len([n for n in rows if n.startswith("cascade-mask-rcnn")]) == 8
    # The authors' table leaves the links of UPerNet with HorNet-B empty.
    assert len([n for n in rows if n.startswith("upernet")]) == 6
    others = {n for n in rows if not re.match("hornet|cascade|upernet", n)}
    assert others - {row.name for row in list_shipped()} == {
        *("resnet-50", "resnet-101", "resnet-50-v1c", "resnet-101-v1c", "swin-small"),
        *("convnext-tiny", "convnext-small"),
        *(f"efficientnet-lite{i}" for i in range(3)),
    }


def test_every_place_names_its_page_and_stands_once():
    files = [file for row in read_weights().values() for file in row.files]
    assert all(file.page and file.license for file in files)
    assert all(file.url.startswith("https://") or file.wheel for file in files)
    places = [file.place for file in files]
    assert len({*places}) == len(places) == 39


def test_sums_in_file_names_are_stated():
    """OpenMMLab, torchvision and the wheels end a name in the first digits of the SHA-256."""
    stated = 0
    for row in read_weights().values():
        for file in row.files:
            if found := re.search(r"-([0-9a-f]{8})\.pth$", file.file_name):
                assert file.sha256.startswith(found[1]), row.name
                stated += 1
    assert stated == 6 + 4 + 3


def test_whole_models_name_configs_that_exist():
    for row in read_weights().values():
        if row.config and not row.is_shipped:
            assert row.config in find_configs() and row.name == row.config.split("/")[1]
            assert find_published(row.config) == row
    assert find_published("coco/mask-rcnn_hornet-small-7x7_fpn_1x") is None


def test_every_name_in_a_config_is_in_the_table(repository):
    names = set()
    for path in (repository / "configs").rglob("*.py"):
        names |= {*re.findall(r'checkpoint="(hordet://[^"]+)"', path.read_text())}
        assert '"pretrained/' not in path.read_text()
    assert len(names) >= 16
    for name in names:
        assert is_named(name) and find_weights(name).config is None


def test_metafiles_carry_the_weights_of_whole_models(repository):
    found = {}
    for folder in ("coco", "ade20k"):
        for row in yaml.safe_load((repository / "configs" / folder / "metafile.yml").read_text())[
            "Models"
        ]:
            if "Weights" in row:
                # mim keeps what follows the last slash as the file's name; no server is told it.
                found[row["Name"]], file = row["Weights"].split("#/")
                assert file == f"{row['Name']}.pth"
                assert row["Results"], "weights without the authors' results"
    whole = {n: r.files[0].url for n, r in read_weights().items() if r.config and r.files}
    assert found == whole and len(found) == 14


def test_an_unknown_name_has_the_nearest():
    with pytest.raises(CheckpointError, match="named 'hornet-tny-7x7'; did you mean 'hornet-tiny"):
        find_weights("hordet://hornet-tny-7x7")
    with pytest.raises(CheckpointError, match="hordet://shapes names drawn images, not weights"):
        find_weights("hordet://shapes")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{name: A b, file: a, what: a, megabytes: 1, files: [{source: s, url: u}]}", "no name"),
        ("{name: a, file: a, what: a, megabytes: 1, files: [{source: s}]}", "needs a url"),
        ("{name: a, file: a, what: a, megabytes: 1}", "lacks config, license"),
        ("{name: shapes, file: a, what: a, megabytes: 1, config: c, license: l}", "reserved"),
        ("{name: a, file: a, what: a}", "needed are"),
        (
            "{name: a, file: a, what: a, megabytes: 1, files: [{source: s, url: u, sha256: '1'}]}",
            "8 or 64 digits",
        ),
    ],
)
def test_a_faulty_row_is_refused(monkeypatch, tmp_path, row, words):
    table = tmp_path / "weights.yml"
    table.write_text(f"sources: {{s: {{page: p, license: l}}}}\nweights: [{row}]")
    monkeypatch.setattr("hordet.checkpoints.weights.TABLE", table)
    read_weights.cache_clear()
    with pytest.raises(CheckpointError, match=words):
        read_weights()
    monkeypatch.setattr("hordet.checkpoints.weights.TABLE", TABLE)
    read_weights.cache_clear()
