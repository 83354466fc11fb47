"""Exports of small models in ONNX Runtime beside the models, and what is refused."""

from dataclasses import replace

import pytest
import torch
from export_models import detector, segmentor
from mmdet.structures import DetDataSample

from hordet.errors import ExportError
from hordet.export.exporter import ExportSettings, export_model
from hordet.export.graphs import build_graph
from hordet.export.images import read_image
from hordet.export.runtime import OnnxFile, predict_with

pytest.importorskip("onnx", reason="the extra 'export' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("mask", [True, False])
def test_a_detector_of_any_size(tmp_path, photo, mask):
    model, cfg = detector(mask)
    path = tmp_path / "model.onnx"
    rows = export_model(model, cfg, path, ExportSettings(image=photo))
    assert [row.size for row in rows] == [(96, 128), (70, 93), (126, 168)]
    assert all(row.count > 0 and row.worst < 1e-4 for row in rows)
    file = OnnxFile(path)
    assert file.outputs == ["boxes", "scores", "labels", *(["mask_logits"] if mask else [])]
    assert file.metadata["kind"] == "detections" and file.metadata["num_classes"] == 3

    meta = dict(img_shape=(96, 128), ori_shape=(48, 64), scale_factor=(2.0, 2.0))
    sample = DetDataSample(metainfo=meta)
    images = read_image(model, photo)
    with torch.no_grad():
        want = model.predict(images, [sample.clone()], rescale=True)[0].pred_instances
        predict_with(model, path)
        got = model.predict(images, [sample.clone()], rescale=True)[0].pred_instances
    assert model.backbone is None and len(want) > 0
    torch.testing.assert_close(got.bboxes, want.bboxes, atol=1e-3, rtol=0)
    assert got.labels.tolist() == want.labels.tolist()
    assert not mask or got.masks.shape[1:] == (48, 64)


@pytest.mark.slow
@pytest.mark.parametrize("spatial", ["dw7x7", "gf"])
def test_a_segmentor_of_any_size(tmp_path, photo, spatial):
    model, cfg = segmentor(spatial)
    path = tmp_path / "model.onnx"
    rows = export_model(model, cfg, path, ExportSettings(image=photo))
    assert all(row.count is None and row.worst < 1e-4 for row in rows)
    images = torch.randn(2, 3, 64, 80)
    with torch.no_grad():
        want = model.encode_decode(images, [dict(img_shape=(64, 80))] * 2)
    torch.testing.assert_close(OnnxFile(path)(images)["logits"], want, atol=1e-4, rtol=0)
    with pytest.raises(ExportError, match="does not accept inputs of .*it was made for"):
        OnnxFile(path)(torch.zeros(1, 4, 64, 64))
    with pytest.raises(ExportError, match="gives logits, and MaskRCNN needs boxes"):
        predict_with(detector()[0], path)
    model.num_classes = 5
    with pytest.raises(ExportError, match="has 3 classes, and the config has 5"):
        predict_with(model, path)


def test_features_of_any_size_by_torch_export(tmp_path, photo):
    model, cfg = segmentor("dw7x7")
    path = tmp_path / "features.pt2"
    settings = ExportSettings(part="features", image=photo)
    rows = export_model(model, cfg, path, settings)
    assert [row.size for row in rows] == [(96, 128), (70, 93), (126, 168)]
    assert {*rows[0].differences} == {f"level_{i}" for i in range(4)}
    levels = torch.export.load(path).module()(torch.zeros(2, 3, 160, 64))
    shapes = [tuple(level.shape) for level in levels.values()]
    assert shapes == [(2, 8, 40, 16), (2, 16, 20, 8), (2, 32, 10, 4), (2, 64, 5, 2)]
    with pytest.raises(ExportError, match="No file is kept.*--limit"):
        export_model(model, cfg, tmp_path / "b.pt2", replace(settings, dynamic=False, limit=-1.0))
    assert [*tmp_path.iterdir()] == [path]


def test_what_cannot_be_exported_is_refused(tmp_path, photo):
    model, cfg = segmentor("gf")
    with pytest.raises(ExportError, match=r"files that end in \.onnx or \.xml or \.pt2"):
        export_model(model, cfg, tmp_path / "model.pth", ExportSettings(image=photo))
    fft = ExportSettings(image=photo, transform="fft")
    with pytest.raises(ExportError, match="one size only: add --static"):
        export_model(model, cfg, tmp_path / "model.onnx", fft)
    other, _ = detector()
    with pytest.raises(ExportError, match="need a whole segmentor"):
        build_graph(other, labels=True)
    other.roi_head.bbox_head.bbox_coder = None
    with pytest.raises(ExportError, match="NoneType cannot be exported in a whole detector"):
        build_graph(other)
