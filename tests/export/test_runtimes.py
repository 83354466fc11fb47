"""OpenVINO beside the model, the script without torch, and what files and runtimes are refused."""

import json
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from export_models import detector, segmentor
from mmengine.config import Config

from hordet.checkpoints.weights import SHIPPED
from hordet.cli.main import main
from hordet.engine.runner import load_model, read_config
from hordet.errors import ExportError
from hordet.export import example
from hordet.export.exported_file import FORMAT, METADATA, describe_runtime_error, read_metadata
from hordet.export.exporter import ExportSettings, export_half, export_model
from hordet.export.graphs import build_graph, make_exportable, make_inputs
from hordet.export.images import read_image
from hordet.export.metadata import describe_size_rule, make_metadata
from hordet.export.model_graph import ModelGraph
from hordet.export.program import trace_graph, write_program
from hordet.export.runtime import OnnxFile, open_exported, predict_with
from hordet.export.write_example import check_example, write_example
from hordet.inference import Predictor

onnx = pytest.importorskip("onnx", reason="the extra 'export' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")

CLASSES = ("one", "two", "three")
SLIDE = dict(mode="slide", crop_size=(48, 48), stride=(32, 32))


def with_pipeline(model, cfg, dataset, *transforms):
    """Add to a config what an application needs: a test pipeline, and names of the classes."""
    pipeline = [dict(type="LoadImageFromFile"), *transforms]
    dataset = dict(type=dataset, pipeline=pipeline, metainfo=dict(classes=CLASSES))
    cfg.test_dataloader = dict(dataset=dataset)
    model.dataset_meta = dict(classes=CLASSES)
    return model, cfg


def resized_detector(mask=True):
    """A detector that pads to a multiple of 32, after a resize to 150 x 112."""
    model, cfg = detector(mask)
    cfg.default_scope = "mmdet"
    resize = dict(type="mmdet.Resize", scale=(150, 150), keep_ratio=True)
    return with_pipeline(model, cfg, "mmdet.CocoDataset", resize, dict(type="mmdet.PackDetInputs"))


def resized_segmentor(**test_cfg):
    """A segmentor of images at 80 x 60."""
    model, cfg = segmentor("dw7x7")
    model.test_cfg = Config(dict(mode="whole") | test_cfg)
    resize = dict(type="Resize", scale=(80, 60), keep_ratio=False)
    return with_pipeline(
        model, cfg, "mmseg.BaseSegDataset", resize, dict(type="mmseg.PackSegInputs")
    )


def run_example(folder, model, *words):
    """Run the script where torch and hordet cannot be imported."""
    script = folder / "example.py"
    write_example(script)
    blocked = ("torch", "torchvision", "hordet", "mmengine", "mmcv", "mmdet", "mmseg")
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({blocked})); "
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(model), *words, "--out", str(folder / "out")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def measure_overlap(first, second):
    """Intersection over union of two bitmaps; two empty ones are equal."""
    union = (first | second).sum()
    return (first & second).sum() / union if union else 1.0


def check_detections(model, cfg, file, photo, folder):
    done = run_example(folder, file, photo)
    assert done.returncode == 0, done.stderr
    got = np.load(folder / "out" / "photo.npz")
    want = Predictor(model, cfg, dict(classes=CLASSES))(photo)
    assert len(want) == len(got["scores"]) > 0
    np.testing.assert_allclose(got["scores"], want.scores, atol=1e-4)
    np.testing.assert_allclose(got["boxes"], want.boxes, atol=1e-2)
    assert got["labels"].tolist() == want.labels.tolist()
    overlaps = [measure_overlap(a, b) for a, b in zip(got["masks"], want.bitmaps(), strict=True)]
    assert min(overlaps) >= 0.99
    drawn = cv2.imread(str(folder / "out" / "photo.png"))
    assert drawn.shape == cv2.imread(photo).shape


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_the_script_without_torch_finds_the_objects_of_the_model(tmp_path, photo, suffix):
    if suffix == ".xml":
        pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    model, cfg = resized_detector()
    file = tmp_path / f"model{suffix}"
    rows = export_model(model, cfg, file, ExportSettings(image=photo))
    assert all(row.count > 0 and row.worst < 1e-4 for row in rows)
    check_detections(model, cfg, file, photo, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize(
    "test_cfg",
    [{}, dict(mode="slide", crop_size=(48, 48), stride=(32, 32))],
    ids=["whole", "slide"],
)
def test_the_script_without_torch_sees_the_classes_of_the_model(tmp_path, photo, suffix, test_cfg):
    if suffix == ".xml":
        pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    model, cfg = resized_segmentor(**test_cfg)
    file = tmp_path / f"model{suffix}"
    export_model(model, cfg, file, ExportSettings(image=photo))
    odd = tmp_path / "odd.png"
    cv2.imwrite(str(odd), cv2.imread(photo)[:91, :77])
    done = run_example(tmp_path, file, photo, str(odd), "missing.png")
    assert done.returncode == 1 and "missing.png is missing or not an image" in done.stderr
    predict = Predictor(model, cfg, dict(classes=CLASSES))
    for path in (photo, str(odd)):
        got = np.load(tmp_path / "out" / f"{path.rsplit('/')[-1][:-4]}.npz")["labels"]
        want = predict(path).labels
        for label in range(len(CLASSES)):
            assert measure_overlap(got == label, want == label) >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_the_script_without_torch_finds_the_nuclei_of_the_shipped_model(tmp_path, suffix):
    if suffix == ".xml":
        pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    photos = sorted(str(path) for path in (SHIPPED / "examples" / "nuclei-lite0").glob("*.png"))
    name = "hordet://nuclei-lite0"
    cfg = read_config(name, work_dir=str(tmp_path / "work"))
    model = load_model(cfg, name)
    file = tmp_path / f"model{suffix}"
    export_model(model, cfg, file, ExportSettings(image=photos[0]))
    done = run_example(tmp_path, file, *photos)
    assert done.returncode == 0, done.stderr
    predict = Predictor.from_config(name, name)
    for photo in photos:
        got = np.load(tmp_path / "out" / f"{Path(photo).stem}.npz")
        want = predict(photo)
        assert len(want) == len(got["scores"]) > 10
        pairs = zip(got["masks"], want.bitmaps(), strict=True)
        assert min(measure_overlap(*pair) for pair in pairs) >= 0.99
    # The same by tiles. Both draw the better object where two meet.
    done = run_example(tmp_path, file, photos[0], "--tile", "160")
    assert done.returncode == 0, done.stderr
    got = np.load(tmp_path / "out" / f"{Path(photos[0]).stem}.npz")
    want = Predictor.from_config(name, name, tile=160)(photos[0])
    assert len(want) == len(got["scores"]) > 10
    np.testing.assert_allclose(got["boxes"], want.boxes, atol=0.1)
    numbers = np.zeros(got["instances"].shape, int)
    for number, mask in reversed(list(enumerate(want.bitmaps(), 1))):
        numbers[mask] = number
    assert (numbers == got["instances"]).mean() > 0.999


@pytest.mark.slow
def test_an_image_without_objects(tmp_path, photo):
    model, cfg = resized_detector()
    model.roi_head.test_cfg.score_thr = 1.1  # which no score reaches
    graph = build_graph(model)
    image = read_image(model, photo)
    program = trace_graph(make_exportable(graph, "dft", True), image, True)
    for suffix in (".onnx", ".xml") if find_spec("openvino") else (".onnx",):
        file = tmp_path / f"model{suffix}"
        write_program(program, file, make_metadata(graph, cfg))
        found = open_exported(file)(*make_inputs(graph, image))
        assert found["boxes"].shape == (0, 4) and found["mask_logits"].shape == (0, 28, 28)
        done = run_example(tmp_path, file, photo)
        assert done.returncode == 0 and ": 0 objects" in done.stdout, done.stderr
        assert np.load(tmp_path / "out" / "photo.npz")["masks"].shape == (0, 96, 128)


def test_metadata_let_a_file_be_used_without_its_config():
    model, cfg = resized_segmentor(**SLIDE)
    graph = ModelGraph(model)
    graph.kind = "segmentation"
    made = json.loads(json.dumps(make_metadata(graph, cfg)))
    assert made["format"] == FORMAT and made["version"] and made["classes"] == [*CLASSES]
    assert made["preprocessing"] == dict(mean=[9.0] * 3, std=[50.0] * 3)
    assert made["size_rule"] == dict(scale=[80, 60], keep_ratio=False)
    assert made["prediction"] == dict(
        mode="slide", crop_size=[48, 48], stride=[32, 32], align_corners=False
    )


def test_what_resizes_otherwise_is_no_rule():
    _, cfg = resized_segmentor()
    pipeline = cfg.test_dataloader.dataset.pipeline
    del pipeline[1]
    assert describe_size_rule(cfg) == {}
    pipeline.insert(1, dict(type="ResizeToMultiple"))
    assert describe_size_rule(cfg) is None
    assert describe_size_rule(Config()) is None
    with pytest.raises(ExportError, match="the config's does something else: leave --example out"):
        check_example(cfg, Path("a.onnx"), "whole", Path("none.py"))
    with pytest.raises(ExportError, match="needs the whole model: leave --part out"):
        check_example(cfg, Path("a.onnx"), "features", Path("none.py"))


def write_onnx(path, operator="Identity", domain="", metadata=None):
    """Write an ONNX file of one operator."""
    node = onnx.helper.make_node(operator, ["image"], ["logits"], domain=domain)
    shape = [1, 3, "h", "w"]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name in ("image", "logits")
    ]
    graph = onnx.helper.make_graph([node], "graph", ends[:1], ends[1:])
    sets = [onnx.helper.make_opsetid(domain, 1), onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=sets if domain else sets[1:])
    model.ir_version = 10
    if metadata is not None:
        onnx.helper.set_model_props(model, {METADATA: json.dumps(metadata)})
    onnx.save(model, path)
    return path


def test_files_of_others_and_of_newer_versions_are_refused(tmp_path):
    path = write_onnx(tmp_path / "other.onnx")
    with pytest.raises(ExportError, match="`hordet export` did not write it"):
        OnnxFile(path)
    newer = dict(format=FORMAT + 1, version="9.9.0", kind="segmentation")
    write_onnx(path, metadata=newer)
    with pytest.raises(ExportError, match=rf"hordet 9.9.0 in form {FORMAT + 1}, .*update hordet"):
        OnnxFile(path)
    assert read_metadata(json.dumps(dict(kind="features")), "a.onnx") == dict(kind="features")
    for text in ('{"format": 1, "ki', "[1]", '{"format": "1"}', '{"format": 1}'):
        with pytest.raises(ExportError, match="into a.onnx is damaged.*export it again"):
            read_metadata(text, "a.onnx")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ExportError, match="cannot open .*may be cut short"):
        OnnxFile(path)


def test_openvino_needs_both_files(tmp_path):
    pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    path = tmp_path / "model.xml"
    path.write_text("<net/>")
    with pytest.raises(ExportError, match="model.xml needs model.bin beside it"):
        open_exported(path)
    done = run_example(tmp_path, path, "a.png")
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path / 'model.bin'} must lie beside {path}\n"


def test_a_file_of_another_model_is_refused(tmp_path):
    model, _ = segmentor("dw7x7")
    told = dict(format=FORMAT, kind="segmentation", num_classes=3, preprocessing={})
    path = write_onnx(tmp_path / "model.onnx", metadata=told | dict(num_classes=7))
    with pytest.raises(ExportError, match="has 7 classes, and the config has 3"):
        predict_with(model, path)
    told["preprocessing"] = dict(mean=[9.0] * 3, std=[58.0] * 3)
    write_onnx(path, metadata=told)
    with pytest.raises(ExportError, match=r"images with std \[58.0.*the config has \[50.0"):
        predict_with(model, path)
    told["preprocessing"]["std"] = [50.0] * 3
    write_onnx(path, metadata=told | dict(classes=["a", "b", "c"]))
    with pytest.raises(ExportError, match="other classes than .*: 'b' in the place of 'x'"):
        predict_with(model, path, ("a", "x", "c"))
    told["preprocessing"]["bgr_to_rgb"] = True
    write_onnx(path, metadata=told)
    with pytest.raises(ExportError, match="swaps the order of an image's channels, and the config"):
        predict_with(model, path)
    told["preprocessing"]["bgr_to_rgb"] = False
    predict_with(model, write_onnx(path, metadata=told), ("a", "b", "c"))
    assert model.encode_decode(torch.ones(1, 3, 4, 4), None).shape == (1, 3, 4, 4)


def test_an_operator_that_the_runtime_lacks_is_named(tmp_path):
    path = write_onnx(tmp_path / "model.onnx", "NoSuchOperator", "ai.example", metadata={})
    with pytest.raises(ExportError, match="it lacks the operator NoSuchOperator. .*--static"):
        OnnxFile(path)
    text = "Could not find an implementation for DFT(17) node with name 'node_DFT_1'"
    assert "lacks the operator DFT" in describe_runtime_error(RuntimeError(text))
    assert "--transform dft" in describe_runtime_error(RuntimeError(text))


def test_a_file_without_masks_is_refused_where_the_model_has_them(tmp_path):
    model, _ = detector(mask=True)
    told = dict(format=FORMAT, kind="detections", num_classes=3, preprocessing={})
    with pytest.raises(ExportError, match="gives logits, and MaskRCNN needs boxes and mask_logits"):
        predict_with(model, write_onnx(tmp_path / "model.onnx", metadata=told))


def test_the_script_writes_over_nothing_and_goes_on(tmp_path):
    told = dict(format=FORMAT, kind="segmentation", classes=[*CLASSES], palette=[])
    told |= dict(size_rule=dict(scale=[64, 64], keep_ratio=True), preprocessing={})
    told["prediction"] = dict(mode="whole", align_corners=False)
    model = write_onnx(tmp_path / "model.onnx", metadata=told)
    out = tmp_path / "out"
    (tmp_path / "other").mkdir()
    out.mkdir()
    images = [out / "a.png", tmp_path / "other/a.png", tmp_path / "long.png", tmp_path / "text.png"]
    for image, shape in zip(images, ((40, 30, 3), (40, 30, 3), (2, 3000, 3)), strict=False):
        cv2.imwrite(str(image), np.full(shape, 90, np.uint8))
    images[3].write_text("text")
    before = images[0].read_bytes()
    last = tmp_path / "last.png"
    cv2.imwrite(str(last), np.zeros((50, 50, 3), np.uint8))
    done = run_example(tmp_path, model, *map(str, images), "none.png", str(last))
    assert done.returncode == 1 and images[0].read_bytes() == before
    assert sorted(path.name for path in out.iterdir()) == [
        *("a-2.npz", "a-2.png", "a-3.npz", "a-3.png", "a.png", "last.npz", "last.png"),
    ]
    assert done.stderr.splitlines() == [
        f"error: {images[2]}: too narrow: 3000 x 2 pixels would become 64 x 0",
        f"error: {images[3]}: OpenCV reads no image of 8 bits in it; convert it, such as to PNG",
        "error: none.png: there is no such file",
    ]
    for words in (["--tile", "0"], ["--tile", "64", "--overlap", "0.99"]):
        done = run_example(tmp_path, model, str(last), *words)
        assert done.returncode == 2 and "--overlap from 0 to 0.9" in done.stderr


def test_a_script_of_others_is_not_written_over(tmp_path):
    _, cfg = resized_segmentor()
    script = tmp_path / "example.py"
    script.write_text("print('mine')\n")
    with pytest.raises(ExportError, match="example.py is there, and hordet did not write it"):
        check_example(cfg, Path("a.onnx"), "whole", script)
    write_example(script)
    check_example(cfg, Path("a.onnx"), "whole", script)


def test_the_script_says_what_it_cannot_open(tmp_path):
    assert example.FORMAT == FORMAT
    told = dict(format=FORMAT + 1, version="9.9.0", kind="segmentation", size_rule={})
    done = run_example(tmp_path, write_onnx(tmp_path / "newer.onnx", metadata=told), "a.png")
    assert done.returncode == 1 and "written by hordet 9.9.0, which is newer" in done.stderr
    path = write_onnx(tmp_path / "lacks.onnx", "NoSuchOperator", "ai.example", metadata=told)
    done = run_example(tmp_path, path, "a.png")
    assert done.returncode == 1 and "NoSuchOperator" in done.stderr
    assert "error: the runtime cannot open" in done.stderr and "Traceback" not in done.stderr
    told |= dict(format=FORMAT, size_rule=None)
    done = run_example(tmp_path, write_onnx(tmp_path / "other.onnx", metadata=told), "a.png")
    assert done.returncode == 1 and "does not say how images are resized" in done.stderr


def test_openvino_names_an_operator_that_it_lacks(tmp_path):
    pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    from hordet.export.openvino_file import write_openvino

    path = write_onnx(tmp_path / "model.onnx", "NoSuchOperator", "ai.example", metadata={})
    with pytest.raises(ExportError, match="it lacks the operator NoSuchOperator"):
        write_openvino(path, tmp_path / "model.xml", {})


DROP_IN_A_THREAD = """
import faulthandler, os, signal, sys, threading
from hordet.export.runtime import open_exported

faulthandler.enable()  # as pytest does: from then on, Python's handlers have a stack of their own
files = [open_exported(sys.argv[1])]
thread = threading.Thread(target=files.clear)
thread.start()
thread.join()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no such signals")
def test_a_signal_after_another_thread_dropped_the_model_is_handled(tmp_path):
    pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    from hordet.export.openvino_file import write_openvino

    path = write_onnx(tmp_path / "model.onnx", "Relu", "", metadata={})
    write_openvino(path, tmp_path / "model.xml", dict(format=FORMAT, kind="features"))
    command = [sys.executable, "-c", DROP_IN_A_THREAD, str(tmp_path / "model.xml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_weights_in_half_precision_halve_the_file(tmp_path, photo, suffix):
    if suffix == ".xml":
        pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    model, cfg = resized_segmentor()
    path = tmp_path / f"model{suffix}"
    settings = ExportSettings(part="features", image=photo, dynamic=False, transform="fft")
    export_model(model, cfg, path, settings)
    half, count = export_half(path)
    assert half.name == f"model.fp16{suffix}"
    weights = sum(p.numel() for name, p in model.backbone.named_parameters() if p.ndim > 1)
    # Without the filters of global filters, which no convolution has; of OpenVINO, with scales.
    assert weights * 0.85 < count < weights * 1.5
    stored = [item.with_suffix(".bin") if suffix == ".xml" else item for item in (path, half)]
    whole, small = (item.stat().st_size for item in stored)
    assert small < whole - 1.9 * count * 0.9
    assert open_exported(half).metadata == open_exported(path).metadata
    image = read_image(model, photo)
    want, got = open_exported(path)(image), open_exported(half)(image)
    for name, value in want.items():
        error = (got[name] - value).abs().max() / value.abs().max()
        assert 0 < error < 5e-3, name  # half precision has three digits
    if suffix == ".onnx":  # values beyond float16 stay as they are
        stored = onnx.load(path)
        for weight in stored.graph.initializer:
            if weight.data_type == onnx.TensorProto.FLOAT:
                large = np.full_like(onnx.numpy_helper.to_array(weight), 1e5)
                weight.CopyFrom(onnx.numpy_helper.from_array(large, weight.name))
        onnx.save(stored, path)
        with pytest.raises(ExportError, match="no weight that fits into half precision"):
            export_half(path)
    with pytest.raises(ExportError, match=r"half precision needs an .onnx or .xml file"):
        export_half(tmp_path / "model.pt2")


@pytest.mark.slow
def test_openvino_runs_a_segmentor_of_any_size(tmp_path, photo):
    pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    model, cfg = resized_segmentor()
    path = tmp_path / "model.xml"
    rows = export_model(model, cfg, path, ExportSettings(image=photo))
    assert [row.size for row in rows] == [(96, 128), (70, 93), (126, 168)]
    assert all(row.worst < 1e-4 for row in rows)
    assert {item.name for item in tmp_path.iterdir()} == {"model.xml", "model.bin"}
    file = open_exported(path)
    assert file.outputs == ["logits"] and file.metadata["classes"] == [*CLASSES]
    images = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        want = model.encode_decode(images, [dict(img_shape=(65, 97))] * 2)
    torch.testing.assert_close(file(images)["logits"], want, atol=1e-4, rtol=0)
    with pytest.raises(ExportError, match="does not accept inputs of .*it was made for"):
        file(torch.zeros(1, 4, 64, 64))


def test_torch_export_keeps_the_metadata(tmp_path, photo):
    model, cfg = resized_segmentor()
    path = tmp_path / "features.pt2"
    export_model(model, cfg, path, ExportSettings(part="features", image=photo, dynamic=False))
    found = {METADATA: ""}
    torch.export.load(path, extra_files=found)
    assert json.loads(found[METADATA])["classes"] == [*CLASSES]


def test_the_format_and_the_file_must_agree(capsys):
    assert main(["export", "a.py", "b.pth", "model.onnx", "--to", "openvino"]) == 2
    assert "--to openvino writes files that end in .xml" in capsys.readouterr().err
    assert main(["export", "a.py", "b.pth"]) == 2
    assert "no file to write was given" in capsys.readouterr().err


def test_files_of_export_are_named_where_they_have_no_place(capsys):
    for words, wanted in (
        (
            ["infer", "hordet://nuclei-lite0", "model.onnx", "a.png"],
            "hordet infer takes checkpoints",
        ),
        (
            ["test", "mask-rcnn_hornet-nano_horfpn_7e", "a.PT2", "--tiny"],
            "export the model as .onnx",
        ),
        (
            ["export", "hordet://nuclei-lite0", "m.onnx", "--int8", "8"],
            "give the config that the model",
        ),
        (["export", "hordet://nuclei-lite0", "m.xml", "--int8", "8"], "int8 needs an .onnx file"),
    ):
        assert main(words) == 2
        assert wanted in capsys.readouterr().err


def test_masks_are_pasted_as_by_the_model():
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    generator = np.random.default_rng(0)
    masks = generator.random((6, 28, 28), np.float32)
    corners = generator.uniform(-10, 50, (6, 2)).astype(np.float32)
    boxes = np.hstack([corners, corners + generator.uniform(0.5, 40, (6, 2))]).astype(np.float32)
    want, _ = _do_paste_mask(
        torch.from_numpy(masks)[:, None], torch.from_numpy(boxes), 47, 61, skip_empty=False
    )
    for mask, box, expected in zip(masks, boxes, want.numpy(), strict=True):
        left, top, crop = example.paste(mask, box, (47, 61))
        got = np.zeros((47, 61), np.float32)
        got[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
        np.testing.assert_allclose(got, expected, atol=1e-4)


class BrightAreas(example.Model):
    """In place of a file: every bright area of an image is an object, a cut one is a weak one."""

    def __init__(self):
        self.outputs = ["boxes", "scores", "labels", "mask_logits"]
        self.metadata = dict(
            kind="detections", size_rule={}, preprocessing={}, prediction=dict(mask_threshold=0.5)
        )

    def run(self, tensor, size):
        image = (tensor[0, 0] > 0).astype(np.uint8)
        rows = cv2.connectedComponentsWithStats(image, connectivity=4)[2][1:]
        boxes = np.array([[x, y, x + w, y + h] for x, y, w, h, _ in rows], np.float32)
        boxes = boxes.reshape(-1, 4)
        cut = (boxes[:, :2] == 0).any(1) | (boxes[:, 2:] == np.array(image.shape[::-1])).any(1)
        return dict(
            boxes=boxes,
            scores=np.where(cut, 0.6, 0.9).astype(np.float32),
            labels=np.zeros(len(boxes), np.int64),
            mask_logits=np.full((len(boxes), 28, 28), 9, np.float32),
        )


@pytest.mark.parametrize("size", [(300, 410), (64, 64), (50, 200)])
def test_the_script_finds_each_object_of_tiles_once(size):
    generator = np.random.default_rng(0)
    image = np.zeros((*size, 3), np.uint8)
    drawn = []
    for top in range(4, size[0] - 40, 44):
        for left in range(4, size[1] - 40, 44):
            y, x = generator.integers(0, 8, 2) + (top, left)
            high, wide = generator.integers(8, 30, 2)
            image[y : y + high, x : x + wide] = 255
            drawn.append([x, y, x + wide, y + high])
    found = BrightAreas().predict_tiles(image, 64, 0.5)
    assert sorted(found["boxes"].astype(int).tolist()) == sorted(drawn)
    assert set(found["labels"].tolist()) == {0} and found["scores"].min() > 0.5
    for number, box in enumerate(found["boxes"].astype(int), 1):
        left, top, right, bottom = box
        want = np.zeros(size, bool)
        want[top:bottom, left:right] = True
        assert measure_overlap(found["instances"] == number, want) == 1
    assert found["instances"].max() == len(drawn)


def test_the_script_finds_nothing_in_dark_tiles():
    found = BrightAreas().predict_tiles(np.zeros((90, 90, 3), np.uint8), 64, 0.25)
    assert found["boxes"].shape == (0, 4) and len(found["scores"]) == len(found["labels"]) == 0
    assert found["instances"].shape == (90, 90) and not found["instances"].any()


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(63, 41), (20, 200), (7, 9)])
def test_maps_are_enlarged_as_by_the_model(align_corners, size):
    each = np.random.default_rng(0).random((17, 23), np.float32)
    want = torch.nn.functional.interpolate(
        torch.from_numpy(each)[None, None], size, mode="bilinear", align_corners=align_corners
    )[0, 0]
    got = example.enlarge(each, size, align_corners)
    np.testing.assert_allclose(got, want.numpy(), atol=1e-3)
