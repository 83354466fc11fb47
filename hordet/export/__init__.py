"""Models for other runtimes: torch.export and ONNX, each file compared with its model.

`exporter` is the way in: graphs -> program -> compare. `runtime` lets a file predict in the place
of the model's network.
"""
