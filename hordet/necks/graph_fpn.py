"""GraphFPN: a pyramid neck that runs a topology, such as BiFPN's or PANet's."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from hordet.layers import WeightedSum
from hordet.layers.gnconv import Spatial
from hordet.layers.weighted_sum import WeightMethod
from hordet.necks.graph_node import (
    POOLED_RMS,
    Downsample,
    Fusion,
    GraphNode,
    build_down_step,
    build_fusion,
    build_projection,
)
from hordet.necks.topologies import Node, build_topology, list_outputs
from hordet.registry import MODELS

# What the options allow that are one word.
CHOICES = dict(
    fusion=("separable", "conv", "gnconv"),
    downsample=("max_pool", "conv"),
    init=("default", "xavier"),
)
# EfficientDet's (momentum as torch counts it: 1 minus TensorFlow's).
BATCH_NORM = MappingProxyType(dict(type="BN", momentum=0.01, eps=1e-3))
SWISH = MappingProxyType(dict(type="SiLU"))
NEAREST = MappingProxyType(dict(mode="nearest"))


@MODELS.register_module()
class GraphFPN(BaseModule):
    """Pyramid neck over a topology of nodes; the defaults are EfficientDet's BiFPN.

    A node resizes its inputs to its level, sums them with learned weights, and applies activation,
    convolution and norm, in this order (Tan et al., EfficientDet, CVPR 2020, section 3, and their
    code). Each edge from a map of the backbone has a 1x1 convolution and norm of its own, as in
    EfficientDet's code. Levels above the backbone's start from its last map: a 1x1 convolution and
    norm, then max-pooling, once more for each further level.

    - BiFPN: as it stands. HorBiFPN: `fusion='gnconv'`.
    - PANet: `topology='pafpn', fusion='conv', weight_method='sum', downsample='conv'`.

    Maps of odd sizes are fine: an edge goes up by interpolation to the size of its node's level,
    and down by steps of stride 2 that round up; a border that the backbone cut off is cut off too.

    Args:
        in_channels: Channels of each map of the backbone; a config may leave them to a backbone
            that declares them.
        out_channels: Channels of every output; for 'gnconv' a multiple of 2^(order-1), with
            spatial='gf' of 2^order.
        num_outs: Number of outputs; those above the backbone's maps are extra levels.
        topology: 'bifpn', 'pafpn', or a list of nodes (see `hordet.necks.topologies`).
        stack_times: How often the topology is run, each time with weights of its own.
        fusion: 'separable' (depthwise 3x3, then 1x1; EfficientDet's), 'conv' (3x3) or 'gnconv'.
        weight_method: 'fast', 'softmax' or 'sum'; see `hordet.layers.WeightedSum`.
        downsample: 'max_pool' (3x3, stride 2; EfficientDet's) or 'conv' (3x3, stride 2; PANet's).
        start_level: Index of the first map of the backbone that is used.
        end_level: Index of the last map that is used; -1 is the last there is.
        norm_cfg: Norm after each convolution; None for none.
        act_cfg: Activation in front of each fusion; None for none.
        upsample_cfg: Keywords of `torch.nn.functional.interpolate` but the size.
        init: 'default' keeps the standard deviation from node to node and starts gnConvs nearly
            linear, so that every level is alive without norms too. 'xavier' is that of mmdet's
            necks; it starves 'separable' and 'gnconv' where no norm follows.
        spatial: 'dw7x7' or 'gf' ('gnconv' only, as the next five).
        order: Order of each gnConv.
        kernel_size: Odd size of the depthwise kernel ('dw7x7' only).
        gf_size: (h, w) of the learned filter ('gf' only).
        skip: Add the input of each gnConv to its output ('gnconv' only); see
            `hordet.layers.GnFusion`. Off, since the sums of a node are such paths already, and
            what max-pooling adds to a map would grow along them from node to node.
        pre_norm: Normalize each pixel in front of each gnConv ('gnconv' only); see
            `hordet.layers.GnFusion`. Without it, three stacked cells learn nothing from scratch.
        init_cfg: Given, it is applied on top, for instance dict(type='Pretrained', ...).

    Shape:
        List of (N, in_channels[i], H_i, W_i) -> tuple of `num_outs` (N, out_channels, H_i, W_i)
        from `start_level` on; extra levels halve the last size, rounding up.

    Raises:
        ValueError: An option is unknown, the levels do not fit `in_channels` and `num_outs`, the
            topology cannot be built, or as `hordet.layers.GnConv`. In `forward`: another number of
            maps than `in_channels`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        topology: str | Sequence[Node | Mapping[str, Any]] = "bifpn",
        stack_times: int = 1,
        fusion: Fusion = "separable",
        weight_method: WeightMethod = "fast",
        downsample: Downsample = "max_pool",
        start_level: int = 0,
        end_level: int = -1,
        norm_cfg: Mapping[str, Any] | None = BATCH_NORM,
        act_cfg: Mapping[str, Any] | None = SWISH,
        upsample_cfg: Mapping[str, Any] = NEAREST,
        init: Literal["default", "xavier"] = "default",
        spatial: Spatial = "dw7x7",
        order: int = 2,
        kernel_size: int = 7,
        gf_size: tuple[int, int] = (32, 17),
        skip: bool = False,
        pre_norm: bool = True,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        """Build the extra levels and the nodes."""
        super().__init__(init_cfg=init_cfg)
        for option, value in dict(fusion=fusion, downsample=downsample, init=init).items():
            if value not in CHOICES[option]:
                allowed = ", ".join(map(repr, CHOICES[option]))
                raise ValueError(f"got {option}={value!r}; allowed are {allowed}.")
        if {"size", "scale_factor"} & upsample_cfg.keys():
            raise ValueError(
                f"got upsample_cfg={dict(upsample_cfg)}; leave size and scale_factor out, each "
                "map is resized to the size of its target."
            )
        if stack_times < 1:
            raise ValueError(f"got stack_times={stack_times}; the topology runs at least once.")
        self.in_channels = list(in_channels)
        self.out_channels = out_channels
        self.num_outs = num_outs
        self.used_levels = _used_levels(len(self.in_channels), start_level, end_level, num_outs)
        norm = dict(norm_cfg) if norm_cfg else None
        act = dict(act_cfg) if act_cfg else None
        gn_cfg: dict[str, Any] = dict(
            order=order,
            spatial=spatial,
            kernel_size=kernel_size,
            gf_size=gf_size,
            skip=skip,
            pre_norm=pre_norm,
        )

        # Each from the map below it; only the first of them finds another width than its own.
        self.extra_levels: Any = nn.ModuleList()
        for extra in range(num_outs - len(self.used_levels)):
            last = self.in_channels[self.used_levels[-1]]
            steps = [] if extra else [build_projection(last, out_channels, norm)]
            self.extra_levels.append(nn.Sequential(*steps, build_down_step(out_channels)))
        nodes = build_topology(topology, num_outs)
        self.outputs = list_outputs(nodes)
        self.level_of = {f"in{level}": level for level in range(num_outs)}
        self.level_of |= {node.name: node.level for node in nodes}
        # The maps of the backbone have another width; only the first run takes them.
        backbone = {f"in{i}": self.in_channels[level] for i, level in enumerate(self.used_levels)}

        def edge(source: str, target: Node, widths: dict[str, int]) -> nn.Module:
            steps = (
                [build_projection(widths[source], out_channels, norm)] if source in widths else []
            )
            for _ in range(target.level - self.level_of[source]):
                steps.append(build_down_step(out_channels, downsample, norm))
            return nn.Sequential(*steps)

        def build(node: Node, widths: dict[str, int]) -> GraphNode:
            block = build_fusion(out_channels, fusion, norm, act, gn_cfg) if node.conv else None
            return GraphNode(
                node.inputs,
                edges=[edge(name, node, widths) for name in node.inputs],
                combine=WeightedSum(len(node.inputs), weight_method),
                fusion=block or nn.Identity(),
                upsample_cfg=dict(upsample_cfg),
            )

        self.cells: Any = nn.ModuleList(
            nn.ModuleDict({node.name: build(node, {} if repeat else backbone) for node in nodes})
            for repeat in range(stack_times)
        )
        self._init(init, act)

    @classmethod
    def declare_channels(cls, out_channels: int, num_outs: int, **others: Any) -> tuple[int, ...]:
        """Return the channels of each output of a neck of these options; none is built.

        Args:
            out_channels: As of the class.
            num_outs: As of the class.
            others: The options of the class that have no say in it.
        """
        return (out_channels,) * num_outs

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Fuse the levels: list of (N, in_channels[i], H_i, W_i) -> tuple of (N, C, H_i, W_i)."""
        if len(inputs) != len(self.in_channels):
            raise ValueError(
                f"got {len(inputs)} maps for in_channels={self.in_channels}; the backbone must "
                "give one map for each."
            )
        maps = [inputs[level] for level in self.used_levels]
        for level in self.extra_levels:
            maps.append(level(maps[-1]))
        sizes = [x.shape[-2:] for x in maps]
        for cell in self.cells:
            named = {f"in{level}": x for level, x in enumerate(maps)}
            for name, node in cell.items():
                named[name] = node(named, sizes[self.level_of[name]])
            maps = [named[name] for name in self.outputs]
        return tuple(maps)

    @torch.no_grad()
    def _init(self, init: str, act_cfg: dict[str, Any] | None) -> None:
        """Initialize every convolution; see the class."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if init == "xavier":
                    nn.init.xavier_uniform_(module.weight)
                else:
                    nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if init == "default":
            if self.extra_levels:
                self.extra_levels[0][0].conv.weight.div_(POOLED_RMS)
            entering = [1.0] * self.num_outs
            for cell in self.cells:
                stds = {f"in{level}": std for level, std in enumerate(entering)}
                for name, node in cell.items():
                    stds[name] = node.init_keep_std(stds, act_cfg)
                entering = [stds[name] for name in self.outputs]


def _used_levels(num_inputs: int, start_level: int, end_level: int, num_outs: int) -> list[int]:
    """Return the indices of the backbone's maps that are used, checked."""
    end = num_inputs - 1 if end_level == -1 else end_level
    if not 0 <= start_level <= end < num_inputs:
        raise ValueError(
            f"got start_level={start_level} and end_level={end_level} for {num_inputs} maps; "
            f"allowed is 0 <= start_level <= end_level <= {num_inputs - 1}, or -1 for the last."
        )
    levels = list(range(start_level, end + 1))
    if num_outs < len(levels):
        raise ValueError(
            f"got num_outs={num_outs} for {len(levels)} maps of the backbone; ask for at least "
            f"{len(levels)}, or set end_level={start_level + num_outs - 1}."
        )
    return levels
