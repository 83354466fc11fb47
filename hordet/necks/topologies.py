"""Topologies of pyramid necks as data: which maps each node takes in, in the order of the nodes.

Level 0 is the finest. The maps that enter are named `in0`, `in1`, ..., finest first. The last node
of a level is that level's output. A new neck is one more function here, or a list in a config.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hordet.errors import did_you_mean


class Node(NamedTuple):
    """One map that a neck computes.

    Attributes:
        name: How later nodes call it; also its part of the parameters' names.
        level: The pyramid level whose size it has.
        inputs: Names of earlier nodes and of entering maps; each is resized to the level's size.
        conv: Put the fusion block (activation, convolution or gnConv, norm) after the sum; without
            it the node is the sum, as in the top-down path of FPN.
    """

    name: str
    level: int
    inputs: tuple[str, ...]
    conv: bool = True


def bifpn(num_levels: int) -> list[Node]:
    """BiFPN (Tan et al., EfficientDet, CVPR 2020, figure 3).

    Top-down over the intermediate levels `td*`, then bottom-up over the outputs `out*`. A level in
    between takes its entering map twice: in `td*`, and by an extra edge in `out*`. The first and
    the last level have one node each, for a node of one input would fuse nothing.

    Args:
        num_levels: Number of levels, at least 2.
    """
    top = num_levels - 1
    nodes, above = [], f"in{top}"
    for i in range(top - 1, 0, -1):
        nodes.append(Node(f"td{i}", i, (f"in{i}", above)))
        above = f"td{i}"
    nodes.append(Node("out0", 0, ("in0", above)))
    for i in range(1, top):
        nodes.append(Node(f"out{i}", i, (f"in{i}", f"td{i}", f"out{i - 1}")))
    nodes.append(Node(f"out{top}", top, (f"in{top}", f"out{top - 1}")))
    return nodes


def pafpn(num_levels: int) -> list[Node]:
    """Path aggregation (Liu et al., PANet, CVPR 2018, section 3.1 and figure 1).

    An FPN (sums `td*` from the top down, a convolution on each, `fpn*`), then a bottom-up path:
    N_0 is P_0, and N_i is a convolution over P_i plus the downsampled N_(i-1).

    mmdet's PAFPN differs from level 2 on: there, what goes up is the sum before the convolution
    of N_(i-1), not N_(i-1) itself. With two levels the two are the same.

    Args:
        num_levels: Number of levels, at least 2.
    """
    top = num_levels - 1
    nodes = [Node(f"td{top}", top, (f"in{top}",), conv=False)]
    for i in range(top - 1, -1, -1):
        nodes.append(Node(f"td{i}", i, (f"in{i}", f"td{i + 1}"), conv=False))
    nodes += [Node(f"fpn{i}", i, (f"td{i}",)) for i in range(1, num_levels)]
    nodes.append(Node("out0", 0, ("td0",)))
    nodes += [Node(f"out{i}", i, (f"fpn{i}", f"out{i - 1}")) for i in range(1, num_levels)]
    return nodes


TOPOLOGIES: dict[str, Callable[[int], list[Node]]] = dict(bifpn=bifpn, pafpn=pafpn)


def build_topology(
    topology: str | Sequence[Node | Mapping[str, Any]], num_levels: int
) -> list[Node]:
    """Return the checked nodes of a topology.

    Args:
        topology: 'bifpn', 'pafpn', or nodes in the order in which they run; in a config file each
            is a dict of `Node`'s fields.
        num_levels: Number of pyramid levels that enter and leave.

    Raises:
        ValueError: The name is unknown, there are fewer than 2 levels, or the nodes are no
            topology; every fault is listed, with its nearest names.
    """
    if num_levels < 2:
        raise ValueError(f"got {num_levels} pyramid level; a topology connects at least 2.")
    if isinstance(topology, str):
        if topology not in TOPOLOGIES:
            raise ValueError(
                f"got topology={topology!r}{did_you_mean(topology, list(TOPOLOGIES))}; allowed are "
                f"{', '.join(map(repr, TOPOLOGIES))}, or a list of nodes."
            )
        return TOPOLOGIES[topology](num_levels)
    nodes = [_read(index, node) for index, node in enumerate(topology)]
    faults = _faults(nodes, num_levels) or _unused(nodes, num_levels)
    if faults:
        raise ValueError("\n  ".join(["the topology cannot be built:", *faults]))
    return nodes


def list_outputs(nodes: Sequence[Node]) -> list[str]:
    """Return the names of the outputs, finest first: the last node of each level."""
    last = {node.level: node.name for node in nodes}
    return [last[level] for level in sorted(last)]


def _read(index: int, node: Node | Mapping[str, Any]) -> Node:
    """Turn a config's dict into a node."""
    if not isinstance(node, Node):
        for key in node:
            if key not in Node._fields:
                raise ValueError(
                    f"node {index} of the topology has a key {key!r}"
                    f"{did_you_mean(key, Node._fields)}; "
                    f"allowed are {', '.join(Node._fields)}."
                )
        missing = [key for key in ("name", "level", "inputs") if key not in node]
        if missing:
            raise ValueError(f"node {index} of the topology lacks {' and '.join(missing)}.")
        node = Node(**node)
    return node._replace(inputs=tuple(node.inputs))


def _faults(nodes: Sequence[Node], num_levels: int) -> list[str]:
    """Return what is wrong with single nodes: names, levels, inputs."""
    entering = [f"in{i}" for i in range(num_levels)]
    all_names = [node.name for node in nodes]
    known, faults = set(entering), []
    for node in nodes:
        if not node.name.isidentifier():
            faults.append(f"{node.name!r} is no name for a node; use letters, digits and '_'")
        elif node.name in known:
            faults.append(f"the name {node.name!r} is taken; give each node its own")
        if node.level not in range(num_levels):
            faults.append(f"{node.name!r} is on level {node.level}; levels go to {num_levels - 1}")
        if not node.inputs:
            faults.append(f"{node.name!r} has no inputs")
        for name in dict.fromkeys(node.inputs):
            if node.inputs.count(name) > 1:
                faults.append(f"{node.name!r} takes {name!r} twice; once is enough")
            if name == node.name:
                faults.append(f"{node.name!r} takes itself: a cycle")
            elif name not in known and name in all_names:
                faults.append(
                    f"{node.name!r} takes {name!r}, which comes after it: move {name!r} up, or, if "
                    f"{name!r} needs {node.name!r}, break the cycle"
                )
            elif name not in known:
                hint = did_you_mean(name, [*entering, *all_names])
                faults.append(f"{node.name!r} takes {name!r}, which does not exist{hint}")
        known.add(node.name)
    empty = set(range(num_levels)) - {node.level for node in nodes}
    faults += [f"level {level} has no node, so no output" for level in sorted(empty)]
    return faults


def _unused(nodes: Sequence[Node], num_levels: int) -> list[str]:
    """Return the nodes and entering maps that lead to no output: they would never be trained."""
    used = set(list_outputs(nodes))
    for node in reversed(nodes):
        if node.name in used:
            used.update(node.inputs)
    names = [f"in{i}" for i in range(num_levels)] + [node.name for node in nodes]
    return [
        f"{name!r} leads to no output; let a later node take it, or remove it"
        for name in names
        if name not in used
    ]
