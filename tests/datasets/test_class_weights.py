"""Weights of classes against the formulas of their papers, written out."""

import pytest

from hordet.datasets.class_weights import weigh_objects, weigh_pixels


def test_objects_are_weighed_by_their_effective_number():
    counts, beta = [1000, 25, 400], 0.999
    effective = [sum(beta**k for k in range(n)) for n in counts]  # eq. 2 as its series
    weights = weigh_objects(counts, beta)
    assert weights[0] / weights[2] == pytest.approx(effective[2] / effective[0], rel=5e-3)
    assert weights[1] == 5.0  # bounded
    two = weigh_objects([300, 100], beta)
    assert two[0] * 300 + two[1] * 100 == pytest.approx(400, rel=1e-3)  # objects weigh as before
    assert weigh_objects([10, 0]) == [1.0, 1.0]
    assert weigh_objects([50, 50, 50]) == [1.0, 1.0, 1.0]


def test_pixels_are_weighed_by_the_root_of_their_share():
    counts = [900, 100]
    weights = weigh_pixels(counts)
    assert weights[1] / weights[0] == pytest.approx(3, rel=0.02)
    assert sum(w * n for w, n in zip(weights, counts, strict=True)) == pytest.approx(1000, rel=0.02)
    assert weigh_pixels([10**8, 1, 0]) == [1.0, 5.0, 1.0]
