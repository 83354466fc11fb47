"""From an image to an answer in Python: a config's model and test pipeline without a data set."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from numpy.typing import NDArray
from PIL import Image

from hordet.config.names import find_weights_of
from hordet.datasets.images import ALLOWED, convert_array, convert_image
from hordet.datasets.transforms import warn_once
from hordet.engine.runner import load_model, read_config
from hordet.errors import ConfigError, DatasetError
from hordet.evaluation.coco_results import encode_masks
from hordet.inference import settings
from hordet.inference.prediction import NO_CLASS, ClassMap, Instances, Prediction
from hordet.registry import is_kind_of
from hordet.visualization.panels import get_class_colors, get_predicted_classes

ImageLike = str | Path | NDArray | Image.Image


class Predictor:
    """A detector or a segmentor that takes images and returns what is in them.

    The model, weights, pipeline and so the numbers of `hordet test`. Of panoptic models the
    classes are answered, without borders between objects.

    Attributes:
        model: Takes a batch by `test_step`, as every model of mmdet and mmseg does.
        classes: Names of the classes.
        colors: Their colors: red, green, blue of 0 to 1.
        is_semantic: Whether answers are a `ClassMap`; otherwise they are `Instances`.
        reduce_zero_label: Whether label files of its data count classes from 1, as ADE20K's.
        tile: (height, width) of the tiles of large images; None: there are none.
        overlap: Share of a tile that its neighbor has too, where it was given.
    """

    def __init__(
        self,
        model: Any,
        cfg: Config,
        metainfo: dict[str, Any],
        *,
        tile: tuple[int, int] | None = None,
        overlap: float | None = None,
    ) -> None:
        """Take a model that has its weights and is on its device; `from_config` makes one.

        Args:
            model: The model.
            cfg: Its config, for the test pipeline.
            metainfo: `classes` and perhaps `palette`.
            tile: (height, width) of tiles. A detector is made to look at them beside the whole
                image; a segmentor's config says so already.
            overlap: Share of a tile that its neighbor has too.

        Raises:
            ConfigError: There is no pipeline, or there are too many classes for a label map.
        """
        self.model = model.eval()
        self.classes = tuple(metainfo["classes"])
        self.colors = get_class_colors(metainfo)[1]
        self.is_semantic = is_kind_of(type(model), "mmseg.BaseSegmentor") or _is_panoptic(model)
        self.reduce_zero_label = settings.reduces_zero_label(cfg)
        if self.is_semantic and len(self.classes) > NO_CLASS:
            raise ConfigError(
                f"got {len(self.classes)} classes; label maps of 8 bits hold up to {NO_CLASS}"
            )
        self.tile, self.overlap = tile, overlap
        self._loader, others = settings.build_pipeline(cfg)
        if tile and not is_kind_of(type(model), "mmseg.BaseSegmentor"):
            if self.is_semantic:
                raise settings.refuse_tiles(type(model).__name__)
            self.model = settings.slice_detector(self.model, others, cfg, tile, overlap)
            others = others[-1:]  # which packs
        self._pipeline = Compose(others)

    @classmethod
    def from_config(
        cls,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        *,
        device: str | None = None,
        tile: int | tuple[int, int] | None = None,
        overlap: float | None = None,
    ) -> "Predictor":
        """Build a config's model and fill it from a checkpoint, of which no code is run.

        Args:
            config: A config file, or what `hordet.engine.runner.read_config` made of it; or
                `hordet://NAME` of a whole model that has a name.
            checkpoint: A `.pth` or `.safetensors` file that fills the whole model, or
                `hordet://NAME`; None: the weights that come with the config.
            device: Such as 'cpu', 'cuda:1' or 'mps'; the first CUDA device where there is one.
            tile: For large images: predict in overlapping tiles of this many pixels, (height,
                width) or of both sides. A segmentor sees each at its own size; a detector sees
                each as if it were an image, and the whole image, and what they find is merged.
            overlap: Share of a tile that its neighbor has too, 0 to below 1; None: a third for
                segmentors, a quarter (or what `sliced_model` of the config says) for detectors.

        Raises:
            ConfigError: The config is wrong, or has no tiles; the device is not there; no
                checkpoint is given and none comes with the config.
            CheckpointError: The file cannot be opened or is of another model.
        """
        if checkpoint is None:
            own = None if isinstance(config, Config) else find_weights_of(config)
            if own is None:
                raise ConfigError(f"no checkpoint is given, and none comes with {config}")
            checkpoint = f"hordet://{own.name}"
        cfg = copy.deepcopy(config) if isinstance(config, Config) else read_config(config)
        if tile is None and overlap is not None:
            raise ConfigError(f"got an overlap of {overlap} without a tile; give both or none")
        size = None if tile is None else settings.read_tile(tile, overlap)
        if size and settings.is_segmentor(cfg):
            settings.slide_over_tiles(cfg, size, overlap)
        target = settings.choose_device(device)
        model = load_model(cfg, checkpoint)
        metainfo = model.dataset_meta or settings.read_metainfo(cfg)
        return cls(model.to(target), cfg, metainfo, tile=size, overlap=overlap)

    def read(self, path: str | Path) -> NDArray[np.uint8]:
        """Read an image as the config's pipeline does.

        Returns:
            Blue, green, red, (H, W, 3).

        Raises:
            DatasetError: The file is missing or no image.
        """
        try:
            return self._loader.transform({"img_path": str(path)})["img"].astype(np.uint8)
        except DatasetError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.strerror:
                raise DatasetError(f"cannot read {path}: {cause.strerror}") from error
            if isinstance(cause, DatasetError):
                raise DatasetError(
                    f"{path} {cause}. Allowed are whole files of JPEG, PNG, WebP, BMP, TIFF and "
                    f"others that OpenCV or Pillow reads, of {ALLOWED}: fetch or export it again"
                ) from error
            raise

    def __call__(self, image: ImageLike) -> Prediction:
        """Predict one image.

        Args:
            image: A file, an array (H, W, 3) blue-green-red or (H, W) gray, of uint8, uint16 or
                float of 0 to 1, or an image of Pillow.

        Returns:
            `Instances` (boxes, masks, labels, scores) or a `ClassMap`, in pixels of the image.

        Raises:
            DatasetError: The file is no image, or the array of another form.
        """
        return self.predict([image])[0]

    def predict(self, images: Sequence[ImageLike]) -> list[Prediction]:
        """Predict several images, those of one size at once.

        Images of different sizes are not padded to one, so that the answer to an image does not
        depend on its neighbors.

        Returns:
            One answer an image, in their order.
        """
        groups: dict[Any, list[tuple[int, dict]]] = {}
        for place, image in enumerate(images):
            packed = self._pipeline(self._loaded(image))
            groups.setdefault(packed["inputs"].shape, []).append((place, packed))
        found: dict[int, Prediction] = {}
        for group in groups.values():
            items = [packed for _, packed in group]
            batch = {key: [item[key] for item in items] for key in items[0]}
            with torch.no_grad():
                samples = self.model.test_step(batch)
            for (place, _), sample in zip(group, samples, strict=True):
                found[place] = self._answer(sample)
        return [found[place] for place in range(len(images))]

    def _loaded(self, image: ImageLike) -> dict[str, Any]:
        """Return what the pipeline's loader would, for an image from anywhere."""
        if isinstance(image, str | Path):
            pixels = self.read(image)
        else:
            try:
                if isinstance(image, Image.Image):
                    got = "image of Pillow"
                    pixels, notes = convert_image(image)
                else:
                    got = "array (blue, green, red, as of OpenCV)"
                    pixels, notes = convert_array(np.asarray(image))
            except DatasetError as error:
                raise DatasetError(f"got an {got} that {error}. Convert it") from error
            for note in notes:
                warn_once(note, "this one")
        if self._loader.to_float32:
            pixels = pixels.astype(np.float32)
        size = pixels.shape[:2]
        return dict(img=np.ascontiguousarray(pixels), img_shape=size, ori_shape=size)

    def _answer(self, sample: Any) -> Prediction:
        """Take an answer out of a data sample."""
        if self.is_semantic:
            labels = get_predicted_classes(sample)
            known = np.where(labels < len(self.classes), labels, NO_CLASS).astype(np.uint8)
            return ClassMap(known, self.classes)
        found = sample.pred_instances.cpu()
        size = tuple(sample.metainfo["ori_shape"][:2])
        labels = found.labels.numpy()
        if len(labels) and labels.max() >= len(self.classes):
            raise ConfigError(
                f"the model found class {labels.max()}, but {len(self.classes)} classes are named "
                f"(0 to {len(self.classes) - 1}). Set num_classes of the heads to their number"
            )
        masks = None
        if "masks" in found:
            counts = encode_masks(found.masks, size, sample.metainfo.get("img_path", ""))
            masks = [dict(size=list(size), counts=item) for item in counts]
        return Instances(
            found.bboxes.float().numpy(),
            found.scores.float().numpy(),
            labels,
            masks,
            size,
            self.classes,
            found.mask_scores.float().numpy() if "mask_scores" in found else None,
        )


def _is_panoptic(model: Any) -> bool:
    """Tell whether a model of mmdet answers panoptic segments rather than objects."""
    if is_kind_of(type(model), "mmdet.MaskFormer"):  # and Mask2Former
        return not (model.test_cfg or {}).get("instance_on", False)
    return is_kind_of(type(model), "mmdet.TwoStagePanopticSegmentor")
