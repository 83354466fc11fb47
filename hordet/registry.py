"""The registries of hordet: children of mmengine's, scope `hordet`.

A config of mmdet or mmseg that imports this module (`custom_imports`) builds every component by its
scoped name, such as `type='hordet.HorFPN'`. A component's module is imported when it is asked for.
"""

from importlib import import_module

import mmengine.registry as mmengine
from mmengine.registry import Registry


def is_kind_of(kind: type, *names: str) -> bool:
    """Tell whether a class is one of others or derives from one; imports none of them.

    Args:
        kind: The class.
        *names: The others as a config names them with their scope, such as 'mmdet.CocoDataset'.
    """
    own = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in kind.__mro__}
    return not own.isdisjoint(names)


class RoomRegistry(Registry):
    """A registry that imports the module of a component when that is asked for, and no other.

    mmengine would import every module of a location: a detector would wait for mmseg. The packages
    of `locations` name their components and where each stands (`__all__` and a lazy `__getattr__`).
    """

    def names(self) -> set[str]:
        """Return the names of all components, imported or not."""
        listed = {name for room in self._locations for name in import_module(room).__all__}
        return listed | self.module_dict.keys()

    def get(self, key: str) -> type | None:
        """Return a component by its name; None if there is none."""
        name = key.rpartition(".")[2]
        for room in map(import_module, self._locations):
            if name in room.__all__:
                getattr(room, name)  # the module registers it
        return super().get(key)


MODELS = RoomRegistry(
    "model",
    parent=mmengine.MODELS,
    scope="hordet",
    locations=["hordet.backbones", "hordet.necks", "hordet.heads", "hordet.inference"],
)
TASK_UTILS = RoomRegistry(
    "task util", parent=mmengine.TASK_UTILS, scope="hordet", locations=["hordet.heads"]
)
DATASETS = RoomRegistry(
    "dataset", parent=mmengine.DATASETS, scope="hordet", locations=["hordet.datasets"]
)
TRANSFORMS = RoomRegistry(
    "transform", parent=mmengine.TRANSFORMS, scope="hordet", locations=["hordet.datasets"]
)
DATA_SAMPLERS = RoomRegistry(
    "data sampler", parent=mmengine.DATA_SAMPLERS, scope="hordet", locations=["hordet.datasets"]
)
HOOKS = RoomRegistry(
    "hook", parent=mmengine.HOOKS, scope="hordet", locations=["hordet.engine.hooks"]
)
LOOPS = RoomRegistry("loop", parent=mmengine.LOOPS, scope="hordet", locations=["hordet.engine"])
STRATEGIES = RoomRegistry(
    "strategy", parent=mmengine.STRATEGIES, scope="hordet", locations=["hordet.engine"]
)
METRICS = RoomRegistry(
    "metric", parent=mmengine.METRICS, scope="hordet", locations=["hordet.evaluation"]
)
WEIGHT_INITIALIZERS = RoomRegistry(
    "weight initializer",
    parent=mmengine.WEIGHT_INITIALIZERS,
    scope="hordet",
    locations=["hordet.engine"],
)
OPTIM_WRAPPERS = RoomRegistry(
    "optimizer wrapper",
    parent=mmengine.OPTIM_WRAPPERS,
    scope="hordet",
    locations=["hordet.engine"],
)
OPTIM_WRAPPER_CONSTRUCTORS = RoomRegistry(
    "optimizer wrapper constructor",
    parent=mmengine.OPTIM_WRAPPER_CONSTRUCTORS,
    scope="hordet",
    locations=["hordet.engine"],
)
