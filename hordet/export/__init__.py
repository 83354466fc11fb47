"""Models for other runtimes: torch.export and ONNX, each file compared with its model.

`exporter` uses the other modules in turn: graphs -> program -> compare. `runtime` runs an ONNX file
in place of a model's network.
"""
