"""Who is answered by the page's server, and how much may be uploaded."""

import asyncio
import os
import time

import httpx
import pytest
from starlette.responses import FileResponse

from hordet.demo.gate import Gate, Storage


async def page(scope, receive, send):
    """Answer any request by its path."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def ask(gate, base="http://127.0.0.1:7860", method="GET", path="/config", **options):
    async def run():
        transport = httpx.ASGITransport(app=gate)
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            return await client.request(method, path, **options)

    return asyncio.run(run())


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path, 1)


def test_addresses_of_this_page_are_answered(storage):
    gate = Gate(page, "192.0.2.7", ["Box.Example"], storage)
    for base in (
        "http://127.0.0.1:7860",
        "http://localhost:8000",  # forwarded by ssh
        "http://[::1]:7860",
        "http://192.0.2.7:7860",
        "http://box.example",
    ):
        assert ask(gate, base).text == "/config"
        assert ask(gate, base, headers=dict(origin=base)).status_code == 200


def test_other_names_and_pages_are_refused(storage):
    gate = Gate(page, "127.0.0.1", [], storage)
    answer = ask(gate, "http://rebound.example:7860")
    assert answer.status_code == 403
    assert answer.text == (
        "This page is not served as 'rebound.example', but as 127.0.0.1, ::1, localhost. "
        "hordet demo --name rebound.example allows that name"
    )
    for origin in ("http://evil.example", "null", "http://127.0.0.1:3000", "http://localhost:7860"):
        answer = ask(gate, method="POST", path="/gradio_api/upload", headers=dict(origin=origin))
        assert answer.status_code == 403, origin
        assert answer.text == f"A page of {origin} may not use this one"
    assert ask(gate, headers=dict(host="")).status_code == 403


def test_any_address_means_the_one_that_was_called(storage):
    """httpx's transport calls ("host of the URL", port), as a server has its own address."""
    gate = Gate(page, "0.0.0.0", [], storage)  # noqa: S104
    assert ask(gate, "http://192.0.2.9:7860").status_code == 200
    assert ask(gate, "http://192.0.2.9:7860", headers=dict(host="evil.example")).status_code == 403
    assert ask(gate, "http://192.0.2.9", headers=dict(host="0.0.0.0")).status_code == 403  # noqa: S104


def test_uploads_are_taken_while_there_is_room(storage, tmp_path):
    gate = Gate(page, "127.0.0.1", [], storage)
    upload = dict(method="POST", path="/gradio_api/upload")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/kept.png").write_bytes(bytes(600_000))
    assert ask(gate, **upload, content=bytes(400_000)).status_code == 200
    answer = ask(gate, **upload, content=bytes(400_001))
    assert answer.status_code == 413
    assert answer.text.startswith(
        "The page holds 1 MB of uploads and results, its limit. Try again"
    )
    # What is on its way counts, also when it fails.
    storage.expect(300_000)
    assert ask(gate, **upload, content=bytes(100_001)).status_code == 413
    storage.expect(-300_000)
    assert ask(gate, **upload, content=bytes(400_000)).status_code == 200

    async def parts():
        yield b"of no length"

    assert ask(gate, **upload, content=parts()).status_code == 411


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_request_that_is_no_upload_carries_no_image(storage, tmp_path, method):
    """Gradio keeps an image that comes as a data URL in its folder, too."""
    gate = Gate(page, "127.0.0.1", [], storage)
    queue = dict(method=method, path="/gradio_api/queue/join")
    assert ask(gate, **queue, content=bytes(256_000)).status_code == 200
    answer = ask(gate, **queue, content=bytes(256_001))
    assert (answer.status_code, answer.text) == (
        413,
        "A request that is no upload may hold 256 kB: upload images",
    )
    (tmp_path / "kept.png").write_bytes(bytes(1_000_000))
    assert ask(gate, **queue, content=bytes(50_000)).status_code == 200
    assert ask(gate, **queue, content=bytes(50_001)).status_code == 413
    assert ask(gate, **queue).status_code == 200

    async def parts():
        yield b"of no length"

    assert ask(gate, **queue, content=parts()).status_code == 411


def test_a_file_that_was_removed_meanwhile_is_no_error_of_the_server(storage, tmp_path):
    answer = ask(Gate(FileResponse(tmp_path / "gone.png"), "127.0.0.1", [], storage))
    assert (answer.status_code, answer.text) == (404, "This file is no longer kept")
    # Removed between the look at it and the opening.
    there = tmp_path / "there.png"
    there.write_bytes(bytes(9))
    response = FileResponse(there, stat_result=there.stat())
    there.unlink()
    answer = ask(Gate(response, "127.0.0.1", [], storage))
    assert (answer.status_code, answer.text) == (404, "This file is no longer kept")


def test_an_error_of_the_page_stays_one(storage):
    async def fail(scope, receive, send):
        raise RuntimeError("something else")

    async def begin_and_fail(scope, receive, send):
        await send(dict(type="http.response.start", status=200, headers=[]))
        raise FileNotFoundError

    for app, error in ((fail, RuntimeError), (begin_and_fail, FileNotFoundError)):
        with pytest.raises(error):
            ask(Gate(app, "127.0.0.1", [], storage))

    async def broken(scope, receive, send):
        raise RuntimeError("another fault")

    with pytest.raises(RuntimeError, match="another fault"):
        ask(Gate(broken, "127.0.0.1", [], storage))


def test_the_oldest_files_make_room(storage, tmp_path):
    now = time.time()
    for number, age in enumerate((400, 300, 200, 10)):
        path = tmp_path / f"{number}.png"
        path.write_bytes(bytes(250_000))
        os.utime(path, (now - age, now - age))
    assert storage.make_room(300_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.png", "3.png"]
    # What is younger than a minute may be in use.
    assert not storage.make_room(900_000)
    assert [path.name for path in tmp_path.iterdir()] == ["3.png"]
