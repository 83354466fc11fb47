"""LRASPPHead takes images of any size and mmseg's weights."""

import pytest
import torch

from hordet.registry import MODELS

SETTINGS = dict(
    in_channels=(3, 4, 8),
    in_index=(0, 1, 2),
    channels=6,
    branch_channels=(2, 3),
    input_transform="multiple_select",
    num_classes=5,
    norm_cfg=dict(type="BN"),
)


def head(scope):
    return MODELS.build(dict(type=f"{scope}.LRASPPHead", **SETTINGS))


def maps(height, width):
    return [
        torch.randn(1, c, height * s, width * s)
        for c, s in zip(SETTINGS["in_channels"], (4, 2, 1), strict=True)
    ]


def test_mmsegs_head_fails_on_small_maps_and_ours_does_not():
    with pytest.raises(RuntimeError, match="too small"):
        head("mmseg").eval()(maps(23, 30))
    ours = head("hordet").eval()
    for size in ((23, 30), (1, 1)):
        assert ours(maps(*size)).shape == (1, 5, 4 * size[0], 4 * size[1])


def test_equal_to_mmsegs_where_its_window_is_the_map():
    ours, theirs = head("hordet"), head("mmseg")
    ours.load_state_dict(theirs.state_dict())
    inputs = maps(49, 49)
    torch.testing.assert_close(ours.eval()(inputs), theirs.eval()(inputs))
