"""The cache of drawn images: one folder a data set, drawn once, when it is needed."""

import multiprocessing

import pytest

from hordet.datasets.shapes import cache, files
from hordet.datasets.shapes.cache import (
    draw_missing_shapes,
    ensure_shapes,
    locate_shapes,
)
from hordet.errors import DatasetError


def test_the_folder_keeps_its_name(tmp_path, monkeypatch):
    """Work folders and the pages name it; nothing is drawn for that."""
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path))
    assert locate_shapes() == tmp_path / "shapes-4ad86ac5e02b"
    monkeypatch.delenv("HORDET_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate_shapes() == tmp_path / ".cache" / "hordet" / "shapes-4ad86ac5e02b"
    assert not list(tmp_path.iterdir())


def test_cache_is_named_by_its_settings_and_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))
    tiny = dict(num_train=1, num_val=1, size=(32, 32))
    root = ensure_shapes(**tiny)
    assert root.parent == tmp_path / "cache" and root.name.startswith("shapes-")
    mark = (root / "train" / "000001.png").stat().st_mtime_ns
    assert ensure_shapes(**tiny) == root
    assert (root / "train" / "000001.png").stat().st_mtime_ns == mark
    assert ensure_shapes(**tiny, seed=3) != root
    monkeypatch.setattr(files, "VERSION", files.VERSION + 1)
    assert ensure_shapes(**tiny) != root


def test_several_processes_at_once_see_one_whole_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path))
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        settings = dict(num_train=6, num_val=2, size=(48, 48))
        roots = [job.get(60) for job in [pool.apply_async(ensure_shapes, (), settings)] * 3]
    assert len(set(roots)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [roots[0].name]
    assert len([path for path in roots[0].rglob("*") if path.is_file()]) == 2 * 8 + 2


def test_the_loser_of_a_race_takes_the_winners_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path))
    tiny = dict(num_train=1, num_val=1, size=(32, 32))
    write_split = files._write_split

    def meanwhile(root, split, *rest):
        write_split(root, split, *rest)
        if split == "val":
            winner = next(path for path in tmp_path.iterdir()).name[1:].rsplit("-", 1)[0]
            (tmp_path / winner / "theirs").mkdir(parents=True)

    monkeypatch.setattr(files, "_write_split", meanwhile)
    root = ensure_shapes(**tiny)
    assert [path.name for path in root.iterdir()] == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == [root.name]


def test_a_failed_writing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("no space left")

    monkeypatch.setenv("HORDET_CACHE", str(tmp_path))
    monkeypatch.setattr(files, "_write_png", fail)
    with pytest.raises(
        DatasetError, match="no space left.*Set the environment variable HORDET_CACHE"
    ):
        ensure_shapes(num_train=1, num_val=1)
    assert not list(tmp_path.iterdir())


def test_a_cache_that_is_no_folder(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DatasetError, match="cannot be drawn to .*HORDET_CACHE to a folder"):
        ensure_shapes(num_train=1, num_val=1)


def test_only_a_config_that_reads_shapes_draws_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HORDET_CACHE", str(tmp_path))
    drawn = []
    monkeypatch.setattr(cache, "ensure_shapes", lambda: drawn.append(True))
    for root in (None, "data/coco", str(tmp_path)):
        draw_missing_shapes(dict(train_dataloader=dict(dataset=dict(data_root=root))))
    draw_missing_shapes(dict(train_dataloader=None))
    assert not drawn
    inner = dict(data_root=str(locate_shapes()))
    wrapped = dict(type="RepeatDataset", times=2, dataset=inner)
    draw_missing_shapes(dict(train_dataloader=None, test_dataloader=dict(dataset=wrapped)))
    assert drawn == [True]
