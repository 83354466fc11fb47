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
from drawn_sets import draw_set

# What a cure begins with.
CURE = re.compile(
    r"(?i)correct|fetch|use |write|give|number (the|images)|convert|\bset\b|lower|multiply|take|"
    r"put|make|export|scale|swap|turn|keep|name |annotate|save|normalize|look|better"
)
# Words of Python, or of nothing.
RAW = re.compile(
    r"Traceback|KeyError|TypeError|AttributeError|IndexError|ValueError|not foreseen|NoneType|"
    r"object is not|RuntimeError|AssertionError|UnicodeEncode|OverflowError"
)


def check_words(errors, folder):
    """Assert that each refusal names a file, counts what it says it counts, and tells a cure."""
    for line in errors:
        assert str(folder) in line, line
        assert CURE.search(line), line
        assert not RAW.search(line), line
        for count, total, what in re.findall(r"(\d+) of (\d+) (images|objects|annotations)", line):
            assert int(count) <= int(total), (line, what)


def judge(seed, folder):
    """Draw a data set, check it, and run what passes; return 'refused' or 'passed'."""
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer

    from hordet.cli.main import main
    from hordet.datasets.checks.inspection import inspect_data
    from hordet.engine.runner import build_test_runner, build_training_runner, read_config
    from hordet.errors import DatasetError

    draw_set(seed, folder)
    path, work = folder / "config.py", str(folder / "work")
    found = inspect_data(read_config(path, work_dir=work)).findings
    check_words([*found.errors], folder)
    if found.errors:
        return "refused"
    checkpoint = folder / "work" / "epoch_1.pth"
    try:
        runner = build_training_runner(read_config(path, work_dir=work))
        runner.train()
        metrics = build_test_runner(read_config(path, work_dir=work), checkpoint).test()
    except DatasetError as error:
        raise AssertionError(f"the check passed what a run refuses: {error}") from error
    finally:
        for kind in (MMLogger, MessageHub, Visualizer, DefaultScope):
            for instance in kind._instance_dict.values() if kind is MMLogger else ():
                for handler in instance.handlers:
                    handler.close()
            kind._instance_dict.clear()
    assert all(np.isfinite(v) for v in metrics.values()), metrics
    images = folder / ("images/val" if (folder / "images").exists() else "val")
    assert main(["infer", str(path), str(checkpoint), str(images), "--out", str(folder / "o")]) == 0
    return "passed"


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Leave out what mmengine's Runner does for the log alone, which takes most of the time."""
    monkeypatch.setattr("mmengine.runner.runner.collect_env", lambda: {})
    monkeypatch.setattr("mmengine.runner.loops.time.sleep", lambda seconds: None)
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run_seeds(seeds, folder):
    outcomes = {}
    for seed in seeds:
        try:
            outcomes[seed] = judge(seed, folder / f"{seed}")
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
