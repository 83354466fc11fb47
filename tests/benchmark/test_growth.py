"""The growth of waits: what is drawn, what a row says, and one real round."""

import json

import pytest

from hordet.benchmark import growth
from hordet.errors import BenchmarkError


def test_the_data_have_as_many_annotations_and_leave_nothing(tmp_path):
    data = tmp_path / "data"
    with growth._draw_data(tmp_path, data, 70):
        for part in ("train", "val"):
            truth = json.loads((data / f"annotations/instances_{part}.json").read_text())
            assert len(truth["annotations"]) == 70 and len(truth["images"]) == 7
            assert len({one["id"] for one in truth["annotations"]}) == 70
            assert all((data / part / one["file_name"]).is_file() for one in truth["images"])
        found = json.loads((data / "annotations/instances_all.json").read_text())
        assert [one["bbox"] for one in found] == [one["bbox"] for one in truth["annotations"]]
    assert not data.exists()


def test_memory_is_that_of_the_command(tmp_path):
    """Not of this process, which has far more."""
    held = bytearray(2**30)
    held[::4096] = b"x" * len(held[::4096])
    _, gigabytes = growth._time(["configs", "shapes/*"], tmp_path)
    assert 0.01 < gigabytes < 0.9
    with pytest.raises(BenchmarkError, match="no-such-command"):
        growth._time(["no-such-command"], tmp_path)


def test_the_table_and_the_plot(tmp_path):
    rows = [
        growth.GrowthRow(command, count, count / 1000, 0.5)
        for command in growth.COMMANDS
        for count in (1000, 20_000)
    ]
    lines = growth.format_growth_table(rows).splitlines()
    assert lines[-1] == "| 20,000 | 20.0 | 0.5 | 20.0 | 0.5 | 20.0 | 0.5 |"
    growth.draw_growth_plot(rows, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_each_command_runs(tmp_path):
    from hordet.config.names import CONFIGS

    rows = list(growth.measure_growth([20, 40], CONFIGS.parent))
    assert [(row.command, row.annotations) for row in rows] == [
        (command, count) for count in (20, 40) for command in growth.COMMANDS
    ]
    assert all(row.seconds > 0.5 and 0.1 < row.gigabytes < 4 for row in rows)
