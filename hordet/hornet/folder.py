"""A model as a folder: `config.json` and `model.safetensors`, the layout of Hugging Face.

Neither file can hold code. huggingface_hub's PyTorchModelHubMixin has the same layout, but takes a
name that is no folder for one of its hub and asks the network.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from hordet.ops.files import write_whole

CONFIG, WEIGHTS = "config.json", "model.safetensors"
KIND = "hornet"


def write_folder(
    folder: str | Path, settings: dict[str, Any], state_dict: dict[str, Tensor]
) -> None:
    """Write a model; each file is whole or not there.

    Args:
        folder: Made if it is not there.
        settings: Arguments of the model, of kinds that JSON has.
        state_dict: Its tensors.
    """
    from safetensors.torch import save

    folder = Path(folder)
    tensors = {name: tensor.detach().contiguous() for name, tensor in state_dict.items()}
    text = json.dumps({"model_type": KIND, **settings}, indent=2) + "\n"
    contents = {WEIGHTS: save(tensors, metadata={"format": "pt"}), CONFIG: text.encode()}
    for name, content in contents.items():
        write_whole(folder / name, content)


def read_folder(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a model.

    Returns:
        Its arguments, and its tensors.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, or of another kind of model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} has no {name}; a model is a local folder with {CONFIG} and {WEIGHTS}, "
                "as save_pretrained writes it. Nothing is downloaded: fetch the folder first"
            )
    try:
        settings = json.loads((folder / CONFIG).read_bytes())
        weights = load((folder / WEIGHTS).read_bytes())
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"{folder} holds a damaged file: {error}. Copy it again") from error
    kind = settings.pop("model_type", None) if isinstance(settings, dict) else None
    if kind != KIND:
        raise ValueError(
            f"{folder / CONFIG} is of model_type {kind!r}; allowed is {KIND!r}, which "
            "save_pretrained writes"
        )
    return settings, weights
