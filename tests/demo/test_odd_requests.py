"""What a client may send in the browser's place: answered in words, never raised on."""

import ast

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from hordet.demo import page
from hordet.demo.answers import _write_python

ODD = (None, True, 5, -1, 1.5, float("nan"), 10**400, "x", "\ud800", "a\0b", b"a", [], [1], [[]],
       [None], {}, {"a": 1}, [{}], [{"name": []}], [{"name": "a"}], [{"name": {}, "shown": 1}],
       [{"name": "a", "shown": []}], {"name": "a"}, (1,), "y" * 5000)  # fmt: skip


def refused(note):
    return note == page._note("No image yet.") or note["kind"] == "refused"


def test_files_and_examples(answers, tmp_path):
    for value in ODD:
        taken, note = page._open(answers, value)
        assert taken is None and refused(note)
        for given in (value, {"chosen": value}):
            taken, note = page._open_example(answers, [tmp_path / "none.png"] * 9, given)
            assert taken is None and refused(note)


def test_models_legends_and_views(answers, photo):
    whole = dict(name="objects", legend=[], threshold=0.3, outlines=False, sliding=False)
    told = 0
    for key in whole:
        for value in ODD:
            name, legend, *view = (whole | {key: value}).values()
            parts = page._show(answers, photo, name, legend, page._View(*view))
            assert len(parts) == 7 and isinstance(parts[1]["line"], str)
            shown = isinstance(parts[2], gr.Image)
            told += not shown
            if shown and key == "threshold":
                assert "nan" not in parts[6] and ast.parse(parts[6])
    assert told > 50
    assert (
        "There is no such model"
        in page._show(answers, photo, "x", [], page._View(0.3, False, False))[1]["line"]
    )


@pytest.mark.parametrize("threshold", [None, 0, 1, 0.3, 0.123456789, 1e-9])
def test_python_lines_are_literals(threshold):
    names = [*np.array(["a'b", 'c"', "圆", "{x}"])]
    code = _write_python(("c.py", np.str_("a\\b.pth")), {}, np.str_("d'.png"), threshold, names)
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.keyword)]
    found = {call.arg: ast.literal_eval(call.value) for call in calls}
    expected = {} if threshold is None else dict(score_threshold=threshold)
    assert found == expected | dict(classes=["a'b", 'c"', "圆", "{x}"])


def test_python_lines_have_the_tiles_of_the_model():
    code = _write_python(("c.py", "b.pth"), dict(tile=(64, 48), overlap=None), "a.png", 0.3, None)
    assert "from_config('c.py', 'b.pth', tile=(64, 48))\n" in code
    assert ast.parse(code)


def test_a_name_of_joined_characters_is_opened(answers, tmp_path):
    path = tmp_path / "a\u200d\u00a0b.png"
    Image.new("RGB", (20, 10)).save(path)
    taken, note = page._open(answers, str(path))
    assert taken.image.pixels.shape == (10, 20, 3) and note["kind"] == page._OPENED
    assert not path.exists()
