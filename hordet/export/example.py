"""Find objects or classes in images with an exported model: numpy, OpenCV and a runtime alone.

    python example.py model.onnx IMAGE [IMAGE ...] --out FOLDER

The model is a file of `hordet export`: `.onnx` runs in ONNX Runtime, `.xml` in OpenVINO. For each
image NAME the folder gets NAME.png, the image with what was found drawn into it, and NAME.npz:
boxes (N, 4) as left, top, right, bottom in pixels of the image, scores (N,), labels (N,) and masks
(N, H, W) of a detector; labels (H, W) of a segmentor.

    python example.py model.onnx IMAGE --tile 640 --overlap 0.25

looks at overlapping tiles of a large image and at the whole, and merges the objects as hordet does.
In place of masks, which would fill the memory, there is instances (H, W): 1 where the first object
is, 2 where the second is, and 0 elsewhere. The better object has what two share.

Neither hordet nor PyTorch is needed: all that the steps here read is in the model's file.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# hordet writes the text of that file in the place of this line.
from hordet.ops.tile_groups import group_tiles

Array = NDArray[Any]
FORMAT = 1  # of the newest metadata that this script reads


class Model:
    """An exported model and what its file says of it."""

    def __init__(self, path: str) -> None:
        """Open the file in its runtime."""
        if not Path(path).is_file():
            raise SystemExit(f"error: no file at {path}")
        is_openvino = Path(path).suffix.lower() == ".xml"
        if is_openvino and not Path(path).with_suffix(".bin").is_file():
            raise SystemExit(f"error: {Path(path).with_suffix('.bin')} must lie beside {path}")
        try:
            text = self._open_openvino(path) if is_openvino else self._open_onnx(path)
        except ImportError as error:
            raise SystemExit(
                f"error: {path} needs its runtime: pip install {error.name}"
            ) from error
        except Exception as error:  # the exceptions of runtimes have no common class
            words = " ".join(str(error).split())[:400]
            raise SystemExit(
                f"error: the runtime cannot open {path}: {words}. If it names an operator that it "
                "lacks, install a newer runtime, or export again with --static; else the file may "
                "be cut short, or no export: copy or export it again"
            ) from error
        if not text:
            raise SystemExit(f"error: {path} was not written by `hordet export`")
        try:
            self.metadata = dict(json.loads(text))
            newer = self.metadata["format"] > FORMAT
        except (ValueError, TypeError, KeyError) as error:
            raise SystemExit(
                f"error: what hordet wrote into {path} is damaged: export it again"
            ) from error
        if newer:
            raise SystemExit(
                f"error: {path} was written by hordet {self.metadata.get('version')}, which is "
                "newer than this script: write the script again by `hordet export --example`"
            )
        if self.metadata.get("kind") not in ("detections", "segmentation"):
            raise SystemExit(f"error: {path} is no whole model: export it without --part")
        if self.metadata.get("size_rule") is None:
            raise SystemExit(f"error: {path} does not say how images are resized: export it again")

    def _open_onnx(self, path: str) -> str | None:
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        inputs = [item.name for item in session.get_inputs()]
        names = [item.name for item in session.get_outputs()]

        def run(*arrays: Array) -> dict[str, Array]:
            found = session.run(names, dict(zip(inputs, arrays, strict=True)))
            return dict(zip(names, found, strict=True))

        self.run, self.outputs = run, names
        return session.get_modelmeta().custom_metadata_map.get("hordet")

    def _open_openvino(self, path: str) -> str | None:
        import openvino

        model = openvino.Core().read_model(path)
        # On CPUs that have bfloat16, OpenVINO would otherwise compute in it.
        compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        names = [item.any_name for item in model.outputs]

        def run(*arrays: Array) -> dict[str, Array]:
            found = compiled(list(arrays))
            return {name: found[i] for i, name in enumerate(names)}

        self.run, self.outputs = run, names
        return str(model.get_rt_info(["hordet"]).value) if model.has_rt_info(["hordet"]) else None

    def predict(self, image: Array) -> dict[str, Array]:
        """Find what is in an image (H, W, 3), blue, green, red, uint8; see the top of this file."""
        tensor, size = self._prepare(image)
        if self.metadata["kind"] == "segmentation":
            return {"labels": self._classify(tensor, size, image.shape[:2])}
        result, masks = self._detect(tensor, size, image.shape[:2])
        if masks is not None:
            result["masks"] = np.zeros((len(masks), *image.shape[:2]), bool)
            for whole, (left, top, mask) in zip(result["masks"], masks, strict=True):
                whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        return result

    def predict_tiles(self, image: Array, tile: int, overlap: float) -> dict[str, Array]:
        """Find what is in the tiles of an image (H, W, 3) and in the whole; see the top."""
        height, width = image.shape[:2]
        step = tile - int(overlap * tile)
        tops, lefts = (place_windows(side, min(tile, side), step) for side in (height, width))
        places = [
            (left, top, min(left + tile, width), min(top + tile, height))
            for top in tops
            for left in lefts
        ]
        if len(places) > 1:
            places.append((0, 0, width, height))
        found: dict[str, list] = {"boxes": [], "scores": [], "labels": [], "areas": []}
        masks: list[tuple[int, int, Array]] = []
        for left, top, right, bottom in places:
            part = np.ascontiguousarray(image[top:bottom, left:right])
            one, seen = self._detect(*self._prepare(part), part.shape[:2])
            found["boxes"].append(one["boxes"] + np.array([left, top] * 2, np.float32))
            found["scores"].append(one["scores"])
            found["labels"].append(one["labels"])
            found["areas"].append(np.tile([left, top, right, bottom], (len(one["scores"]), 1)))
            masks += [(left + x, top + y, mask) for x, y, mask in seen or []]
        boxes, scores, labels, areas = map(np.concatenate, found.values())
        groups = group_tiles(boxes.astype(float), scores.astype(float), labels, areas, 0.5)
        kept = [rows[0] for rows, _ in groups]
        parts = [boxes[rows] for rows, _ in groups]
        unions = [np.concatenate((part[:, :2].min(0), part[:, 2:].max(0))) for part in parts]
        result = {
            "boxes": np.array(unions, np.float32).reshape(-1, 4),
            "scores": np.array([score for _, score in groups], np.float32),
            "labels": labels[kept],
        }
        if "mask_logits" in self.outputs:
            result["instances"] = np.zeros((height, width), np.int32)
            for number, (rows, _) in reversed(list(enumerate(groups, 1))):
                for left, top, mask in (masks[row] for row in rows):
                    high, wide = mask.shape
                    result["instances"][top : top + high, left : left + wide][mask] = number
        return result

    def _prepare(self, image: Array) -> tuple[Array, tuple]:
        """Return the network's input of an image (H, W, 3), and the size before padding."""
        resized = resize(image, self.metadata["size_rule"])
        return prepare(resized, self.metadata["preprocessing"]), resized.shape[:2]

    def _detect(self, tensor: Array, size: tuple, image_size: tuple) -> tuple[dict, list | None]:
        """Return boxes, scores and labels, and left, top and bits (h, w) of each object's mask."""
        found = self.run(tensor, np.array(size, np.float32))
        scale = [size[1] / image_size[1], size[0] / image_size[0]]
        boxes = found["boxes"] / np.array(scale * 2, np.float32)
        result = {"boxes": boxes, "scores": found["scores"], "labels": found["labels"]}
        if "mask_logits" not in found:
            return result, None
        probabilities = 1 / (1 + np.exp(-found["mask_logits"]))
        threshold = self.metadata["prediction"]["mask_threshold"]
        placed = [paste(*pair, image_size) for pair in zip(probabilities, boxes, strict=True)]
        return result, [(left, top, mask >= threshold) for left, top, mask in placed]

    def _classify(self, tensor: Array, size: tuple, image_size: tuple) -> Array:
        """Return the class of each pixel of the image, int64 (H, W)."""
        how = self.metadata["prediction"]
        if how["mode"] == "slide" and "logits" in self.outputs:
            logits = slide(self.run, tensor, how["crop_size"], how["stride"])
        else:
            found = self.run(tensor)
            if "labels" in found:  # exported with --labels
                labels = found["labels"][0, : size[0], : size[1]].astype(np.float32)
                nearest = cv2.resize(labels, image_size[::-1], interpolation=cv2.INTER_NEAREST)
                return nearest.astype(np.int64)
            logits = found["logits"]
        maps = [
            enlarge(each[: size[0], : size[1]], image_size, how["align_corners"])
            for each in logits[0]
        ]
        if len(maps) == 1:
            return (1 / (1 + np.exp(-maps[0])) > how["threshold"]).astype(np.int64)
        return np.argmax(maps, axis=0)


def resize(image: Array, rule: dict[str, Any]) -> Array:
    """Resize an image (H, W, 3) as the model's test pipeline does."""
    if not rule:
        return image
    height, width = image.shape[:2]
    wide, high = rule["scale"]
    if rule["keep_ratio"]:
        longest, shortest = max(wide, high), min(wide, high)
        factor = min(longest / max(height, width), shortest / min(height, width))
        wide, high = int(width * factor + 0.5), int(height * factor + 0.5)
    if min(wide, high) < 1:
        raise ValueError(f"too narrow: {width} x {height} pixels would become {wide} x {high}")
    return cv2.resize(image, (wide, high), interpolation=cv2.INTER_LINEAR)


def prepare(image: Array, settings: dict[str, Any]) -> Array:
    """Return the network's input (1, 3, H, W) of an image (h, w, 3): normalized and padded."""
    if settings.get("bgr_to_rgb") or settings.get("rgb_to_bgr"):
        image = image[..., ::-1]
    tensor = image.astype(np.float32).transpose(2, 0, 1)
    if settings.get("mean") is not None:
        mean, std = (np.array(settings[k], np.float32)[:, None, None] for k in ("mean", "std"))
        tensor = (tensor - mean) / std
    height, width = tensor.shape[1:]
    test = settings.get("test_cfg") or {}
    divisor = settings.get("pad_size_divisor") or test.get("size_divisor") or 1
    high, wide = (-(-side // divisor) * divisor for side in (height, width))
    if test.get("size"):
        wanted = test["size"]
        high, wide = (max(a, b) for a, b in zip((height, width), wanted, strict=True))
    value = settings.get("pad_value", settings.get("pad_val", 0))
    margins = ((0, 0), (0, high - height), (0, wide - width))
    return np.pad(tensor, margins, constant_values=value)[None]


def slide(run: Any, tensor: Array, crop: list[int], stride: list[int]) -> Array:
    """Return the mean logits (1, C, H, W) of overlapping windows."""
    total: Any = 0
    count = np.zeros(tensor.shape[2:], np.float32)
    sides = zip(tensor.shape[2:], crop, stride, strict=True)
    tops, lefts = (place_windows(*side) for side in sides)
    for top in tops:
        for left in lefts:
            rows, columns = slice(top, top + crop[0]), slice(left, left + crop[1])
            logits = run(np.ascontiguousarray(tensor[:, :, rows, columns]))["logits"]
            if np.isscalar(total):
                total = np.zeros((1, logits.shape[1], *tensor.shape[2:]), np.float32)
            total[:, :, rows, columns] += logits
            count[rows, columns] += 1
    return total / count


def place_windows(side: int, length: int, step: int) -> list[int]:
    """Return where windows begin along a side; the last ones end where the side does."""
    count = max(-(-(side - length) // step), 0) + 1
    return [max(min(i * step, side - length), 0) for i in range(count)]


def enlarge(each: Array, size: tuple, align_corners: bool) -> Array:
    """Resize a map (h, w) bilinearly to the size (H, W)."""
    if not align_corners:
        return cv2.resize(each, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    rows, columns = (
        np.linspace(0, old - 1, new) for old, new in zip(each.shape, size, strict=True)
    )
    return weigh(rows, each.shape[0]) @ each @ weigh(columns, each.shape[1]).T


def paste(mask: Array, box: Array, size: tuple) -> tuple[int, int, Array]:
    """Enlarge a mask (h, w) of probabilities to its box of an image (H, W), bilinearly.

    Returns:
        Left, top and the probabilities there; beyond them they are 0.
    """
    left, top, right, bottom = (float(side) for side in box)
    x0, x1 = max(int(np.floor(left)) - 1, 0), min(int(np.ceil(right)) + 1, size[1])
    y0, y1 = max(int(np.floor(top)) - 1, 0), min(int(np.ceil(bottom)) + 1, size[0])
    if x1 <= x0 or y1 <= y0 or right <= left or bottom <= top:
        return 0, 0, np.zeros((0, 0), np.float32)
    x = (np.arange(x0, x1) + 0.5 - left) / (right - left) * mask.shape[1] - 0.5
    y = (np.arange(y0, y1) + 0.5 - top) / (bottom - top) * mask.shape[0] - 0.5
    return x0, y0, weigh(y, mask.shape[0]) @ mask @ weigh(x, mask.shape[1]).T


def weigh(places: Array, length: int) -> Array:
    """Return the weights (N, length) of bilinear interpolation at N places; zero lies beyond."""
    distance = np.abs(places[:, None] - np.arange(length)[None])
    return np.maximum(1 - distance, 0).astype(np.float32)


def choose_color(index: int, palette: list) -> tuple[int, int, int]:
    """Return a class's color, blue, green, red."""
    if index < len(palette):
        red, green, blue = palette[index]
        return blue, green, red
    hue = np.array([[[index * 47 % 180, 200, 230]]], np.uint8)
    blue, green, red = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red


def draw(image: Array, found: dict[str, Array], metadata: dict[str, Any], score: float) -> Array:
    """Return the image with objects of at least this score, or all classes, drawn into it."""
    classes, palette = metadata["classes"], metadata["palette"]
    drawn = image.copy()
    if metadata["kind"] == "segmentation":
        for label in np.unique(found["labels"]):
            drawn[found["labels"] == label] = choose_color(int(label), palette)
        return cv2.addWeighted(image, 0.5, drawn, 0.5, 0)
    for i in np.nonzero(found["scores"] >= score)[0]:
        label = int(found["labels"][i])
        color = choose_color(label, palette)
        left, top, right, bottom = (int(round(float(side))) for side in found["boxes"][i])
        if "masks" in found or "instances" in found:
            box = (slice(max(top - 1, 0), bottom + 2), slice(max(left - 1, 0), right + 2))
            mask = found["masks"][i][box] if "masks" in found else found["instances"][box] == i + 1
            inside = drawn[box]
            inside[mask] = (inside[mask] * 0.5 + np.array(color) * 0.5).astype(np.uint8)
        cv2.rectangle(drawn, (left, top), (right, bottom), color, 1)
        name = classes[label] if label < len(classes) else str(label)
        text = f"{name} {found['scores'][i]:.2f}"
        cv2.putText(drawn, text, (left, top - 2), cv2.FONT_HERSHEY_SIMPLEX, 0.4, color, 1)
    return drawn


def choose_target(folder: Path, path: str) -> Path:
    """Return where the results of an image go, without an ending; nothing is written over."""
    number, target = 1, folder / Path(path).stem
    while any(target.with_name(target.name + end).exists() for end in (".png", ".npz")):
        number += 1
        target = folder / f"{Path(path).stem}-{number}"
    return target


def predict_file(model: Model, path: str, arguments: argparse.Namespace) -> str:
    """Predict an image file, write the results, and return what was found in words.

    Raises:
        ValueError: It is no image, or one that the model does not take.
    """
    if not Path(path).is_file():
        raise ValueError("there is no such file")
    image = cv2.imread(path)
    if image is None:
        raise ValueError("OpenCV reads no image of 8 bits in it; convert it, such as to PNG")
    if arguments.tile:
        found = model.predict_tiles(image, arguments.tile, arguments.overlap)
    else:
        found = model.predict(image)
    target = choose_target(arguments.out, path)
    np.savez_compressed(f"{target}.npz", **found)  # type: ignore[arg-type]
    cv2.imwrite(f"{target}.png", draw(image, found, model.metadata, arguments.score_threshold))
    if "scores" not in found:
        return f"{len(np.unique(found['labels']))} classes  ({target}.png)"
    count = int((found["scores"] >= arguments.score_threshold).sum())
    return f"{count} objects  ({target}.png)"


def main() -> int:
    """Predict the images; one that fails is named, and the others are predicted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="file of `hordet export`: .onnx or .xml")
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--out", type=Path, default=Path("predictions"), metavar="FOLDER")
    parser.add_argument("--score-threshold", type=float, default=0.3, help="of what is drawn")
    parser.add_argument("--tile", type=int, help="side of the tiles of large images, in pixels")
    parser.add_argument("--overlap", type=float, default=0.25, help="share that two tiles have")
    arguments = parser.parse_args()
    if (arguments.tile is not None and arguments.tile < 1) or not 0 <= arguments.overlap <= 0.9:
        parser.error("--tile must be above 0, and --overlap from 0 to 0.9")
    model = Model(arguments.model)
    if arguments.tile and model.metadata["kind"] != "detections":
        parser.error(f"--tile is for detectors, and {arguments.model} classifies pixels")
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"error: --out {arguments.out}: {error.strerror}") from error
    faults = 0
    for path in arguments.images:
        try:
            print(f"{path}: {predict_file(model, path, arguments)}", flush=True)
        except Exception as error:  # the exceptions of runtimes have no common class
            print(f"error: {path}: {' '.join(str(error).split())[:400]}", file=sys.stderr)
            faults += 1
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
