"""Topologies: the published ones node by node, and what is no topology."""

import pytest

from hordet.necks.topologies import Node, bifpn, build_topology, list_outputs, pafpn


def test_bifpn_is_figure_3():
    """Levels P3 to P7; as `bifpn_config` of EfficientDet's code numbers them."""
    assert bifpn(5) == [
        Node("td3", 3, ("in3", "in4")),
        Node("td2", 2, ("in2", "td3")),
        Node("td1", 1, ("in1", "td2")),
        Node("out0", 0, ("in0", "td1")),
        Node("out1", 1, ("in1", "td1", "out0")),
        Node("out2", 2, ("in2", "td2", "out1")),
        Node("out3", 3, ("in3", "td3", "out2")),
        Node("out4", 4, ("in4", "out3")),
    ]
    assert bifpn(2) == [Node("out0", 0, ("in0", "in1")), Node("out1", 1, ("in1", "out0"))]


def test_pafpn_is_figure_1():
    assert pafpn(3) == [
        Node("td2", 2, ("in2",), conv=False),
        Node("td1", 1, ("in1", "td2"), conv=False),
        Node("td0", 0, ("in0", "td1"), conv=False),
        Node("fpn1", 1, ("td1",)),
        Node("fpn2", 2, ("td2",)),
        Node("out0", 0, ("td0",)),
        Node("out1", 1, ("fpn1", "out0")),
        Node("out2", 2, ("fpn2", "out1")),
    ]


@pytest.mark.parametrize("name", ["bifpn", "pafpn"])
@pytest.mark.parametrize("levels", range(2, 9))
def test_published_topologies_pass_the_checks(name, levels):
    nodes = build_topology(name, levels)
    assert build_topology(nodes, levels) == nodes
    assert build_topology([node._asdict() for node in nodes], levels) == nodes
    assert list_outputs(nodes) == [f"out{i}" for i in range(levels)]


def node(name, level, *inputs):
    return dict(name=name, level=level, inputs=list(inputs))


GOOD = [node("a", 0, "in0", "in1"), node("b", 1, "in1", "a")]
BAD = {
    "unknown input": (
        [node("a", 0, "in0", "im1"), GOOD[1]],
        "'a' takes 'im1', which does not exist; did you mean 'in1'",
    ),
    "cycle": (
        [node("a", 0, "in0", "b"), node("b", 1, "in1", "a")],
        "'a' takes 'b', which comes after it: move 'b' up, or, if 'b' needs 'a', break the cycle",
    ),
    "own input": ([node("a", 0, "in0", "a"), GOOD[1]], "'a' takes itself: a cycle"),
    "unused node": (
        [*GOOD, node("c", 1, "in1")],
        r"'a' leads to no output|'b' leads to no output; let a later node take it",
    ),
    "unused input": ([GOOD[0], node("b", 1, "a")], None),
    "unused entering map": (
        [node("a", 0, "in0"), node("b", 1, "a")],
        "'in1' leads to no output; let a later node take it, or remove it",
    ),
    "taken name": ([GOOD[0], node("a", 1, "in1")], "the name 'a' is taken"),
    "name of an entering map": ([node("in1", 0, "in0"), GOOD[1]], "the name 'in1' is taken"),
    "bad name": ([node("a.b", 0, "in0"), node("b", 1, "in1")], "'a.b' is no name for a node"),
    "level": ([GOOD[0], node("b", 2, "in1")], "'b' is on level 2; levels go to 1"),
    "no node": ([GOOD[0], node("b", 0, "a")], "level 1 has no node, so no output"),
    "no inputs": ([GOOD[0], node("b", 1)], "'b' has no inputs"),
    "twice": ([GOOD[0], node("b", 1, "a", "a")], "'b' takes 'a' twice"),
    "unknown key": (
        [dict(GOOD[0], input=["in0"]), GOOD[1]],
        "node 0 of the topology has a key 'input'; did you mean 'inputs'",
    ),
    "missing key": ([GOOD[0], dict(name="b", level=1)], "node 1 of the topology lacks inputs"),
    "unknown topology": ("bifnp", "got topology='bifnp'; did you mean 'bifpn'"),
}


@pytest.mark.parametrize("fault", BAD)
def test_faults(fault):
    topology, message = BAD[fault]
    if message is None:
        assert build_topology(topology, 2)
        return
    with pytest.raises(ValueError, match=message):
        build_topology(topology, 2)


def test_all_faults_at_once():
    nodes = [node("a", 0, "im0"), node("b", 5, "in1", "in1")]
    with pytest.raises(ValueError) as error:
        build_topology(nodes, 2)
    for part in ("'im0'", "level 5", "twice", "level 1 has no node"):
        assert part in str(error.value)


def test_one_level_is_no_pyramid():
    with pytest.raises(ValueError, match="at least 2"):
        build_topology("bifpn", 1)
