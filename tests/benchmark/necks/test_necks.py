"""The neck study: its trainings, that it continues from its file, and its table."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from in_process import run_words
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from hordet.benchmark.necks import costs, plots, report
from hordet.benchmark.necks.plan import (
    HEADS,
    NECKS,
    NEIGHBORS,
    OPTIONS,
    RATES,
    SEEDS,
    TRIED_RATES,
    Training,
    get_rate,
    list_trainings,
    name_comparison,
    select_trainings,
)
from hordet.benchmark.necks.recipe import make_config
from hordet.benchmark.necks.results import StudyResults
from hordet.benchmark.necks.trainings import OUTPUT, run_training, run_trainings
from hordet.config.load import load_config
from hordet.errors import ConfigError
from hordet.registry import MODELS

ROOT = Path(__file__).resolve().parents[3]
TRAINING = Training("camvid", "hornet-nano", "FPN", RATES["FPN"], 0)
pytestmark = pytest.mark.usefixtures("cache_folder")


def training_of(dataset, backbone, neck, seed=0):
    return Training(dataset, backbone, neck, get_rate(neck, dataset), seed)


def record(neck, seed, accuracy, dataset="nuclei", backbone="hornet-nano", rate=None):
    metrics = {"mask AP": accuracy, "mIoU": accuracy / 2}
    fields = dict(dataset=dataset, backbone=backbone, neck=neck, seed=seed)
    return fields | dict(rate=rate or get_rate(neck, dataset), metrics=metrics)


def test_a_part_of_the_study_is_a_comparison():
    trainings = list_trainings()
    assert len(trainings) == len(set(trainings))
    trials = 2 * len(NECKS) * (len(TRIED_RATES) - 1)  # on two data sets
    neighbors = 2 * 2 * len(NEIGHBORS)  # two data sets, two seeds
    assert len(trainings) == trials + len(SEEDS) * (28 + len(OPTIONS) + 6 + 14 + 7) + neighbors
    assert {training.neck for training in trainings[-neighbors:]} == set(NEIGHBORS)
    assert {RATES[neck] for neck in NECKS} <= set(TRIED_RATES)
    for training in trainings[:trials]:
        assert training.seed == 0
        assert training.rate != get_rate(training.neck, training.dataset)
    for seed in SEEDS:
        turn = trainings[trials + 28 * seed : trials + 28 * (seed + 1)]
        assert {training.seed for training in turn} == {seed}
        assert {training.neck for training in turn} == set(NECKS)
        assert all(training.rate == RATES[training.neck] for training in turn)
    main = trainings[trials : trials + 28 * len(SEEDS)]
    assert {training.dataset for training in main} == {"nuclei", "camvid"}
    assert {name_comparison(neck) for neck in OPTIONS} == {"HorFPN-7x7", "HorFPN-GF"}
    assert name_comparison("HorUPerHead-GF") == "UPerHead" and name_comparison("PAFPN") == "FPN"
    assert name_comparison("pi_net") == "FPN"


def test_selection():
    assert select_trainings() == list_trainings()
    assert select_trainings(["camvid/hornet-nano/FPN/3/0"]) == [TRAINING]
    chosen = select_trainings(["nuclei/*/HorFPN-7x7/6/*", "*/FPN/3/2"])
    assert len(chosen) == 10 + 7 and chosen == [p for p in list_trainings() if p in chosen]
    with pytest.raises(ConfigError, match=r"'nuclei/hornet-nano/FPM/3/0'; did you mean 'nuclei/ho"):
        select_trainings(["nuclei/hornet-nano/FPM/3/0"])


@pytest.mark.parametrize("dataset", ["nuclei", "camvid", "shapes"])
@pytest.mark.parametrize("backbone", ["hornet-nano", "efficientnet-lite0"])
def test_trainings_differ_in_their_neck_alone(dataset, backbone):
    configs = [make_config(training_of(dataset, backbone, neck), ROOT) for neck in NECKS]
    necks = [cfg.model.pop("neck") for cfg in configs]
    for cfg, neck in zip(configs, NECKS, strict=True):
        ((key, options),) = cfg.optim_wrapper.paramwise_cfg.pop("custom_keys").items()
        assert options == dict(lr_mult=get_rate(neck, dataset))
        assert key == (".fusion." if NECKS[neck]["type"] == "hordet.GraphFPN" else "neck.fpn_convs")
    assert all(cfg.to_dict() == configs[0].to_dict() for cfg in configs)
    assert all((n.out_channels, n.num_outs, n.norm_cfg.type) == (64, 5, "BN") for n in necks)
    assert len({str(neck) for neck in necks}) == len(NECKS)
    budget = configs[0].train_cfg
    assert budget.val_interval == (budget.max_iters if dataset == "camvid" else budget.max_epochs)
    head = configs[0].model.get("decode_head")
    assert head is None or (head.type, head.num_classes) == ("hordet.ESegHead", 11)


@pytest.mark.parametrize(
    ("neck", "leaf"),
    [("PAFPN", "pafpn"), ("BiFPN", "bifpn"), ("HorFPN-7x7", "horfpn"), ("HorBiFPN", "horbifpn")],
)
def test_necks_are_those_of_the_configs(neck, leaf):
    leaf = load_config(ROOT / f"configs/shapes/mask-rcnn_hornet-nano_{leaf}_7e.py")
    cfg = make_config(training_of("shapes", "hornet-nano", neck), ROOT)
    assert cfg.model.to_dict() == leaf.model.to_dict()


@pytest.mark.parametrize(
    ("dataset", "name", "fusions"),
    [
        ("shapes", "FPN", "neck.fpn_convs."),
        ("nuclei-long", "HorFPN-5x5", "neck.fpn_convs."),
        ("nuclei", "HorFPN-GF order=3", "neck.fpn_convs."),
        ("shapes", "HorBiFPN", ".fusion."),
        ("camvid", "HorUPerHead-7x7", "decode_head.fpn_bottleneck."),
    ],
)
def test_the_rate_of_a_training_reaches_the_fusions_alone(dataset, name, fusions):
    """At a rate that is none of the study's; and weights follow the training's seed."""
    training = Training(dataset, "hornet-nano", name, 2.5, 0)
    cfg = make_config(training, ROOT)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    base = cfg.optim_wrapper.optimizer.lr
    raised, others = set(), set()
    for group in wrapper.optimizer.param_groups:
        keys = {names[id(parameter)] for parameter in group["params"]}
        (raised if group["lr"] > 1.01 * base else others).update(keys)
        if group["lr"] > 1.01 * base:
            assert group["lr"] == pytest.approx(2.5 * base)
    assert raised and raised == {key for key in raised | others if fusions in key}


def test_each_training_has_its_own_seed_and_rate(tmp_path, monkeypatch):
    built = []

    def build(cfg, seed):
        (options,) = cfg.optim_wrapper.paramwise_cfg.custom_keys.values()
        built.append((options.lr_mult, seed))
        raise KeyboardInterrupt

    monkeypatch.setattr("hordet.engine.runner.build_training_runner", build)
    for rate, seed in ((2.5, 3), (4, 1)):
        with pytest.raises(KeyboardInterrupt):
            run_training(Training("shapes", "hornet-nano", "FPN", rate, seed), ROOT, tmp_path)
    assert built == [(2.5, 3), (4, 1)]


def test_heads_and_options():
    for head in HEADS:
        model = make_config(training_of("camvid", "hornet-nano", head), ROOT).model
        assert model.get("neck") is None and model.auxiliary_head.type == "FCNHead"
        assert model.decode_head.type.split(".")[-1] == head.split("-")[0]
        assert model.decode_head.get("spatial", "dw7x7") == ("gf" if "GF" in head else "dw7x7")
    name = "HorFPN-GF init=official skip=False"
    neck = make_config(training_of("nuclei", "efficientnet-lite0", name), ROOT).model.neck
    assert (neck.spatial, neck.norm_cfg.type, neck.init, neck.skip) == (
        "gf",
        "BN",
        "official",
        False,
    )


def test_trainings_with_results_are_not_run_again(tmp_path):
    path = tmp_path / "new" / "necks.json"
    trainings = list_trainings()
    first = StudyResults(path)
    assert first.find_missing(trainings) == trainings and not path.exists()
    first.add(record("FPN", 0, 0.25))
    second = StudyResults(path)
    second.add(record("HorFPN-GF", 1, 0.5))
    first.add(record("BiFPN", 2, 0.75))  # it knew nothing of the second's
    first.add(record("BiFPN", 2, 0.1))
    again = StudyResults(path)
    assert [r["metrics"]["mask AP"] for r in again.trainings] == [0.25, 0.5, 0.75]
    missing = again.find_missing(trainings)
    assert len(missing) == len(trainings) - 3 and missing == [p for p in trainings if p in missing]
    again.set_costs([dict(neck="FPN")], dict(threads=1))
    assert (StudyResults(path).costs, StudyResults(path).timing) == (
        [{"neck": "FPN"}],
        {"threads": 1},
    )
    assert len(StudyResults(path).trainings) == 3
    # A line a training, and nothing but the file.
    assert sum('"seed"' in line for line in path.read_text().splitlines()) == 3
    assert os.listdir(path.parent) == ["necks.json"]


def test_wrong_files(tmp_path):
    path = tmp_path / "necks.json"
    StudyResults(path, tiny=True).add(record("FPN", 0, 0.25))
    with pytest.raises(ConfigError, match="with the budget.*cannot be compared.*--results"):
        StudyResults(path)
    for text in (path.read_text()[:-20], "[]", '{"budget": {}}'):
        path.write_text(text)
        with pytest.raises(ConfigError, match="is not a file of the neck study .*--results"):
            StudyResults(path, tiny=True)
        assert path.read_text() == text


@pytest.fixture
def study(tmp_path):
    """Three seeds of FPN and HorFPN on nuclei, two of PAFPN, one of FPN on CamVid; some costs."""
    results = StudyResults(tmp_path / "necks.json")
    accuracy = {"FPN": (0.40, 0.43, 0.42), "HorFPN-7x7": (0.45, 0.44, 0.46), "PAFPN": (0.41, 0.47)}
    for neck, values in accuracy.items():
        for seed, value in enumerate(values):
            results.add(record(neck, seed, value))
    results.add(record("FPN", 0, 0.6, dataset="camvid"))
    cost = dict(dataset="nuclei", backbone="hornet-nano", parameters=1234567, fft=0)
    cost |= dict(multiply_adds=2 * 10**9, milliseconds=12.34, spread=0.56)
    with_fft = {**cost, "neck": "HorFPN-7x7", "fft": 10**8}
    timing = dict(threads=2, repeats=30, processor="a processor", torch="2.0")
    results.set_costs([{**cost, "neck": "FPN"}, with_fft], timing)
    return results, accuracy


def test_table(study):
    results, accuracy = study
    rows = report.build_rows(results)
    assert [(row.dataset, row.neck) for row in rows] == [
        ("nuclei", "FPN"),
        ("nuclei", "PAFPN"),
        ("nuclei", "HorFPN-7x7"),
        ("camvid", "FPN"),
    ]
    for row in rows[:3]:
        values = np.array(accuracy[row.neck])
        assert row.mean == pytest.approx(values.mean())
        assert row.deviation == pytest.approx(values.std(ddof=1))
        gain = values - np.array(accuracy["FPN"])[: len(values)]
        assert [*row.difference.values()] == pytest.approx(gain)
    assert json.loads(json.dumps(rows[1].as_dict()))["mean"] == pytest.approx(0.44)
    table = report.format_neck_table(rows, results)
    # Means 1.25 / 3, 0.44, 1.35 / 3; differences (0.05, 0.01, 0.04): t(0.975, 2) = 4.303,
    # 4.303 * 0.0208 / sqrt(3) = 0.0517; (0.01, 0.04): 12.706 * 0.0212 / sqrt(2) = 0.1906.
    assert (
        "## nuclei, hornet-nano\n\n| neck or head | rate | seeds | mask AP | difference |" in table
    )
    assert "| FPN | 3 | 3 | 0.417 ± 0.015 |  |  | 1.23 | 2.00 | 12.3 ± 0.6 |" in table
    assert "| PAFPN | 6 | 2 | 0.440 ± 0.042 | +0.025 (-0.166, +0.216) | FPN |  |  |  |" in table
    difference = "+0.033 (-0.018, +0.085)"
    assert f"| 0.450 ± 0.010 | {difference} | FPN | 1.23 | 2.00 + 0.10 | 12.3 ± 0.6 |" in table
    assert "mIoU" in table and "| FPN | 3 | 1 | 0.300 |  |  |  |  |  |" in table
    assert "Learning rates" not in table
    assert "*Measured here, small data.*" in table and "2 threads of a processor" in table.replace(
        "\n  ", " "
    ).replace("\n", " ")


def test_the_table_of_tried_rates(tmp_path):
    results = StudyResults(tmp_path / "necks.json")
    for rate, value in ((1, 0.4), (3, 0.5), (10, 0.45)):
        results.add(record("FPN", 0, value, backbone="efficientnet-lite0", rate=rate))
    results.add(record("HorFPN-7x7", 1, 0.6, backbone="efficientnet-lite0", rate=3))
    table = report.format_neck_table(report.build_rows(results), results)
    _, _, trials = table.partition("## Learning rates: nuclei, efficientnet-lite0, seed 0, mask AP")
    assert "| neck | rate 1 | rate 3 | rate 6 | rate 10 |" in trials
    assert "| FPN | 0.400 | 0.500 |  | 0.450 |" in trials and "HorFPN" not in trials
    # Only what was trained at a neck's own rate is compared with others.
    assert table.count("| FPN | 3 | 1 | 0.500 |") == 1 and "| FPN | 1 |" not in table


def test_plot(study, tmp_path):
    results, _ = study
    plots.draw_neck_plot(report.build_rows(results), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    results.set_costs([], {})
    with pytest.raises(ConfigError, match="nothing to plot.*--costs"):
        plots.draw_neck_plot(report.build_rows(results), tmp_path / "none.png")
    assert "not measured yet" in report.format_neck_table(report.build_rows(results), results)


def test_the_plot_of_neighbors_is_on_equal_seeds(tmp_path, monkeypatch):
    results = StudyResults(tmp_path / "necks.json")
    where = dict(backbone="efficientnet-lite0")
    for seed, value in enumerate((0.4, 0.5, 0.9)):
        results.add(record("FPN", seed, value, **where))
        results.add(record("HorFPN-7x7", seed, value + 0.01, **where))
    rows = report.build_rows(results)
    with pytest.raises(ConfigError, match="no neighbor was trained; train with --jobs"):
        plots.draw_neighbor_plot(rows, tmp_path / "none.png")
    for neck, values in dict(se=(0.3, 0.4), wht=(0.5, 0.6)).items():
        for seed, value in enumerate(values):
            results.add(record(neck, seed, value, **where))
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda f, *w, **o: (figures.append(f), save(f, *w, **o)))
    plots.draw_neighbor_plot(report.build_rows(results), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    (axes,) = figures[0].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "se",
        "FPN",
        "HorFPN-7x7",
        "wht",
    ]
    assert axes.get_xlabel() == "mask AP, seeds 0, 1"
    # FPN without its third seed: its dots, their mean and its line.
    drawn = [line.get_xdata() for line in axes.lines[2:5]]
    assert [*drawn[0]] == [0.4, 0.5] and drawn[1] == pytest.approx(0.45)
    assert drawn[2] == pytest.approx([0.45, 0.45])


def test_costs():
    trainings = [training_of("nuclei", "hornet-nano", neck) for neck in ("FPN", "HorFPN-7x7")]
    fpn, horfpn = costs.measure_costs([*trainings, trainings[0]], ROOT, threads=1, repeats=2)[0]
    # Four levels of 64 -> 64 channels: a 3x3 convolution, or proj_in to 32 + 32 + 64, depthwise
    # 7x7 on 96, 32 -> 64, proj_out.
    pixels = 96**2 + 48**2 + 24**2 + 12**2
    saved = 9 * 64 * 64 - (64 * 128 + 49 * 96 + 32 * 64 + 64 * 64)
    assert fpn["multiply_adds"] - horfpn["multiply_adds"] == saved * pixels
    assert horfpn["parameters"] < fpn["parameters"] < 3e6
    for row in (fpn, horfpn):
        assert 0 < row["milliseconds"] < 60_000 and row["spread"] >= 0 and row["fft"] == 0
    head = costs.build_part(training_of("camvid", "hornet-nano", "BiFPN"), ROOT)
    assert [type(part).__name__ for part in head] == ["HorNet", "GraphFPN", "ESegHead"]


class Deadly:
    """Ends the process that receives it."""

    def __reduce__(self):
        return os._exit, (3,)


def test_failures_are_told_and_the_others_go_on(tmp_path):
    unknown = Training("camvid", "hornet-nano", "FPM", 1, 0)
    (found,) = run_trainings([unknown], 1, ROOT, tmp_path)
    assert found[0] == unknown and found[1].startswith("KeyError: 'FPM' (see ")
    assert "Traceback" in (tmp_path / str(unknown) / OUTPUT).read_text()
    words = "its process ended with exit code 3 (-9: perhaps memory was short)"
    found = run_trainings([TRAINING, unknown], 1, Deadly(), tmp_path)
    assert list(found) == [(TRAINING, words), (unknown, words)]
    with pytest.raises(ConfigError, match="camvid/hornet-nano/FPN/3/0: no config file at"):
        list(run_trainings([TRAINING, unknown], 1, tmp_path, tmp_path))


@pytest.fixture
def command(tmp_path):
    """The command of a dry run in a folder of the test."""
    name = str(TRAINING)
    words = ["benchmark", "necks", name, "--tiny", "--jobs=1"]
    return [sys.executable, "-m", "hordet", *words]


def test_the_tool_goes_on_where_it_was(command, tmp_path):
    def run():
        result = run_words(*command[3:], "--markdown", "necks.md", folder=tmp_path)
        assert result.returncode == 0, result.stderr
        return result

    first = run()
    assert f"1 of 1: {TRAINING}: mIoU 0." in first.stderr
    text = (tmp_path / "docs" / "necks.json").read_text()
    (training,) = json.loads(text)["trainings"]
    assert training["iterations"] == 4 and training["seed"] == 0
    assert set(training["metrics"]) == {"mIoU", "aAcc", "mAcc"}
    assert f"| FPN | 3 | 1 | {training['metrics']['mIoU']:.3f} |" in first.stdout
    output = tmp_path / "work_dirs/necks" / str(TRAINING) / OUTPUT
    assert "iteration 4/4  loss " in output.read_text()
    output.unlink()
    second = run()
    assert second.stderr == "" and second.stdout == first.stdout and not output.exists()
    assert (tmp_path / "docs" / "necks.json").read_text() == text
    assert (tmp_path / "necks.md").read_text().endswith("\n\n" + first.stdout.rstrip("\n") + "\n")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are read from /proc")
def test_trainings_end_with_a_killed_study(command, tmp_path):
    study = subprocess.Popen(command, cwd=tmp_path)
    output = tmp_path / "work_dirs/necks" / str(TRAINING) / OUTPUT
    while not output.exists():
        assert study.poll() is None
        time.sleep(0.1)
    children = Path(f"/proc/{study.pid}/task/{study.pid}/children").read_text().split()
    assert children
    study.send_signal(signal.SIGKILL)
    study.wait()

    def alive(child):
        file = Path(f"/proc/{child}/stat")
        return file.is_file() and file.read_text().rpartition(")")[2].split()[0] != "Z"

    deadline = time.monotonic() + 60
    while any(map(alive, children)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not (tmp_path / "docs").exists()
