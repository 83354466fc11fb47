"""The dry run of the check of a GPU: the same code on a CPU, its report and its exit code."""

import json

import gpu_faults
import pytest
import torch

from hordet.benchmark import gpu_check, gpu_parts
from hordet.benchmark.gpu_check import PARTS, CheckReport, format_check_table, run_check
from hordet.benchmark.gpu_parts import CheckRow
from hordet.cli.main import main

LIGHT = ["faults", "precisions", "operators", "kernels"]


def find(rows, part):
    return {row["name"]: row for row in rows if row["part"] == part}


def test_a_dry_run_of_the_parts_that_take_seconds(tmp_path, capsys, cache_folder):
    file = tmp_path / "gpu.json"
    words = ["doctor", "--gpu", "--dry-run", "--json", str(file), "--debug", "--parts", *LIGHT]
    assert main(words) == 0
    printed, progress = capsys.readouterr()
    assert "dry run on a CPU" in printed and "0 FAIL" in printed
    assert [line for line in progress.splitlines() if line.startswith("[")] == [
        f"[{number}/4] {name}" for number, name in enumerate(LIGHT, 1)
    ]
    report = json.loads(file.read_text())
    rows = report["rows"]
    assert [*dict.fromkeys(row["part"] for row in rows)] == LIGHT
    faults = find(rows, "faults")
    assert {f"a block trains in {mode}" for mode in ("bfloat16", "float16")} <= faults.keys()
    assert faults["RoIAlign's gradient in a fixed order"]["verdict"] == "ok"
    assert faults["recomputation"]["verdict"] == "not run"
    precisions = find(rows, "precisions")
    assert 0 < precisions["float32"]["numbers"]["outputs"] < 1e-5
    assert 1e-3 < precisions["bfloat16"]["numbers"]["outputs"] < 6e-2
    operators = find(rows, "operators")
    assert {"RoIAlign", "nms", "deformable attention"} <= operators.keys()
    assert find(rows, "kernels")["Triton's gates"]["verdict"] == "not run"


@pytest.mark.slow
def test_the_whole_dry_run(cache_folder):
    report = run_check(dry=True)
    assert {row.part for row in report.rows} == PARTS.keys() and not report.failed
    resumed = [row for row in report.rows if row.part == "resume" and row.verdict == "ok"]
    assert resumed[0].numbers == dict(again=0.0, resumed=0.0)  # bit for bit on one CPU process
    (step,) = (row for row in report.rows if row.name == "batch 1")
    assert step.numbers["ms"] > 0 and step.numbers["host_reads"] > 0


def test_all_parts_end_within_eight_minutes():
    assert sum(seconds for _, seconds in PARTS.values()) <= 8 * 60


def test_without_a_gpu_and_with_an_unknown_part(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["doctor", "--gpu"]) == 2
    assert "--gpu needs a GPU" in capsys.readouterr().err
    assert main(["doctor", "--gpu", "--dry-run", "--parts", "fault"]) == 2
    assert "no part is named 'fault'; did you mean 'faults'?" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--dry-run"], ["--parts", "faults"], ["--json", "gpu.json"]])
def test_an_option_of_the_check_is_not_dropped_without_it(words, capsys):
    assert main(["doctor", *words]) == 2
    assert "are for the check of a GPU: give --gpu as well" in capsys.readouterr().err
    assert main(["doctor", "--gpu", "--latest", *words]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_what_a_profile_says_of_the_host():
    read = {"aten::_local_scalar_dense": 3, "aten::nonzero": 1, "cudaStreamSynchronize": 6}
    launched = {"cudaLaunchKernel": 5, "cudaLaunchKernelExC": 2, "cuLaunchKernel": 1}  # Triton's
    counts = gpu_parts.count_events({**read, **launched, "aten::add": 9})
    assert counts == dict(host_reads=4, waits=6, launches=8)


def test_a_part_that_fails_hangs_or_crashes_stops_no_other(monkeypatch):
    parts = dict(
        first=(gpu_faults.fail, 60),
        slow=(gpu_faults.wait, 20),
        crash=(gpu_faults.crash, 60),
        last=(gpu_faults.measure, 60),
        again=(gpu_faults.measure, 60),
    )
    monkeypatch.setattr(gpu_check, "PARTS", parts)
    monkeypatch.setattr(gpu_check, "_describe_machine", lambda dry: "A card")
    told = []
    report = run_check(dry=False, tell=told.append)
    assert told[0] == "[1/5] first, at most 60 s" and len(told) == 5
    assert [(row.part, row.name) for row in report.failed] == [
        ("first", "half"),
        ("first", "the whole part"),
        ("slow", "the whole part"),
        ("crash", "the whole part"),
    ]
    assert "the 20 seconds of it are used up" in report.failed[2].describe()
    assert "the process ended by itself with SIGSEGV" in report.failed[3].describe()
    kept = [row.part for row in report.rows if row.name == "before"]
    assert kept == ["slow", "crash"]  # what was found before is not lost
    last, again = (row.numbers["id"] for row in report.rows if row.name == "process")
    assert last == again  # a part that passed leaves its process to the next
    table = format_check_table(report)
    assert "| last | speed | measured | ms 12.35 |" in table
    assert "4 FAIL, 2 ok, 9 measured, 0 not run" in table
    assert "FAIL first: half: error ZeroDivisionError" in table


def test_a_wrong_result_of_an_operator_fails(monkeypatch):
    rows = []
    check = gpu_parts.GpuCheck("cpu", None, rows.append)
    found = iter([1.0, 1.1])
    check.attempt(
        "it",
        lambda: gpu_parts._compare_on_devices(check, lambda x: x * next(found), [torch.ones(3)]),
    )
    assert rows[0].verdict == "FAIL" and "differs from the CPU's" in rows[0].describe()
    assert CheckReport("m", rows).as_dict()["rows"][0]["verdict"] == "FAIL"
    assert isinstance(rows[0], CheckRow)
