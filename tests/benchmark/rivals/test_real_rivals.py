"""The rivals as they are, two steps each: where their packages are."""

import os
import sys
from pathlib import Path

import pytest

from hordet.benchmark.rivals.environment import locate_python
from hordet.benchmark.rivals.faceoff import find_data
from hordet.benchmark.rivals.plan import RIVALS, TASKS, WEIGHTS, select_runs
from hordet.benchmark.rivals.runs import Place, run_rival
from hordet.checkpoints import ensure_file
from hordet.errors import UserError

RUNS = select_runs(minutes=[5], seeds=[0])
# Such as that which `hordet benchmark rivals --env FOLDER` makes.
ENVIRONMENT = os.environ.get("HORDET_RIVALS", "work_dirs/rivals_env")


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=str)
def test_a_rival_trains_and_predicts(run, tmp_path):
    python = Path(sys.executable)
    if RIVALS[run.rival].needs:
        python = locate_python(Path(ENVIRONMENT).resolve())
        if not python.exists():
            pytest.skip(f"no environment {ENVIRONMENT}: name one by HORDET_RIVALS")
    weights = None
    if run.start == WEIGHTS:
        try:
            weights = ensure_file("hordet://efficientnet-lite0")
        except UserError as error:
            pytest.skip(f"no weights: {error}")
    place = Place(tmp_path / "work", weights=weights, tiny=True)
    data = find_data([run], tmp_path, place)[run.dataset]
    record = run_rival(run, data, python, place)
    assert 0 <= record["metrics"][TASKS[run.dataset].metric] <= 1
    assert record["iterations"] >= 1 and 1e5 < record["parameters"] < 1e8
    assert record["milliseconds"] > 0.1 and record["peak_memory"] > 100 << 20
