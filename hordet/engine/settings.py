"""What a wrong setting makes a library raise, as a message that names the part of the config."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from hordet.errors import ConfigError, UserError

# The Runner's methods that build a part of the config, and the key of that part.
_PARTS = {
    "build_model": "model",
    "build_optim_wrapper": "optim_wrapper",
    "build_param_scheduler": "param_scheduler",
    "build_train_loop": "train_dataloader, train_cfg",
    "build_val_loop": "val_dataloader, val_evaluator, val_cfg",
    "build_test_loop": "test_dataloader, test_evaluator, test_cfg",
    "build_visualizer": "visualizer",
    "register_hooks": "default_hooks, custom_hooks",
}
# What the constructors of libraries raise at values that they do not take.
_RAISED = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


def explain_settings(runner_class: type[Any]) -> type[Any]:
    """Return a Runner's class that tells which part of its config cannot be built.

    Args:
        runner_class: mmengine's `Runner` or `FlexibleRunner`, or one that is made from them.
    """
    methods = {
        name: _explain(getattr(runner_class, name), part)
        for name, part in _PARTS.items()
        if hasattr(runner_class, name)
    }
    return type(runner_class.__name__, (runner_class,), methods)


def _explain(method: Callable, part: str) -> Callable:
    """Return a method that does the same, and tells which part of the config it fails at."""

    @wraps(method)
    def build(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except UserError:
            raise
        except _RAISED as error:
            words = " ".join(str(error).split())[:400]
            raise ConfigError(
                f"{part} of the config cannot be built: {type(error).__name__}: {words}. "
                "Correct the setting; --debug shows which call refused it"
            ) from error

    return build
