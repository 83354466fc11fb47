"""The sizes of HorNet (appendix, table 1), and what may be asked of its stages."""

from collections.abc import Sequence
from typing import Any

ARCHITECTURES: dict[str, dict[str, Any]] = {
    # name: channels of the first stage, blocks a stage, order of the gnConv a stage
    "nano": dict(base_channels=32, depths=(2, 2, 4, 2), orders=(2, 3, 4, 5)),
    "tiny": dict(base_channels=64, depths=(2, 3, 18, 2), orders=(2, 3, 4, 5)),
    "small": dict(base_channels=96, depths=(2, 3, 18, 2), orders=(2, 3, 4, 5)),
    "base": dict(base_channels=128, depths=(2, 3, 18, 2), orders=(2, 3, 4, 5)),
    "large": dict(base_channels=192, depths=(2, 3, 18, 2), orders=(2, 3, 4, 5)),
}


def architecture(arch: str | dict[str, Any]) -> dict[str, Any]:
    """Look up a named architecture, or check a dict.

    Raises:
        ValueError: There is no such name, or keys of the dict are missing or unknown.
    """
    if isinstance(arch, str):
        if arch not in ARCHITECTURES:
            raise ValueError(
                f"got arch={arch!r}; allowed are {', '.join(ARCHITECTURES)}, or "
                "dict(base_channels=, depths=, orders=)."
            )
        return ARCHITECTURES[arch]
    expected = {"base_channels", "depths", "orders"}
    if set(arch) != expected or len(arch["depths"]) != len(arch["orders"]):
        raise ValueError(
            f"got arch={arch}; a dict needs exactly the keys {', '.join(sorted(expected))}, "
            "with as many depths as orders."
        )
    return arch


def check_stages(
    depths: tuple[int, ...],
    out_indices: Sequence[int],
    frozen_stages: int,
    gf_sizes: Sequence[tuple[int, int]],
) -> None:
    """Reject indices outside the stages.

    Raises:
        ValueError: An output, the number of frozen stages or of filters' sizes does not fit.
    """
    last = len(depths) - 1
    if not out_indices or list(out_indices) != sorted({*out_indices} & {*range(last + 1)}):
        raise ValueError(
            f"got out_indices={tuple(out_indices)}; allowed are ascending stages of 0 to "
            f"{last}, such as {tuple(range(last + 1))}."
        )
    if not -1 <= frozen_stages <= len(depths):
        raise ValueError(
            f"got frozen_stages={frozen_stages}; allowed are -1 (train all) to {len(depths)} "
            "(freeze all)."
        )
    if len(gf_sizes) != 2:
        raise ValueError(
            f"got gf_sizes={gf_sizes}; the last two stages take one (h, w) each, such as "
            "((14, 8), (7, 4))."
        )
