"""The page: what stands where, and what a click does."""

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from PIL import Image

from hordet.demo.answers import Answers, Photo
from hordet.demo.gate import Storage
from hordet.errors import UserError

NO_MODEL = ""
SESSIONS = 16  # browser tabs whose image is kept
_OPENED = "opened"  # the kind of note that a page has whose image was taken
_GONE = (
    f"This page's image is no longer kept: the last {SESSIONS} pages in use are. Upload it again"
)
_FONTS = ["system-ui", "sans-serif"]  # the machine's own: nothing is fetched
THEME = gr.themes.Soft(primary_hue="blue", font=_FONTS, font_mono=["ui-monospace", "monospace"])
CSS = """
.gradio-container .note { overflow-wrap: anywhere; margin: 0; }
.gradio-container .note.refused { color: #a40000; background: #fdecea;
  border-left: 4px solid #c0392b; padding: 8px 12px; }
.gradio-container input[role=combobox] { font-size: 13px; padding-right: 26px;
  text-overflow: ellipsis; }
.downloads .label-clear-button { display: none; }
"""
# Names of classes and files are words of strangers. Gradio evaluates a template and the values in
# it as JavaScript, so no template here has a value: these scripts put values in as plain text.
_ADD = """
const add = (parent, tag, text, attributes = {}) => {
  const child = parent.appendChild(document.createElement(tag));
  child.textContent = text;
  Object.entries(attributes).forEach(([name, value]) => child.setAttribute(name, value));
  return child;
};
"""
_DRAW = """
const draw = () => {
  const box = element.querySelector('.drawn');
  box.replaceChildren();
  fill(box);
};
watch('value', draw);
draw();
"""
_TEMPLATE = '<div class="drawn"></div>'
_NOTE = f"""{_ADD}
const fill = box => add(box, 'p', props.value.text,
  {{role: 'status', class: props.value.kind === 'refused' ? 'note refused' : 'note'}});
{_DRAW}"""
_HEADING = f"""{_ADD}
const fill = box => {{ add(box, 'b', props.value.name); add(box, 'div', props.value.line); }};
{_DRAW}"""
_HEADING_STYLE = "min-height: 60px;"  # so that images stand side by side at one height
_LEGEND = f"""{_ADD}
const fill = box => props.value.forEach(item => {{
  const label = add(box, 'label', '', {{title: item.name}});
  const input = add(label, 'input', '', {{type: 'checkbox', 'data-name': item.name}});
  input.checked = item.shown;
  add(label, 'i', '').style.background = item.color;
  add(label, 'span', item.name);
  add(label, 'small', item.amount);
}});
{_DRAW}
element.addEventListener('change', event => {{
  const {{name}} = event.target.dataset, shown = event.target.checked;
  props.value = props.value.map(item => item.name === name ? {{...item, shown}} : item);
  trigger('input');
}});
"""
_LEGEND_STYLE = """
.drawn { display: flex; flex-wrap: wrap; gap: 6px; }
label { display: inline-flex; align-items: center; gap: 6px; padding: 3px 10px; cursor: pointer;
  border: 1px solid var(--border-color-primary); border-radius: 14px; font-size: 14px; }
label:has(input:not(:checked)) { opacity: 0.5; text-decoration: line-through; }
i { width: 14px; height: 14px; border-radius: 4px; display: inline-block; }
small { color: var(--body-text-color-subdued); }
"""
_EXAMPLES = f"""{_ADD}
const fill = box => props.value.images.forEach((image, index) => {{
  const button = add(box, 'button', '', {{type: 'button', 'aria-label': `Example ${{image.name}}`,
    'aria-pressed': index === props.value.chosen, 'data-index': index}});
  add(button, 'img', '', {{src: image.source, alt: '', title: image.name}});
}});
{_DRAW}
element.addEventListener('click', event => {{
  const button = event.target.closest('button');
  if (!button) return;
  // Gradio does not tell a script of what it sets itself.
  element.querySelectorAll('button').forEach(
    each => each.setAttribute('aria-pressed', each === button));
  props.value = {{...props.value, chosen: Number(button.dataset.index)}};
  trigger('input');
}});
"""
_EXAMPLES_STYLE = """
.drawn { display: flex; flex-wrap: wrap; gap: 8px; }
button { margin: 0; padding: 2px; border: 2px solid transparent; border-radius: 6px;
  cursor: pointer; }
button[aria-pressed=true] { border-color: var(--color-accent); }
button:focus-visible { outline: 2px solid var(--color-accent); outline-offset: 2px; }
img { display: block; margin: 0; height: 72px; width: 72px; object-fit: cover; border-radius: 4px; }
"""
_THUMBNAIL = 144  # pixels: twice the size at which it is shown


@dataclass(frozen=True)
class _Column:
    """One model's part of the page, outputs in the order of `_show`."""

    model: gr.Dropdown
    column: gr.Column
    heading: gr.HTML
    image: gr.Image
    slider: gr.ImageSlider
    legend: gr.HTML
    files: gr.File
    code: gr.Code

    @property
    def outputs(self) -> list[Any]:
        return [
            self.column,
            self.heading,
            self.image,
            self.slider,
            self.legend,
            self.files,
            self.code,
        ]


class _View(NamedTuple):
    """How an answer is shown; in the order of the page's inputs."""

    threshold: float
    outlines: bool
    sliding: bool


def build_page(answers: Answers, storage: Storage, examples: Sequence[Path] = ()) -> gr.Blocks:
    """Lay the page out.

    Args:
        answers: The models and what they say.
        storage: Where Gradio keeps uploads and results.
        examples: Images to choose from; the first is answered when the page opens.

    Returns:
        The page, to be launched with THEME and CSS.
    """
    names, limits = list(answers.models), answers.limits
    # Files of this process are removed an hour after they were made.
    with gr.Blocks(title="hordet", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        photo = gr.State()
        taken = f"up to {limits.megabytes} MB and {limits.megapixels} million pixels"
        gr.HTML(
            f"<h2>hordet</h2>Drop an image, {taken}, and see what a model finds in it.",
            padding=True,
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=340):
                file = gr.File(label="Image", height=150, elem_id="file")
                with gr.Accordion("Paste an image, or use the camera", open=False):
                    # Kept as the browser sends it: the image is opened as an upload is.
                    capture = gr.Image(
                        sources=["clipboard", "webcam"],
                        type="filepath",
                        image_mode=None,
                        show_label=False,
                        elem_id="capture",
                    )
                shown_examples = gr.HTML(
                    dict(images=[_shrink(path) for path in examples], chosen=0),
                    html_template=_TEMPLATE,
                    css_template=_EXAMPLES_STYLE,
                    js_on_load=_EXAMPLES,
                    visible=bool(examples),
                    elem_id="examples",
                )
                first = gr.Dropdown(names, value=names[0], label="Model", elem_id="model")
                second = gr.Dropdown(
                    [("no other", NO_MODEL), *names],
                    value=NO_MODEL,
                    label="Compare with",
                    visible=len(names) > 1,
                    elem_id="other",
                )
                threshold = gr.Slider(
                    0,
                    1,
                    value=0.3,
                    step=0.01,
                    label="Score threshold",
                    visible=not all(model.is_semantic for model in answers.models.values()),
                    elem_id="threshold",
                )
                # The arrow keys of a gr.Radio fail at times: Gradio 6.31 gives each button a group
                # of its own when it draws them again.
                outlines = gr.Checkbox(label="Outlines in place of areas", elem_id="outlines")
                sliding = gr.Checkbox(label="Slide between image and answer", elem_id="sliding")
            with gr.Column(scale=4, min_width=300):
                note = gr.HTML(
                    _note("No image yet."),
                    html_template=_TEMPLATE,
                    js_on_load=_NOTE,
                    elem_id="note",
                )
                with gr.Row():
                    panels = [_panel(first, "one"), _panel(second, "two")]

        def show(
            photo: Photo | None,
            note: dict[str, str] | None,
            name: Any,
            legend: Any,
            *view: Any,
        ) -> tuple:
            storage.make_room()
            opened = isinstance(note, dict) and note.get("kind") == _OPENED
            if photo is None and opened and name != NO_MODEL:
                return _refuse(str(name), _GONE)
            return _show(answers, photo, name, legend, _View(*view))

        # One event at a time: a model has the processor, or the device, to itself.
        options: dict[str, Any] = dict(api_visibility="private", concurrency_id="model")
        opened = gr.on(
            [file.upload, file.clear],
            lambda path: _open(answers, path),
            file,
            [photo, note],
            show_progress="hidden",
            **options,
        )
        captured = capture.input(
            # To choose camera or clipboard is to send None; what is shown then stays.
            lambda path: (*_open(answers, path), None) if path else (gr.skip(),) * 3,
            capture,
            [photo, note, capture],
            show_progress="hidden",
            **options,
        )
        begun = [opened, captured]
        if examples:
            begun.append(
                gr.on(
                    [shown_examples.input, page.load],
                    lambda given: _open_example(answers, examples, given),
                    shown_examples,
                    [photo, note],
                    show_progress="hidden",
                    **options,
                )
            )
        view: list[Any] = [threshold, outlines, sliding]
        for panel in panels:
            inputs = [photo, note, panel.model, panel.legend, *view]
            options |= dict(show_progress_on=panel.image, show_progress="minimal")
            for event in begun:
                event.then(show, inputs, panel.outputs, **options)
            changes = [panel.model.change, panel.legend.input, *(part.change for part in view)]
            gr.on(changes, show, inputs, panel.outputs, trigger_mode="always_last", **options)
    return page


def _panel(model: gr.Dropdown, name: str) -> _Column:
    """Lay out one model's part; it appears with its answer."""
    with gr.Column(visible=False, min_width=300, elem_id=name) as column:
        return _Column(
            model,
            column,
            gr.HTML(
                _heading(),
                html_template=_TEMPLATE,
                css_template=_HEADING_STYLE,
                js_on_load=_HEADING,
            ),
            gr.Image(format="jpeg", show_label=False, interactive=False, buttons=["fullscreen"]),
            gr.ImageSlider(
                format="jpeg",
                show_label=False,
                interactive=False,
                buttons=["fullscreen"],
                visible=False,
                max_height=1600,
            ),
            gr.HTML(
                [],
                html_template=_TEMPLATE,
                css_template=_LEGEND_STYLE,
                js_on_load=_LEGEND,
            ),
            gr.File(
                label="Download what is shown",
                file_count="multiple",
                interactive=False,
                elem_classes="downloads",
            ),
            _code(),
        )


def _code() -> gr.Code:
    """Lay out the Python lines, which are closed until they are asked for."""
    with gr.Accordion("The same in Python", open=False):
        return gr.Code(
            language="python",
            interactive=False,
            show_label=False,
            lines=1,
            wrap_lines=True,
            show_line_numbers=False,
            buttons=["copy"],
            elem_classes="code",
        )


def _refuse(name: str, line: str, legend: Sequence[dict] = ()) -> tuple:
    """Return a panel's parts where there is no answer, but words."""
    return gr.Column(visible=True), _heading(name, line), None, None, [*legend], None, ""


def _note(text: str, kind: str = "") -> dict[str, str]:
    return dict(text=text, kind=kind)


def _heading(name: str = "", line: str = "") -> dict[str, str]:
    return dict(name=name, line=line)


def _shrink(path: Path) -> dict[str, str]:
    """Return an example's name and a small copy of it, as the page has it."""
    with Image.open(path) as image:
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        packed = io.BytesIO()
        image.convert("RGB").save(packed, "jpeg", quality=85)
    source = f"data:image/jpeg;base64,{base64.b64encode(packed.getvalue()).decode()}"
    return dict(name=path.name, source=source)


def _open_example(
    answers: Answers, examples: Sequence[Path], given: Any
) -> tuple[Photo | None, dict[str, str]]:
    """Open the example that was chosen."""
    chosen = given.get("chosen") if isinstance(given, dict) else None
    if not isinstance(chosen, int) or not 0 <= chosen < len(examples):
        return None, _note("There is no such example.", "refused")
    try:
        photo = answers.open(examples[chosen])
    except UserError as error:
        return None, _note(str(error), "refused")
    return photo, _describe(photo)


def _describe(photo: Photo) -> dict[str, str]:
    height, width = photo.image.pixels.shape[:2]
    return _note(f"{photo.image.file_name}, {width} x {height} pixels", _OPENED)


def _open(answers: Answers, path: Any) -> tuple[Photo | None, dict[str, str]]:
    """Take an uploaded file, or say why not; it is removed, for its pixels are kept."""
    if path is None:
        return None, _note("No image yet.")
    if not isinstance(path, str):
        return None, _note("This is no uploaded file.", "refused")
    try:
        photo = answers.open(path)
    except UserError as error:
        return None, _note(str(error), "refused")
    except ValueError:  # a name that no file can have
        return None, _note("This is no uploaded file.", "refused")
    finally:
        with suppress(OSError, ValueError):
            Path(path).unlink()
    return photo, _describe(photo)


def _show(
    answers: Answers,
    photo: Photo | None,
    name: Any,
    legend: Any,
    view: _View,
) -> tuple:
    """Return what a panel's parts become; without an image or model it is hidden.

    Values are of the browser, or of whoever speaks in its place.
    """
    legend = [] if legend is None else legend
    if not _is_legend(legend):
        return _refuse(str(name), "This is no legend of the page. Load the page again")
    if photo is None or name == NO_MODEL:
        return gr.Column(visible=False), _heading(), None, None, legend, None, ""
    if not isinstance(name, str) or name not in answers.models:
        return _refuse(str(name), f"There is no such model. There are {', '.join(answers.models)}")
    hidden = {item["name"] for item in legend if not item["shown"]}
    try:
        shown = answers.show(photo, name, view.threshold, hidden, view.outlines is not True)
    except (UserError, ValueError) as error:  # what a model says of an image, as too small
        return _refuse(name, str(error), legend)
    pair = (answers.draw_plain(photo), shown.overlay) if view.sliding else None
    return (
        gr.Column(visible=True),
        _heading(name, shown.line),
        gr.Image(shown.overlay, visible=not view.sliding),
        gr.ImageSlider(pair, visible=bool(view.sliding)),
        shown.legend,
        [str(path) for path in shown.files],
        shown.code,
    )


def _is_legend(value: Any) -> bool:
    """Tell whether a value has the form of a legend: names, each shown or not."""
    return isinstance(value, list) and all(
        isinstance(item, dict) and isinstance(item.get("name"), str) and "shown" in item
        for item in value
    )
