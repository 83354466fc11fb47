"""A whole detector or segmentor on a config's own images, for `speed`."""

from collections.abc import Callable
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, METRICS, DefaultScope

from hordet.datasets.shapes.cache import draw_missing_shapes


def make_test_run(model: Any, cfg: Any, images: int, autocast: Any) -> Callable[[], None]:
    """Return a function that tests images one by one, from files to encoded predictions.

    Args:
        model: A detector of mmdet or segmentor of mmseg, in eval mode.
        cfg: Its config, with test data.
        images: Number of images, from the first of the test data on.
        autocast: Makes the context of the forward pass.
    """
    draw_missing_shapes(cfg)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = dataset.metainfo

    def run() -> None:
        metric.results.clear()
        for i in range(images):
            batch = pseudo_collate([dataset[i % len(dataset)]])
            with torch.no_grad(), autocast():
                samples = model.test_step(batch)
            metric.process(batch, [sample.to_dict() for sample in samples])

    return run


def make_loading(cfg: Any, images: int) -> Callable[[], dict[str, Any]]:
    """Return a function that loads the first batch of the training data.

    Args:
        cfg: A config with training data.
        images: Number of images in the batch.
    """
    draw_missing_shapes(cfg)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    return lambda: pseudo_collate([dataset[i] for i in range(images)])


def make_training_run(
    model: Any, cfg: Any, batch: dict[str, Any], autocast: Any
) -> Callable[[], None]:
    """Return a function that runs one training step on a batch that is loaded already.

    Args:
        model: A detector of mmdet or segmentor of mmseg, in training mode.
        cfg: Its config, with an `optim_wrapper`.
        batch: From `make_loading`.
        autocast: Makes the context of the forward pass.
    """
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)

    def run() -> None:
        torch.manual_seed(0)  # samples the same boxes every time
        data = model.data_preprocessor(batch, training=True)
        with autocast():
            losses = model(**data, mode="loss")
        loss, _ = model.parse_losses(losses)
        wrapper.update_params(loss)

    return run
