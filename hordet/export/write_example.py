"""The script that uses an exported file without torch and without hordet."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from hordet.errors import ExportError
from hordet.export.graphs import Part
from hordet.export.metadata import describe_size_rule
from hordet.ops.files import replace_whole

# The line of the script that the rule of tiles takes the place of, and what that file begins with.
_IMPORT = """# hordet writes the text of that file in the place of this line.
from hordet.ops.tile_groups import group_tiles
"""
_NUMPY = "from numpy.typing import NDArray\n"


def check_example(cfg: Any, path: Path, part: Part, script: Path) -> None:
    """Refuse what the script does not know, before a file is exported for it.

    Args:
        cfg: The config of the model.
        path: The exported file.
        part: What is exported.
        script: Where the script will be written.

    Raises:
        ExportError: The script cannot use the file, or another file is in its place.
    """
    first = (files("hordet.export") / "example.py").read_text().partition("\n")[0]
    if script.exists() and (script.is_dir() or first not in script.read_text(errors="replace")):
        raise ExportError(
            f"{script} is there, and hordet did not write it: name another file, as in --example "
            "predict.py"
        )
    if path.suffix == ".pt2":
        raise ExportError(f"got {path}; the example runs .onnx or .xml, without torch")
    if part != "whole":
        raise ExportError("the example needs the whole model: leave --part out")
    if describe_size_rule(cfg) is None:
        raise ExportError(
            "the example knows test pipelines that load an image and resize it by Resize(scale=), "
            "and the config's does something else: leave --example out"
        )


def write_example(path: Path) -> None:
    """Write the script; it is the same for every model.

    It is `hordet/export/example.py` with the text of `hordet/ops/tile_groups.py` in the place
    of its import, so that the rule of tiles stands once in hordet.

    Raises:
        FileWriteError: The folder is not writable.
    """
    text = (files("hordet.export") / "example.py").read_text()
    rule = (files("hordet.ops") / "tile_groups.py").read_text()
    before, _, after = text.partition(_IMPORT)
    text = before + rule.partition(_NUMPY)[2].strip() + "\n" + after
    with replace_whole(path) as unfinished:
        unfinished.write_text(text)
