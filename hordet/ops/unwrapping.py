"""The model within what mmengine wraps around it."""

from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper


def unwrap_model(model: Any) -> Any:
    """Return a model without what processes or test-time augmentation wrap around it."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
