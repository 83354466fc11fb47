"""The face-off: its runs, the protocol, the scorer, that it goes on, its page."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from in_process import run_words

from hordet.benchmark.rivals import plan, report
from hordet.benchmark.rivals.drawn import draw_data
from hordet.benchmark.rivals.environment import SHARED, locate_python, prepare_environment
from hordet.benchmark.rivals.faceoff import find_data, run_rivals
from hordet.benchmark.rivals.plan import RIVALS, TASKS, Run, list_runs, select_runs
from hordet.benchmark.rivals.results import RivalResults
from hordet.benchmark.rivals.runs import OUTPUT, Place, run_rival
from hordet.errors import BenchmarkError, ConfigError, DatasetError, EvaluationError

FAKE = Path(__file__).with_name("fake_rival.py")
OBJECTS = Run("nuclei", "hordet", "scratch", 5.0, 0)
MAPS = Run("camvid", "hordet", "scratch", 5.0, 0)
MACHINE = dict(processor="a processor", threads=2, torch="2.0")


@pytest.fixture
def fake(monkeypatch):
    """All rivals are the fake one, and need no package."""
    fakes = {name: replace(rival, program=FAKE, needs=()) for name, rival in RIVALS.items()}
    for name, rival in fakes.items():
        monkeypatch.setitem(plan.RIVALS, name, rival)
    return monkeypatch


def record(run, accuracy, **others):
    metrics = {"mask AP": accuracy, "box AP": accuracy / 2, "mIoU": accuracy}
    fields = dict(dataset=run.dataset, rival=run.rival, start=run.start, minutes=run.minutes)
    fields |= dict(seed=run.seed, metrics=metrics, parameters=2_345_678, iterations=100)
    fields |= dict(train_seconds=300.0, milliseconds=12.34, peak_memory=3 << 29, version="x")
    return fields | others


def test_the_plan():
    runs = list_runs()
    assert len(runs) == len(set(runs)) == (7 + 6) * 3 * 2
    assert all(rival.program.is_file() and rival.note for rival in RIVALS.values())
    # Weights against weights, scratch against scratch: hordet is in each comparison.
    for dataset in TASKS:
        for start in ("weights", "scratch"):
            of = {r.rival for r in runs if (r.dataset, r.start) == (dataset, start)}
            assert "hordet" in of and len(of) > 1
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert [run.minutes for run in runs[:39]] == sorted(run.minutes for run in runs[:39])


def test_selection():
    assert select_runs(["nuclei/hordet/scratch/5/0"]) == [OBJECTS]
    assert len(select_runs(["nuclei/*/10/*", "camvid/smp-*/1"])) == 7 * 2 + 3 * 3
    assert [r.minutes for r in select_runs(["*/hordet/scratch/*"], [2.5], [3])] == [2.5, 2.5]
    with pytest.raises(ConfigError, match=r"'nuclei/hordt/scratch/5/0'; did you mean 'nuclei/ho"):
        select_runs(["nuclei/hordt/scratch/5/0"])
    with pytest.raises(ConfigError, match="of the --minutes and --seeds"):
        select_runs(["nuclei/hordet/scratch/5/0"], [10])


def test_a_run_of_objects(fake, tmp_path):
    draw_data("nuclei", tmp_path / "data")
    weights = tmp_path / "weights.safetensors"
    place = Place(tmp_path / "work", threads=1, weights=weights, tiny=True)
    run = replace(OBJECTS, start="weights", seed=3, minutes=2.5)
    found = run_rival(run, tmp_path / "data", Path(sys.executable), place)
    assert found == {
        **dict(dataset="nuclei", rival="hordet", start="weights", minutes=2.5, seed=3),
        "metrics": {"box AP": 1.0, "box AP50": 1.0, "mask AP": 1.0, "mask AP50": 1.0},
        **dict(parameters=1_500_000, train_seconds=60.0, iterations=103, milliseconds=12.5),
        **dict(peak_memory=3 << 29, version="fake 1.0"),
    }
    out = tmp_path / "work" / str(run)
    said = (out / OUTPUT).read_text()
    assert f"--data {tmp_path / 'data'} --out {out} --minutes 2.5 --seed 3 --threads 1 " in said
    assert f"--size 384 384 --weights {weights} --tiny" in said and "threads 1\n" in said
    if hasattr(os, "sched_getaffinity"):
        assert "cores 1\n" in said
    # Half of the objects: recalls up to 0.5 of 101 (COCO's), each at precision 1.
    fake.setenv("FAKE", "half")
    found = run_rival(run, tmp_path / "data", Path(sys.executable), place)
    assert found["metrics"]["mask AP"] == pytest.approx(51 / 101)
    fake.setenv("FAKE", "none")
    found = run_rival(run, tmp_path / "data", Path(sys.executable), place)
    assert found["metrics"]["mask AP"] == found["metrics"]["box AP"] == 0


def test_a_run_of_maps(fake, tmp_path):
    draw_data("camvid", tmp_path / "data")
    place = Place(tmp_path / "work")
    found = run_rival(MAPS, tmp_path / "data", Path(sys.executable), place)
    assert found["metrics"] == {"mIoU": 1.0, "aAcc": 1.0, "mAcc": 1.0}
    said = (tmp_path / "work" / str(MAPS) / OUTPUT).read_text()
    assert "--size 480 360\n" in said  # no weights, no --tiny
    run_rival(replace(MAPS, rival="smp-fpn"), tmp_path / "data", Path(sys.executable), place)
    said = (tmp_path / "work" / "camvid/smp-fpn/scratch/5/0" / OUTPUT).read_text()
    assert "--decoder FPN" in said


@pytest.mark.parametrize(
    ("run", "spoil", "words"),
    [
        (OBJECTS, "crash", "ended with exit code 1: out of luck"),
        (OBJECTS, "slow", "was ended after 1 seconds"),
        (OBJECTS, "no file", "there is no .*predictions.json"),
        (OBJECTS, "image", "77"),
        (OBJECTS, "box", "detection 0 has bbox=.*four numbers"),
        (OBJECTS, "nan", "NaN"),
        (OBJECTS, "polygons", "no polygons"),
        (OBJECTS, "summary", "is no summary .KeyError: 'milliseconds'"),
        (OBJECTS, "zero", "iterations=0; it must be a number above 0"),
        (MAPS, "lacks", "lacks the maps of val1; .* 3 validation images"),
        (MAPS, "size", r"val1.png: the prediction is \(63, 80\) and the truth \(64, 80\)"),
        (MAPS, "class", "a predicted label is 99, but there are 3 classes"),
    ],
)
def test_wrong_rivals_are_refused(fake, tmp_path, run, spoil, words):
    fake.setenv("FAKE", spoil)
    draw_data(run.dataset, tmp_path / "data")
    run = replace(run, minutes=0.001) if spoil == "slow" else run
    place = Place(tmp_path / "work", patience=1 if spoil == "slow" else 600)
    with pytest.raises((BenchmarkError, EvaluationError), match=words):
        run_rival(run, tmp_path / "data", Path(sys.executable), place)


def test_maps_of_other_images_are_refused(fake, tmp_path):
    draw_data("camvid", tmp_path / "data")
    (tmp_path / "data/annotations/val/val2.png").rename(tmp_path / "away.png")
    place = Place(tmp_path / "work")
    run_rival(MAPS, tmp_path / "data", Path(sys.executable), place)
    from hordet.benchmark.rivals.scoring import score_maps

    (tmp_path / "data/annotations/val/val3.png").unlink()
    with pytest.raises(EvaluationError, match="not validated, val3"):
        score_maps(tmp_path / "data", tmp_path / "work" / str(MAPS))


def test_a_rival_without_its_package_does_not_end_the_others(fake, tmp_path):
    fake.setitem(
        plan.RIVALS,
        "yolo26n-seg",
        RIVALS["yolo26n-seg"].__class__(
            FAKE, ("nuclei",), ("scratch",), needs=("no-such-package-of-hordet",)
        ),
    )
    environment = tmp_path / "env"
    python = locate_python(environment)
    python.parent.mkdir(parents=True)
    # pip that finds nothing, without a network.
    python.write_text(
        f"#!{sys.executable}\nimport sys\nprint('no-such-package-of-hordet')\n"
        "sys.exit('pip' in sys.argv)\n"
    )
    python.chmod(0o755)
    place = Place(tmp_path / "work", tiny=True)
    yolo = replace(OBJECTS, rival="yolo26n-seg")
    runs = [yolo, replace(yolo, seed=1), OBJECTS]
    data = find_data(runs, tmp_path, place)
    found = dict(run_rivals(runs, data, environment, place))
    words = "pip cannot install no-such-package-of-hordet in .*an environment that has"
    assert all(re.search(words, found[run]) for run in runs[:2])
    assert found[OBJECTS]["metrics"]["mask AP"] == 1


@pytest.mark.slow
def test_the_environment_shares_what_hordet_has(tmp_path):
    python = prepare_environment(tmp_path / "env", ("torch", "mmengine"))
    code = "import sys, torch; print(sys.prefix, torch.__file__)"
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    prefix, file = said.split()
    assert prefix == str(tmp_path / "env") and not file.startswith(prefix)
    assert list((tmp_path / "env").rglob(SHARED))


def test_runs_with_results_are_not_made_again(tmp_path):
    path = tmp_path / "new" / "rivals.json"
    runs = list_runs()
    first = RivalResults(path)
    assert first.find_missing(runs) == runs and not path.exists()
    first.add_problem(runs[1], "no luck")
    RivalResults(path).add(record(runs[0], 0.25), MACHINE)
    first.add(record(runs[1], 0.5), MACHINE)  # it knew nothing of the other's
    first.add(record(runs[1], 0.75), MACHINE)
    again = RivalResults(path)
    assert [r["metrics"]["mask AP"] for r in again.records] == [0.25, 0.5]
    assert again.find_missing(runs) == runs[2:] and again.problems == {}
    assert sum('"seed"' in line for line in path.read_text().splitlines()) == 2
    with pytest.raises(ConfigError, match="minutes of the two cannot be compared.*--results"):
        again.add(record(runs[2], 0.5), MACHINE | dict(threads=4))
    with pytest.raises(ConfigError, match="kind 'full', and this is 'dry run'.*--results"):
        RivalResults(path, tiny=True)
    for text in (path.read_text()[:-20], "[]", '{"kind": "full"}'):
        path.write_text(text)
        with pytest.raises(ConfigError, match="is not a file of the face-off .*--results"):
            RivalResults(path)
        assert path.read_text() == text


@pytest.fixture
def results(tmp_path):
    """hordet and yolo on nuclei at two lengths and two seeds, and hordet alone on CamVid."""
    found = RivalResults(tmp_path / "rivals.json")
    accuracy = {("hordet", 5): (0.4, 0.5), ("hordet", 10): (0.5, 0.6)}
    accuracy |= {("yolo26n-seg", 5): (0.1, 0.2), ("yolo26n-seg", 10): (0.7,)}
    for (rival, minutes), values in accuracy.items():
        for seed, value in enumerate(values):
            run = Run("nuclei", rival, "scratch", float(minutes), seed)
            found.add(record(run, value, iterations=100 * minutes + seed), MACHINE)
    found.add(record(replace(MAPS, start="weights"), 0.6), MACHINE)
    found.add_problem(Run("nuclei", "rfdetr-seg-nano", "scratch", 5.0, 0), "it wants weights")
    return found


def test_page(results):
    rows = report.build_rows(results)
    assert [(row.dataset, row.start, row.rival) for row in rows] == [
        ("nuclei", "scratch", "hordet"),
        ("nuclei", "scratch", "yolo26n-seg"),
        ("camvid", "weights", "hordet"),
    ]
    assert json.loads(json.dumps(rows[0].as_dict()))["accuracy"]["5.0"] == [0.4, 0.5]
    page = report.format_rival_page(rows, results, "rivals.png")
    header = "| rival | 5 min | 10 min | steps | parameters, M | ms | memory, GiB |"
    assert f"## nuclei, from scratch: mask AP\n\n{header}" in page
    assert "| hordet | 0.450 ± 0.071 | 0.550 ± 0.071 | 1000 | 2.35 | 12.3 | 1.50 |" in page
    assert "| yolo26n-seg | 0.150 ± 0.071 | 0.700 | 1000 | 2.35 | 12.3 | 1.50 |" in page
    # Honest where it loses.
    assert "- 5 minutes: hordet leads `yolo26n-seg` by 0.300." in page
    assert "- 10 minutes: hordet trails `yolo26n-seg` by 0.150." in page
    assert "## camvid, from weights: mIoU" in page and page.count("hordet leads") == 1
    assert "- `nuclei/rfdetr-seg-nano/scratch/5/0`: it wants weights" in page
    assert "2\ncores (a processor, torch 2.0)" in page and "![metric over minutes" in page
    assert all(f"- `{name}`: " in page for name in RIVALS)
    assert "no number below means anything" not in page
    results.kind = "dry run"
    assert "no number below means anything" in report.format_rival_page(rows, results)


def test_plot(results, tmp_path):
    report.draw_rival_plot(report.build_rows(results), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ConfigError, match="nothing to plot.*--jobs 1"):
        report.draw_rival_plot([], tmp_path / "none.png")


def test_the_command_goes_on_where_it_was(fake, tmp_path):
    words = ["benchmark", "rivals", "*/hordet/scratch/*", "--minutes=2", "--seeds=0,1", "--tiny"]
    files = ["--markdown=rivals.md", "--plot=rivals.png", "--json=rows.json"]

    def run(*more):
        return run_words(*words, *more, folder=tmp_path)

    shown = run()
    assert shown.returncode == 0 and "## nuclei" not in shown.stdout
    fake.setenv("FAKE", "lacks")  # of maps; the objects are right
    first = run("--jobs=1", *files)
    assert first.returncode == 1
    assert "1 of 4: nuclei/hordet/scratch/2/0: box AP 1.000" in first.stderr
    assert f"what a run said is in work_dirs/rivals/RUN/{OUTPUT}\n" in first.stderr
    assert (
        "2 of 4: camvid/hordet/scratch/2/0: " in first.stderr and "lacks the maps" in first.stderr
    )
    assert (
        "## Runs without results" in first.stdout and "| hordet | 1.000 ± 0.000 |" in first.stdout
    )
    fake.delenv("FAKE")
    second = run("--jobs=1", *files)
    assert second.returncode == 0, second.stderr
    assert "2 of 2: camvid/hordet/scratch/2/1: mIoU 1.000" in second.stderr
    assert "nuclei" not in second.stderr and "Runs without results" not in second.stdout
    assert (tmp_path / "rivals.md").read_text().endswith(second.stdout.rstrip("\n") + "\n")
    assert (tmp_path / "rivals.png").is_file()
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["dataset"] for row in rows] == ["nuclei", "camvid"]
    third = run("--jobs=1")
    assert third.stderr == "" and third.returncode == 0


def test_wrong_words(fake, tmp_path):
    for word in ("--minutes=5,,10", "--minutes=0", "--minutes=nan", "--seeds=-1", "--seeds=1.5"):
        result = run_words("benchmark", "rivals", word, folder=tmp_path)
        assert result.returncode == 2 and "with commas between" in result.stderr, word
    result = run_words(
        "benchmark", "rivals", "nuclei/hordet/scratch/5/0", "--jobs=1", folder=tmp_path
    )
    assert result.returncode != 0 and "--data-root or the variable HORDET_DATA" in result.stderr
    with pytest.raises(DatasetError, match="camvid/meta.json"):
        find_data([MAPS], tmp_path, Place(tmp_path))
