"""`hordet doctor`, and `python -m hordet` alone, tell what is there and what is amiss."""

import argparse
import re
import subprocess
import sys

from hordet.cli import doctor


def run_doctor(latest=False):
    no_gpu = dict(gpu=False, dry_run=False, parts=[], json=None)
    return doctor.run(argparse.Namespace(latest=latest, **no_gpu))


def test_it_runs_and_all_is_well():
    result = subprocess.run([sys.executable, "-m", "hordet"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    named = {line.split()[0] for line in result.stdout.splitlines()}
    assert named >= {"hordet", "python", "torch", "mmcv", "mmdet", "mmseg", "operators", "devices"}
    assert result.stdout.splitlines()[-1] == "everything is in place"
    if "mmcv has none compiled" in result.stdout:
        assert "not supplied 81 of mmcv's 112: active_rotated_filter_backward" in result.stdout
        assert "nms_rotated" in result.stdout and "roi_align_forward" not in result.stdout


def test_every_required_package_is_looked_at(repository):
    text = (repository / "pyproject.toml").read_text()
    block = text.split("dependencies = [", 1)[1].split("\n]", 1)[0]
    required = re.findall(r'^\s*"([A-Za-z0-9_.-]+)', block, re.MULTILINE)
    known = {name for names in doctor._PACKAGES.values() for name in names}
    assert len(required) > 15 and {*required} <= known


def test_a_package_that_breaks_at_its_import_is_a_fault(monkeypatch, tmp_path):
    (tmp_path / "brokenmodule.py").write_text("raise OSError('libfoo.so.1: not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(doctor._PACKAGES, "brokenmodule", ("numpy",))
    _, faults = doctor.describe()
    assert len(faults) == 1 and "brokenmodule cannot be imported (OSError: libfoo" in faults[0]


def test_a_missing_package_is_a_fault_with_its_cure(monkeypatch, capsys):
    monkeypatch.setitem(doctor._PACKAGES, "nosuchmodule", ("nosuchdistribution",))
    assert run_doctor() == 1
    printed = capsys.readouterr().out
    assert "nosuchmodule not installed" in printed.replace("  ", " ")
    assert "WILL NOT WORK: nosuchmodule cannot be imported" in printed
    assert "pip install" in printed and "everything is in place" not in printed


def test_two_providers_of_one_package_are_a_fault(monkeypatch):
    monkeypatch.setitem(doctor._PACKAGES, "numpy", ("numpy", "torch"))
    _, faults = doctor.describe()
    assert len(faults) == 1 and "overwrite each other" in faults[0]


def test_broken_operators_are_a_fault(monkeypatch):
    from hordet.ops import OperatorStatus

    monkeypatch.setattr(
        doctor, "describe_operators", lambda: OperatorStatus("none", "broken; install mmcv")
    )
    lines, faults = doctor.describe()
    assert faults == ["broken; install mmcv"]
    assert any(line.startswith("operators") and "broken" in line for line in lines)


def test_latest_names_what_is_newer_than_the_tested_versions(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "describe", lambda: ([], []))
    monkeypatch.setattr(doctor, "TESTED", {"python": "3.99", "torch": "99.0", "nosuchone": "1.0"})
    assert run_doctor(latest=True) == 0
    assert "nothing is newer than the tested versions" in capsys.readouterr().out
    monkeypatch.setitem(doctor.TESTED, "torch", "2.5")
    monkeypatch.setitem(doctor.TESTED, "python", "3.9")
    assert run_doctor(latest=True) == 1
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith("NOT TESTED: python 3.1")]
    assert [line for line in printed if line.startswith("NOT TESTED: torch 2.")]
    assert run_doctor() == 0


def test_a_patch_release_counts_as_tested(monkeypatch):
    class Installed:
        version = "2.15.3+cpu"

    monkeypatch.setattr(doctor, "TESTED", {"torch": "2.15"})
    monkeypatch.setattr(doctor, "distribution", lambda name: Installed)
    assert doctor.find_untested() == []
    Installed.version = "2.16.0"
    assert doctor.find_untested() == ["torch 2.16.0; the newest tested is 2.15"]
