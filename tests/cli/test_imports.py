"""Which packages a subcommand imports: what its work needs, and no more.

Each subcommand is a process of its own, which says at its end what of `WATCHED` it has imported.
Those of `hordet train` are of a run whose first iteration is done.
"""

import gc
import json
import os
import subprocess
import sys
import textwrap
from importlib.metadata import version

import pytest
from packaging.version import Version

from hordet.cli.imports import postpone_collection

DETECTION = "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py"
SEGMENTATION = "configs/shapes/upernet_hornet-nano_horuperhead_1k.py"
ADE = "configs/ade20k/upernet_hornet-nano_horuperhead_2k.py"  # of the segmentor
WATCHED = {
    *("torch", "torch._dynamo", "torch.distributed.fsdp", "torch.distributed.tensor", "sympy"),
    *("torchvision", "torchvision.models", "timm", "mmengine", "mmcv", "mmdet", "mmseg"),
    *("matplotlib", "matplotlib.pyplot", "scipy", "pandas", "shapely", "sahi", "onnx"),
    *("onnxruntime", "gradio", "tensorboard", "jinja2", "prettytable", "faster_coco_eval"),
    *("torch._inductor", "triton", "sklearn", "pkg_resources", "mmdet.apis", "mmseg.apis"),
}
MODEL = {"torch", "torchvision", "mmengine", "mmcv"}
if Version(version("torchvision")) < Version("0.22"):
    MODEL.add("sympy")  # which it imports
DETECTOR = MODEL | {"mmdet", "shapely"}  # mmdet's masks import shapely
SEGMENTOR = DETECTOR | {"mmseg"}  # its Mask2FormerHead imports mmdet
# mmengine's visualizer makes a figure as it is built, and every Runner builds one.
RUN = {"matplotlib", "faster_coco_eval"}
# Ends as the command would, and says what it has imported.
PROGRAM = """
import json, sys
try:
    from hordet.cli import main
    code = main(sys.argv[2:])
except SystemExit as end:
    code = end.code
sys.stdout.flush()
watched = json.loads(sys.argv[1])
print("\\n" + json.dumps([code, [name for name in watched if name in sys.modules]]))
"""
# The same for a training that ends at its first iteration.
HOOK = """
import json, os, sys
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module(force=True)
class EndHook(Hook):
    def after_train_iter(self, *_, **__):
        watched = json.loads(sys.argv[1])
        found = [name for name in watched if name in sys.modules]
        print("\\n" + json.dumps([0, found]), flush=True)
        os._exit(0)
"""
HOOKED = """
_base_ = {base!r}
import end_hook
default_hooks = dict(end=dict(type="mmengine.EndHook"))
"""


@pytest.fixture
def imports_of(repository, drawn_images, tmp_path):
    """Run `hordet WORDS` in an empty folder; return what it has imported of `WATCHED`."""
    environment = {**os.environ, "HORDET_CACHE": str(drawn_images), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(repository), str(tmp_path)])

    def run(*words, ends=0):
        command = [sys.executable, "-c", PROGRAM, json.dumps(sorted(WATCHED)), *map(str, words)]
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        code, found = json.loads(result.stdout.splitlines()[-1])
        assert code == ends, result.stdout + result.stderr
        return set(found)

    return run


@pytest.mark.parametrize(
    "words",
    [
        *(["--help"], ["train", "--help"], ["benchmark", "start", "--help"], ["configs"]),
        *(["weights", "get", "--help"], ["weights", "list"]),
    ],
)
def test_help_and_lists_import_no_library(imports_of, words):
    assert imports_of(*words) == set()


def test_a_report_of_a_missing_run_is_refused_before_any_model(imports_of, tmp_path):
    assert not imports_of("report", tmp_path / "missing", ends=2) & {"mmdet", "mmseg", "gradio"}


def test_evaluate_imports_the_metric_alone(imports_of, tmp_path):
    truth = dict(images=[dict(id=1, file_name="a.jpg", height=9, width=9)], annotations=[])
    truth["annotations"] = [dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 4, 4], area=16)]
    truth["annotations"][0]["iscrowd"] = 0
    truth["categories"] = [dict(id=1, name="thing")]
    results = [dict(image_id=1, category_id=1, bbox=[1, 1, 4, 4], score=0.9)]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    found = imports_of("evaluate", tmp_path / "truth.json", tmp_path / "results.json")
    assert not found & {"mmdet", "mmseg", "torchvision", "torch._dynamo", "sahi", "gradio"}


@pytest.mark.parametrize("name", ["detector", "segmentor"])
def test_infer_imports_no_other_task_and_draws_when_asked(imports_of, request, repository, name):
    model = request.getfixturevalue(name)
    config = repository / (DETECTION if name == "detector" else ADE)
    image = min(model.images.iterdir())
    words = ("infer", config, model.checkpoint, image, "--tiny")
    quiet = imports_of(*words, "--no-overlays")
    # mmdet imports its metrics with its models, and hordet's checks a config's metric.
    metrics = {"faster_coco_eval"} if name == "detector" else set()
    assert quiet <= (DETECTOR if name == "detector" else SEGMENTOR) | metrics
    if name == "detector":
        assert imports_of(*words, "--out", "drawn") - quiet == {"matplotlib"}


@pytest.mark.parametrize("config", [DETECTION, SEGMENTATION])
def test_train_imports_neither_compiler_nor_the_other_task(
    imports_of, repository, tmp_path, config
):
    path = tmp_path / "hooked.py"
    (tmp_path / "end_hook.py").write_text(HOOK)
    path.write_text(HOOKED.format(base=str(repository / config)))
    found = imports_of("train", path, "--tiny")
    assert found <= RUN | (DETECTOR if config == DETECTION else SEGMENTOR)


def test_check_imports_no_other_task(imports_of, repository):
    found = imports_of("check", repository / DETECTION, "--tiny", "--jobs", "1")
    assert found <= DETECTOR | RUN


def test_the_collector_rests_during_imports_and_returns(monkeypatch):
    calls = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append("freeze"))
    monkeypatch.setattr(gc, "get_freeze_count", lambda: len(calls))
    assert gc.isenabled()
    for _ in range(2):
        with pytest.raises(ImportError), postpone_collection():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled()
    # What a second command of the process has made is not kept for good.
    assert calls == ["freeze"]
    gc.disable()
    try:
        with postpone_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_infer_collects_nothing_of_what_it_imports():
    """The libraries are imported while the collector rests: nothing is left to look through."""
    code = """
        import gc, json
        passes = []
        gc.callbacks.append(lambda phase, info: passes.append(info["generation"]))
        from hordet.cli import main
        assert main(["infer", "none.py", "none.pth", "none.png"]) == 2
        import sys
        print(json.dumps([2 in passes, "mmengine" in sys.modules, gc.get_freeze_count() > 10**5]))
    """
    run = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    printed = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed.splitlines()[-1]) == [False, True, True]


@pytest.mark.slow
def test_test_imports_no_other_task(imports_of, detector, repository):
    found = imports_of("test", repository / DETECTION, detector.checkpoint, "--tiny")
    assert found <= DETECTOR | RUN


@pytest.mark.slow
def test_doctor_imports_what_it_reports_on(imports_of):
    assert not imports_of("doctor") & {"gradio", "onnx", "sahi", "torch._dynamo", "pandas"}
