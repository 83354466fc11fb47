"""The page on a run: what it reads, what it says, and how a browser shows it."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from hordet.errors import ReportError
from hordet.evaluation.coco_eval import evaluate_coco
from hordet.evaluation.coco_results import ImageResult
from hordet.evaluation.tide import find_errors
from hordet.report.page import write_report
from hordet.report.run_folder import compare_settings, read_run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


def run_folder(path, name, end=0.5, metric="coco/segm_mAP", **settings):
    """A work folder of three validations, as mmengine leaves it."""
    folder = path / name / "20260101_000000"
    (folder / "vis_data").mkdir(parents=True)
    settings = dict(model=dict(type="X", depth=3), lr=0.1) | settings
    text = "\n".join(f"{key} = {value!r}" for key, value in settings.items())
    (folder / "vis_data/config.py").write_text(text + "\n")
    rows = []
    for step in range(1, 31):
        loss = 2.0 / step
        rows.append(dict(step=step, iter=step, loss=loss, lr=0.1, grad_norm=3.0, time=0.25))
        if step % 10 == 0:
            rows.append({"step": step, metric: end * step / 30})
    lines = "\n".join(map(json.dumps, rows))
    (folder / "vis_data/scalars.json").write_text(lines + "\n")
    (folder / "run.log").write_text("    Python: 3.11.7\n    PyTorch: 2.9.0\n    seed: 4\n")
    return path / name


def test_a_folder_is_read(tmp_path):
    run = read_run(run_folder(tmp_path, "one"))
    assert run.get_curve("loss")[0] == list(range(1, 31)) and run.get_curve("loss")[1][0] == 2.0
    assert run.get_metric("segm_mAP") == ([10, 20, 30], pytest.approx([1 / 6, 1 / 3, 0.5]))
    assert run.headline == ("segm_mAP", "mask AP", 1) and run.checkpoint is None
    assert run.environment == {"Python": "3.11.7", "PyTorch": "2.9.0", "seed": "4"}
    (run.path / "epoch_3.pth").touch()
    (run.path / "last_checkpoint").write_text("elsewhere/epoch_3.pth")
    assert read_run(run.path).checkpoint.name == "epoch_3.pth"
    (run.path / "best_coco_segm_mAP_epoch_2.pth").touch()
    assert read_run(run.path).checkpoint.name.startswith("best_")


def test_an_older_run_has_the_names_of_today(tmp_path):
    wrapper = dict(type="hordet.amp.CpuAmpOptimWrapper", optimizer=dict(type="SGD", lr=0.1))
    run = read_run(run_folder(tmp_path, "old", optim_wrapper=wrapper))
    assert run.config.optim_wrapper.type == "hordet.Bfloat16OptimWrapper"


def test_a_resumed_run_is_one_curve_and_cut_lines_are_left_out(tmp_path):
    path = run_folder(tmp_path, "one")
    later = path / "20260102_000000/vis_data"
    shutil.copytree(path / "20260101_000000/vis_data", later)
    rows = [json.dumps(dict(step=step, loss=1.0)) for step in range(21, 41)]
    (later / "scalars.json").write_text("\n".join(rows) + '\n{"step": 41, "lo')
    run = read_run(path)
    assert run.get_curve("loss")[0] == list(range(1, 41)) and run.get_curve("loss")[1][20] == 1.0
    assert run.cut_lines == 1
    page = write_report([path], tmp_path / "page.html").read_text()
    assert "1 lines of its log were cut short" in page


def test_folders_without_a_run(tmp_path):
    with pytest.raises(ReportError, match="is not the work folder of a run"):
        read_run(tmp_path)
    path = run_folder(tmp_path, "one")
    (path / "20260101_000000/vis_data/scalars.json").write_text("")
    with pytest.raises(ReportError, match="nothing is logged yet"):
        read_run(path)


def test_settings_that_differ():
    base = dict(model=dict(a=1, b=(1, 2)), hooks=[dict(type="x", n=1)], lr=0.1)
    run = dict(model=dict(a=2, b=[1, 2], c=None), hooks=[dict(type="x", n=3)], lr=0.1)
    base["views"], run["views"] = [[dict(u=1, v=2)]], [[dict(v=2, u=1)]]
    assert compare_settings(base, run) == [
        ("hooks.0.n", "1", "3"),
        ("model.a", "1", "2"),
        ("model.c", "not set", "None"),
    ]


def test_two_runs_are_compared(tmp_path):
    one = run_folder(tmp_path, "one", end=0.5)
    other = run_folder(tmp_path, "other", end=0.6, lr=0.2)
    page = write_report([one, other], tmp_path / "page.html").read_text()
    assert "other is better: best mask AP 0.600, 0.100 above one." in page
    assert "It learns: the loss fell from 2 to 0.0667, mask AP is 0.500 at the last of 3" in page
    assert re.search(r"<td>lr</td><td>0.1</td><td>0.2</td>", page)
    assert page.count("data:image/svg+xml") == 4
    moved = [dict(dataset=dict(data_root=f"{parent}/nuclei")) for parent in ("a", "b")]
    runs = [
        run_folder(tmp_path / f"lab{i}", "run", end=0.5 + i / 10, val_dataloader=data)
        for i, data in enumerate(moved)
    ]
    page = write_report(runs, tmp_path / "page.html").read_text()
    assert "lab1/run is better: best mask AP 0.600, 0.100 above lab0/run." in page

    elsewhere = dict(dataset=dict(data_root="elsewhere"))
    third = run_folder(tmp_path, "third", val_dataloader=elsewhere)
    page = write_report([one, third], tmp_path / "page.html").read_text()
    assert "validated on different images, so their metrics cannot be compared" in page


def image(image_id, objects):
    """Detections (x, y, width, height, score, category)."""
    table = np.array(objects, dtype=float).reshape(-1, 6)
    categories = table[:, 5].astype(int)
    return ImageResult(image_id, (100, 100), table[:, :4], table[:, 4], categories)


def test_kinds_of_error():
    boxes = [(1, 0, 0), (1, 50, 0), (2, 0, 50), (1, 50, 50)]
    annotations = [
        dict(id=k + 1, image_id=1, category_id=c, bbox=[x, y, 20, 20], area=400, iscrowd=0)
        for k, (c, x, y) in enumerate(boxes)
    ]
    truth = dict(
        images=[dict(id=1, height=100, width=100), dict(id=2, height=100, width=100)],
        annotations=annotations,
        categories=[dict(id=1, name="a"), dict(id=2, name="b")],
    )
    results = [
        image(1, [
            (0, 0, 20, 20, 0.9, 1),  # right
            (1, 0, 20, 20, 0.8, 1),  # duplicate
            (60, 0, 20, 20, 0.7, 1),  # localization: overlap 1/3
            (0, 50, 20, 20, 0.6, 1),  # classification
            (10, 50, 20, 20, 0.5, 1),  # both: overlap 1/3 with the other category
            (80, 80, 10, 10, 0.4, 2),  # background
        ]),
        image(2, [(0, 0, 9, 9, 0.2, 1)]),  # background
    ]  # fmt: skip
    errors = find_errors(truth, results, [1, 2], "bbox")
    assert errors.counts == dict(
        classification=1, localization=1, both=1, duplicate=1, background=2, missed=1
    )
    expected = evaluate_coco(truth, results, "bbox").stats[1]
    assert errors.ap50 == pytest.approx(expected, abs=1e-12) and 0.1 < expected < 0.9
    # Repairing the classification finds the only object of category b: half of the mean.
    assert errors.gains["classification"] > errors.gains["localization"] > 0
    assert errors.gains["missed"] > 0 and errors.gains["background"] == 0
    assert errors.confusion.tolist() == [[1, 0, 2], [1, 0, 0], [3, 1, 0]]
    assert errors.quality == {1: pytest.approx(2 / (4 + 6))}


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here; apt-get install chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_the_page(tmp_path, width):
    runs = [run_folder(tmp_path, name) for name in ("one", "a-run-with-a-rather-long-name_14e")]
    page = write_report(runs, tmp_path / "page.html")
    probe = (
        "<script>addEventListener('load', () => { const d = document.documentElement;"
        "const i = [...document.images]; d.dataset.seen = JSON.stringify({"
        "width: d.scrollWidth, window: innerWidth, images: i.length,"
        "broken: i.filter(x => !x.naturalWidth).length,"
        "narrow: Math.min(...i.map(x => x.clientWidth)),"
        "answers: document.getElementById('answers').getBoundingClientRect().bottom}) })</script>"
    )
    # A frame has the width that is asked for; Chromium's own window has a least one.
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", probe + "</body>"))
    seen = browse(probed, width)
    assert seen["images"] == 4 and seen["broken"] == 0
    assert seen["width"] <= seen["window"], "nothing sticks out to the side"
    assert seen["narrow"] >= 280 and seen["answers"] < 700


def browse(page, width):
    """Open a page offline; return what its probe saw."""
    shown = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},1000",
         "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=5000", "--dump-dom",
         page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    found = re.search(r'data-seen="([^"]+)"', shown.stdout)
    assert found, shown.stderr[-2000:]
    return json.loads(found.group(1).replace("&quot;", '"'))
