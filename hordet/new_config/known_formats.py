"""Statistics of data in the formats of annotation tools, as one COCO file a split."""

from hordet.datasets.formats.coco_records import make_coco
from hordet.datasets.formats.record import TEST, TRAIN, VAL, AnnotatedData, AnnotatedImage
from hordet.new_config.coco_folder import (
    CocoSplit,
    CocoStatistics,
    gather_statistics,
    part_split,
)
from hordet.new_config.splits import explain_no_validation, refuse_hold_out


def measure_annotated(
    data: AnnotatedData, share: float | None = None, without_mask: str | None = None
) -> CocoStatistics:
    """Measure data that were read from another format than COCO's.

    The splits become COCO files, which are written beside the config and name the images where they
    lie. Images without a split are those of training if no others are.

    Args:
        data: The data; its account takes what COCO cannot hold and images that are not used.
        share: Share of the images to hold out for validation if there is no validation split.
        without_mask: As of `measure_coco`.

    Raises:
        DatasetError: There is no validation split, one beside `share`, or no object that can be
            trained on.
    """
    splits = data.list_splits()
    train = splits.get(TRAIN) or splits.pop(None, [])
    unused = [image for key in (TEST, None) for image in splits.get(key, [])]
    for image in unused:
        split = "of test" if image.split else "without a split"
        data.account.note(
            f"images {split} are used neither to train nor to validate", "", image.name
        )
    if VAL in splits:
        refuse_hold_out(share, f"{len(splits[VAL])} images of {data.layout}")
        pair = (_make_split(data, train, TRAIN), _make_split(data, splits[VAL], VAL))
    elif share is not None:
        pair = part_split(_make_split(data, train, TRAIN), share)
    else:
        raise explain_no_validation(data.root, f"a split called val or valid in {data.layout}")
    return gather_statistics(data.root, *pair, without_mask)


def _make_split(data: AnnotatedData, images: list[AnnotatedImage], split: str) -> CocoSplit:
    content = make_coco(data, images, data.account)
    return CocoSplit(
        f"{split}.json", "", content, f"{split} of {data.layout}, as COCO", is_made=True
    )
