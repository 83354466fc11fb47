"""Convert a checkpoint: other projects' names into those that the configs here read, or back.

hordet convert hornet_small_7x7.pth pretrained/hornet_small.safetensors
hordet convert SRC DST --config CONFIG.py       # does DST fill its model?
hordet convert SRC DST --to mmpretrain

Knows HorNet of its authors (classification, detection, segmentation) and of mmpretrain, ConvNeXt
and Swin of their authors, of timm and torchvision, ResNet, and EfficientNet-Lite0 of
efficientnet_pytorch. DST ends in .pth or .safetensors. No code in SRC is run, unless you give
--trust-pickle. SHA-256 sums are printed; a stated one, by --sha256 or in the config
(checkpoint="DST#sha256=HEX"), is checked.
"""

import argparse
import dataclasses
from pathlib import Path

from hordet.cli.arguments import add_trust


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    add = parser.add_argument
    add("source", metavar="SRC", help="weights (.pth or .safetensors)")
    add("destination", metavar="DST", help="file to write")
    add(
        "--from",
        dest="layout",
        default="auto",
        metavar="PROJECT",
        help="whose names SRC has; told from the names by default",
    )
    add(
        "--to",
        dest="target",
        default="hordet",
        metavar="PROJECT",
        help="whose names DST shall have: official, mmpretrain, timm or hordet (default): what the "
        "models here read",
    )
    add("--config", help="check how much of this config's model DST fills")
    add(
        "--min-coverage",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="least share of known names, and of filled tensors with --config (default 0.9)",
    )
    add(
        "--half",
        action="store_true",
        help="write weights in half precision, and statistics of norms in single: half the size",
    )
    add("--sha256", metavar="HEX", help="SHA-256 that SRC must have")
    add("--force", action="store_true", help="overwrite DST")
    add_trust(parser)


def check_against(path: str, state_dict: dict, minimum_share: float, name: str) -> str | None:
    """Fill a config's model, print the coverage, return the SHA-256 stated for a file `name`."""
    from mmengine.registry import DefaultScope

    from hordet.checkpoints import fill_model, require_coverage, split_sha256
    from hordet.config.faults import walk_dicts
    from hordet.config.load import load_config
    from hordet.registry import MODELS

    cfg = load_config(path)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        coverage = fill_model(MODELS.build(cfg.model), state_dict)
    require_coverage(coverage, minimum_share, f"the converted file, for {path},")
    print(f"{path}: {coverage}")
    files = [part.get("checkpoint") for part in walk_dicts(cfg.model)] + [cfg.get("load_from")]
    stated = {file.name: sha256 for file, sha256 in map(split_sha256, filter(None, files))}
    return stated.get(name)


def run(arguments: argparse.Namespace) -> int:
    """Convert, and print what was done."""
    from hordet import checkpoints

    destination = Path(arguments.destination)
    checkpoints.check_destination(destination, arguments.force)
    if arguments.trust_pickle:
        checkpoints.trust_pickle()
    mark = f"#sha256={arguments.sha256}" if arguments.sha256 else ""
    checkpoint, read = checkpoints.load_and_hash(arguments.source + mark)
    share = arguments.min_coverage
    conversion = checkpoints.convert_names(checkpoint, arguments.layout, arguments.target, share)
    print(conversion)
    if arguments.half:
        conversion = dataclasses.replace(
            conversion, state_dict=checkpoints.halve_precision(conversion.state_dict)
        )
    stated = None
    if arguments.config:
        tensors = conversion.state_dict
        stated = check_against(arguments.config, tensors, share, destination.name)
    bare = destination.suffix == ".safetensors"
    digest = checkpoints.save_checkpoint(
        conversion.state_dict if bare else checkpoints.wrap_state_dict(conversion),
        destination,
        overwrite=arguments.force,
        sha256=stated,
    )
    print(f"read    {read}  {arguments.source}")
    print(f"written {digest}  {destination}")
    return 0
