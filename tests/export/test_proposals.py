"""The proposals that a graph keeps before and after suppression beside those of mmdet."""

import pytest
import torch
from export_models import detector
from mmdet.structures import DetDataSample

from hordet.export.graphs import build_graph, make_exportable
from hordet.export.model_graph import ModelGraph
from hordet.export.program import trace_graph, write_program

BEFORE = 60  # nms_pre
# A level has 60 anchors or fewer, or more, in one size of image and not in the other.
SIZES = ((64, 64), (96, 128), (112, 128), (160, 224))


class Proposals(ModelGraph):
    """The proposals of a detector's graph alone: (R, 4)."""

    kind = "features"

    def __init__(self, graph):
        super().__init__(graph.model)
        self.propose = graph._propose  # not the graph itself: one model must have one name

    def forward(self, image):
        size = torch.stack([torch.scalar_tensor(side) for side in image.shape[2:]])
        return {"proposals": self.propose(self.model.extract_feat(image), size)}


def make_model(iou_threshold):
    model, _ = detector(mask=False)
    # Where nothing is suppressed, boxes without area stay, too: their number is known.
    smallest = -1 if iou_threshold == 1 else 0
    cfg = dict(nms_pre=BEFORE, max_per_img=10_000, min_bbox_size=smallest)
    model.rpn_head.test_cfg.update(cfg | dict(nms=dict(type="nms", iou_threshold=iou_threshold)))
    return model


def count_anchors(model, size):
    with torch.no_grad():
        logits, _ = model.rpn_head(model.extract_feat(torch.zeros(1, 3, *size)))
    return [level.shape[1:].numel() for level in logits]


def propose_by_mmdet(model, image):
    sample = DetDataSample(metainfo=dict(img_shape=image.shape[2:], scale_factor=(1.0, 1.0)))
    with torch.no_grad():
        levels = model.extract_feat(image)
        return model.rpn_head.predict(levels, [sample], rescale=False)[0].bboxes


def draw_image(size):
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("iou_threshold", [0.7, 1.0], ids=["suppressed", "all"])
@pytest.mark.parametrize("size", SIZES)
def test_the_graph_keeps_the_proposals_of_mmdet(size, iou_threshold):
    model, image = make_model(iou_threshold), draw_image(size)
    with torch.no_grad():
        got = Proposals(build_graph(model))(image)["proposals"]
    torch.testing.assert_close(got, propose_by_mmdet(model, image), atol=1e-4, rtol=0)
    if iou_threshold == 1:
        assert len(got) == sum(min(count, BEFORE) for count in count_anchors(model, size))


def find_cut_levels(model, size):
    return [count > BEFORE for count in count_anchors(model, size)]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.parametrize(("example", "other"), [(SIZES[1], SIZES[3]), (SIZES[3], SIZES[2])])
def test_a_file_of_any_size_keeps_as_many_of_a_level_in_each_size(tmp_path, example, other, suffix):
    """The limit must not be that of the example, where a level may have fewer anchors, or more."""
    model = make_model(1.0)
    assert find_cut_levels(model, example) != find_cut_levels(model, other)
    ready = make_exportable(Proposals(build_graph(model)), "dft", True)
    program = trace_graph(ready, draw_image(example), True)
    if suffix == ".pt2":
        run = program.module()
    else:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            pytest.importorskip(name, reason="the extra 'export' is not installed")
        from hordet.export.runtime import OnnxFile

        write_program(program, tmp_path / "proposals.onnx", dict(kind="features"))
        run = OnnxFile(tmp_path / "proposals.onnx")
    for size in (example, other):
        image = draw_image(size)
        got = run(image)["proposals"]
        assert len(got) == sum(min(count, BEFORE) for count in count_anchors(model, size))
        torch.testing.assert_close(got, propose_by_mmdet(model, image), atol=1e-3, rtol=0)
