"""From a config to a run: the Runner, its loops and hooks, optimizer, precision, processes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "amp": ["Bfloat16OptimWrapper"],
        "grad_init": ["GradInit"],
        "layer_decay": ["LayerDecayOptimWrapperConstructor"],
        "loops": ["EpochBasedTrainLoop", "IterBasedTrainLoop", "TestLoop", "ValLoop"],
        "sharding": ["FullyShardedStrategy"],
    },
)
