"""Every fenced command of README.md and docs/ is run, in its smallest form; none is skipped.

A fence names what it is: `bash`, `python`, or `text` for what is no command. `bash slow` is run
with --slow, and its options are read in any case; `bash fails` must end with exit code 2 and the
words of the `text` fence after it. $CONFIG, $CHECKPOINT and so on, which README.md sets to what its
first training leaves, are here those of one dry run; names without $ are the reader's own files.
"""

import contextlib
import io
import json
import os
import re
import runpy
import shlex
import string
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
KINDS = ("bash", "bash slow", "bash fails", "python", "text")
DETECTION = "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py"
DRY_RUN = [DETECTION, "--tiny", "--work-dir", "work"]
# Commands that are not run, and why; `_check_unrun` looks at what can be looked at.
UNRUN = {
    "pip": "installs; .ci/run does so",
    "torchrun": "wants several GPUs; tests/test_tools.py has two processes",
    "mim": "a package that brings an old setuptools; what it looks for is looked at",
    "demo.py": "serves until it is ended; tests/demo/test_demo_page.py uses the page",
    "pytest": "is what runs this",
    "run_on_forks.sh": "installs the forks of OpenMMLab",
}
# The smallest form of what takes minutes: `--tiny`, or words that are added.
DRY = ["tools/train.py", "tools/test.py", "tools/infer.py", "tools/check_dataset.py"]
SMALLEST = {
    "necks": ["shapes/hornet-nano/FPN/0", "--tiny", "--repeats", "2"],
    "evaluation": ["--images", "20", "--detections", "5"],
    "speed": ["--repeats", "2", "--threads", "1"],
}


class Fence(NamedTuple):
    """A fenced block, the line it begins at, and the `text` block that follows."""

    page: str
    line: int
    kind: str
    text: str


def fences():
    for page in PAGES:
        found = re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", page.read_text(), re.M)
        for match in found:
            line = page.read_text()[: match.start()].count("\n") + 1
            yield Fence(page.relative_to(ROOT).as_posix(), line, match[1], match[2])


def commands():
    """Each command line of the shell fences as (fence, words, name)."""
    for fence in fences():
        if fence.kind.startswith("bash"):
            for number, line in enumerate(fence.text.splitlines(), fence.line + 1):
                words = shlex.split(line, comments=True)
                if words and not is_assignment(words):
                    yield fence, words, f"{fence.page}:{number}"


def is_assignment(words):
    return re.fullmatch(r"[A-Z_]+=.*", words[0]) is not None


def variables():
    """Return what README.md sets its variables to, each expanded by those before it."""
    values = {}
    for fence in fences():
        for line in fence.text.splitlines() if fence.kind == "bash" else ():
            words = shlex.split(line, comments=True)
            if words and is_assignment(words):
                assert fence.page == "README.md" and len(words) == 1
                name, value = words[0].split("=")
                values[name] = string.Template(value).substitute(values)
    return values


class Place(NamedTuple):
    """A folder as the root of the checkout is to a reader, and what placeholders stand for."""

    folder: Path
    names: dict


def run_script(script, arguments):
    """Run a script in this process as Python would, for the exit code and all it prints."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", [script, *arguments])
        with contextlib.redirect_stderr(printed):
            try:
                runpy.run_path(str(ROOT / script), run_name="__main__")
            except SystemExit as end:
                return end.code, printed.getvalue()
    return 0, printed.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory, drawn_images):
    """A checkout's folders, a dry run in it, its images, and results that are the truth."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("configs", "tools", "tests"):
        (folder / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HORDET_CACHE", str(drawn_images))
        code, printed = run_script("tools/train.py", DRY_RUN)
        assert code == 0, printed
        from hordet.engine.runner import read_config

        root = Path(read_config(DETECTION, tiny=True).test_dataloader.dataset.data_root)
        annotations = root / "annotations" / "instances_val.json"
        _write_truth_as_results(annotations, folder / "results.json")
        _write_official_weights(folder / "hornet_tiny_7x7.pth")
        names = {
            "$CONFIG": DETECTION,
            "$CHECKPOINT": "work/epoch_1.pth",
            "$WORK_DIR": "work",
            "$INPUT": str(min((root / "val").iterdir())),
            "COCO_DIR": str(root),
            "MAPS_DIR": str(_link_label_maps(root, folder / "maps")),
            "IMAGES": str(root / "val"),
            "ANNOTATIONS.json": str(annotations),
            "RESULTS.json": "results.json",
            "OUT": "out",
        }
        yield Place(folder, names)


def _link_label_maps(shapes, folder):
    """Lay the drawn images and their label maps out as ADE20K's."""
    for kind, source in (("images", shapes), ("annotations", shapes / "labels")):
        (folder / kind).mkdir(parents=True)
        for split, name in (("train", "training"), ("val", "validation")):
            (folder / kind / name).symlink_to(source / split)
    return folder


def _write_truth_as_results(annotations, path):
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(annotations)
    results = []
    for item in truth.anns.values():
        kept = {key: item[key] for key in ("image_id", "category_id")}
        results.append({**kept, "segmentation": truth.annToRLE(item), "score": 1.0})
    path.write_text(json.dumps(results, default=bytes.decode))


def _write_official_weights(path):
    import torch

    from hordet.hornet import HorNet

    state = {k: v for k, v in HorNet("nano").state_dict().items() if not k.startswith("norm")}
    head = {"norm.weight": torch.ones(256), "head.weight": torch.ones(9, 256)}
    torch.save({"model": {**state, **head}}, path)


def _options_are_known(script, arguments, monkeypatch):
    """Read a command line by the tool's own parser; a wrong option ends the tool."""
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    return runpy.run_path(str(ROOT / script))["parse_arguments"]()


def _check_unrun(name, words, monkeypatch):
    """Look at a command that is not run."""
    if name == "pip":
        extras = re.findall(r"\[(.*)\]", words[-1])
        text = (ROOT / "pyproject.toml").read_text()
        known = all(f"\n{extra} = [" in text for extra in ",".join(extras).split(",") if extra)
        assert words[:3] == ["pip", "install", "-e"] and known
    elif name == "torchrun":
        start = words.index("tools/train.py")
        _options_are_known(words[start], words[start + 1 :], monkeypatch)
    elif name == "mim":
        assert words[1:3] == ["train", "hordet"]
        files = [path.name for path in (ROOT / "hordet/.mim/configs").glob("*/*.py")]
        assert files.count(words[3]) == 1
        script = ROOT / "hordet/.mim/tools/train.py"
        assert script.is_file() and (ROOT / "hordet/.mim/model-index.yml").is_file()
        _options_are_known("tools/train.py", words[3:], monkeypatch)
    elif name == "demo.py":
        _options_are_known(words[1], words[2:], monkeypatch)
    elif name == "pytest":
        assert words[:3] == ["python", "-m", "pytest"]
    else:
        assert (ROOT / words[1]).is_file()


def _smallest(script, arguments):
    """Return the arguments of a run of seconds."""
    if script == "tools/benchmark.py":
        return [*arguments, *SMALLEST.get(arguments[0], [])]
    exported = any(word.endswith(".onnx") for word in arguments)  # has the size of the config
    if script in DRY and "--tiny" not in arguments and not exported:
        return [*arguments, "--tiny"]
    return arguments


def test_every_fence_says_what_it_is():
    found = list(fences())
    marks = sum(page.read_text().count("```") for page in PAGES)
    assert len(found) * 2 == marks, "a fence is not closed, or not at the beginning of a line"
    wrong = [f"{f.page}:{f.line}: {f.kind!r}" for f in found if f.kind not in KINDS]
    assert not wrong, f"fences are {', '.join(KINDS)}; got {wrong}"


def test_links_of_the_pages_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page}: {link}"


def test_the_variables_are_what_the_first_training_leaves(drawn_images, monkeypatch):
    from hordet.datasets.shapes.cache import draw_missing_shapes
    from hordet.engine.runner import read_config

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HORDET_CACHE", str(drawn_images))
    values = variables()
    first = next(words for _, words, _ in commands() if words[:2] == ["python", "tools/train.py"])
    assert first[2:] == [values["CONFIG"]]
    cfg = read_config(values["CONFIG"])
    assert values["WORK_DIR"] == cfg.work_dir
    assert values["CHECKPOINT"] == f"{cfg.work_dir}/epoch_{cfg.train_cfg.max_epochs}.pth"
    draw_missing_shapes(cfg)
    root, split, name = values["INPUT"].rsplit("/", 2)
    data = Path(cfg.val_dataloader.dataset.data_root)
    assert root == f"~/.cache/hordet/{data.name}" and (data / split / name).is_file()
    used = {word[1:] for _, words, _ in commands() for word in words if word.startswith("$")}
    assert used == set(values)


@pytest.mark.parametrize(
    "words", [pytest.param(w, id=name) for f, w, name in commands() if f.kind == "bash slow"]
)
def test_options_of_a_slow_command(words, monkeypatch):
    assert words[0] == "python" and words[1].startswith("tools/")
    _options_are_known(words[1], _smallest(words[1], words[2:]), monkeypatch)


@pytest.mark.parametrize(
    ("fence", "words"),
    [
        pytest.param(f, w, id=name, marks=pytest.mark.slow if f.kind == "bash slow" else ())
        for f, w, name in commands()
    ],
)
def test_command(fence, words, place, monkeypatch, drawn_images):
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("HORDET_CACHE", str(drawn_images))
    names = [Path(word).name for word in words[:3]]
    for name in UNRUN:
        if name in names:
            return _check_unrun(name, words, monkeypatch)
    assert words[0] == "python", f"this test does not know {words[0]!r}: teach it"
    if words[1] == "-m":
        with pytest.raises(SystemExit, match="^0$"):
            runpy.run_module(words[2], run_name="__main__")
        return None
    script, *arguments = [place.names.get(word, word) for word in words[1:]]
    if script.startswith("tools/"):
        arguments = _smallest(script, arguments)
        _options_are_known(script, arguments, monkeypatch)
    if script == "tools/train.py" and arguments in (DRY_RUN, DRY_RUN[:2]):
        return None  # the run of `place`
    code, printed = run_script(script, arguments)
    if fence.kind == "bash fails":
        following = next(f for f in fences() if (f.page, f.line) > (fence.page, fence.line))
        assert code == 2 and following.kind == "text" and following.text.strip() in printed
    else:
        assert not code, printed[-3000:]
    if "--out" in arguments:
        assert os.path.exists(arguments[arguments.index("--out") + 1])
    return None


@pytest.mark.parametrize(
    "fence",
    [pytest.param(f, id=f"{f.page}:{f.line}") for f in fences() if f.kind == "python"],
)
def test_python(fence, place, tmp_path, monkeypatch, drawn_images):
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("HORDET_CACHE", str(drawn_images))
    text = re.sub(r'"([A-Z_]+)"', lambda name: repr(place.names["$" + name[1]]), fence.text)
    exec(compile(text, f"{fence.page}:{fence.line}", "exec"), {})
    if "_base_" in fence.text:
        from hordet.config.load import load_config

        (tmp_path / "config.py").write_text(fence.text)
        assert load_config(tmp_path / "config.py", tiny=True).model.type == "MaskRCNN"
