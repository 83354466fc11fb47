"""Files made to do harm: checkpoints, configs and work folders run no code.

No checkpoint fills the memory or chooses what is removed either. What a safe config refuses stands
in `tests/config/test_safe.py`; here the command is tried as a whole.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer

from hordet.checkpoints import load, load_checkpoint, trust_pickle
from hordet.config.load import load_config
from hordet.engine.hooks.checkpoint import keep_within
from hordet.errors import CheckpointError, CheckpointWarning, ReportError
from hordet.report.page import write_report
from hordet.report.run_folder import read_run


class Calls:
    """Calls a function when it is unpickled by an ordinary unpickler."""

    def __init__(self, function, *arguments, state=None):
        self.recipe = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.recipe


def poisoned_buffer(made):
    """A log history whose statistics call the shell."""
    buffer = HistoryBuffer([1.0], [1])
    buffer._statistics_methods = {"mean": Calls(os.system, f"mkdir {made}")}
    return buffer


def poisoned_array(made):
    array = np.empty(1, dtype=object)
    array[0] = Calls(os.mkdir, made)
    return array


# What stands where in the file.
FILES = {
    "os.system": lambda made: {"x": Calls(os.system, f"mkdir {made}")},
    "eval": lambda made: {"x": Calls(eval, f"__import__('os').mkdir({made!r})")},
    "exec": lambda made: {"x": Calls(exec, f"import os; os.mkdir({made!r})")},
    "subprocess": lambda made: {"x": Calls(subprocess.Popen, ["mkdir", made])},
    "import": lambda made: {"x": Calls(__import__, "antigravity")},
    "deep within": lambda made: {"state_dict": {"a": [({"b": (Calls(os.mkdir, made),)},)]}},
    "as a key": lambda made: {Calls(os.mkdir, made): 1},
    "message hub": lambda made: {"message_hub": {"log_scalars": {"l": poisoned_buffer(made)}}},
    "array of objects": lambda made: {"meta": {"palette": poisoned_array(made)}},
    "namespace": lambda made: {"args": argparse.Namespace(lr=Calls(os.mkdir, made))},
    "getattr": lambda made: {"x": Calls(getattr, Calls(__import__, "os"), "mkdir")},
    "getattr of an allowed class": lambda made: {"x": Calls(getattr, HistoryBuffer, "__init__")},
    "torch.load": lambda made: {"x": Calls(torch.load, made)},
    "torch.hub": lambda made: {"x": Calls(torch.hub.load, made, "model")},
    "nested pickle": lambda made: {"x": Calls(pickle.loads, pickle.dumps(Calls(os.mkdir, made)))},
    "state of a class": lambda made: {"x": Calls(HistoryBuffer, state=Calls(os.mkdir, made))},
    "whole file": lambda made: Calls(os.mkdir, made),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", FILES)
def test_nothing_runs(tmp_path, name, zipped):
    made = str(tmp_path / "made")
    path = tmp_path / "file.pth"
    torch.save(FILES[name](made), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"holds pickled code.*--trust-pickle"):
        load_checkpoint(path)
    assert os.listdir(tmp_path) == ["file.pth"]


def rezipped(path, target, method=zipfile.ZIP_STORED, change=lambda name, content: content):
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w", method) as copy:
        for part in source.infolist():
            copy.writestr(part.filename, change(part.filename, source.read(part)))
    return target


def test_a_bomb_is_refused_unopened(tmp_path):
    torch.save({"w": torch.zeros(4)}, tmp_path / "a.pth")
    bomb = rezipped(
        tmp_path / "a.pth",
        tmp_path / "bomb.pth",
        zipfile.ZIP_DEFLATED,
        lambda name, content: bytes(10**8) if name.endswith("data/0") else content,
    )
    assert bomb.stat().st_size < 10**6
    with pytest.raises(CheckpointError, match="is refused: unpacked it is 100,000,"):
        load_checkpoint(bomb)


def test_paths_in_a_zip_write_nothing(tmp_path):
    torch.save({"w": torch.zeros(4)}, tmp_path / "a.pth")
    trick = rezipped(tmp_path / "a.pth", tmp_path / "b.pth")
    with zipfile.ZipFile(trick, "a") as archive:
        archive.writestr("a/../../outside.txt", "x")
        archive.writestr("../outside.txt", "x")
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_checkpoint(trick)
    assert sorted(os.listdir(tmp_path)) == ["a.pth", "b.pth"]
    assert not (tmp_path.parent / "outside.txt").exists()


def test_a_resumed_checkpoint_does_not_choose_what_is_removed(tmp_path):
    info = {
        "best_ckpt": "/home/somebody/thesis.pth",
        "best_ckpt_mIoU": "../../other/best.pth",
        "keep_ckpt_ids": [1, "../../other/iter_2", 3],
        "iter": 7,
    }
    keep_within(tmp_path, info)
    assert info == {
        "best_ckpt": str(tmp_path / "thesis.pth"),
        "best_ckpt_mIoU": str(tmp_path / "best.pth"),
        "keep_ckpt_ids": [1, 3],
        "iter": 7,
    }


def test_nor_under_mmengines_own_hook(tmp_path):
    """A config may take the hook of mmengine, which removes what the checkpoint calls its best."""
    from mmengine.hooks import CheckpointHook

    from hordet.engine.hooks.resume import ResumeHook

    info = {"best_ckpt": "/home/somebody/thesis.pth", "keep_ckpt_ids": ["../../other/iter_2", 3]}
    runner = SimpleNamespace(
        iter=3,
        hooks=[CheckpointHook(out_dir=str(tmp_path / "out"))],
        work_dir=str(tmp_path / "work"),
        message_hub=SimpleNamespace(runtime_info=info),
        cfg={},
        _resume=True,
    )
    ResumeHook().before_train(runner)
    best = str(tmp_path / "out" / "work" / "thesis.pth")
    assert info == {"best_ckpt": best, "keep_ckpt_ids": [3]}


def test_trust_is_given_in_words_and_warned_of(tmp_path, monkeypatch):
    torch.save({"x": Calls(SimpleNamespace)}, tmp_path / "a.pth")
    monkeypatch.setattr(load, "_POLICY", {"weights_only": True})
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "a.pth")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trust_pickle()
    assert "may run any code of their authors" in str(caught[0].message)
    assert load_checkpoint(tmp_path / "a.pth")["x"] == SimpleNamespace()


def test_trusted_code_is_converted_to_tensors_alone(tmp_path, monkeypatch, capsys):
    """The way that the refusal names, for every command."""
    from hordet.cli import main
    from hordet.hornet import HorNet

    monkeypatch.setattr(load, "_POLICY", {"weights_only": True})
    state = HorNet("nano").state_dict()
    torch.save({"model": state, "x": Calls(SimpleNamespace)}, tmp_path / "a.pth")
    words = ["convert", str(tmp_path / "a.pth"), str(tmp_path / "b.pth")]
    assert main(words) == 2
    assert "`hordet convert --trust-pickle FILE NEW.pth`" in capsys.readouterr().err
    with pytest.warns(CheckpointWarning, match="may run any code"):
        assert main([*words, "--trust-pickle"]) == 0
    monkeypatch.setattr(load, "_POLICY", {"weights_only": True})
    assert load_checkpoint(tmp_path / "b.pth")["model"].keys() == state.keys()


def work_folder(path, text):
    """A work folder with a log and a checkpoint, whose config is `text`."""
    logs = path / "run" / "20260101_000000" / "vis_data"
    logs.mkdir(parents=True)
    (logs / "config.py").write_text(text)
    rows = [dict(step=step, loss=1 / step, lr=0.1) for step in range(1, 9)]
    rows.append({"step": 8, "coco/segm_mAP": 0.5})
    (logs / "scalars.json").write_text("\n".join(map(json.dumps, rows)))
    torch.save({"state_dict": {}}, path / "run" / "iter_8.pth")
    (path / "run" / "last_checkpoint").write_text("iter_8.pth")
    return path / "run"


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').mkdir({made!r})",
        "import os\nos.mkdir({made!r})",
        "dict = eval\nx = dict({made!r})",
        "model = dict(type='A', x=[open({made!r}, 'w')])",
        "_base_ = '../../../evil.py'",
        "x = {{'a': open({made!r}, 'w')}}",
    ],
)
def test_a_work_folder_that_runs_code_has_no_report(tmp_path, text):
    made = tmp_path / "made"
    (tmp_path / "evil.py").write_text(f"x = open({str(made)!r}, 'w')")
    run = work_folder(tmp_path, text.format(made=str(made)))
    with pytest.raises(ReportError, match="holds more than data, which a report does not read"):
        write_report([run], tmp_path / "report.html")
    assert not made.exists()


@pytest.mark.parametrize(
    "text",
    [
        "model = dict(type='subprocess.Popen', args=['mkdir', {made!r}])",
        "custom_hooks = [dict(type='os.mkdir', path={made!r})]",
        "val_dataloader = dict(dataset=dict(ann_file='a.pkl'))",
        "custom_imports = dict(imports=['evil'])",
    ],
)
def test_a_work_folder_that_names_code_has_its_curves_alone(tmp_path, monkeypatch, text):
    made = tmp_path / "made"
    (tmp_path / "evil.py").write_text(f"import os; os.mkdir({str(made)!r})")
    monkeypatch.syspath_prepend(tmp_path)
    run = work_folder(tmp_path, text.format(made=str(made)))
    assert read_run(run).checkpoint.name == "iter_8.pth"
    page = write_report([run], tmp_path / "report.html").read_text()
    assert "Its model is not built, for its config may run code" in page
    assert "It learns" in page and not made.exists()


def test_a_dumped_config_is_data(tmp_path):
    """What an ordinary run leaves is read as before, wherever it logged to."""
    cfg = load_config("shapes/mask-rcnn_hornet-nano_horfpn_7e")
    cfg.work_dir = "/data/runs/a"
    cfg.visualizer = dict(type="Visualizer", vis_backends=[dict(type="WandbVisBackend")])
    run = work_folder(tmp_path, "")
    dumped = next(run.glob("*/vis_data/config.py"))
    cfg.dump(dumped)
    read = read_run(run)
    assert read.config.to_dict() == Config.fromfile(dumped).to_dict() == cfg.to_dict()
    assert read.dangers == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "evil.py", "--safe-config"], "holds more than data"),
        (["report", "run"], "which a report does not read"),
        pytest.param(["test", "evil.py", "a.pth", "--safe-config"], "more than data",
                     marks=pytest.mark.slow),
        pytest.param(["train", "named.py", "--safe-config"], "no registered component",
                     marks=pytest.mark.slow),
        pytest.param(["train", "plain.py", "--safe-config", "--cfg-options",
                      "model.type=os.system"], "no registered component",
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_the_command_runs_nothing(tmp_path, command, words):
    made = tmp_path / "made"
    evil = f"dict = eval\nx = dict(\"__import__('os').mkdir({str(made)!r})\")\n"
    work_folder(tmp_path, evil)
    (tmp_path / "evil.py").write_text(evil)
    (tmp_path / "named.py").write_text("model = dict(type='evil.Model')")
    (tmp_path / "plain.py").write_text("model = dict(type='ResNet')")
    # The folder is not on the path of modules, as it is for `python -m`.
    start = [sys.executable, "-c", "from hordet.cli import main; raise SystemExit(main())"]
    done = subprocess.run([*start, *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert not made.exists()


class Reserved:
    """Asks an unpickler for an array of a shape that the file does not hold."""

    def __reduce__(self):
        from numpy._core.multiarray import _reconstruct

        return _reconstruct, (np.ndarray, (2**34,), b"b")


def test_an_array_of_16_gb_in_a_file_of_a_kilobyte_is_refused(tmp_path):
    torch.save(dict(state_dict=dict(a=Reserved())), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="holds pickled code: it asks for numpy._reconstruct"):
        load_checkpoint(tmp_path / "a.pth")
    # Arrays as numpy writes them are read.
    torch.save(dict(state_dict={}, a=np.arange(3)), tmp_path / "b.pth")
    assert load_checkpoint(tmp_path / "b.pth")["a"].tolist() == [0, 1, 2]
