"""Fetching by name and by URL, from a local source that is slow, cut, wrong or not there."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from source import serve

from hordet.checkpoints import download as fetching
from hordet.checkpoints import ensure_file, find_here, find_weights, is_at_hand, load_checkpoint
from hordet.checkpoints.named import check_kept, read_origin, remove_kept
from hordet.checkpoints.places import locate, locate_url
from hordet.checkpoints.weights import RemoteFile, Weights, read_weights
from hordet.cli import main
from hordet.errors import CheckpointError, DownloadError, FileWriteError
from hordet.hornet import HorNet

NAME = "hordet://toy"
ARCH = dict(base_channels=8, depths=(1, 1, 1, 1), orders=(2, 3, 4, 5))


def as_bytes(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def content():
    """A HorNet of the authors' form: without output norms, with a classifier."""
    torch.manual_seed(0)
    state = {k: v for k, v in HorNet(ARCH).state_dict().items() if not k.startswith("norm")}
    head = {"norm.weight": torch.ones(64), "norm.bias": torch.ones(64), "head.bias": torch.ones(9)}
    return as_bytes({"model": state | head})


@pytest.fixture
def source(monkeypatch, tmp_path, content):
    """A source with one file, a table with one name, an empty cache, no pauses."""
    monkeypatch.delenv("HORDET_OFFLINE", raising=False)
    monkeypatch.delenv("HORDET_MIRROR", raising=False)
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    monkeypatch.chdir(tmp_path)
    with serve() as source:
        source.files["/toy.pth"] = content
        set_table(monkeypatch, [RemoteFile("a page", "MIT", url=f"{source.address}/toy.pth")])
        yield source


def set_table(monkeypatch, files):
    """Let the table have one name; every module reads it by the same function's cache."""
    row = Weights("toy", "toy_file.pth", "a toy", 0.1, tuple(files), None, "MIT")
    monkeypatch.setitem(read_weights(), "toy", row)
    return row


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def files_in(folder):
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_name_is_fetched_converted_and_kept(source, content, capsys, tmp_path):
    loaded = load_checkpoint(NAME)
    kept = locate(find_weights(NAME))
    assert find_here(find_weights(NAME)) == kept
    assert torch.equal(loaded["head.bias"], torch.ones(9))
    said = capsys.readouterr().err
    assert "fetching toy: a toy; about 0.1 MB, license MIT" in said
    assert (
        f"states no SHA-256, so this first file is trusted and its SHA-256 {sha256(content)}"
        in (said)
    )
    assert read_origin(kept).sha256 == sha256(content)
    assert files_in(tmp_path / "cache") == {
        *("toy.safetensors", "toy.safetensors.sha256", "toy.safetensors.json"),
        ".toy.safetensors.lock",
    }
    assert load_checkpoint(NAME).keys() == loaded.keys() and source.count("/toy.pth") == 1
    assert "is trusted since" in check_kept(find_weights(NAME))


def test_what_is_hashed_is_what_is_kept(source, content, monkeypatch):
    """Another process puts a file in the place of the fetched one, once that is checked."""
    from hordet.checkpoints import named

    hash_open_file = named.hash_open_file

    def hash_then_swap(file):
        found = hash_open_file(file)
        other = Path(file.name).with_name("other")
        other.write_bytes(as_bytes({"model": {"head.bias": torch.zeros(9)}}))
        os.replace(other, file.name)
        return found

    monkeypatch.setattr(named, "hash_open_file", hash_then_swap)
    assert torch.equal(load_checkpoint(NAME)["head.bias"], torch.ones(9))
    assert read_origin(locate(find_weights(NAME))).sha256 == sha256(content)


def test_names_of_mmpretrain_become_ours(source, tmp_path):
    from hordet.checkpoints import convert_names, wrap_state_dict

    ours = torch.load(io.BytesIO(source.files["/toy.pth"]))
    theirs = wrap_state_dict(convert_names(ours, target="mmpretrain"))
    assert any(".gnconv.projs." in key for key in theirs["state_dict"])
    source.files["/toy.pth"] = as_bytes(theirs)
    assert any(".gnconv.pws." in key for key in load_checkpoint(NAME))


def test_a_cut_transfer_goes_on(source, content):
    source.cut = len(content) * 3 // 10
    load_checkpoint(NAME)
    asked = [part for _, part in source.asked]
    assert asked[0] is None and asked[1] == f"bytes={source.cut}-" and len(asked) == 4


def test_a_cut_transfer_is_kept_for_the_next_command(source, content, tmp_path):
    source.cut = len(content) * 3 // 10
    source.ranges = False  # every attempt begins anew, so none gets further
    with pytest.raises(DownloadError, match=r"(?s)cut after .* kept.*By hand: get one of"):
        ensure_file(NAME)
    assert find_here(find_weights(NAME)) is None
    assert ".toy.safetensors.part" in files_in(tmp_path / "cache")
    source.cut, source.ranges = None, True
    before = len(source.asked)
    load_checkpoint(NAME)
    assert [part for _, part in source.asked[before:]] == [f"bytes={len(content) * 3 // 10}-"]


def test_a_source_without_ranges_gives_all_of_it(source, content, tmp_path):
    part = tmp_path / "part"
    source.cut = 1000
    source.ranges = False
    with pytest.raises(DownloadError, match="1,000 bytes are kept"):
        fetching.download(f"{source.address}/toy.pth", part, label="")
    source.cut = None
    fetching.download(f"{source.address}/toy.pth", part, label="")
    assert part.read_bytes() == content


def test_parts_of_two_files_are_not_joined(source, content, tmp_path):
    """The file changed between two attempts: the server then sends all of the new one."""
    part = tmp_path / "part"
    source.cut, source.ranges = 1000, False
    with pytest.raises(DownloadError):
        fetching.download(f"{source.address}/toy.pth", part, label="")
    source.cut, source.ranges = None, True
    source.files["/toy.pth"], source.tags["/toy.pth"] = content[::-1], '"two"'
    fetching.download(f"{source.address}/toy.pth", part, label="")
    assert part.read_bytes() == content[::-1]
    assert source.asked[-1][1] == "bytes=1000-"


def test_a_killed_fetch_goes_on(source, content, tmp_path):
    """Killed in the middle of a slow transfer; the next process asks for the rest."""
    code = (
        "from hordet.checkpoints.download import download; from pathlib import Path; import sys;"
        "download(sys.argv[1], Path(sys.argv[2]), label='')"
    )
    part, url = tmp_path / "part", f"{source.address}/big.bin"
    source.files["/big.bin"] = os.urandom(1 << 20)
    with source.held:
        process = subprocess.Popen([sys.executable, "-c", code, url, part])
        half = 1 << 19
        while not (part.is_file() and part.stat().st_size >= half):
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        process.wait()
    fetching.download(url, part, label="")
    assert part.read_bytes() == source.files["/big.bin"]
    assert source.asked[-1] == ("/big.bin", f"bytes={half}-")


def test_a_wrong_length_is_no_success(source, content):
    source.length = len(content) + 7
    with pytest.raises(DownloadError, match="cut after|bytes are kept"):
        ensure_file(NAME)
    assert find_here(find_weights(NAME)) is None


def test_an_exact_size_is_required(source, monkeypatch):
    row = find_weights(NAME)
    set_table(monkeypatch, [RemoteFile("a page", "MIT", url=row.files[0].url, bytes=12345)])
    with pytest.raises(DownloadError, match="must have 12,345"):
        ensure_file(NAME)


def test_wrong_bytes_are_kept_aside(source, monkeypatch, content, tmp_path):
    url = find_weights(NAME).files[0].url
    row = set_table(monkeypatch, [RemoteFile("a page", "MIT", url=url, sha256="0" * 8)])
    with pytest.raises(CheckpointError, match=rf"SHA-256 {sha256(content)}, and 00000000\.\.\. is"):
        load_checkpoint(NAME)
    bad = locate(row).with_name("toy.safetensors.bad")
    assert bad.read_bytes() == content and find_here(row) is None
    set_table(monkeypatch, [RemoteFile("a page", "MIT", url=url, sha256=sha256(content)[:8])])
    assert "head.bias" in load_checkpoint(NAME)
    assert f"its source states the SHA-256 {sha256(content)}" in check_kept(find_weights(NAME))


@pytest.mark.parametrize(
    ("bytes_", "words"),
    [
        (b"<!DOCTYPE html><html>sign in</html>", "is not a checkpoint: it begins with b'<!'"),
        (as_bytes({"state_dict": {"x": torch.zeros(1)}}), "no known kind of model"),
    ],
)
def test_what_is_no_model_is_kept_aside(source, tmp_path, bytes_, words):
    source.files["/toy.pth"] = bytes_
    with pytest.raises(CheckpointError, match=words):
        ensure_file(NAME)
    assert "toy.safetensors.bad" in files_in(tmp_path / "cache")
    assert find_here(find_weights(NAME)) is None


def test_an_empty_file_is_refused(source):
    source.files["/toy.pth"] = b""
    with pytest.raises(DownloadError, match="gave 0 bytes"):
        ensure_file(NAME)


def test_a_name_unknown_to_the_model_is_refused(source, content):
    state = torch.load(io.BytesIO(content))["model"]
    source.files["/toy.pth"] = as_bytes({"model": state | {"surprise": torch.zeros(1)}})
    with pytest.raises(CheckpointError, match="100% are needed"):
        ensure_file(NAME)


def test_pickled_code_is_not_run(source, tmp_path):
    import os as system

    class Code:
        def __reduce__(self):
            return system.mkdir, (str(tmp_path / "ran"),)

    source.files["/toy.pth"] = as_bytes({"model": Code()})
    with pytest.raises(CheckpointError, match="holds pickled code"):
        ensure_file(NAME)
    assert not (tmp_path / "ran").exists()


def test_a_source_that_changes_is_noticed(source, content, capsys):
    ensure_file(NAME)
    row = find_weights(NAME)
    assert len(remove_kept(row)) == 2 and find_here(row) is None
    source.files["/toy.pth"] = as_bytes(torch.load(io.BytesIO(content)) | {"epoch": 1})
    with pytest.raises(CheckpointError, match="rm toy --forget"):
        ensure_file(NAME)
    assert len(remove_kept(row, forget_origin=True)) == 2  # the memory and the .bad
    ensure_file(NAME)


def test_redirects_are_followed_and_404_goes_to_the_next_source(source, monkeypatch):
    source.redirects["/old"] = "/older"
    source.redirects["/older"] = "/toy.pth?key=1"
    set_table(
        monkeypatch,
        [
            RemoteFile("one page", "MIT", url=f"{source.address}/absent.pth"),
            RemoteFile("a page", "MIT", url=f"{source.address}/old?dl=1"),
        ],
    )
    load_checkpoint(NAME)
    assert [path for path, _ in source.asked] == ["/absent.pth", "/old", "/older", "/toy.pth"]
    assert read_origin(locate(find_weights(NAME))).place == f"{source.address}/old"


@pytest.mark.parametrize("wrong", [b"<!doctype html>", as_bytes({"x": torch.ones(1)}), b"PK\3\4"])
def test_a_source_with_a_wrong_file_does_not_keep_the_next_from_being_asked(
    source, monkeypatch, content, tmp_path, wrong
):
    source.files["/wrong.pth"] = wrong
    row = set_table(
        monkeypatch,
        [
            RemoteFile("one page", "MIT", url=f"{source.address}/wrong.pth"),
            RemoteFile("a page", "MIT", url=f"{source.address}/toy.pth"),
        ],
    )
    assert torch.equal(load_checkpoint(NAME)["head.bias"], torch.ones(9))
    assert (source.count("/wrong.pth"), source.count("/toy.pth")) == (1, 1)
    assert locate(row).with_name("toy.safetensors.bad").read_bytes() == wrong


def test_no_step_down_from_https():
    handler = fetching._StaySecure()
    request = fetching.Request("https://example.org/a")
    with pytest.raises(DownloadError, match="leads from https to http://example.org/b"):
        handler.redirect_request(request, None, 302, "", {}, "http://example.org/b")


def test_every_source_is_named_when_none_has_it(source):
    del source.files["/toy.pth"]
    with pytest.raises(DownloadError) as caught:
        ensure_file(NAME)
    assert "the server answers 404" in str(caught.value)
    assert f"{source.address}/toy.pth (the source states no SHA-256; named in a page)" in (
        str(caught.value)
    )
    assert f"save it as {Path('pretrained/toy_file.pth')}" in str(caught.value)


def test_a_busy_server_is_asked_again(source):
    source.status["/toy.pth"] = 503
    with pytest.raises(DownloadError, match="the server answers 503"):
        ensure_file(NAME)
    assert source.count("/toy.pth") == fetching.FRUITLESS


def test_no_connection_says_what_to_do_by_hand(source, monkeypatch):
    nowhere = RemoteFile("a page", "MIT", url="http://127.0.0.1:1/a", sha256="ab" * 32)
    set_table(monkeypatch, [nowhere])
    with pytest.raises(DownloadError, match="no connection") as caught:
        ensure_file(NAME)
    assert f"http://127.0.0.1:1/a (SHA-256 {'ab' * 32}; named in a page)" in str(caught.value)


def test_offline_asks_nobody(source, monkeypatch, content):
    monkeypatch.setenv("HORDET_OFFLINE", "1")
    with pytest.raises(DownloadError, match="nothing may be fetched.*By hand: get one of"):
        ensure_file(NAME)
    with pytest.raises(DownloadError, match="not asked, because of --offline"):
        load_checkpoint(f"{source.address}/toy.pth")
    assert not is_at_hand(NAME) and source.asked == []
    Path("pretrained").mkdir()
    Path("pretrained/toy_file.pth").write_bytes(content)
    assert is_at_hand(NAME) and "head.bias" in load_checkpoint(NAME)
    assert find_here(find_weights(NAME)) == Path("pretrained/toy_file.pth")
    assert "put there by hand" in check_kept(find_weights(NAME))


def test_a_mirror_stands_in_place_of_the_sources(source, monkeypatch, tmp_path, content):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("HORDET_MIRROR", str(mirror))
    monkeypatch.setenv("HORDET_OFFLINE", "1")  # a folder needs no network
    with pytest.raises(DownloadError, match="has no toy.pth or toy_file.pth"):
        ensure_file(NAME)
    (mirror / "toy_file.pth").write_bytes(content)
    load_checkpoint(NAME)
    assert source.asked == []
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.delenv("HORDET_OFFLINE")
    monkeypatch.setenv("HORDET_MIRROR", f"{source.address}/below/")
    source.files["/below/toy_file.pth"] = content
    load_checkpoint(NAME)
    assert [path for path, _ in source.asked] == ["/below/toy.pth", "/below/toy_file.pth"]


def test_a_proxy_of_the_environment_is_asked(source, monkeypatch, content):
    monkeypatch.setenv("http_proxy", source.address)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    set_table(monkeypatch, [RemoteFile("a page", "MIT", url="http://nowhere.invalid/a.pth")])
    source.files["http://nowhere.invalid/a.pth"] = content
    assert "head.bias" in load_checkpoint(NAME)


def test_processes_fetch_once(source):
    """Four ask while the source holds its answer back; one of them is served."""
    results = []
    with source.held:
        threads = [
            threading.Thread(target=lambda: results.append(ensure_file(NAME))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        while not source.asked:
            time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert len(results) == 4 and len({*results}) == 1 and source.count("/toy.pth") == 1


def test_two_processes_fetch_a_url_once(source, tmp_path):
    code = "from hordet.checkpoints import ensure_file; import sys; print(ensure_file(sys.argv[1]))"
    command = [sys.executable, "-c", code, f"{source.address}/toy.pth"]
    with source.held:
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        while not source.asked:
            assert processes[0].poll() is None and processes[1].poll() is None
            time.sleep(0.05)
    paths = [process.communicate()[0].strip() for process in processes]
    assert paths[0] == paths[1] != "" and source.count("/toy.pth") == 1


def test_no_space_is_said_before_anything_is_fetched(source, monkeypatch, content):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    needed = len(content) + 100_000
    with pytest.raises(FileWriteError, match=f"1,000 bytes free, and {needed:,} more are needed"):
        ensure_file(NAME)


def test_a_cache_that_cannot_be_written(source, monkeypatch, tmp_path, content):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(FileWriteError, match="cannot write .*cache"):
        ensure_file(NAME)
    # What is in it already can be used without writing.
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))
    ensure_file(NAME)
    monkeypatch.setattr("hordet.checkpoints.named._alone", None)
    assert "head.bias" in load_checkpoint(NAME)


def test_a_damaged_file_in_the_cache_is_noticed(source):
    path = ensure_file(NAME)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(NAME)


def test_urls_with_one_file_name_are_apart_and_keep_no_query(source):
    first, second = as_bytes({"state_dict": {}, "a": 1}), as_bytes({"state_dict": {}, "a": 2})
    source.files |= {"/1/same.pth": first, "/2/same.pth": second}
    one, two = f"{source.address}/1/same.pth?key=secret", f"{source.address}/2/same.pth"
    assert load_checkpoint(one)["a"] == 1 and load_checkpoint(two)["a"] == 2
    assert load_checkpoint(f"{one}#sha256={sha256(first)}")["a"] == 1
    with pytest.raises(CheckpointError, match="is stated"):
        load_checkpoint(f"{one}#sha256={sha256(second)}")
    assert locate_url(one).name == "same.pth" and "secret" not in str(locate_url(one))
    assert source.count("/1/same.pth") == 1


@pytest.mark.parametrize("cut", [0, 500])
def test_a_cut_download_of_a_url_does_not_stay(source, cut, tmp_path):
    """torch.hub kept what had come, under the final name, and took it next time."""
    url = f"{source.address}/toy.pth"
    source.cut, source.ranges = cut, False
    with pytest.raises(DownloadError):
        load_checkpoint(url)
    assert not locate_url(url).exists()
    source.cut, source.ranges = None, True
    assert "model" in load_checkpoint(url)


def test_mmengine_loads_names(source, installed):
    from mmengine.runner import CheckpointLoader

    assert "head.bias" in CheckpointLoader.load_checkpoint(NAME, "cpu")


def test_the_command(source, capsys, content):
    assert main(["weights", "path", "toy"]) == 2
    assert "hordet weights get toy fetches it" in capsys.readouterr().err
    assert main(["weights", "get", "toy"]) == 0
    kept = str(locate(find_weights(NAME)))
    assert kept in capsys.readouterr().out
    assert main(["weights", "path", "toy"]) == 0 and capsys.readouterr().out.strip() == kept
    assert main(["weights", "list"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("toy "))
    assert line.split()[1:4] == ["0", "MB", "MIT"] and kept in line
    assert main(["weights", "verify", "toy"]) == 0
    assert "is whole" in capsys.readouterr().out
    Path(kept).write_bytes(b"no")
    assert main(["weights", "verify", "toy"]) == 1
    assert "is damaged" in capsys.readouterr().err
    assert main(["weights", "rm", "toy"]) == 0 and kept in capsys.readouterr().out
    assert main(["weights", "get", "tyo"]) == 2
    assert "did you mean 'toy'" in capsys.readouterr().err


def test_a_fetch_that_fails_does_not_keep_the_others_back(source, monkeypatch, capsys):
    absent = RemoteFile("a page", "MIT", url=f"{source.address}/no")
    other = Weights("gone", "gone.pth", "x", 1, (absent,), None, "MIT")
    monkeypatch.setitem(read_weights(), "gone", other)
    assert main(["weights", "get", "gone", "toy"]) == 1
    printed = capsys.readouterr()
    assert "toy  /" in printed.out and "gone could not be fetched" in printed.err


def test_offline_as_a_flag(source, capsys, monkeypatch):
    monkeypatch.setenv("HORDET_OFFLINE", "0")
    assert main(["weights", "get", "toy", "--offline"]) == 1
    assert "nothing may be fetched" in capsys.readouterr().err and source.asked == []


def test_state_of_a_part_names_no_key(source, tmp_path):
    source.cut, source.ranges = 500, False
    with pytest.raises(DownloadError) as caught:
        load_checkpoint(f"{source.address}/toy.pth?key=secret")
    assert "secret" not in str(caught.value)
    (state,) = (tmp_path / "cache").rglob("*.part.json")
    assert "secret" not in state.read_text() and json.loads(state.read_text())["total"]
