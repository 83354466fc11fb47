"""What `hordet check` passes can be trained on, tested and predicted; what it refuses, it names.

Data sets are drawn by seeds 0, 1, 2, ... (`drawn_sets`). The default run takes some; `--slow` takes
600. `python tests/test_checked_data.py 17` shows one.
"""

import re
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_sets import draw_set

# What a cure begins with.
CURE = re.compile(
    r"(?i)correct|fetch|use |write|give|number (the|images)|convert|\bset\b|lower|multiply|take|"
    r"put|take|clip|make|export|scale|swap|turn|keep|name |annotate|save|normalize|look|better"
)
# Words of Python, or of nothing.
RAW = re.compile(
    r"Traceback|KeyError|TypeError|AttributeError|IndexError|ValueError|not foreseen|NoneType|"
    r"object is not|RuntimeError|AssertionError|UnicodeEncode|OverflowError"
)


def check_words(errors, folder):
    """Assert that each refusal names a file, counts what it says it counts, and tells a cure."""
    for line in errors:
        assert re.search(r"/\w+", line), line
        assert CURE.search(line), line
        assert not RAW.search(line), line
        for count, total, what in re.findall(r"(\d+) of (\d+) (images|objects|annotations)", line):
            assert int(count) <= int(total), (line, what)


def judge(seed, folder, whole=False):
    """Draw a data set, check it, and run what passes; return 'refused' or 'passed'.

    Args:
        seed: Of the set.
        folder: Where it is drawn.
        whole: Run by the commands' own Runners; else by their parts, which takes a tenth.
    """
    from hordet.datasets.checks.inspection import inspect_data
    from hordet.engine.runner import read_config
    from hordet.errors import DatasetError

    draw_set(seed, folder)
    path, work = folder / "config.py", str(folder / "work")
    cfg = read_config(path, work_dir=work)
    found = inspect_data(cfg).findings
    check_words([*found.errors], folder)
    if found.errors:
        return "refused"
    images = folder / ("images/val" if (folder / "images").exists() else "val")
    try:
        metrics = (run_commands if whole else run_parts)(path, cfg, images)
    except DatasetError as error:
        raise AssertionError(f"the check passed what a run refuses: {error}") from error
    assert metrics and all(np.isfinite(v) for v in metrics.values()), metrics
    return "passed"


def run_commands(path, cfg, images):
    """Train an epoch, test its checkpoint and predict a folder; return the metrics of the test."""
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer

    from hordet.cli.main import main
    from hordet.engine.runner import build_test_runner, build_training_runner, read_config

    work = Path(cfg.work_dir)
    checkpoint = work / "epoch_1.pth"
    try:
        build_training_runner(read_config(path, work_dir=str(work))).train()
        metrics = build_test_runner(read_config(path, work_dir=str(work)), checkpoint).test()
    finally:
        for kind in (MMLogger, MessageHub, Visualizer, DefaultScope):
            for instance in kind._instance_dict.values() if kind is MMLogger else ():
                for handler in instance.handlers:
                    handler.close()
            kind._instance_dict.clear()
    out = str(work.with_name("out"))
    assert main(["infer", str(path), str(checkpoint), str(images), "--out", out]) == 0
    return metrics


_models = {}  # by the kind of their config, which takes longer to build than to use


def run_parts(path, cfg, images):
    """Do what `run_commands` does, with a model that is built once and without a Runner's files."""
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import DefaultScope
    from mmengine.runner import Runner

    from hordet.datasets.batch_sampler import place_batches
    from hordet.engine.data import check_data
    from hordet.inference import Predictor
    from hordet.inference.sources import find_sources
    from hordet.inference.stream import predict_sources
    from hordet.registry import METRICS, MODELS

    check_data(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        kind = cfg.model.type
        if kind not in _models:
            model = MODELS.build(cfg.model)
            model.init_weights()
            _models[kind] = model, build_optim_wrapper(model, cfg.optim_wrapper)
        model, wrapper = _models[kind]
        # No sample may be skipped.
        loader = Runner.build_dataloader(place_batches(cfg.train_dataloader, 0, 0), seed=0)
        model.train()
        for batch in loader:
            losses = model.train_step(batch, wrapper)
            assert all(np.isfinite(float(v)) for v in losses.values()), losses
        loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
        metric = METRICS.build(cfg.test_evaluator)
        metric.dataset_meta = loader.dataset.metainfo
        model.eval()
        with torch.no_grad():
            for batch in loader:
                metric.process(batch, [sample.to_dict() for sample in model.val_step(batch)])
        metrics = metric.evaluate(len(loader.dataset))
        sources, problems = find_sources([str(images)], (), None, lambda words: None)
        predictor = Predictor(model, cfg, dict(loader.dataset.metainfo))
        found = list(predict_sources(predictor, sources, problems.append))
        # `infer` names a link to nothing in a folder, also one that no annotation asks for.
        links = [words for words in problems if "which leads to no file" in words]
        assert problems == links and len(found) + len(links) == len(sources) > 1
    return metrics


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Leave out what mmengine's Runner does for the log alone, which takes most of the time."""
    monkeypatch.setattr("mmengine.runner.runner.collect_env", lambda: {})
    monkeypatch.setattr("mmengine.config.config.FormatCode", lambda text, **_: (text, True))
    monkeypatch.setattr("mmengine.dataset.base_dataset.gc.collect", lambda: 0)
    monkeypatch.setattr("mmengine.runner.loops.time.sleep", lambda seconds: None)
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run_seeds(seeds, folder):
    outcomes = {}
    for seed in seeds:
        try:
            outcomes[seed] = judge(seed, folder / f"{seed}", whole=seed % 10 == 1)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return outcomes


def test_checked_data_run_and_refusals_have_words(quick, tmp_path):
    outcomes = run_seeds(range(12), tmp_path)
    assert {*outcomes.values()} == {"passed", "refused"}


@pytest.mark.slow
@pytest.mark.parametrize("begin", range(0, 600, 50))
def test_600_checked_data_sets(quick, tmp_path, begin):
    run_seeds(range(begin, begin + 50), tmp_path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as there:
        print(draw_set(int(sys.argv[1]), Path(there) / "set"))
