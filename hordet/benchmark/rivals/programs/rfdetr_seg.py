"""RF-DETR-Seg nano of the package `rfdetr`, without any weights.

The package takes DINOv2's weights from a hub even where it is asked for none of its own; here its
encoder is built from the same config and left as it is initialized. Its training is Lightning's,
whose rates and end the clock sets. Weights are not averaged, because the average is chosen by the
validations, of which there are none.
"""

import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from protocol import (
    Clock,
    Task,
    describe_objects,
    read_task,
    summarize,
    time_each,
    write_objects,
)
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import Checkpoint
from rfdetr import RFDETRSegNano
from rfdetr.config import RFDETRSegNanoConfig, SegmentationTrainConfig
from rfdetr.training import RFDETRDataModule, RFDETRModelModule, build_trainer
from transformers import PreTrainedModel

BATCH = 4
THRESHOLD = 0.001  # of scores; all that COCO's metric ranks
ENDLESS = 10_000  # epochs


class ClockCallback(Callback):
    """Sets the learning rates by a clock, and ends the training when the time is over.

    Args:
        clock: The clock.
    """

    def __init__(self, clock: Clock) -> None:
        """Wait for the first step."""
        self.clock = clock

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        """Set the rates."""
        factor = self.clock.begin_step()
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = factor * group["initial_lr"]

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Stop."""
        if self.clock.end_step():
            trainer.should_stop = True


def build_encoder(cls: Any, name: str, *_: Any, config: Any = None, **__: Any) -> Any:
    """Return an encoder of a config, in place of one with weights from a hub."""
    return cls(config)


def write_data(task: Task) -> Path:
    """Write the data in the package's form, that of Roboflow, and return their folder."""
    folder = task.out / "roboflow"
    for split, name in (("train", "train"), ("val", "valid"), ("val", "test")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        content = task.read_objects(split)
        for image in content["images"]:
            shutil.copy(task.data / split / image["file_name"], folder / name)
            image["file_name"] = Path(image["file_name"]).name
        (folder / name / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


def main() -> None:
    """Train and predict."""
    task = read_task()
    (category,) = task.read_objects("train")["categories"]  # it is run on one class alone
    PreTrainedModel.from_pretrained = classmethod(build_encoder)
    options = dict(pretrain_weights=None, num_classes=1, device="cpu", amp=False)
    model_config = RFDETRSegNanoConfig(**options)
    train_config = SegmentationTrainConfig(
        dataset_dir=str(write_data(task)),
        output_dir=str(task.out / "train"),
        epochs=ENDLESS,
        batch_size=2 if task.tiny else BATCH,
        num_workers=task.workers,
        use_ema=False,
        tensorboard=False,
        run_test=False,
        seed=task.seed,
    )
    trainer = build_trainer(
        train_config,
        model_config,
        accelerator="cpu",
        limit_val_batches=0,
        num_sanity_val_steps=0,
    )
    clock = Clock(task)
    kept = [each for each in trainer.callbacks if not isinstance(each, Checkpoint)]
    trainer.callbacks = [*kept, ClockCallback(clock)]
    module = RFDETRModelModule(model_config, train_config)
    trainer.fit(module, RFDETRDataModule(model_config, train_config))
    if not clock.iterations:
        sys.exit("Lightning made no step")

    model = RFDETRSegNano(**options)
    model.model.model.load_state_dict(module.model.state_dict())
    records = task.read_objects("val")["images"]
    images = (
        Image.open(task.data / "val" / record["file_name"]).convert("RGB") for record in records
    )
    milliseconds, detections = [], []
    with torch.inference_mode():
        predictions = time_each(lambda image: model.predict(image, threshold=THRESHOLD), images)
        for record, (found, taken) in zip(records, predictions, strict=True):
            milliseconds.append(taken)
            detections += describe_objects(
                record["id"],
                found.xyxy.tolist(),
                found.confidence.tolist(),
                [category["id"]] * len(found),
                found.mask if len(found) else [],
            )
    write_objects(task, detections)
    summarize(task, clock, module.model, milliseconds, f"rfdetr {version('rfdetr')}")


if __name__ == "__main__":
    main()
