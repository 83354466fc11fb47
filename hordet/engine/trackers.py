"""mmengine's experiment trackers, chosen by one key of the config: `tracker="tensorboard"`."""

from importlib.util import find_spec

from mmengine.config import Config, ConfigDict

from hordet.errors import ConfigError, did_you_mean

# mmengine's backend of each tracker, and the package that it needs.
TRACKERS = {
    "tensorboard": ("TensorboardVisBackend", "tensorboard"),
    "wandb": ("WandbVisBackend", "wandb"),
    "mlflow": ("MLflowVisBackend", "mlflow"),
}


def add_trackers(cfg: Config) -> None:
    """Add the trackers of the config's key `tracker` to the visualizer.

    `tracker` is a name of `TRACKERS` or a list of names. To give a tracker options, write its
    backend into `visualizer.vis_backends` instead, as in mmengine.

    Args:
        cfg: From `hordet.config.load.load_config`; its `visualizer` is changed in place.

    Raises:
        ConfigError: A name is unknown, or its package is not installed.
    """
    asked = cfg.get("tracker")
    names = [asked] if isinstance(asked, str) else list(asked or [])
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(
                f"tracker={name!r} is unknown{did_you_mean(str(name), [*TRACKERS])}; allowed are "
                f"{', '.join(TRACKERS)}, or a list of them"
            )
        backend, package = TRACKERS[name]
        if find_spec(package) is None:
            raise ConfigError(f"tracker={name!r} needs a package: pip install {package}")
        visualizer = cfg.setdefault("visualizer", ConfigDict(type="Visualizer"))
        backends = list(visualizer.get("vis_backends") or [])
        if backend not in [item["type"] for item in backends]:
            visualizer["vis_backends"] = [*backends, dict(type=backend)]
