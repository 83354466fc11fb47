"""Hooks of a run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoint": ["CheckpointHook"],
        "connection_cost": ["ConnectionCostHook"],
        "console": ["ConsoleHook"],
        "early_stopping": ["EarlyStoppingHook"],
        "ema": ["EMAHook"],
        "finite": ["FiniteLossHook"],
        "grad_init": ["GradInitHook"],
        "prediction_sheet": ["PredictionSheetHook"],
        "progress": ["ProgressHook"],
        "resume": ["ResumeHook"],
        "same_buffers": ["SameBuffersHook"],
        "time_budget": ["TimeBudgetHook"],
    },
)
