"""A decoder of segmentation_models.pytorch, by the recipe of the package's CamVid example.

Adam with 2e-4, Dice loss of many classes, flips, a random size, crops of 320 x 320.
"""

import label_maps
import segmentation_models_pytorch as smp
import torch
from protocol import load_lite0, read_task

HALF = [0.5, 0.5, 0.5]  # mean and std of the weights


def main() -> None:
    """Build, train and predict."""
    task = read_task()
    model = smp.create_model(
        task.decoder.lower(),
        encoder_name="tu-tf_efficientnet_lite0",
        encoder_weights=None,
        classes=len(task.read_classes()),
    )
    if task.weights:
        load_lite0(model.encoder.model, task.weights)
    label_maps.run(
        task,
        model,
        model,
        smp.losses.DiceLoss("multiclass", from_logits=True, ignore_index=label_maps.IGNORED),
        torch.optim.Adam(model.parameters(), 2e-4),
        scales=(0.5, 1.5),
        side=320,
        mean=HALF,
        std=HALF,
        version=f"segmentation_models_pytorch {smp.__version__}",
    )


if __name__ == "__main__":
    main()
