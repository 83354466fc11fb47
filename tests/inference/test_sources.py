"""What the words of a command line mean, and videos."""

import cv2
import numpy as np
import pytest

from hordet.errors import DatasetError
from hordet.inference.sources import Source, find_sources, read_images


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "in/c.png", "in/a.jpg", "notes.txt", ".hidden.png", "out/a.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def names(sources):
    return [source.file_name for source in sources]


def test_a_folder_with_all_that_is_in_it(folder):
    sources, missing = find_sources([str(folder)], apart=folder / "out")
    assert names(sources) == ["a.JPG", "b.png", "in/a.jpg", "in/c.png"] and not missing


def test_globs_files_and_lists(folder):
    sources, _ = find_sources([f"{folder}/*/*.jpg"])
    assert names(sources) == ["in/a.jpg", "out/a.jpg"]
    sources, _ = find_sources([f"{folder}/**/c.*"])
    assert names(sources) == ["in/c.png"]
    # A file that is named is taken whatever its ending; one that is named twice comes once.
    words = [f"{folder}/notes.txt", f"{folder}/b.png", "-"]
    sources, _ = find_sources(words, [f"{folder}/in/c.png\n", "\n", f"{folder}/b.png\n"])
    assert names(sources) == ["notes.txt", "b.png", "c.png"]


def test_outputs_of_one_name_are_told_apart(folder):
    (folder / "b.jpg").write_bytes(b"")
    (folder / "b-2.png").write_bytes(b"")
    words = [f"{folder}/{name}" for name in ("b.png", "b-2.png", "b.jpg", "in/a.jpg", "out/a.jpg")]
    stems = [source.stem for source in find_sources(words)[0]]
    assert stems == ["b", "b-2", "b-3", "a", "a-2"]


def test_words_that_mean_nothing(folder):
    (folder / "empty").mkdir()
    words = [f"{folder}/none.png", f"{folder}/*.gif", f"{folder}/empty", f"{folder}/b.png"]
    sources, missing = find_sources(words)
    assert names(sources) == ["b.png"]
    assert missing[0].endswith("none.png: no such file or folder")
    assert "no image or video is there; endings that count are .bmp" in missing[1]
    assert "no image or video is there" in missing[2]


def write_video(path, frames):
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for number in range(frames):
        video.write(np.full((48, 64, 3), 20 * number, np.uint8))
    video.release()


def test_frames_of_a_video(tmp_path):
    write_video(tmp_path / "film.mp4", 6)
    (source,), _ = find_sources([str(tmp_path)])
    images = list(read_images(source, None))
    assert [image.file_name for image in images] == [f"film.mp4#{i}" for i in range(6)]
    assert images[3].stem == "film/000003" and images[3].frames_per_second == 10
    assert [round(p.pixels.mean() / 20) for p in images] == list(range(6))


def test_broken_videos(tmp_path):
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(DatasetError, match="is no video that OpenCV reads"):
        list(read_images(Source(tmp_path / "text.mp4", "text.mp4", "text"), None))


def test_what_is_left_out_is_counted_by_ending(folder):
    for name in ("c.GIF", "in/d.gif", "e.heic", "out/f.gif", "README"):
        (folder / name).write_bytes(b"")
    said = []
    words = [str(folder), f"{folder}/e.heic"]
    sources, missing = find_sources(words, (), folder / "out", said.append)
    assert names(sources) == ["a.JPG", "b.png", "in/a.jpg", "in/c.png", "e.heic"] and not missing
    # What is named itself is taken; what is hidden, or in the folder of results, is not counted.
    (line,) = said
    assert line.startswith(
        "left out by their endings: 2 .gif, 1 .txt, 1 without an ending. Endings that count"
    )
    said.clear()
    find_sources([f"{folder}/*.png"], say=said.append)
    assert not said


def test_a_name_that_no_file_can_have(folder):
    sources, (problem,) = find_sources(["x" * 300, f"{folder}/b.png"])
    assert names(sources) == ["b.png"] and problem.endswith("x: File name too long")


def test_links_to_nothing_are_inputs_that_fail_by_name(tmp_path):
    (tmp_path / "gone.png").symlink_to("/nowhere/a.png")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "notes").symlink_to("nothing.txt")
    for words in ([str(tmp_path)], [f"{tmp_path}/*"]):
        sources, missing = find_sources(words, apart=tmp_path / "out")
        assert names(sources) == ["gone.png", "self.jpg"] and not missing
    for source, target in zip(sources, ("/nowhere/a.png", "self.jpg"), strict=True):
        with pytest.raises(DatasetError, match=f"is a link to {target}, which leads to no file"):
            next(read_images(source, lambda path: pytest.fail(f"{path} is read")))
