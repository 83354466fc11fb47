"""Moving a config's data: every loader and evaluator follows, and nothing else is touched."""

import pytest
from mmengine.config import Config

from hordet.datasets.roots import find_moved_root, list_metrics, set_data_root, walk_datasets
from hordet.engine.prepare import locate_data
from hordet.errors import ConfigError


def config(**more):
    leaf = dict(type="CocoDataset", data_root="data/coco", ann_file="annotations/a.json")
    return Config(
        dict(
            data_root="data/coco",
            train_dataloader=dict(dataset=dict(type="RepeatDataset", times=2, dataset=dict(leaf))),
            val_dataloader=dict(
                dataset=dict(type="ConcatDataset", datasets=[dict(leaf), dict(leaf)])
            ),
            test_dataloader=None,
            val_evaluator=dict(type="CocoMetric", ann_file="data/coco/annotations/a.json"),
            test_evaluator=[dict(type="CocoMetric", ann_file="data/coco/annotations/a.json")],
            **more,
        )
    )


def test_all_data_sets_and_annotation_files_move(tmp_path):
    cfg = config()
    set_data_root(cfg, tmp_path)
    leaves = [
        leaf
        for key in ("train_dataloader", "val_dataloader")
        for leaf in walk_datasets(cfg[key].dataset)
    ]
    assert [leaf.data_root for leaf in leaves] == [str(tmp_path)] * 3
    assert {leaf.ann_file for leaf in leaves} == {"annotations/a.json"}
    expected = str(tmp_path / "annotations" / "a.json")
    assert cfg.val_evaluator.ann_file == cfg.test_evaluator[0].ann_file == expected
    assert cfg.data_root == str(tmp_path)


def test_the_maps_of_a_panoptic_metric_move(tmp_path):
    cfg = config()
    cfg.val_evaluator.seg_prefix = "data/coco/annotations/maps/"
    set_data_root(cfg, tmp_path)
    assert cfg.val_evaluator.seg_prefix == str(tmp_path / "annotations" / "maps")


def test_several_roots_cannot_be_replaced_by_one():
    cfg = config()
    cfg.val_dataloader.dataset.datasets[1].data_root = "data/other"
    with pytest.raises(ConfigError, match="data/coco, data/other.*by itself"):
        set_data_root(cfg, "elsewhere")
    assert cfg.train_dataloader.dataset.dataset.data_root == "data/coco"


def test_a_config_without_data():
    with pytest.raises(ConfigError, match="have none"):
        set_data_root(Config(dict(model=dict())), "elsewhere")


def test_an_annotation_file_outside_the_root_is_not_guessed():
    cfg = config()
    cfg.val_evaluator.ann_file = "labels/b.json"
    with pytest.raises(ConfigError, match=r"val_evaluator.ann_file = labels/b\.json"):
        set_data_root(cfg, "elsewhere")


def test_evaluators_come_in_three_forms():
    metric = dict(type="IoUMetric")
    assert list_metrics(metric) == list_metrics([metric]) == [metric]
    assert list_metrics(dict(type="Evaluator", metrics=[metric])) == [metric]
    assert list_metrics(None) == []


def test_a_kept_config_follows_the_variable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = make_kept_config("data/nuclei")
    monkeypatch.delenv("HORDET_DATA", raising=False)
    assert find_moved_root(cfg) is None
    monkeypatch.setenv("HORDET_DATA", str(tmp_path / "sets"))
    assert find_moved_root(cfg) is None  # nothing is there, either
    (tmp_path / "sets/nuclei").mkdir(parents=True)
    assert find_moved_root(cfg) == str(tmp_path / "sets/nuclei")
    locate_data(cfg)
    assert cfg.test_dataloader.dataset.data_root == str(tmp_path / "sets/nuclei")
    assert cfg.test_evaluator.ann_file == str(tmp_path / "sets/nuclei/val.json")
    (tmp_path / "data/nuclei").mkdir(parents=True)
    assert find_moved_root(make_kept_config("data/nuclei")) is None
    assert find_moved_root(make_kept_config("elsewhere/nuclei")) is None


def make_kept_config(root):
    dataset = dict(type="mmdet.CocoDataset", data_root=root, ann_file="val.json")
    evaluator = dict(type="hordet.CocoMetric", ann_file=f"{root}/val.json")
    return Config(dict(test_dataloader=dict(dataset=dataset), test_evaluator=evaluator))
