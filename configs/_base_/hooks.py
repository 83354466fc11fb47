"""The hooks of every run beside mmengine's own."""

custom_hooks = [
    dict(type="hordet.FiniteLossHook"),
    dict(type="hordet.ProgressHook"),
    dict(type="hordet.PredictionSheetHook"),
    dict(type="hordet.SameBuffersHook"),
]
