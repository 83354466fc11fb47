"""How the rivals on mmengine train for some minutes, and predict: hordet's own, and mmdet's."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from protocol import (
    Clock,
    Task,
    describe_objects,
    summarize,
    time_each,
    write_map,
    write_objects,
)

ENDLESS = 10**9


@HOOKS.register_module()
class ClockHook(Hook):
    """Sets the learning rates by a clock, and ends the training when the time is over.

    Args:
        clock: The clock.
    """

    priority = "VERY_LOW"  # after the optimizer's step

    def __init__(self, clock: Clock) -> None:
        """Wait for the first step."""
        self.clock = clock
        self.rates: list[float] = []

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set the rates."""
        groups = runner.optim_wrapper.optimizer.param_groups
        self.rates = self.rates or [group["lr"] for group in groups]
        factor = self.clock.begin_step()
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = factor * rate

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stop."""
        if self.clock.end_step():
            runner.train_loop.stop_training = True


def set_minutes(cfg: Any, task: Task, loop: str) -> None:
    """Change a config: it trains by iterations until it is stopped, and writes nothing.

    Args:
        cfg: The config.
        task: The arguments of the rival.
        loop: Name of a loop by iterations.
    """
    cfg.train_cfg = dict(type=loop, max_iters=ENDLESS, val_interval=ENDLESS)
    cfg.param_scheduler = None
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint = None
    cfg.log_processor = dict(by_epoch=False)
    cfg.work_dir = str(task.out / "work")
    if task.tiny:
        for loader in (cfg.train_dataloader, cfg.test_dataloader):
            loader.update(num_workers=0, persistent_workers=False, timeout=0)
        cfg.train_dataloader.batch_size = 2


def run(runner: Any, task: Task, version: str) -> None:
    """Train, predict the test images, and write all of it.

    Args:
        runner: Runner of a config after `set_minutes`.
        task: The arguments of the rival.
        version: Name and version of the package.
    """
    import torch

    clock = Clock(task)
    runner.register_hook(ClockHook(clock))
    runner.train()
    model = runner.model.eval()
    loader = runner.build_dataloader(runner.cfg.test_dataloader)
    milliseconds, detections = [], []
    with torch.inference_mode():
        for (sample,), taken in time_each(model.test_step, loader):
            milliseconds.append(taken)
            if "pred_sem_seg" in sample:
                name = sample.img_path.replace("\\", "/").rpartition("/")[2].rpartition(".")[0]
                write_map(task, name, sample.pred_sem_seg.data[0].numpy())
                continue
            found = sample.pred_instances
            masks = found.masks if isinstance(found.masks, list) else found.masks.numpy()
            labels = [loader.dataset.cat_ids[label] for label in found.labels.tolist()]
            detections += describe_objects(
                sample.img_id, found.bboxes.tolist(), found.scores.tolist(), labels, masks
            )
    if not (task.out / "maps").is_dir():
        write_objects(task, detections)
    summarize(task, clock, model, milliseconds, version)
