"""Label maps: whole numbers of any type are read; what is none is refused with its values."""

import io

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from hordet.datasets.label_maps import decode_label_map, read_label_colors
from hordet.datasets.transforms import LoadSegAnnotations
from hordet.errors import DatasetError
from hordet.new_config.class_names import read_class_names


def encode(values, kind="TIFF"):
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_whole_numbers_of_any_type(dtype):
    values = np.array([[0, 1, 2], [255, 2, 1]], dtype)
    np.testing.assert_array_equal(decode_label_map(encode(values), "a.tif"), values)


@pytest.mark.parametrize(
    "values, words",
    [
        (np.array([[1, 1.5], [0.25, 2]], np.float32), "holds values 0.25, 1.5, which are no whole"),
        (np.array([[1, np.nan], [0, 2]], np.float32), "holds NaN or infinity in 1 of 4 pixels"),
        (np.array([[1, -9999]], np.float32), "holds value -9999, below 0"),
        (np.array([[1, -1]], np.int32), "holds value -1, below 0"),
        (np.array([[1, 65535]], np.uint16), "holds value 65535, but with 3 classes"),
        (np.array([[1, 1e30]], np.float32), "holds value 1e[+]30, above 65535"),
    ],
)
def test_other_values_are_named(values, words, tmp_path):
    path = tmp_path / "map.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(DatasetError, match=rf"label map .*map\.tif .*{words}"):
        LoadSegAnnotations(num_classes=3)(dict(seg_map_path=str(path)))


def write_colors(root):
    folder = root / "masks" / "train"
    folder.mkdir(parents=True)
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbar:61,61,245::\nblob:250,50,83::\n"
    )
    return folder / "a.png"


def test_colors_are_read_by_their_label_map(tmp_path):
    path = write_colors(tmp_path)
    colors = np.array([[0, 0, 0], [61, 61, 245], [250, 50, 83]], np.uint8)
    values = np.array([[0, 1, 2], [2, 2, 0]])
    Image.fromarray(colors[values]).save(path)
    load = LoadSegAnnotations(num_classes=3)
    np.testing.assert_array_equal(load(dict(seg_map_path=str(path)))["gt_seg_map"], values)
    assert list(read_label_colors(tmp_path / "labelmap.txt")) == ["background", "bar", "blob"]


def test_colors_that_no_file_names(tmp_path):
    path = write_colors(tmp_path)
    Image.fromarray(np.full((2, 2, 3), 7, np.uint8)).save(path)
    with pytest.raises(DatasetError, match=r"1 colors that .*labelmap.txt does not name.*7, 7, 7"):
        LoadSegAnnotations(num_classes=3)(dict(seg_map_path=str(path)))
    (tmp_path / "labelmap.txt").write_text("a:1,2\n")
    with pytest.raises(DatasetError, match="names none in the line 'a:1,2'"):
        LoadSegAnnotations(num_classes=3)(dict(seg_map_path=str(path)))
    (tmp_path / "labelmap.txt").unlink()
    with pytest.raises(DatasetError, match="3 channels.*labelmap.txt of CVAT"):
        LoadSegAnnotations(num_classes=3)(dict(seg_map_path=str(path)))


drawn_maps = st.tuples(
    st.sampled_from([np.uint8, np.uint16, np.int32, np.float32]),
    st.lists(
        st.sampled_from([0, 1, 2, 3, 4, 254, 255, 256, 257, 65535, -1, -255, 0.5, float("nan")]),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)


@seed(16)
@settings(max_examples=200, deadline=None, database=None)
@given(drawn_maps)
def test_a_map_is_read_as_written_or_refused(tmp_path_factory, drawn):
    dtype, listed, reduce_zero_label = drawn
    with np.errstate(all="ignore"):
        values = np.array([listed]).astype(dtype)
    path = tmp_path_factory.getbasetemp() / "drawn.tif"
    Image.fromarray(values).save(path)
    first = int(reduce_zero_label)
    fine = all(v in (0, 255, *range(first, 4 + first)) for v in values[0].tolist())
    sample = dict(seg_map_path=str(path), reduce_zero_label=reduce_zero_label)
    if not fine:
        with pytest.raises(DatasetError, match="drawn.tif"):
            LoadSegAnnotations(num_classes=4)(sample)
        return
    expected = values.astype(int) - first
    expected[(expected < 0) | (expected >= 4)] = 255
    np.testing.assert_array_equal(LoadSegAnnotations(num_classes=4)(sample)["gt_seg_map"], expected)


def test_a_table_of_colors_serves_as_well(tmp_path):
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nroad,128,64,128\nsky, 0, 0, 255\n")
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:2], pixels[2:] = (0, 0, 255), (128, 64, 128)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    values = decode_label_map((tmp_path / "a.png").read_bytes(), tmp_path / "a.png")
    assert values[:2].tolist() == [[1] * 6] * 2 and values[2:].tolist() == [[0] * 6] * 2
    assert read_class_names(tmp_path, None) == (["road", "sky"], tmp_path / "class_dict.csv")
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nroad,128,64\n")
    with pytest.raises(
        DatasetError, match=r"names none in the line 'road,128,64'. Write 'name,red"
    ):
        decode_label_map((tmp_path / "a.png").read_bytes(), tmp_path / "a.png")


@pytest.mark.parametrize("value", [2.0000002, 0.99999994, 4194303.5])
def test_fractions_are_printed_with_every_digit(tmp_path, value):
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = value
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    with pytest.raises(DatasetError) as caught:
        decode_label_map(buffer.getvalue(), tmp_path / "a.tif")
    shown = str(caught.value).split()[2].rstrip(",")
    assert np.float32(shown) == np.float32(value) and not float(shown).is_integer()
