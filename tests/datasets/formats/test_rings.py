"""Outlines that are joined and parted, and outlines of pixels."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from hordet.datasets.formats.rings import (
    draw_rings,
    find_bounds,
    join_rings,
    measure_area,
    outline_box,
    outline_ellipse,
    part_rings,
    trace_mask,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.booleans(), min_size=7, max_size=7),
        min_size=5,
        max_size=5,
    )
)
def test_a_traced_mask_is_drawn_the_same(rows):
    mask = np.array(rows, np.uint8)
    if not mask.any():
        assert trace_mask(mask) == ([], [])
        return
    outlines, holes = trace_mask(mask)
    drawn = coco_mask.decode(draw_rings(outlines, holes, mask.shape))
    assert (drawn == mask).all()
    area = sum(map(measure_area, outlines)) + sum(map(measure_area, holes))
    assert area == mask.sum()
    # Joined into one ring, as in YOLO's files, and parted: the same again.
    parted = part_rings(join_rings(outlines + holes))
    drawn = coco_mask.decode(draw_rings(*parted, mask.shape))
    assert (drawn == mask).all()


def test_a_frame_has_one_hole_and_corners_alone():
    mask = np.ones((6, 8), np.uint8)
    mask[2:4, 3:6] = 0
    outlines, holes = trace_mask(mask)
    assert [sorted(zip(r[::2], r[1::2], strict=True)) for r in outlines] == [
        [(0, 0), (0, 6), (8, 0), (8, 6)]
    ]
    assert [sorted(zip(r[::2], r[1::2], strict=True)) for r in holes] == [
        [(3, 2), (3, 4), (6, 2), (6, 4)]
    ]


def test_three_parts_are_one_ring_and_three_again():
    rings = [outline_box([5.25 * i, 3.125, 4, 4]) for i in range(3)]
    joined = join_rings(rings)
    assert len(joined) == 2 * (12 + 4)  # each bridge repeats a point at either end
    outlines, holes = part_rings(joined)
    assert holes == []
    corners = {frozenset(zip(r[::2], r[1::2], strict=True)) for r in outlines}
    assert corners == {frozenset(zip(r[::2], r[1::2], strict=True)) for r in rings}


def test_a_spike_is_no_bridge():
    ring = [0.0, 0.0, 4.0, 0.0, 8.0, 0.0, 4.0, 0.0, 4.0, 4.0, 0.0, 4.0]
    assert part_rings(ring) == ([ring], [])


def test_circles_and_turned_boxes():
    ring = outline_ellipse(50, 40, 20, 20)
    distances = [math.hypot(x - 50, y - 40) for x, y in zip(ring[::2], ring[1::2], strict=True)]
    assert max(abs(d - 20) for d in distances) < 1e-9
    assert 0.99 < measure_area(ring) / (math.pi * 400) < 1
    turned = outline_box([10, 10, 20, 4], math.pi / 2)
    assert np.allclose(find_bounds([turned]), (18, 2, 4, 20))
    # Clockwise: the right end of a bar goes down.
    end = outline_box([0, 0, 10, 2], math.radians(30))[2:4]
    assert end[1] > 1
