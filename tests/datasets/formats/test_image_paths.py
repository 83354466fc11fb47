"""Names of images in annotation files: one resolver for check, training, infer and new-config."""

import json
import re
import shutil
import unicodedata
import warnings
from pathlib import Path

import pytest
from mmengine.config import ConfigDict
from PIL import Image

from hordet.datasets.checks.coco import check_coco
from hordet.datasets.formats.coco import read_size, resolve_names
from hordet.datasets.formats.image_paths import find_image_folder, match_names
from hordet.errors import ConfigError, DatasetError
from hordet.inference.sources import find_sources
from hordet.inference.writers import AnnotationIds
from hordet.new_config import measure_coco

NAMES = ("street 01.png", "Straße-02.png", "café.png")
BOX = [4, 5, 20, 10]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "data"
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        for name in NAMES:
            Image.new("RGB", (48, 32)).save(root / split / f"{split} {name}")
        rename(root, split, lambda name: name)
    return root


def rename(root, split, change):
    """Write the annotation file of a split with each name as `change` makes it."""
    names = [change(f"{split} {name}") for name in NAMES]
    images = [dict(id=i, file_name=n, width=48, height=32) for i, n in enumerate(names)]
    each = dict(category_id=1, bbox=BOX, area=200, iscrowd=0)
    annotations = [dict(each, id=i + 1, image_id=i) for i in range(len(names))]
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name="car")])
    (root / f"instances_{split}.json").write_text(json.dumps(content))


def check(root, ann_file="instances_val.json"):
    dataset = dict(data_root=str(root), ann_file=ann_file, data_prefix=dict(img="val"))
    return check_coco(ConfigDict(dataset), ("car",))


def infer(root, ann_file=None, folder="val"):
    """The ids that --annotations gives to the images of a folder."""
    ids = AnnotationIds.read(ann_file or root / "instances_val.json", ("car",))
    sources, _ = find_sources([str(root / folder)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ids.require(sources)
    return {source.file_name: ids.images[source.file_name] for source in sources}


def new_config(root, **options):
    return measure_coco(root, **options)


def copy_in(text):
    return re.search(r"\S+/cache/annotations/\S+?\.json", text)[0]


SPELLINGS = {
    "backslashes": lambda name: ".\\" + name,
    "escapes": lambda name: name.replace(" ", "%20").replace("é", "%C3%A9"),
    "accents as two characters": lambda name: unicodedata.normalize("NFD", name),
    "a path through another folder": lambda name: "../val/" + name,
}


@pytest.mark.parametrize("change", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_another_spelling_is_read_by_all(root, change):
    rename(root, "val", change)
    found = check(root)
    assert not found.errors
    expected = {f"val {name}": number for number, name in enumerate(NAMES)}
    assert infer(root) == expected
    assert new_config(root).val.images == "val"


OTHERS = {
    "case": (str.upper, "in another case"),
    "folders": (lambda name: "C:\\export\\7\\" + name, "by their base names alone"),
    "an address": (lambda name: f"https://a.b/c%20d/{name}", "by their base names alone"),
    "a query": (lambda name: f"gs://b/{name}?Signature=a%2Fb", "without the blanks or the query"),
    "blanks": (lambda name: f"  {name}\t", "without the blanks or the query"),
    "no ending": (lambda name: name.removesuffix(".png"), "with another ending"),
    "another ending": (lambda name: name.replace(".png", ".jpeg"), "with another ending"),
    "Roboflow": (
        lambda name: name.replace(".png", "_png.rf.9c1f0e77aa.jpg"),
        "without the marks|with another ending",
    ),
    "Label Studio": (lambda name: f"/data/upload/3/0f3a99bc-{name}", "without the marks"),
    "Label Studio's files": (lambda name: f"/data/local-files/?d=x/{name}", "by their base names"),
}


@pytest.mark.parametrize(("change", "words"), OTHERS.values(), ids=OTHERS.keys())
def test_another_name_is_offered_by_all_and_the_copies_work(root, change, words):
    for split in ("train", "val"):
        rename(root, split, change)
    (text,) = check(root).errors
    assert re.search(words, text) and "set ann_file to it" in text
    assert not check(root, copy_in(text)).errors
    with pytest.raises(ConfigError, match=words) as caught:
        infer(root)
    assert infer(root, copy_in(str(caught.value))) == {f"val {n}": i for i, n in enumerate(NAMES)}
    with pytest.raises(DatasetError, match=words) as caught:
        new_config(root)
    train = copy_in(str(caught.value))
    with pytest.raises(DatasetError, match="set --val-ann to it") as caught:
        new_config(root, train=[train])
    found = new_config(root, train=[train], val=[copy_in(str(caught.value))])
    images = [i["file_name"] for i in found.train.content["images"]]
    assert all((root / found.train.images / name).is_file() for name in images)


def test_a_name_that_two_files_may_mean_is_not_guessed():
    assert match_names(["a.jpg"], ["a.png", "a.tif"]) == {}
    assert match_names(["x/a.png", "y/a.png"], ["z/a.png"]) == {}
    pairs = {"x/a.png": ("p/x/a.png", ""), "y/A.png": ("p/y/a.png", "")}
    assert match_names(pairs, ["p/x/a.png", "p/y/a.png"]) == pairs
    # A file that another name means strictly is not taken for a second one.
    names = ["a.png", "a.jpg"]
    assert match_names(names, ["d/a.png"]) == {"a.png": ("d/a.png", "")}
    assert resolve_names(Path("none"), names) == {}


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_folder_of_label_maps_is_never_that_of_the_images(root, missing):
    """Masks of the images' names are all there, images are missing."""
    for maps in ("labels/val", "masks", "SegmentationClass"):
        shutil.copytree(root / "val", root / maps)
    for name in NAMES[:missing]:
        (root / "val" / f"val {name}").unlink()
    (text,) = check(root).errors
    assert f"{missing} of 3 images" in text and str(root / "val" / f"val {NAMES[0]}") in text
    assert "Fetch them" in text and "set data_prefix" not in text and "copy" not in text
    if missing < 3:
        assert new_config(root).val.images == "val"
        return
    with pytest.raises(DatasetError, match=r"None of the 3 images .* Put the images there"):
        new_config(root)


def test_the_first_usual_folder_is_taken_and_others_are_not_chosen_from(tmp_path):
    def put(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()

    def find(stem="x"):
        return find_image_folder(tmp_path, tmp_path / f"{stem}.json", ["a.png", "b.png"], "train")

    assert find() is None
    put("left/a.png", "left/b.png")
    assert find() == tmp_path / "left"
    put("right/a.png")
    assert find() == tmp_path / "left"  # the only one with all
    put("right/b.png")
    with pytest.raises(DatasetError, match=r"several folders .*: left \(2\), right \(2\)"):
        find()
    put("train/a.png")
    assert find() == tmp_path / "train"
    put("right/x/a.png", "y/b.png")
    assert find("y") == tmp_path / "y"


def test_single_missing_images_are_told_what_else_is_beside_them(root):
    (root / "val" / f"val {NAMES[0]}").rename(root / "val/val street 01.webp")
    (text,) = check(root).errors
    assert "1 of 3 images" in text and "val/val street 01.webp" in text and "Fetch" in text


def test_a_file_without_file_name_is_refused_in_words(root):
    path = root / "instances_val.json"
    path.write_text(path.read_text().replace("file_name", "filename"))
    for read in (infer, new_config):
        with pytest.raises(Exception, match=r"3 of 3 images .* Rename filename to file_name"):
            read(root)
    assert "Rename filename to file_name" in check(root).errors[0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["tif", "png", "jpg"])
def test_sizes_are_those_of_the_loaded_image(tmp_path, ending, orientation):
    from hordet.datasets.images import decode_image

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    Image.new("RGB", (23, 11)).save(path, exif=exif)
    size = (23, 11) if orientation < 5 else (11, 23)
    assert read_size(path) == size
    assert decode_image(path.read_bytes())[0].shape[1::-1] == size


def test_classes_that_the_annotation_file_lacks_are_left_out_and_said(root):
    path = root / "instances_val.json"
    ids = AnnotationIds.read(path, ("bus", "car"))
    assert ids.categories == [None, 1] and "no category for bus" in ids.note
    for classes in (("bus",), ("Car", "bus")):
        with pytest.raises(ConfigError, match="has no category for"):
            AnnotationIds.read(path, classes)
