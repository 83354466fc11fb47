"""Serve a page to try models on: drop an image, see what they find, compare, download.

hordet demo                                       # with a model that comes with hordet
hordet demo CONFIG.py CHECKPOINT.pth
hordet demo CONFIG.py CHECKPOINT.pth --model OTHER.py OTHER.pth

The page needs no network, and is for this machine alone unless --host says otherwise. Ctrl-C ends
it and removes what was uploaded.
"""

import argparse
import copy
import os
from pathlib import Path

from hordet.checkpoints.weights import PREFIX, list_shipped
from hordet.cli.arguments import (
    add_config,
    add_device,
    choose_checkpoint,
    number_from,
    read_run_config,
)
from hordet.config.names import find_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what the subcommand takes."""
    add_config(parser, optional=True)
    add_device(parser)
    add = parser.add_argument
    add(
        "checkpoint",
        nargs="?",
        help="weights (.pth or .safetensors, no code in them is run; or hordet://NAME); default: "
        "the published weights of the config",
    )
    add(
        "--model",
        nargs=2,
        action="append",
        default=[],
        metavar=("CONFIG", "CHECKPOINT"),
        help="another model to choose and to compare with; may be given several times",
    )
    add("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    add(
        "--port", type=number_from(1, 65535), default=7860, help="port to listen on (default: 7860)"
    )
    add(
        "--no-examples",
        action="store_true",
        help="open an empty page; by default it opens with images of the first model's test data, "
        "or with those that come with hordet",
    )
    add(
        "--name",
        action="append",
        default=[],
        dest="names",
        help="a name by which browsers call this machine, beside the address of --host and "
        "localhost; may be given several times",
    )
    add(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="predict large images by overlapping tiles, as hordet infer does",
    )
    add("--overlap", type=float, metavar="SHARE", help="share of a tile that its neighbor has too")
    add("--max-upload-mb", type=number_from(1), default=20, help="largest file (default: 20)")
    add(
        "--max-megapixels",
        type=number_from(1),
        default=16,
        help="most pixels of an image, in millions (default: 16)",
    )
    add(
        "--max-total-mb",
        type=number_from(1),
        default=1000,
        help="largest size of all uploads and results that are kept for an hour (default: 1000)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Load the models and serve the page until Ctrl-C."""
    # A header can state one size to Pillow and another to OpenCV, which decodes. OpenCV reads this
    # limit as it is imported, and refuses what is larger before it takes memory.
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(arguments.max_megapixels * 10**6)

    from hordet.demo.answers import Limits, name_models
    from hordet.demo.examples import find_examples
    from hordet.demo.server import serve
    from hordet.inference import Predictor

    if arguments.config is None:
        arguments.config = PREFIX + list_shipped()[0].name
    arguments.checkpoint = choose_checkpoint(arguments.config, arguments.checkpoint)
    pairs = [(arguments.config, arguments.checkpoint), *arguments.model]
    models: dict[str, Predictor] = {}
    origins: dict[str, tuple[str, str]] = {}
    examples: list[Path] = []
    for name, (config, checkpoint) in zip(name_models(pairs), pairs, strict=True):
        own = copy.copy(arguments)
        own.config = config
        cfg = read_run_config(own)
        if not models and not arguments.no_examples:
            examples = find_examples(cfg, find_config(config))
        models[name] = Predictor.from_config(
            cfg,
            checkpoint,
            device=arguments.device,
            tile=arguments.tile,
            overlap=arguments.overlap,
        )
        origins[name] = (str(config), str(checkpoint))
    limits = Limits(arguments.max_upload_mb, arguments.max_megapixels, arguments.max_total_mb)
    host, port = arguments.host, arguments.port
    serve(models, host, port, limits, announce, arguments.names, examples, origins)
    return 0


def announce(address: str) -> None:
    """Say where the page is; whoever started the tool may read this through a pipe."""
    print(f"{address}  (Ctrl-C ends it)", flush=True)
