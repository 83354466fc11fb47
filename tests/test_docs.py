"""The pages: every fenced command runs in its smallest form; names, links and the map are true.

A fence names what it is: `bash`, `python`, or `text` for what is no command. `bash slow` is run
with --slow, and its options are read in any case; `bash fails` must end with exit code 2 and the
words of the `text` fence after it. $CONFIG, $CHECKPOINT and so on, which README.md sets to what its
first training writes, are here those of one dry run; names without $ are the reader's own files.
"""

import ast
import contextlib
import io
import json
import os
import re
import runpy
import shlex
import string
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from drawn_layouts import draw_yolo

from hordet.checkpoints.weights import SHIPPED, list_shipped
from hordet.cli.main import SUBCOMMANDS, build_parser, main

ROOT = Path(__file__).resolve().parents[1]
BESIDE = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
PAGES = [*BESIDE, *sorted(ROOT.glob("docs/**/*.md"))]
KINDS = ("bash", "bash slow", "bash fails", "python", "text")
DETECTION = "mask-rcnn_hornet-nano_horfpn_7e"
DRY_RUN = ["train", DETECTION, "--tiny", "--work-dir", "work"]
# Commands that are not run, and why; `_check_unrun` looks at what can be looked at.
UNRUN = {
    "pip": "installs; .ci/run does so",
    "torchrun": "wants several GPUs; tests/cli/test_tools.py has two processes",
    "mim": "a package that brings an old setuptools; what it looks for is looked at",
    "demo": "serves until it is ended; tests/demo/test_demo_page.py uses the page",
    "pytest": "is what runs this",
    "run_on_forks.sh": "installs the forks of OpenMMLab",
    "run_on.sh": "installs another torch; .ci/run does so",
}
# The smallest form of what takes minutes: `--tiny`, or words that are added.
DRY = ["train", "test", "infer", "check"]
SMALLEST = {
    "necks": ["shapes/hornet-nano/FPN/3/0", "--tiny", "--repeats", "2"],
    "evaluation": ["--images", "20", "--detections", "5"],
    "runtimes": "--images 2 --threads 1 --int8 2 --forms eager onnx onnx-int8".split(),
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


def run_program(body):
    """Call a function as a program is run, for the exit code and all it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = body()
        except SystemExit as end:
            code = end.code
    return code, printed.getvalue()


def run_script(script, arguments):
    """Run a script in this process as Python would."""

    def body():
        runpy.run_path(str(ROOT / script), run_name="__main__")
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *arguments])
        return run_program(body)


@pytest.fixture(scope="module")
def place(tmp_path_factory, drawn_images):
    """A checkout's folders, a dry run in it, its images, and results that are the truth."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "configs").symlink_to(ROOT / "configs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HORDET_CACHE", str(drawn_images))
        code, printed = run_program(lambda: main(DRY_RUN))
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
            "$EXAMPLES": str(SHIPPED / "examples" / list_shipped()[0].name),
            "COCO_DIR": str(root),
            "DATA_DIR": str(draw_yolo(folder / "parts")),
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


def _check_unrun(name, words):
    """Look at a command that is not run; its options are read by the command's own parser."""
    if name == "pip":
        extras = re.findall(r"\[(.*)\]", words[-1])
        text = (ROOT / "pyproject.toml").read_text()
        known = all(f"\n{extra} = [" in text for extra in ",".join(extras).split(",") if extra)
        assert words[:3] == ["pip", "install", "-e"] and known
    elif name == "torchrun":
        start = words.index("-m")
        assert words[start + 1] == "hordet"
        build_parser().parse_args(words[start + 2 :])
    elif name == "mim":
        assert words[1:3] == ["train", "hordet"]
        files = [path.name for path in (ROOT / "hordet/.mim/configs").glob("*/*.py")]
        assert files.count(words[3]) == 1
        script = ROOT / "hordet/.mim/tools/train.py"
        assert script.is_file() and (ROOT / "hordet/.mim/model-index.yml").is_file()
        build_parser().parse_args(["train", *words[3:]])
    elif name == "demo":
        build_parser().parse_args(words[1:])
    elif name == "pytest":
        assert words[:3] == ["python", "-m", "pytest"]
    else:
        assert (ROOT / words[1]).is_file()


def _smallest(words):
    """Return the words behind `hordet` for a run of seconds."""
    if "--gpu" in words:
        return [*words, "--dry-run", "--parts", "kernels"]
    if words[0] == "benchmark":
        return [*words, *SMALLEST.get(words[1], [])]
    exported = any(word.endswith(".onnx") for word in words)  # has the size of the config
    if words[0] in DRY and "--tiny" not in words and not exported:
        return [*words, "--tiny"]
    return words


def test_every_fence_says_what_it_is():
    found = list(fences())
    marks = sum(page.read_text().count("```") for page in PAGES)
    assert len(found) * 2 == marks, "a fence is not closed, or not at the beginning of a line"
    wrong = [f"{f.page}:{f.line}: {f.kind!r}" for f in found if f.kind not in KINDS]
    assert not wrong, f"fences are {', '.join(KINDS)}; got {wrong}"


def test_links_of_the_pages_lead_somewhere():
    for page in PAGES:
        for link, section in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text()):
            if link.startswith("http"):
                continue
            target = page.parent / link if link else page
            assert target.exists(), f"{page}: {link}"
            if section:
                titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                slugs = [
                    re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles
                ]
                assert section in slugs, f"{page}: {link}#{section}"


def test_the_variables_are_what_the_first_training_writes(drawn_images, monkeypatch):
    from hordet.datasets.shapes.cache import draw_missing_shapes
    from hordet.engine.runner import read_config

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HORDET_CACHE", str(drawn_images))
    values = variables()
    first = next(words for _, words, _ in commands() if words[:2] == ["hordet", "train"])
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


def test_the_pages_use_the_words_of_the_field():
    wrong = r"(?i)\b(pictures?|leaf|figures?|contenders?|colours?|neighbours?|behaviour)\b"
    for page in PAGES:
        # Names in code and in the map are names; the changelog has old ones.
        names = r"(?m)`[^`\n]*`|\]\(\S+\)|^  \w+ {2,}|hordet\.neighbours"
        found = re.search(wrong, re.sub(names, "", page.read_text()))
        assert not found, f"{page}: {found[0]!r}"


def test_the_pages_name_what_exists():
    """Modules and what is in them, files of this repository, subcommands."""
    for page in PAGES:
        text = page.read_text()
        if page.name != "CHANGELOG.md":  # its names are old ones, too
            for name in re.findall(r"`(hordet(?:\.[a-z_0-9]+)+(?:\.\w+)*)", text):
                assert _exists(name), f"{page}: {name}"
            for name in re.findall(r"`((?:hordet|tests|docs|configs)/[\w/.-]+\.\w+)", text):
                assert (ROOT / name).exists(), f"{page}: {name}"
        for name in re.findall(r"`hordet ([a-z][a-z-]*)", text):
            assert name in SUBCOMMANDS, f"{page}: hordet {name}"


def _exists(name):
    parent, _, last = name.rpartition(".")
    try:
        return bool(import_module(name))
    except ModuleNotFoundError:
        return hasattr(import_module(parent), last)


def test_the_new_names_of_the_changelog_exist():
    text = (ROOT / "CHANGELOG.md").read_text()
    rows = re.findall(r"^  \| `hordet\..*? \| (`hordet\..*) \|$", text, re.MULTILINE)
    assert len(rows) > 20
    for row in rows:
        names = re.findall(r"`([\w.*]+)`", row)
        parent = names[0].rpartition(".")[0]
        for name in names:
            full = name if name.startswith("hordet") else f"{parent}.{name.lstrip('.')}"
            assert _exists(full.removesuffix(".*")), f"CHANGELOG.md: {full}"


def map_of_readme():
    """The entries of README.md's map in its order: those of hordet/, and the folders beside it."""
    (fence,) = (f for f in fences() if f.page == "README.md" and f.text.startswith("hordet/\n"))
    lines = fence.text.splitlines()
    inner = [line.split()[0] for line in lines if line.startswith("  ")]
    outer = [line.split()[0].rstrip("/") for line in lines if not line.startswith(" ")]
    return inner, outer


def test_the_map_names_every_entry_and_nothing_else():
    inner, outer = map_of_readme()
    there = {path.name for path in (ROOT / "hordet").iterdir() if path.name != "__pycache__"}
    assert sorted(inner) == sorted(name for name in there if not name.startswith("."))
    assert outer == ["hordet", "configs", "tools", "tests", "docs"]
    assert all((ROOT / name).is_dir() for name in outer)


def test_a_room_imports_only_what_stands_above_it_in_the_map():
    inner, _ = map_of_readme()
    for number, room in enumerate(inner):
        below = {name.removesuffix(".py") for name in inner[number + 1 :]}
        path = ROOT / "hordet" / room
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            wrong = below & set(_rooms_imported(file))
            assert not wrong, f"{file} imports {wrong}, which stand below {room} in the map"


def _rooms_imported(file):
    """The rooms of hordet that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("hordet."))


@pytest.mark.parametrize(
    "words", [pytest.param(w, id=name) for f, w, name in commands() if f.kind == "bash slow"]
)
def test_options_of_a_slow_command(words):
    assert words[0] == "hordet"
    build_parser().parse_args(_smallest(words[1:]))


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
            return _check_unrun(name, words)
    program, *words = [place.names.get(word, word) for word in words]
    if program == "hordet":
        words = _smallest(words)
        if words in (DRY_RUN, DRY_RUN[:3]):
            return None  # the run of `place`
        code, printed = run_program(lambda: main(words))
    else:
        assert program == "python", f"this test does not know {program!r}: teach it"
        code, printed = run_script(words[0], words[1:])
    if fence.kind == "bash fails":
        following = next(f for f in fences() if (f.page, f.line) > (fence.page, fence.line))
        assert code == 2 and following.kind == "text" and following.text.strip() in printed
    else:
        assert not code, printed[-3000:]
    if "--out" in words:
        assert os.path.exists(words[words.index("--out") + 1])
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
