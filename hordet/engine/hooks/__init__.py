"""Training hooks."""

from hordet.hooks.finite import FiniteLossHook
from hordet.hooks.prediction_sheet import PredictionSheetHook
from hordet.hooks.progress import ProgressHook
from hordet.hooks.same_buffers import SameBuffersHook

__all__ = ["FiniteLossHook", "PredictionSheetHook", "ProgressHook", "SameBuffersHook"]
