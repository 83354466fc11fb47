"""Values that no component can use are told by their key, before anything is built."""

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from hordet.config.load import load_config
from hordet.config.values import find_bad_values
from hordet.datasets.checks.before_training import _head_faults
from hordet.datasets.formats.coco import is_number
from hordet.engine.settings import explain_settings
from hordet.errors import ConfigError, DatasetError

NAME = "shapes/mask-rcnn_hornet-nano_horfpn_7e"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("val_dataloader.batch_size", 0, "got '0'; it must be a whole number from 1"),
        ("train_dataloader.batch_size", "four", "got 'four'"),
        ("train_dataloader.batch_size", 1.5, "got '1.5'"),
        ("train_dataloader.batch_size", True, "got 'True'"),
        ("test_dataloader.num_workers", -2, "a whole number from 0"),
        ("train_cfg.max_epochs", 0, "a whole number from 1"),
        ("train_cfg.val_interval", "often", "a whole number from 1"),
        ("optim_wrapper.optimizer.lr", -1e-3, "a number from 0"),
        ("optim_wrapper.optimizer.lr", float("nan"), "a number from 0"),
        ("optim_wrapper.optimizer.weight_decay", "much", "a number from 0"),
        ("default_hooks.logger.interval", 0, "a whole number from 1"),
        ("default_hooks.checkpoint.interval", 0, "from 1, or -1 for never"),
        ("train_dataloader.dataset.ann_file", 7, "text, a path"),
        ("val_dataloader.dataset.data_prefix.img", ["a"], "text, a path"),
        ("train_dataloader.dataset.metainfo.classes", [1, 2], "a list of names"),
    ],
)
def test_each_is_named_with_its_key(key, value, words):
    with pytest.raises(ConfigError, match="has 1 fault") as caught:
        load_config(NAME, options={key: value})
    assert key in str(caught.value) and words in str(caught.value)


def test_what_is_usual_passes():
    loader = dict(batch_size=2.0, num_workers=0, dataset=dict(data_root="a", ann_file=""))
    wrapped = dict(batch_size=None, dataset=dict(type="RepeatDataset", dataset=dict(ann_file=3)))
    cfg = Config(
        dict(
            train_dataloader=loader,
            val_dataloader=wrapped,
            train_cfg=dict(max_epochs=3.0, val_interval=1),
            optim_wrapper=dict(optimizer=dict(lr=0)),
            default_hooks=dict(checkpoint=dict(interval=-1), logger=None),
        )
    )
    assert list(find_bad_values(cfg)) == [
        "val_dataloader.dataset.ann_file: got '3'; it must be text, a path"
    ]


def test_heads_have_the_classes_of_the_data():
    box = dict(num_classes=2)
    model = dict(roi_head=dict(bbox_head=[box, dict(num_classes=3)], mask_head=dict(num_classes=1)))
    found = list(_head_faults(model, ("a", "b", "c")))
    assert [line.partition(" has")[0] for line in found] == [
        "model.roi_head.bbox_head",
        "model.roi_head.mask_head",
    ]
    assert (
        "num_classes=2, and the data set has 3 classes: a, b, c. Set num_classes to 3" in found[0]
    )
    model["roi_head"]["mask_head"]["class_agnostic"] = True
    assert len(list(_head_faults(model, ("a", "b", "c")))) == 1
    assert not list(_head_faults(model, ("a", "b"))) and not list(_head_faults(None, ("a",)))


def test_a_part_that_cannot_be_built_is_named():
    class Fails(Runner):
        def __init__(self):
            pass

        def build_optim_wrapper(self, settings):
            raise TypeError("can't multiply sequence\n  by non-int")

        def build_val_loop(self, loop):
            raise DatasetError("the data are missing")

    runner = explain_settings(Fails)()
    with pytest.raises(ConfigError, match="optim_wrapper of the config cannot be built: TypeError"):
        runner.build_optim_wrapper({})
    with pytest.raises(DatasetError, match="the data are missing"):
        runner.build_val_loop({})


@pytest.mark.parametrize("inner", [5, [5], ["a", None], dict(dataset=5)])
def test_a_data_set_that_is_no_dict_is_told(inner):
    key = "datasets" if isinstance(inner, list) else "dataset"
    cfg = dict(train_dataloader=dict(dataset={key: inner}))
    with pytest.raises(ConfigError, match="a data set of the config is .* it must be dict"):
        list(find_bad_values(cfg))


@pytest.mark.parametrize("value", [10**400, -1, float("nan"), float("inf"), "1"])
def test_rates_are_numbers_that_a_float_can_hold(value):
    (line,) = find_bad_values(dict(optim_wrapper=dict(optimizer=dict(lr=value))))
    assert line.startswith("optim_wrapper.optimizer.lr: got ") and "a number from 0" in line
    assert not is_number(value) or value == -1
