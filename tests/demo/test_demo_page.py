"""hordet demo as a person uses it: the real server, driven in a headless Chromium."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

from hordet.demo.answers import Answers, Limits
from hordet.demo.gate import Storage
from hordet.demo.server import serve
from hordet.errors import DemoError
from hordet.inference import Predictor
from hordet.visualization.drawing import draw_overlay

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
DETECTION = "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py"
SEGMENTATION = "configs/ade20k/upernet_hornet-nano_horuperhead_2k.py"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def served(words, folder, images, end=signal.SIGTERM):
    """Serve by the tool; afterwards nothing of it may be left."""
    pytest.importorskip("gradio", reason="no Gradio here; pip install -e '.[demo]'")
    port = free_port()
    command = [sys.executable, "-m", "hordet", "demo", *words, "--tiny", "--port", port]
    temporary = folder / "temporary"
    temporary.mkdir()
    environment = {
        **os.environ,
        "HORDET_CACHE": str(images),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(temporary),
    }
    with open(folder / "log", "w+") as log:
        server = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # Tests that were started by nohup would hand it on that SIGHUP is ignored.
            preexec_fn=lambda: signal.signal(end, signal.SIG_DFL),
        )
        try:
            lines = iter(server.stdout.readline, "")
            said = next((line for line in lines if "Ctrl-C" in line), "")
            assert said == f"http://127.0.0.1:{port}/  (Ctrl-C ends it)\n", log.name
            yield said.split()[0]
        finally:
            server.send_signal(end)
            server.communicate(timeout=240)
        log.seek(0)
        told = log.read()
    assert server.returncode == 0 and "Traceback" not in told, told[-3000:]
    assert not list(temporary.glob("hordet-demo-*"))


@contextlib.contextmanager
def browsed(address):
    """Open the page in a browser for which no other machine exists."""
    driver = pytest.importorskip("playwright.sync_api", reason="no playwright here")
    if BROWSER is None:
        pytest.skip("no Chromium here; apt-get install chromium")
    with driver.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
        arguments += [f"--use-fake-{part}-for-media-stream" for part in ("ui", "device")]
        browser = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        page = browser.new_page(viewport=dict(width=1280, height=900))
        page.set_default_timeout(240_000)  # a machine may be busy
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address)
        yield page
        browser.close()


@pytest.fixture
def address(detector, segmentor, repository, drawn_images, tmp_path):
    """Serve two models."""
    words = [
        *(repository / DETECTION, detector.checkpoint),
        *("--model", repository / SEGMENTATION, segmentor.checkpoint),
        *("--max-upload-mb", 1, "--max-megapixels", 1, "--no-examples"),
    ]
    with served(words, tmp_path, drawn_images) as address:
        yield address


@pytest.fixture
def page(address):
    with browsed(address) as page:
        yield page


def upload(page, path):
    """Replace what was uploaded."""
    clear = page.locator("#file .label-clear-button, #file [aria-label=Clear]")
    if clear.count():
        clear.first.click()
        page.get_by_text("No image yet.").wait_for()
    page.set_input_files("#file input[type=file]", path)


def legend(page, panel):
    """Names and amounts as they stand on the page."""
    labels = page.locator(f"{panel} label:has(input[data-name])")
    return {i.locator("span").inner_text(): i.locator("small").inner_text() for i in labels.all()}


def difference(page, panel, expected):
    """Mean difference of an image (or the one of a panel) to RGB that was packed as it is."""
    packed = io.BytesIO()
    Image.fromarray(expected).save(packed, "jpeg")
    if isinstance(panel, str):
        panel = page.locator(f"{panel} img:visible")
    source = panel.get_attribute("src")
    given = io.BytesIO(page.request.get(source).body())
    given, wanted = (np.array(Image.open(file).convert("RGB"), int) for file in (given, packed))
    return np.abs(given - wanted).mean() if given.shape == wanted.shape else 255


def wait_for_image(page, panel, expected):
    """The words of an answer may be there a moment before its image."""
    for _ in range(50):
        if difference(page, panel, expected) < 0.5:
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"mean difference {difference(page, panel, expected)}")


def test_the_page(page, address, detector, segmentor, tmp_path):
    path = sorted(detector.images.iterdir())[0]
    objects = Predictor.from_config(detector.config, detector.checkpoint)
    semantic = Predictor.from_config(segmentor.config, segmentor.checkpoint)
    found, labels = objects(path), semantic(path)

    # An image, and all objects of the first model.
    page.get_by_text("No image yet.").wait_for()
    upload(page, path)
    page.get_by_text(f"{path.name}, 96 x 96 pixels").wait_for()
    page.locator("#one img").wait_for()
    page.fill("#threshold input[type=number]", "0")
    page.press("#threshold input[type=number]", "Tab")
    page.get_by_text(found.describe(), exact=True).wait_for()
    counts = Counter(found.names)
    areas = dict(zip(objects.classes, found.shares(), strict=True))
    amounts = {name: f"{count}, {areas[name]:.1%}" for name, count in counts.items()}
    assert legend(page, "#one") == amounts
    rgb = objects.read(path)[..., ::-1]
    drawn = draw_overlay(rgb, found.panel(), objects.classes, objects.colors)[:800]
    wait_for_image(page, "#one", drawn)

    # A class is taken out.
    first = counts.most_common(1)[0][0]
    others = found.select(classes=[name for name in objects.classes if name != first])
    page.uncheck(f"#one input[data-name='{first}']")
    page.get_by_text(others.describe(), exact=True).wait_for()
    drawn = draw_overlay(rgb, others.panel(), objects.classes, objects.colors)[:800]
    wait_for_image(page, "#one", drawn)
    with page.expect_download() as download:
        page.locator("#one .downloads a[download='results.json']").click()
    assert len(json.loads(Path(download.value.path()).read_text())) == len(others)

    # A second model beside it.
    page.click("#other input")
    page.get_by_role("option", name="upernet").click()
    page.locator("#two img").wait_for()
    page.get_by_text(labels.describe(), exact=True).wait_for()
    shares = labels.shares()
    drawn = draw_overlay(rgb, labels.panel(), semantic.classes, semantic.colors)[:800]
    wait_for_image(page, "#two", drawn)
    names = [name.strip() for name in semantic.classes]  # mmseg has 'bed '
    assert legend(page, "#two") == {names[k]: f"{shares[k]:.1%}" for k in np.flatnonzero(shares)}
    for width in (1280, 400):
        page.set_viewport_size(dict(width=width, height=900))
        page.wait_for_timeout(500)
        one, two = (page.locator(f"{panel} img").bounding_box() for panel in ("#one", "#two"))
        beside = two["x"] >= one["x"] + one["width"] and abs(two["y"] - one["y"]) < 60
        below = two["y"] >= one["y"] + one["height"]
        assert beside if width == 1280 else below
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert min(one["width"], two["width"]) >= 280
        page.screenshot(path=tmp_path / f"page-{width}.png", full_page=True)

    # What is refused, in words.
    (tmp_path / "words.png").write_text("none")
    upload(page, tmp_path / "words.png")
    page.get_by_text("words.png is not an image. Allowed are whole files of JPEG").wait_for()
    assert not page.locator("#one img").is_visible()
    Image.new("1", (1001, 1000)).save(tmp_path / "more.png")
    upload(page, tmp_path / "more.png")
    page.get_by_text("more.png has 1001 x 1000 pixels; allowed are up to 1 million").wait_for()
    (tmp_path / "heavy.png").write_bytes(bytes(1_200_000))
    upload(page, tmp_path / "heavy.png")
    page.get_by_text(re.compile("exceed the maximum allowed size of 1.0 Mb")).wait_for()
    # Also one who goes round the page: the server stops reading.
    given = dict(files=dict(name="heavy.png", mimeType="image/png", buffer=bytes(1_200_000)))
    assert page.request.post(f"{address}gradio_api/upload", multipart=given).status == 413

    hosts = {urlsplit(url).hostname for url in page.asked if url.startswith("http")}
    assert hosts == {"127.0.0.1"} and len(page.asked) > 20


# What a class may be called: markers of Handlebars and JavaScript's templates, tags, escapes.
STRANGE = (
    "${Reflect.set(window,/harmed/.source,1)}",
    "{{value}}{{{this}}}",
    "`;window.harmed=2;`",
    r"\u003cimg src\u003dx onerror\u003dwindow.harmed\u003d3\u003e",
    "<img src=x onerror=window.harmed=4>",
    "</script><script>window.harmed=5</script>",
)


def test_no_template_has_a_value(tmp_path):
    """Gradio evaluates templates with the values in them: what is sent as a value stays data."""
    pytest.importorskip("gradio", reason="no Gradio here; pip install -e '.[demo]'")
    from hordet.demo.page import build_page

    model = SimpleNamespace(is_semantic=False, classes=STRANGE, colors=[])
    page = build_page(Answers({"a": model}, tmp_path), Storage(tmp_path, 1))
    parts = [part["props"] for part in page.get_config_file()["components"]]
    parts = [part for part in parts if "html_template" in part]
    drawn = [part for part in parts if part["html_template"] != "${value}"]
    assert len(drawn) == 6 and len(parts) == 7
    assert {part["html_template"] for part in drawn} == {'<div class="drawn"></div>'}
    assert not any("${" in part["css_template"] or "{{" in part["css_template"] for part in parts)
    # The one part with a value has our own words.
    (own,) = (part for part in parts if part not in drawn)
    assert own["value"].startswith("<h2>hordet</h2>Drop an image, up to 20 MB and 16 million")


def test_what_strangers_send(detector, repository, drawn_images, tmp_path, write_two_headed_tiff):
    """Names that are code, a bomb, other sites, many pages and uploads; SIGHUP ends it."""
    weights = torch.load(detector.checkpoint, weights_only=True)
    weights["meta"]["dataset_meta"] = dict(classes=STRANGE)
    torch.save(weights, tmp_path / "strange.pth")
    words = [repository / DETECTION, tmp_path / "strange.pth"]
    words += ["--max-megapixels", 1, "--max-total-mb", 3, "--no-examples"]
    strange = "${window.harmed=6}.png"
    shutil.copy(sorted(detector.images.iterdir())[0], tmp_path / strange)
    write_two_headed_tiff(tmp_path / "bomb.tif")
    assert (tmp_path / "bomb.tif").stat().st_size < 420_000
    assert Image.open(tmp_path / "bomb.tif").size == (100, 100)
    with (
        served(words, tmp_path, drawn_images, signal.SIGHUP) as address,
        browsed(address) as page,
    ):
        upload(page, tmp_path / strange)
        page.get_by_text(re.compile(r"harmed.*, 96 x 96 pixels")).wait_for()
        page.locator("#one img").wait_for()
        page.fill("#threshold input[type=number]", "0")
        page.press("#threshold input[type=number]", "Tab")
        page.locator("#one label:has(input[data-name])").first.wait_for()
        names = set(legend(page, "#one"))
        assert names and names <= {*STRANGE}
        first = page.locator("#one input[data-name]").first
        first.uncheck()
        page.locator("#one small", has_text=re.compile("^0$")).or_(
            page.locator("#one label:has(input:not(:checked))")
        ).first.wait_for()
        page.wait_for_timeout(1000)
        assert page.evaluate("window.harmed") is None
        assert page.locator("#one label img, #note img").count() == 0

        upload(page, tmp_path / "bomb.tif")
        told = "bomb.tif is cut short or damaged"
        page.get_by_text(told).wait_for()

        # Another name for this machine, and another page.
        for headers in ({"Host": "rebound.example"}, {"Origin": "http://other.example"}):
            assert page.request.get(f"{address}config", headers=headers).status == 403
        given = dict(files=dict(name="a.png", mimeType="image/png", buffer=b"a"))
        link = f"{address}gradio_api/upload"
        headers = {"Origin": "http://other.example"}
        assert page.request.post(link, multipart=given, headers=headers).status == 403

        # Sixteen other pages are used.
        upload(page, tmp_path / strange)
        page.locator("#one img").wait_for()
        clear = next(
            part["id"]
            for part in page.request.get(f"{address}config").json()["dependencies"]
            if any(event == "clear" for _, event in part["targets"])
        )
        for number in range(16):
            asked = dict(data=[None], fn_index=clear, session_hash=f"page{number}")
            assert page.request.post(f"{address}gradio_api/queue/join", data=asked).ok
        page.fill("#threshold input[type=number]", "0.5")
        page.press("#threshold input[type=number]", "Tab")
        page.get_by_text("image is no longer kept: the last 16 pages in use are. Upload").wait_for()

        # An image past the limit of uploads, within another request.
        asked = dict(data=["data:image/png;base64," + "A" * 900_000], fn_index=clear)
        answer = page.request.post(f"{address}gradio_api/queue/join", data=asked)
        assert answer.status == 413 and "no upload may hold 256 kB" in answer.text()
        # More uploads than fit.
        for number in range(4):
            content = bytes([number]) * 900_000
            given = dict(files=dict(name="a.png", mimeType="image/png", buffer=content))
            answer = page.request.post(link, multipart=given)
        assert answer.status == 413 and "holds 3 MB of uploads and results" in answer.text()
        page.locator("#file .label-clear-button, #file [aria-label=Clear]").first.click()
        page.get_by_text("No image yet.").wait_for()
        (tmp_path / "heavy.png").write_bytes(bytes(900_000))
        page.set_input_files("#file input[type=file]", tmp_path / "heavy.png")
        page.get_by_text("The page holds 3 MB of uploads and results").wait_for()


def test_it_opens_with_an_answer_and_takes_other_examples_by_keyboard(
    repository, detector, drawn_images, tmp_path
):
    paths = sorted(detector.images.iterdir())
    known = Predictor.from_config(detector.config, detector.checkpoint)
    with (
        served([repository / DETECTION, detector.checkpoint], tmp_path, drawn_images) as address,
        browsed(address) as page,
    ):
        page.get_by_text(f"{paths[0].name}, 96 x 96 pixels").wait_for()
        page.locator("#one img").wait_for()
        buttons = page.locator("#examples button")
        assert buttons.count() == 3
        assert buttons.nth(0).get_attribute("aria-pressed") == "true"
        buttons.nth(1).focus()
        page.keyboard.press("Enter")
        page.get_by_text(f"{paths[1].name}, 96 x 96 pixels").wait_for()
        pressed = [button.get_attribute("aria-pressed") for button in buttons.all()]
        assert pressed == ["false", "true", "false"]
        page.fill("#threshold input[type=number]", "0")
        page.press("#threshold input[type=number]", "Tab")
        page.get_by_text(known(paths[1]).describe(), exact=True).wait_for()
        assert paths[1].is_file()  # an upload is removed when it is read, an example stays
        # Outlines, beside the image, and the Python lines: all by the keyboard.
        page.get_by_label("Outlines in place of areas").focus()
        page.keyboard.press("Space")
        rgb = known.read(paths[1])[..., ::-1]
        found = known(paths[1])
        drawn = draw_overlay(rgb, found.panel(), known.classes, known.colors, filled=False)[:800]
        plain = draw_overlay(rgb, found.select(classes=[]).panel(), known.classes, known.colors)
        wait_for_image(page, "#one", drawn)
        page.get_by_label("Slide between image and answer").focus()
        page.keyboard.press("Space")
        page.locator("#one .slider-wrap, #one [role=slider], #one img").nth(1).wait_for()
        for source, wanted in zip(
            page.locator("#one img:visible").all(),
            (plain, drawn),
            strict=True,
        ):
            assert difference(page, source, wanted) < 0.5
        page.get_by_role("button", name="The same in Python").focus()
        page.keyboard.press("Enter")
        page.get_by_text("Predictor.from_config(").wait_for()
        for width in (1280, 400):
            page.set_viewport_size(dict(width=width, height=900))
            page.wait_for_timeout(500)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.screenshot(path=tmp_path / f"examples-{width}.png", full_page=True)
        page.emulate_media(color_scheme="dark")
        page.screenshot(path=tmp_path / "examples-dark.png", full_page=True)


def test_paste_and_camera(repository, detector, drawn_images, tmp_path):
    words = [repository / DETECTION, detector.checkpoint]
    with served(words, tmp_path, drawn_images) as address, browsed(address) as page:
        page.locator("#one img").first.wait_for()
        page.context.grant_permissions(["clipboard-read", "clipboard-write", "camera"])
        page.get_by_role("button", name="Paste an image, or use the camera").click()
        page.evaluate(
            """async () => {
                const canvas = document.createElement('canvas');
                [canvas.width, canvas.height] = [120, 90];
                const blob = await new Promise(done => canvas.toBlob(done, 'image/png'));
                await navigator.clipboard.write([new ClipboardItem({'image/png': blob})]);
            }"""
        )
        page.locator("#capture").get_by_text("Paste from Clipboard").click()
        page.get_by_text("clipboard.png, 120 x 90 pixels").wait_for()
        page.locator("#capture button[aria-label='Capture from camera']").click()
        page.locator("#capture").get_by_text("Click to Access Webcam").click()
        shown = "document.querySelector('#capture video')?.videoWidth > 0"
        page.wait_for_function(shown)  # a click before the first frame takes nothing
        page.locator("#capture button[aria-label='capture photo']").click()
        page.get_by_text(re.compile(r"image\.png, \d+ x \d+ pixels")).wait_for()
        page.locator("#one img").first.wait_for()


def test_a_port_that_is_taken(detector, tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="no Gradio here; pip install -e '.[demo]'")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")  # so that what serve sets is taken back
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "")
    models = dict(one=Predictor.from_config(detector.config, detector.checkpoint))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DemoError, match=f"127.0.0.1, port {port}: it is taken .*by --port"):
            serve(models, "127.0.0.1", port, Limits(), print)
    assert not list(tmp_path.iterdir())


def test_without_gradio(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "hordet.demo.page", raising=False)
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "")
    with pytest.raises(DemoError, match=r"needs Gradio .*pip install -e '\.\[demo\]'"):
        serve({}, "127.0.0.1", 7860, Limits(), print)
