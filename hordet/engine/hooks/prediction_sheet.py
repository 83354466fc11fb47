"""A sheet of validation images, prediction beside truth, at each validation."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from hordet.ops.files import replace_whole
from hordet.registry import HOOKS
from hordet.visualization.panels import (
    Pair,
    get_class_colors,
    make_prediction_panel,
    make_semantic_panels,
    make_truth_panel,
)


@HOOKS.register_module()
class PredictionSheetHook(Hook):
    """Write `WORK_DIR/predictions/epoch_12.png` (or `iter_4000.png`) at each validation.

    The images are the same every time, spread evenly over the validation set. Detectors show
    masks, boxes, classes and scores; segmentors show class maps, a legend, and the share of right
    pixels among those with a true class.

    A sheet that cannot be drawn or written is left out with a warning, and training goes on.

    Args:
        num_images: Images on the sheet.
        score_threshold: Objects below this score are not drawn.

    Raises:
        ValueError: `num_images` is not positive or `score_threshold` is outside 0 to 1.
    """

    def __init__(self, num_images: int = 6, score_threshold: float = 0.4) -> None:
        """Check and keep the settings."""
        if num_images < 1:
            raise ValueError(
                f"got num_images={num_images}; allowed is 1 or more (for no sheet, take the "
                "hook out of custom_hooks)."
            )
        if not 0 <= score_threshold <= 1:
            raise ValueError(f"got score_threshold={score_threshold}; allowed is 0 to 1.")
        self.num_images = num_images
        self.score_threshold = score_threshold
        self._wanted: dict[str, int] = {}  # path of the image: index in the dataset
        self._pairs: list[Pair] = []

    def before_val_epoch(self, runner: Runner) -> None:
        """Choose the images."""
        dataset = runner.val_dataloader.dataset
        count = min(self.num_images, len(dataset))
        indices = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
        self._wanted = {dataset.get_data_info(i)["img_path"]: i for i in indices}
        self._pairs = []

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Keep what is drawn of the chosen images in this batch."""
        for sample in outputs or ():
            path = sample.metainfo["img_path"]
            if path not in self._wanted:
                continue
            try:
                self._pairs.append(self._compare(runner, path, sample))
            except Exception as error:
                _warn(f"{path} is not on the sheet of predictions", error)

    def _compare(self, runner: Runner, path: str, sample: Any) -> Pair:
        """Take what is drawn of an image."""
        index = self._wanted[path]
        if "pred_sem_seg" in sample or "pred_panoptic_seg" in sample:
            truth, prediction = make_semantic_panels(sample)
        else:
            info = runner.val_dataloader.dataset.get_data_info(index)
            truth = make_truth_panel(info, sample.metainfo["ori_shape"][:2])
            prediction = make_prediction_panel(sample.pred_instances, self.score_threshold)
        return Pair(index, path, truth, prediction)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Gather the images of all processes and write the sheet."""
        gathered = {pair.index: pair for part in all_gather_object(self._pairs) for pair in part}
        self._pairs = []
        if not gathered or not is_main_process():
            return
        name, title = _moment(runner)
        pairs = [gathered[i] for i in sorted(gathered)]
        path = Path(runner.work_dir) / "predictions" / f"{name}.png"
        try:
            _write_sheet(path, pairs, runner.val_dataloader.dataset.metainfo, title)
        except Exception as error:  # training is worth more than what it shows
            _warn(f"{path} is not written", error)


def _write_sheet(path: Path, pairs: Sequence[Pair], metainfo: dict[str, Any], title: str) -> None:
    """Draw a sheet, and write it whole or not at all."""
    # Here, for a run is built and has trained for long before it draws.
    from hordet.visualization.drawing import DOTS_PER_INCH, draw_sheet

    classes, colors = get_class_colors(metainfo)
    figure = draw_sheet(pairs, classes, colors, title)
    with replace_whole(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH)


def _warn(what: str, error: Exception) -> None:
    """Say what is left out, and why."""
    reason = " ".join(str(error).split())[:300] or "without a message"
    words = f"{what} ({type(error).__name__}: {reason}). Nothing else is affected"
    print_log(words, logger="current", level=logging.WARNING)


def _moment(runner: Runner) -> tuple[str, str]:
    """Name the point of training, for the file and for the title."""
    # Runner.epoch would build the training loop, data included, of a run that only validates.
    if runner._train_loop is None or isinstance(runner._train_loop, dict):
        return "validation", "validation"
    if runner.log_processor.by_epoch:
        return f"epoch_{runner.epoch}", f"epoch {runner.epoch} of {runner.max_epochs}"
    return f"iter_{runner.iter}", f"iteration {runner.iter} of {runner.max_iters}"
