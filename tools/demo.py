"""Serve a page to try models on: drop a picture, see what they find, compare, download.

python tools/demo.py CONFIG.py CHECKPOINT.pth
python tools/demo.py CONFIG.py CHECKPOINT.pth --model OTHER.py OTHER.pth

The page needs no network, and is for this machine alone unless --host says otherwise. Ctrl-C ends
it and removes what was uploaded.
"""

import argparse
import copy
import sys

from hordet.command_line import model_arguments, read_run_config, run_tool


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[model_arguments()],
    )
    add = parser.add_argument
    add(
        "--model",
        nargs=2,
        action="append",
        default=[],
        metavar=("CONFIG", "CHECKPOINT"),
        help="another model to choose and to compare with; may be given several times",
    )
    add("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    add("--port", type=int, default=7860, help="port to listen on (default: 7860)")
    add("--max-upload-mb", type=int, default=20, help="largest file (default: 20)")
    add(
        "--max-megapixels",
        type=int,
        default=16,
        help="most pixels of a picture, in millions (default: 16)",
    )
    arguments = parser.parse_args()
    for option in ("port", "max_upload_mb", "max_megapixels"):
        if getattr(arguments, option) < 1:
            name = option.replace("_", "-")
            parser.error(f"--{name} {getattr(arguments, option)}: allowed is 1 or more")
    if arguments.port > 65535:
        parser.error(f"--port {arguments.port}: allowed is 1 to 65535")
    return arguments


def demo(arguments: argparse.Namespace) -> int:
    """Load the models and serve the page until Ctrl-C."""
    # torch and mm* take seconds to import; --help and a wrong flag should not.
    from hordet.demo import Limits, model_names, serve
    from hordet.infer import Predictor

    pairs = [(arguments.config, arguments.checkpoint), *arguments.model]
    models = {}
    for name, (config, checkpoint) in zip(model_names(pairs), pairs, strict=True):
        own = copy.copy(arguments)
        own.config = config
        models[name] = Predictor.from_config(
            read_run_config(own), checkpoint, device=arguments.device
        )
    limits = Limits(arguments.max_upload_mb, arguments.max_megapixels)
    serve(models, arguments.host, arguments.port, limits, announce)
    return 0


def announce(address: str) -> None:
    """Say where the page is; whoever started the tool may read this through a pipe."""
    print(f"{address}  (Ctrl-C ends it)", flush=True)


if __name__ == "__main__":
    given = parse_arguments()
    sys.exit(run_tool(lambda: demo(given), given.debug))
