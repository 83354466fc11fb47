"""The neighbors of gnConv: operators that it is compared with, each as a fusion of `FusionFPN`.

A fusion is an `nn.Module` made by `Class(channels, **options)` that maps (N, C, H, W) to
(N, C, H, W) for any H and W; torch alone is imported. No norm and no activation follow it: the neck
adds these. A file is imported when its fusion is named.
"""

from importlib import import_module

from hordet.errors import ConfigError, did_you_mean

# Name -> file of this folder and class in it.
FUSIONS: dict[str, str] = {
    "bdnn": "bdnn:Bdnn",
    "c_ghost": "c_ghost:CGhostFusion",
    "cemnet": "cemnet:CEMFusion",
    "eca": "eca:ECAFusion",
    "fda_bnn": "fda_bnn:FdaBnn",
    "g_ghost": "g_ghost:GGhostFusion",
    "gc": "gc:GCFusion",
    "harmonic": "harmonic:Harmonic",
    "laplacian": "laplacian:LaplacianFusion",
    "mgic": "mgic:MGICFusion",
    "non_local": "non_local:NonLocalFusion",
    "phc": "phc:PHCFusion",
    "pi_net": "pi_net:PiFusion",
    "qnn": "qnn:Qnn",
    "rep_bnn": "rep_bnn:RepBnn",
    "scl": "scl:Scl",
    "sda": "sda:SDAFusion",
    "se": "se:SEFusion",
    "spa": "spa:SPAFusion",
    "wht": "wht:WHTFusion",
}


def load_fusion(name: str) -> type:
    """Import a fusion and return its class.

    Args:
        name: One of `FUSIONS`.

    Raises:
        ConfigError: There is no such fusion.
    """
    if name not in FUSIONS:
        raise ConfigError(
            f"got fusion {name!r}{did_you_mean(name, FUSIONS)} Allowed are {', '.join(FUSIONS)}."
        )
    file, _, kind = FUSIONS[name].partition(":")
    return getattr(import_module(f"{__name__}.{file}"), kind)
