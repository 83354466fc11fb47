"""torchvision's Mask R-CNN by the recipe of its references: SGD, flips, no other augmentation."""

import random
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from protocol import (
    Clock,
    Task,
    describe_objects,
    load_lite0,
    read_task,
    summarize,
    time_each,
    train,
    write_objects,
)
from pycocotools import mask as coco
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import mobilenet_backbone
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

BATCH = 4
MAX_NORM = 10.0  # of gradients; the references' long warm-up does not fit into minutes
RATE = 0.02 * BATCH / 16  # of the references: 0.02 for 8 processes x 2 images


class Objects(Dataset):
    """Images (3, H, W), 0 to 1, with the targets of torchvision's detectors."""

    def __init__(self, task: Task, labels: dict[int, int]) -> None:
        """Read the annotation file."""
        content = task.read_objects("train")
        self.folder, self.labels = task.data / "train", labels
        self.objects: dict[int, list[dict[str, Any]]] = {}
        for item in content["annotations"]:
            if not item.get("iscrowd") and min(item["bbox"][2:]) >= 1:
                self.objects.setdefault(item["image_id"], []).append(item)
        self.images = [image for image in content["images"] if image["id"] in self.objects]

    def __len__(self) -> int:
        """Return the number of images that have objects."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return an image and its objects, flipped or not."""
        record = self.images[index]
        image = read_image(self.folder / record["file_name"])
        items = self.objects[record["id"]]
        size = record["height"], record["width"]
        masks = torch.from_numpy(np.stack([draw(item["segmentation"], size) for item in items]))
        boxes = torch.tensor([item["bbox"] for item in items], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        if random.random() < 0.5:
            image, masks = image.flip(-1), masks.flip(-1)
            boxes[:, [0, 2]] = size[1] - boxes[:, [2, 0]]
        labels = torch.tensor([self.labels[item["category_id"]] for item in items])
        return image, dict(boxes=boxes, labels=labels, masks=masks)


def collate(samples: list[tuple[Tensor, dict[str, Tensor]]]) -> tuple[Any, ...]:
    """Return the images and the targets of a batch."""
    return tuple(zip(*samples, strict=True))


def read_image(path: Any) -> Tensor:
    """Return an image (3, H, W), 0 to 1."""
    pixels = np.array(Image.open(path).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def draw(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """Return the mask (H, W) of polygons or run lengths."""
    if isinstance(segmentation, list):
        segmentation = coco.merge(coco.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco.frPyObjects(segmentation, *size)
    return coco.decode(segmentation)


class TimmFpn(nn.Module):
    """timm's EfficientNet-Lite0 under torchvision's FPN, as its ResNets are.

    Args:
        task: The arguments of the rival, for the weights.
    """

    out_channels = 256

    def __init__(self, task: Task) -> None:
        """Build both."""
        super().__init__()
        import timm

        body: Any = timm.create_model(
            "tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3, 4)
        )
        assert task.weights
        load_lite0(body, task.weights)
        channels = body.feature_info.channels()
        self.body = body
        self.fpn = FeaturePyramidNetwork(channels, self.out_channels, LastLevelMaxPool())
        # As torchvision's detectors with weights: the first layers and all norms are frozen.
        for name in ("conv_stem", "blocks.0", "blocks.1"):
            self.body.get_submodule(name).requires_grad_(False)
        self.norms = [m for m in self.body.modules() if isinstance(m, nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> "TimmFpn":
        """Keep the statistics of the norms."""
        super().train(mode)
        for norm in self.norms:
            norm.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return five levels of strides 4 to 64."""
        levels = enumerate(self.body(images))
        return self.fpn(OrderedDict((str(index), level) for index, level in levels))


def build(task: Task, classes: int) -> MaskRCNN:
    """Build the model.

    Args:
        task: The arguments of the rival.
        classes: Number of classes, the background among them.
    """
    if task.weights:
        backbone, half = TimmFpn(task), [0.5, 0.5, 0.5]
        options = dict(image_mean=half, image_std=half)
    else:
        # The four strides 4 to 32, with norms that learn: torchvision's default is for weights.
        backbone = mobilenet_backbone(
            backbone_name="mobilenet_v3_large",
            weights=None,
            fpn=True,
            trainable_layers=6,
            returned_layers=[1, 2, 3, 4],
            norm_layer=nn.BatchNorm2d,
        )
        options = {}
    anchors = AnchorGenerator(tuple((s,) for s in (32, 64, 128, 256, 512)), ((0.5, 1.0, 2.0),) * 5)
    return MaskRCNN(
        backbone,
        classes,
        rpn_anchor_generator=anchors,
        min_size=min(task.size),
        max_size=max(task.size),
        **options,
    )


def main() -> None:
    """Train and predict."""
    task = read_task()
    categories = [category["id"] for category in task.read_objects("train")["categories"]]
    dataset = Objects(task, {key: index for index, key in enumerate(categories, start=1)})
    loader = DataLoader(
        dataset,
        2 if task.tiny else BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=task.workers,
        persistent_workers=task.workers > 0,
        collate_fn=collate,
    )
    model = build(task, 1 + len(categories)).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, RATE, momentum=0.9, weight_decay=1e-4)
    clock = Clock(task)
    train(clock, optimizer, loader, lambda batch: sum(model(*batch).values()), MAX_NORM)

    model.eval()
    records = task.read_objects("val")["images"]
    images = (read_image(task.data / "val" / record["file_name"]) for record in records)
    milliseconds, detections = [], []
    with torch.inference_mode():
        predictions = time_each(lambda image: model([image])[0], images)
        for record, (found, taken) in zip(records, predictions, strict=True):
            milliseconds.append(taken)
            detections += describe_objects(
                record["id"],
                found["boxes"].tolist(),
                found["scores"].tolist(),
                [categories[label - 1] for label in found["labels"].tolist()],
                (found["masks"][:, 0] > 0.5).numpy(),
            )
    write_objects(task, detections)
    summarize(task, clock, model, milliseconds, f"torchvision {torchvision.__version__}")


if __name__ == "__main__":
    main()
