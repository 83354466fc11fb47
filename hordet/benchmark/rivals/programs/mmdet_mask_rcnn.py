"""mmdet's Mask R-CNN with FPN, by its own config of COCO's 1x, on EfficientNet-Lite0."""

from pathlib import Path

import mmdet
import openmmlab
from mmengine.config import Config
from mmengine.runner import Runner
from protocol import read_task

import hordet.registry  # noqa: F401  timm's models as a backbone, and operators that mmcv lacks

STOCK = Path(mmdet.__file__).parent / ".mim/configs/mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"
BATCH = 4  # the rate below is in proportion: 0.02 for 16


def main() -> None:
    """Fit the config to the data, train and predict."""
    task = read_task()
    cfg = Config.fromfile(STOCK)
    categories = task.read_objects("train")["categories"]
    number = len(categories)
    model = cfg.model
    model.backbone = dict(type="hordet.TimmBackbone", model_name="tf_efficientnet_lite0")
    if task.weights:
        checkpoint = dict(type="Pretrained", checkpoint=str(task.weights))
        model.backbone.update(frozen_stages=2, norm_eval=True, init_cfg=checkpoint)
    model.neck.in_channels = [24, 40, 112, 320]
    model.data_preprocessor.update(mean=[127.5] * 3, std=[127.5] * 3)
    model.roi_head.bbox_head.num_classes = model.roi_head.mask_head.num_classes = number
    for split, loader in (("train", cfg.train_dataloader), ("val", cfg.test_dataloader)):
        loader.dataset.update(
            data_root=str(task.data),
            ann_file=f"annotations/instances_{split}.json",
            data_prefix=dict(img=f"{split}/"),
            metainfo=dict(classes=tuple(category["name"] for category in categories)),
        )
        for step in loader.dataset.pipeline:
            if step.type == "Resize":
                step.scale = task.size
    cfg.train_dataloader.batch_size = BATCH
    cfg.optim_wrapper.optimizer.lr = 0.02 * BATCH / 16
    cfg.test_evaluator.ann_file = str(task.data / "annotations/instances_val.json")
    cfg.randomness = dict(seed=task.seed)
    openmmlab.set_minutes(cfg, task, "IterBasedTrainLoop")
    openmmlab.run(Runner.from_cfg(cfg), task, f"mmdet {mmdet.__version__}")


if __name__ == "__main__":
    main()
