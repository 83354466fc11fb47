"""Bad inputs, and what the user reads: the cases of test_bad_inputs.py.

python tests/faults/bad_inputs.py > docs/errors.md
"""

import contextlib
import io
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hordet.cli import main

ROOT = Path(__file__).resolve().parents[2]
DETECTION = ROOT / "configs" / "shapes" / "mask-rcnn_hornet-nano_horfpn_7e.py"
SEGMENTATION = ROOT / "configs" / "shapes" / "upernet_hornet-nano_horuperhead_1k.py"
MMDET_BASE = "_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'\n"
TRAIN, TEST, CONVERT = "train", "test", "convert"
EVALUATE, REPORT, DEMO = "evaluate", "report", "demo"
OPTIONS = "--cfg-options"
DEEPSPEED = ["runner_type=FlexibleRunner", "strategy.type=DeepSpeedStrategy"]


class Calls:
    """Calls a function when it is unpickled by an ordinary unpickler."""

    def __reduce__(self):
        """Return what an ordinary unpickler would do."""
        return (os.system, ("true",))


def config(text, name="c.py"):
    """Write a config and return its path."""

    def make(folder):
        (folder / name).write_text(text)
        return [name]

    return make


def data(edit=None, *, change="", segmentation=False):
    """Make shapes of a few images, spoil them, and return a config that reads them."""

    def make(folder):
        from hordet.datasets.shapes.files import write_shapes

        write_shapes(folder / "data", num_train=3, num_val=2, size=(64, 64))
        base = SEGMENTATION if segmentation else DETECTION
        (folder / "c.py").write_text(f"_base_ = {str(base)!r}\n{change}")
        if edit:
            edit(folder / "data")
        return ["c.py", "--data-root", "data"]

    return make


def annotations(change):
    """Change the training annotations by a function of their content."""

    def edit(root):
        path = root / "annotations" / "instances_train.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return data(edit)


def first(**values):
    """Change the first annotation."""
    return annotations(lambda content: content["annotations"][0].update(values))


def checkpoint(content, *, damage=None, option=()):
    """Write a checkpoint, spoil it, and return the arguments that open it for a dry run."""

    def make(folder):
        torch.save(content, folder / "a.pth")
        if damage:
            damage(folder / "a.pth")
        return [str(DETECTION), *(option or ["a.pth"]), "--tiny"]

    return make


def overwrite(content):
    """Write other bytes over a file."""
    return lambda path: path.write_bytes(content)


def truncate(path):
    """Keep the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def stale_sum(path):
    """Put another file's SHA-256 beside a file."""
    Path(f"{path}.sha256").write_text(f"{'0' * 64}  {path.name}\n")


def bomb(path):
    """Write a packed zip whose part is far larger than itself."""
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(10**7))


def run_folder(folder):
    """Make a work folder whose only checkpoint is damaged."""
    (folder / "work").mkdir()
    (folder / "work" / "iter_2.pth").write_bytes(b"PK" + bytes(50))
    return [str(DETECTION), "--tiny", "--work-dir", "work", "--resume"]


def empty_base(folder):
    """Write a config that holds nothing, to be a base."""
    (folder / "none.json").write_text("{}")
    return ["--safe-config"]


def results(content):
    """Write an annotation file and a result file beside it."""

    def make(folder):
        truth = dict(images=[dict(id=1)], annotations=[], categories=[dict(id=1, name="a")])
        (folder / "truth.json").write_text(json.dumps(truth))
        (folder / "results.json").write_text(content)
        return ["truth.json", "results.json"]

    return make


def conversion(folder):
    """Make a source and a destination that is there."""
    torch.save({"a": torch.ones(1)}, folder / "a.pth")
    torch.save({"a": torch.ones(1)}, folder / "b.pth")
    return ["a.pth", "b.pth"]


def detector(*arguments):
    """Arguments after the detection config."""
    return lambda folder: [str(DETECTION), *arguments]


def plain_file(folder):
    """Make a file where a work folder should be."""
    (folder / "work").write_text("")
    return [str(DETECTION), "--tiny", "--work-dir", "work"]


def each(change):
    """Change every annotation by a function of it."""
    return lambda content: [change(item) for item in content["annotations"]]


def scale(item):
    """Write a box in shares of an image of 64 x 64 pixels."""
    item["bbox"] = [value / 64 for value in item["bbox"]]


def take_corners(item):
    """Write a box as two corners."""
    x, y, width, height = item["bbox"]
    item["bbox"] = [x, y, x + width, y + height]


def take_centers(item):
    """Write a box as its center and sides."""
    x, y, width, height = item["bbox"]
    item["bbox"] = [x + width / 2, y + height / 2, width, height]


def take_percent(item):
    """Write a box in percent of an image of 64 x 64 pixels."""
    item["bbox"] = [100 * value / 64 for value in item["bbox"]]


def rename_images(change):
    """Write other file names."""
    return lambda content: [i.update(file_name=change(i["file_name"])) for i in content["images"]]


def all_ignored(root):
    """Write 255 into every pixel of every label map."""
    for path in (root / "labels").rglob("*.png"):
        Image.fromarray(np.full((64, 64), 255, np.uint8)).save(path)


def maps_alone(folder):
    """Take all images away; label maps have their names."""
    data(lambda root: [shutil.rmtree(root / split) for split in ("train", "val")])(folder)
    return ["--coco", "data"]


def put_prefix(content):
    """Put the exporter's folders before every file name."""
    for image in content["images"]:
        image["file_name"] = f"C:\\export\\{image['file_name']}"


def name_images(content):
    """Write texts as ids of images."""
    for item in (*content["images"], *content["annotations"]):
        key = "image_id" if "image_id" in item else "id"
        item[key] = f"image {item[key]}"


def in_gbk(root):
    """Write the training annotations in an encoding that JSON does not have."""
    path = root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["info"] = "图像标注"
    path.write_bytes(json.dumps(content, ensure_ascii=False).encode("gbk"))


def joined(root):
    """Write a second list of images into the training annotations, as of two files joined."""
    path = root / "annotations" / "instances_train.json"
    path.write_text(path.read_text().rstrip()[:-1] + ', "images": []}')


def huge_number(root):
    """Write a number of more digits than Python reads."""
    path = root / "annotations" / "instances_train.json"
    path.write_text(path.read_text().rstrip()[:-1] + ', "n": ' + "9" * 5000 + "}")


def linked(root):
    """Put a link to nothing in place of an image."""
    (root / "train" / "000001.png").unlink()
    (root / "train" / "000001.png").symlink_to("nowhere.png")


def cut_validation(root):
    """Cut an image of validation short."""
    truncate(min((root / "val").glob("*.png")))


def detection(kind="bbox", **values):
    """Write a result file with one detection, and return the arguments that score it."""

    def make(folder):
        data()(folder)
        path = folder / "data" / "annotations" / "instances_val.json"
        first = json.loads(path.read_text())["annotations"][0]
        item = dict(image_id=first["image_id"], category_id=1, bbox=[1, 1, 9, 9], score=0.5)
        item["segmentation"] = dict(size=[64, 64], counts=[0, 4096])
        (folder / "results.json").write_text(json.dumps([{**item, **values}]))
        return [str(path.relative_to(folder)), "results.json", "--type", kind]

    return make


def true(part, **values):
    """Change the first item of a part of the truth, and return the arguments that score on it."""

    def make(folder):
        words = detection()(folder)
        content = json.loads((folder / words[0]).read_text())
        content[part][0].update(values)
        (folder / words[0]).write_text(json.dumps(content))
        return words

    return make


def two_trainings(folder):
    """Put two annotation files of training side by side."""
    data()(folder)
    path = folder / "data" / "annotations" / "instances_train.json"
    (path.with_name("instances_train_2.json")).write_text(path.read_text())
    return ["--coco", "data", "--out", "mine.py"]


def labels(files, *words):
    """Write text files of an annotation tool below data/, beside an image; return the words."""

    def make(folder):
        for name, text in {**files, "data/images/a.txt": ""}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        (folder / "data/images/a.txt").unlink()
        Image.new("RGB", (64, 64)).save(folder / "data/images/a.png")
        return list(words)

    return make


YOLO = {"data/data.yaml": "names: [bolt, nut]", "data/labels/a.txt": "0 0.5 0.5 0.2 0.2"}
VOC = {"data/Annotations/a.xml": "<annotation><filename>a.png</filename></annotation>"}
CVAT = '<!DOCTYPE annotations [<!ENTITY a "aaaa">]><annotations>&a;</annotations>'


def setting(*options):
    """Return a config of shapes with some settings changed on the command line."""
    return lambda folder: [*data()(folder), OPTIONS, *options]


RLE = dict(segmentation=dict(size=[8, 8], counts="0"))
OTHER_FILE = "val_evaluator = dict(ann_file='other.json')\ntest_evaluator = val_evaluator\n"
SUFFIX = "train_dataloader = dict(dataset=dict(img_suffix='.tif'))\n"
WEIGHTS = {"state_dict": {"x": torch.ones(1)}}

# Input, subcommand, arguments, and an expression that the message must match.
CASES = [
    ("a config that is not there", TRAIN, lambda f: ["none.py"], r"no config file at none\.py"),
    ("a config with a typing error", TRAIN, config("model = dict("), "SyntaxError"),
    ("a config that raises", TRAIN, config("1 / 0"), "ZeroDivisionError"),
    ("a base that is not there", TRAIN, config("_base_ = 'x.py'"), "cannot be read as a config"),
    ("a base of a package that is not installed", TRAIN, config("_base_ = 'mmfoo::x.py'"), "mmfoo"),
    ("a base that the package lacks", TRAIN, config("_base_ = 'mmdet::x/y.py'"), "has no config"),
    ("invalid YAML", TRAIN, config("a: [1", "c.yaml"), "cannot be read as a config"),
    ("a misspelled key", TRAIN, config(MMDET_BASE + "optim_wraper = 1"), "optim_wrapper"),
    (
        "a misspelled type",
        TRAIN,
        config(MMDET_BASE + "model = dict(neck=dict(type='FPNN'))"),
        "did you mean",
    ),
    (
        "a misspelled parameter",
        TRAIN,
        config(MMDET_BASE + "model = dict(neck=dict(num_out=5))"),
        "FPN has no such parameter; did you mean 'num_outs'",
    ),
    (
        "a type of a package that is not installed",
        TRAIN,
        config(MMDET_BASE + "model = dict(neck=dict(type='mmfoo.FPN'))"),
        "which is not installed",
    ),
    ("an option without =", TRAIN, detector(OPTIONS, "a"), "not of the form key=value"),
    ("an option of no key", TRAIN, detector(OPTIONS, "modle.x=1"), "no such key"),
    (
        "a misspelled key of the recipe",
        TRAIN,
        detector(OPTIONS, "recipe.mosiac=True"),
        "recipe.mosiac: unknown key; did you mean 'mosaic'",
    ),
    ("an option that is a dict", TRAIN, detector(OPTIONS, "a={b"), "fault|cannot be read|no such"),
    ("an option into a number", TRAIN, detector(OPTIONS, "log_level.x=1"), "cannot be applied to"),
    (
        "code, with --safe-config",
        TRAIN,
        lambda f: [*config("import os")(f), "--safe-config"],
        "holds more than data",
    ),
    (
        "a foreign type, with --safe-config",
        TRAIN,
        lambda f: [*config("model = dict(type='subprocess.Popen')")(f), "--safe-config"],
        "is no registered component",
    ),
    ("a work folder that is a file", TRAIN, plain_file, "work: File exists. Check"),
    ("a data root that is not there", TRAIN, detector("--data-root", "none"), "no folder none"),
    (
        "an annotation file that is not there",
        TRAIN,
        data(lambda root: (root / "annotations" / "instances_train.json").unlink()),
        "no annotation file",
    ),
    (
        "an annotation file that is cut off",
        TRAIN,
        data(lambda root: truncate(root / "annotations" / "instances_train.json")),
        "is not a complete JSON",
    ),
    (
        "JSON that is not COCO's",
        TRAIN,
        data(lambda root: (root / "annotations" / "instances_train.json").write_text("[]")),
        "is not a COCO annotation file",
    ),
    (
        "a missing image",
        TRAIN,
        data(lambda root: (root / "train" / "000001.png").unlink()),
        "1 of 3 images .* are missing",
    ),
    (
        "categories spelt otherwise",
        TRAIN,
        annotations(lambda content: content["categories"][0].update(name="Circle")),
        "Not all of the classes match",
    ),
    (
        "a category twice",
        TRAIN,
        annotations(lambda content: content["categories"].append(content["categories"][0])),
        "several categories of one id",
    ),
    (
        "an image id twice",
        TRAIN,
        annotations(lambda content: content["images"][1].update(id=1)),
        "have the same id",
    ),
    (
        "an annotation id twice",
        TRAIN,
        annotations(lambda content: content["annotations"][1].update(id=1)),
        "repeat the id",
    ),
    ("a box without area", TRAIN, first(bbox=[3, 3, 0, 5]), "box with no area"),
    ("a box outside", TRAIN, first(bbox=[900, 3, 5, 5]), "box outside its image"),
    ("a box of words", TRAIN, first(bbox=["a", 1, 2, 3]), "hold no numbers"),
    ("a polygon of two points", TRAIN, first(segmentation=[[1, 1, 2, 2]]), "three x, y pairs"),
    ("an RLE of another size", TRAIN, first(**RLE), "RLE of another size"),
    ("an annotation of no image", TRAIN, first(image_id=99), "image_id that no image"),
    ("an annotation of no category", TRAIN, first(category_id=99), "category_id that no category"),
    (
        "no mask where masks are trained",
        TRAIN,
        annotations(each(lambda item: item.update(segmentation=[]))),
        "14 of 14 objects .* have no segmentation",
    ),
    ("an evaluator of another file", TRAIN, data(change=OTHER_FILE), "does not lie in the data"),
    (
        "no folder of label maps",
        TRAIN,
        data(lambda root: (root / "labels").rename(root / "maps"), segmentation=True),
        "There is no folder .*labels",
    ),
    (
        "a missing label map",
        TRAIN,
        data(lambda r: (r / "labels" / "train" / "000001.png").unlink(), segmentation=True),
        "have no label map",
    ),
    ("another suffix", TRAIN, data(change=SUFFIX, segmentation=True), "ends in '.tif'"),
    ("a checkpoint that is not there", TEST, detector("none.pth", "--tiny"), "no checkpoint file"),
    (
        "a name that no weights have",
        TEST,
        detector("hordet://hornet-tny-7x7", "--tiny"),
        "did you mean 'hornet-tiny-7x7'",
    ),
    (
        "weights that may not be fetched",
        TEST,
        detector("hordet://hornet-tiny-7x7", "--tiny", "--offline"),
        "nothing may be fetched",
    ),
    ("a web page", TEST, checkpoint({}, damage=overwrite(b"<html>")), "is a web page"),
    ("a checkpoint cut off", TEST, checkpoint(WEIGHTS, damage=truncate), "truncated or damaged"),
    ("a checkpoint that runs code", TEST, checkpoint({"a": Calls()}), "holds pickled code"),
    ("a whole pickled model", TEST, checkpoint(torch.nn.Linear(2, 2)), "holds pickled code"),
    ("a checkpoint without a dict", TEST, checkpoint(torch.ones(2)), "holds a Tensor"),
    ("a zip bomb", TEST, checkpoint({}, damage=bomb), "is refused: unpacked it is"),
    ("another SHA-256 beside it", TEST, checkpoint(WEIGHTS, damage=stale_sum), "is damaged"),
    (
        "another SHA-256 than stated",
        TEST,
        checkpoint(WEIGHTS, option=["a.pth#sha256=" + "1" * 64]),
        "is stated: it is another file",
    ),
    ("a SHA-256 that is none", TEST, checkpoint({}, option=["a.pth#sha256=1"]), "64 hexadecimal"),
    ("the weights of another model", TEST, checkpoint(WEIGHTS), "is of another model"),
    (
        "weights that are NaN",
        TEST,
        checkpoint({"backbone.norm0.weight": torch.full((32,), torch.nan)}),
        "holds NaN or infinite values in 1 of .*, first backbone.norm0.weight",
    ),
    (
        "detection into a folder",
        TEST,
        checkpoint(WEIGHTS, option=["a.pth", "--out", "maps"]),
        r"detection writes a \.pkl",
    ),
    (
        "--tta without a pipeline",
        TEST,
        checkpoint(WEIGHTS, option=["a.pth", "--tta", "--cfg-options", "tta_pipeline=None"]),
        "--tta",
    ),
    (
        "weights to resume from",
        TRAIN,
        checkpoint(WEIGHTS, option=["--resume", "a.pth"]),
        "cannot be resumed from it",
    ),
    ("nothing whole to resume from", TRAIN, run_folder, "can be resumed from"),
    ("a file that is there", CONVERT, conversion, "is there already"),
    (
        "unknown names of tensors",
        CONVERT,
        lambda f: [*conversion(f)[:1], "c.pth"],
        "is of no known kind of model",
    ),
    (
        "a strategy that is not tested",
        TRAIN,
        lambda _: [str(DETECTION), "--tiny", OPTIONS, *DEEPSPEED],
        "got strategy.type='DeepSpeedStrategy'",
    ),
    ("results that are cut off", EVALUATE, results('[{"image_id": 1'), "is not a complete JSON"),
    ("results that are no list", EVALUATE, results("{}"), "list"),
    ("no annotations to compare with", EVALUATE, lambda _: ["none.json", "r.json"], "none.json"),
    (
        "a folder that is not a work folder",
        REPORT,
        lambda _: ["nowhere"],
        "is not the work folder of a run",
    ),
    (
        "a model to try without weights",
        DEMO,
        lambda _: [str(DETECTION), "none.pth", "--tiny"],
        "no checkpoint file at none.pth",
    ),
    ("annotations in GBK", TRAIN, data(in_gbk), "is not in UTF-8.*GBK.*iconv"),
    ("boxes between 0 and 1", TRAIN, annotations(each(scale)), "14 of 14 objects .* 0 and 1"),
    ("corners as boxes", TRAIN, annotations(each(take_corners)), "14 of 14 objects .*x1, y1, x2"),
    ("the exporter's folders in every path", TRAIN, annotations(put_prefix), "by their base names"),
    (
        "run lengths that are damaged",
        TRAIN,
        first(segmentation=dict(size=[64, 64], counts=[100, 10])),
        "run lengths .counts. that are damaged",
    ),
    ("boxes as centers", TRAIN, annotations(each(take_centers)), "14 of 14 .* of center x, center"),
    ("boxes in percent", TRAIN, annotations(each(take_percent)), "between 0 and 100: percent"),
    (
        "boxes of less than a pixel",
        TRAIN,
        annotations(each(lambda item: item.update(bbox=[*item["bbox"][:2], 0.3, 0.3]))),
        "14 of 14 annotations .* less than one pixel",
    ),
    (
        "boxes that are not those of the masks",
        TRAIN,
        annotations(each(lambda item: item.update(bbox=[1, 2, 60, 61]))),
        "14 of 14 annotations .* not the box of its mask",
    ),
    (
        "names with another ending",
        TRAIN,
        annotations(rename_images(lambda name: name.replace(".png", ".jpg"))),
        "with another ending: 000001.jpg is train/000001.png",
    ),
    (
        "names with a query",
        TRAIN,
        annotations(rename_images(lambda name: f"https://a.org/{name}?sig=ab")),
        "without the blanks or the query",
    ),
    (
        "names with Label Studio's marks",
        TRAIN,
        annotations(rename_images(lambda name: f"/data/upload/1/0f3a99bc-{name}")),
        "without the marks that",
    ),
    (
        "images that have path in place of file_name",
        TRAIN,
        annotations(lambda c: [i.update(path=i.pop("file_name")) for i in c["images"]]),
        "Rename path to file_name",
    ),
    (
        "label maps of 255 alone",
        TRAIN,
        data(all_ignored, segmentation=True),
        "Every pixel of the 3 label maps .* is 255",
    ),
    (
        "no image, and label maps of their names",
        "new-config",
        maps_alone,
        "None of the .* images .* Put the images there",
    ),
    ("texts as ids", TRAIN, annotations(name_images), "3 of 3 images .* have text where id"),
    (
        "crowds alone",
        TRAIN,
        annotations(each(lambda item: item.update(iscrowd=1))),
        "14 of 14 objects .* are iscrowd=1, which training leaves out",
    ),
    ("a link to nothing in place of an image", TRAIN, data(linked), "1 of 3 images .* are missing"),
    (
        "two annotation files joined by hand",
        TRAIN,
        data(joined),
        "has images twice.*Join the lists",
    ),
    ("a number of 5,000 digits", TRAIN, data(huge_number), "more than 4,300 digits"),
    (
        "an image of validation that is cut off",
        TRAIN,
        data(cut_validation),
        "1 of 2 images of validation .* cannot be decoded whole.*Fetch",
    ),
    (
        "--max-dets for a segmentor",
        TRAIN,
        lambda _: [str(SEGMENTATION), "--tiny", "--max-dets", "300"],
        "is for detectors whose model.test_cfg has max_per_img",
    ),
    ("a score in words", EVALUATE, detection(score="high"), "score='high'; it must be a number"),
    ("a result without a category", EVALUATE, detection(category_id=None), "category_id='None'"),
    (
        "polygons as results",
        EVALUATE,
        detection("segm", segmentation=[[1, 1, 9, 1, 9, 9]]),
        "run lengths, .*no polygons",
    ),
    (
        "damaged run lengths in results",
        EVALUATE,
        detection("segm", segmentation=dict(size=[64, 64], counts="04L4")),
        "1 of 1 masks have run lengths .counts. that are damaged",
    ),
    (
        "a batch of no image",
        TRAIN,
        setting("train_dataloader.batch_size=0"),
        "batch_size: got '0'; it must be a whole number from 1",
    ),
    (
        "a learning rate in words",
        TRAIN,
        setting("optim_wrapper.optimizer.lr=fast"),
        "lr: got 'fast'; it must be a number from 0",
    ),
    (
        "an annotation file that is a number",
        TRAIN,
        setting("train_dataloader.dataset.ann_file=5"),
        "ann_file: got '5'; it must be text, a path",
    ),
    (
        "a head with fewer classes than the data",
        TRAIN,
        setting("model.roi_head.bbox_head.num_classes=2"),
        "num_classes=2, and the data set has 6 classes",
    ),
    (
        "a setting that a component refuses",
        TRAIN,
        setting("optim_wrapper.optimizer.betas=[2,2]"),
        "optim_wrapper of the config cannot be built: ValueError",
    ),
    (
        "two annotation files of training",
        "new-config",
        two_trainings,
        "several annotation files for train.*--train-ann annotations/instances_train.json ",
    ),
    (
        "truth with an iscrowd in words",
        EVALUATE,
        true("annotations", iscrowd="x"),
        "1 of .* annotations .* lack one of .*iscrowd",
    ),
    (
        "truth of no image",
        EVALUATE,
        true("annotations", image_id=999),
        "1 of .* annotations .* an image_id that no image has",
    ),
    (
        "a sparse tensor",
        TEST,
        checkpoint({"state_dict": {"x": torch.eye(2).to_sparse()}}),
        "x is a sparse tensor; models here have plain ones",
    ),
    (
        "classes that are no names",
        TEST,
        checkpoint({**WEIGHTS, "meta": {"dataset_meta": {"classes": 5}}}),
        "'5' as meta.dataset_meta.classes; it must be a list of names",
    ),
    (
        "a neck that is a word",
        TRAIN,
        setting("model.neck=FPN"),
        "model.neck: got 'FPN'; it must be a dict",
    ),
    (
        "data of no known format",
        "new-config",
        labels({"data/notes.md": "to do"}, "--data", "data"),
        r"no annotations of a known format .*files there: .md, .png",
    ),
    (
        "data of two formats",
        "new-config",
        labels({**YOLO, **VOC}, "--data", "data"),
        r"annotations of several formats: Pascal VOC .*--format voc or yolo",
    ),
    (
        "lists of classes that disagree",
        "convert-data",
        labels({**YOLO, "data/classes.txt": "nut\nbolt\n"}, "data", "out"),
        r"names the classes bolt, nut \(2\), and .* nut, bolt \(2\)\. Make the lists alike",
    ),
    (
        "XML with entities that grow",
        "convert-data",
        labels({"data/annotations.xml": CVAT}, "data", "out"),
        r"declares a document type \(DOCTYPE\)",
    ),
    (
        "a converted data set without validation",
        "new-config",
        labels(YOLO, "--data", "data", "--out", "mine.py"),
        r"no validation split .*--hold-out 0\.2",
    ),
    (
        "output in the place of the data",
        "convert-data",
        labels(YOLO, "data", "data"),
        "folder of the data, which are never changed",
    ),
    (
        "a base that is named many times, with --safe-config",
        TRAIN,
        lambda f: [*config(f"_base_ = {['none.json'] * 300}")(f), *empty_base(f)],
        "is one of more than 200 files to read",
    ),
    (
        "a number without end, with --safe-config",
        TRAIN,
        lambda f: [*config("a: 1" + ":00" * 99, "c.yaml")(f), "--safe-config"],
        "has more than 100 characters",
    ),
    (
        "a number that is not finite, with --safe-config",
        TRAIN,
        lambda f: [*config('{"a": Infinity}', "c.json")(f), "--safe-config"],
        "is no number of JSON",
    ),
    (
        "a setting that is a word of Python",
        TRAIN,
        config('{"import": 1}', "c.json"),
        "cannot name a setting",
    ),
    (
        "a hook in place of a model",
        TRAIN,
        config("model = dict(type='mmengine.hooks.logger_hook.LoggerHook')"),
        "is of the kind 'hook'; allowed here: 'model'",
    ),
    (
        "a folder without checkpoints to resume from",
        TRAIN,
        lambda _: [str(DETECTION), "--tiny", "--work-dir", "work", "--resume", "."],
        "is a folder without checkpoints",
    ),
]


def message_of(subcommand, make, folder):
    """Run a subcommand in this process, in a folder; return its exit code and what it wrote."""
    arguments = make(folder)
    before = Path.cwd()
    out, err = io.StringIO(), io.StringIO()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([subcommand, *arguments])
    except SystemExit as end:
        code = end.code
    finally:
        os.chdir(before)
    text = err.getvalue()[err.getvalue().find("error: ") :]
    cache = os.environ.get("HORDET_CACHE", "~/.cache/hordet")
    for place, name in ((f"{folder.resolve()}/", ""), (f"{ROOT}/", ""), (cache, "CACHE")):
        text = text.replace(place, name)
    text = re.sub(r"\S+/annotations/(\S+-[0-9a-f]{12}\.json)", r"CACHE/annotations/\1", text)
    return code, text.strip()


def print_page():
    """Print the table."""
    print("# Error messages\n")
    print(
        f"This page lists {len(CASES)} wrong inputs and the message for each. It is written by "
        "`python tests/faults/bad_inputs.py > docs/errors.md` and tested by "
        "`tests/faults/test_bad_inputs.py`.\n\nEvery message ends with exit code 2. `--debug` adds "
        "the traceback. A ` / ` stands for a new line.\n"
    )
    print("| input | command | message |\n|---|---|---|")
    os.environ["HORDET_CACHE"] = tempfile.mkdtemp()
    for title, subcommand, make, _ in CASES:
        with tempfile.TemporaryDirectory() as folder:
            answer = message_of(subcommand, make, Path(folder).resolve())[1]
        answer = re.sub(r"\s*\n\s*", " / ", answer).replace("|", "\\|")
        print(f"| {title} | hordet {subcommand} | {answer} |")


if __name__ == "__main__":
    print_page()
