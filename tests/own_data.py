"""Small data sets, drawn into a folder, as a user may have them."""

import json

import numpy as np
from PIL import Image


def write_coco(root, splits, categories=((3, "bolt"), (7, "nut")), name="annotations/{}.json"):
    """Write a COCO data set; `splits` maps a name to (images, boxes of each image)."""
    for split, (number_of_images, boxes) in splits.items():
        (root / split).mkdir(parents=True)
        images, annotations = [], []
        for number in range(number_of_images):
            image = 10 * number + 1  # ids have gaps
            file = f"{split}_{number}.png"
            # No two images alike: one in both splits would be a fault.
            Image.new("RGB", (200, 100), (number, len(split), 0)).save(root / split / file)
            images.append(dict(id=image, file_name=file, width=200, height=100))
            for x, y, width, height in boxes:
                corners = [x, y, x + width, y, x + width, y + height, x, y + height]
                annotations.append(
                    dict(
                        id=3 * len(annotations) + 5,
                        image_id=image,
                        category_id=categories[len(annotations) % len(categories)][0],
                        bbox=[x, y, width, height],
                        area=width * height,
                        segmentation=[corners],
                        iscrowd=0,
                    )
                )
        file = root / name.format(split)
        file.parent.mkdir(exist_ok=True, parents=True)
        kinds = [dict(id=key, name=word) for key, word in categories]
        content = dict(images=images, annotations=annotations, categories=kinds)
        file.write_text(json.dumps(content))
    return root


def edit(file, change):
    """Change the content of a JSON file in place."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def write_maps(root, splits, values=(0, 1, 2, 255), size=(120, 80), suffix=".png"):
    """Write images and label maps; `splits` maps a folder's name to the number of images."""
    for split, images in splits.items():
        for folder in ("images", "annotations"):
            (root / folder / split).mkdir(parents=True)
        for number in range(images):
            Image.new("RGB", size).save(root / "images" / split / f"{split}_{number}.jpg")
            labels = np.resize(np.repeat(np.array(values, np.uint8), 10), (size[1], size[0]))
            path = root / "annotations" / split / f"{split}_{number}{suffix}"
            Image.fromarray(labels).save(path)
    return root
