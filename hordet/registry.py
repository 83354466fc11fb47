"""The registries of hordet: children of mmengine's, scope `hordet`.

A config of mmdet or mmseg that imports this module (`custom_imports`) builds every component by its
scoped name, such as `type='hordet.HorFPN'`. The modules in `locations` are imported on first use.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
)
from mmengine.registry import STRATEGIES as MMENGINE_STRATEGIES
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry(
    "model",
    parent=MMENGINE_MODELS,
    scope="hordet",
    locations=[
        "hordet.registered_layers",
        "hordet.backbones",
        "hordet.necks",
        "hordet.heads",
        "hordet.inference",
    ],
)
DATASETS = Registry(
    "dataset", parent=MMENGINE_DATASETS, scope="hordet", locations=["hordet.datasets"]
)
TRANSFORMS = Registry(
    "transform", parent=MMENGINE_TRANSFORMS, scope="hordet", locations=["hordet.datasets"]
)
DATA_SAMPLERS = Registry(
    "data sampler",
    parent=MMENGINE_DATA_SAMPLERS,
    scope="hordet",
    locations=["hordet.datasets"],
)
HOOKS = Registry(
    "hook",
    parent=MMENGINE_HOOKS,
    scope="hordet",
    locations=["hordet.hooks", "hordet.checkpoints"],
)
LOOPS = Registry("loop", parent=MMENGINE_LOOPS, scope="hordet", locations=["hordet.loops"])
STRATEGIES = Registry(
    "strategy", parent=MMENGINE_STRATEGIES, scope="hordet", locations=["hordet.sharding"]
)
METRICS = Registry(
    "metric",
    parent=MMENGINE_METRICS,
    scope="hordet",
    locations=["hordet.evaluation.coco_metric", "hordet.evaluation.iou_metric"],
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    "optimizer wrapper constructor",
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope="hordet",
    locations=["hordet.optim"],
)
