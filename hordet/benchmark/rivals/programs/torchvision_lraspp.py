"""torchvision's LR-ASPP on MobileNetV3-Large, by the recipe of its references: SGD, 0.5 to 2 x."""

import label_maps
import torch
import torchvision
from protocol import read_task
from torch.nn import functional
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

RATE = 0.01  # the default of the references, beside batches of 8


def main() -> None:
    """Build, train and predict."""
    task = read_task()
    model = lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=len(task.read_classes())
    )
    label_maps.run(
        task,
        model,
        lambda images: model(images)["out"],
        lambda logits, truth: functional.cross_entropy(
            logits, truth, ignore_index=label_maps.IGNORED
        ),
        torch.optim.SGD(model.parameters(), RATE, momentum=0.9, weight_decay=1e-4),
        scales=(0.5, 2.0),
        side=320,
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
        version=f"torchvision {torchvision.__version__}",
    )


if __name__ == "__main__":
    main()
