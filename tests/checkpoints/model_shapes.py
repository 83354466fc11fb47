"""Computes the shapes that a file of each name must have, from the models that are built of it.

python tests/checkpoints/model_shapes.py    # writes hordet/checkpoints/shapes.json.gz
"""

import gzip
import json
import re

import timm
import torch
from mmengine.registry import DefaultScope

import hordet.hornet.timm_models  # noqa: F401  registers HorNet's names
from hordet.checkpoints import convert_names
from hordet.checkpoints.fit import SHAPES
from hordet.checkpoints.weights import read_weights
from hordet.config.load import load_config
from hordet.registry import MODELS

# Names of timm. The authors' file of 384 x 384 has larger global filters.
OTHERS = {
    "resnet-50": "resnet50",
    "resnet-101": "resnet101",
    "resnet-50-v1c": "resnet50c",
    "resnet-101-v1c": "resnet101c",
    "swin-small": "swin_small_patch4_window7_224",
    "convnext-tiny": "convnext_tiny",
    "convnext-small": "convnext_small",
    "efficientnet-lite0": "tf_efficientnet_lite0",
    "efficientnet-lite1": "tf_efficientnet_lite1",
    "efficientnet-lite2": "tf_efficientnet_lite2",
}
# A dense backbone takes neither the classifier nor the norm before it, and counters are no weights.
LEFT_OUT = re.compile(r"(head|fc|classifier|norm\d?)\..*|.*\.num_batches_tracked")


def compute_shapes(row):
    """Shapes by name of all that the file of a row must have, in hordet's names."""
    if row.config is not None:
        cfg = load_config(row.config)
        with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device("meta"):
            state = MODELS.build(cfg.model).state_dict()
        return {n: [*t.shape] for n, t in state.items() if not n.endswith("num_batches_tracked")}
    with torch.device("meta"):
        if found := re.fullmatch(r"hornet-(\w+)-(7x7|gf)(-384)?(-in22k)?", row.name):
            options = {"gf_sizes": ((24, 13), (12, 7))} if found[3] else {}
            name = f"hornet_{found[1]}_{found[2]}"
            state = timm.create_model(name, features_only=True, **options).state_dict()
        else:
            state = timm.create_model(OTHERS[row.name]).state_dict()
            state = convert_names(state, source="timm").state_dict
    return {name: [*t.shape] for name, t in state.items() if not LEFT_OUT.fullmatch(name)}


def main():
    rows = [row for row in read_weights().values() if not row.is_shipped]
    shapes = {row.name: compute_shapes(row) for row in rows}
    text = json.dumps(shapes, separators=(",", ":"))
    SHAPES.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
