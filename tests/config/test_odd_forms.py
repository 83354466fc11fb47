"""Configs in which something has another form than its readers expect: told by the key."""

import copy

import numpy as np
import pytest
from mmengine.config import Config

from hordet.config.allowed import find_dangers
from hordet.config.channels import fill_in_channels
from hordet.config.faults import find_faults
from hordet.config.load import load_config
from hordet.errors import ConfigError

ODD = (
    *(None, True, 5, -1, 1.5, 10**400, float("nan"), "x", "", "\ud800", ".x", "x.", "a..b"),
    *([], [1], [[]], [{}], {}, {1: 2}, {"a": []}, {1, 2}, (1,), {(1, 2): 3}, {None: 1, "a": 2}),
    *({"type": kind} for kind in ([], {}, 5, None, "", ".", ".FPN", "mmdet.", "torch.x")),
    *({"_scope_": scope, "type": "FPN"} for scope in (5, [], "nope", ".x", "")),
    *({"backend": []}, {"backend": {}}, {"type": "FPN", 1: 2, "a": 3, None: 4}),
)
KEYS = ("type", "_scope_", "backend_args", "dist_cfg", "default_scope", 1, None, "")


def list_places(value, place=()):
    """The place of every value in a nest of dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*place, key)
        if isinstance(item, dict | list):
            yield from list_places(item, (*place, key))


@pytest.mark.parametrize("part", range(2))
def test_no_odd_value_is_raised_on(part):
    name = ("mask-rcnn_hornet-nano_horfpn_7e", "upernet_hornet-nano_horuperhead_1k")[part]
    base = load_config(f"shapes/{name}").to_dict()
    places, draw = [*list_places(base)], np.random.default_rng(part)
    refused = 0
    for _ in range(60):
        spoiled = copy.deepcopy(base)
        *way, key = places[draw.integers(len(places))]
        owner = spoiled
        for step in way:
            owner = owner[step]
        if isinstance(owner, dict) and draw.random() < 0.2:
            key = KEYS[draw.integers(len(KEYS))]
        owner[key] = copy.deepcopy(ODD[draw.integers(len(ODD))])
        cfg = Config(spoiled)
        faults = find_faults(cfg)
        assert all(isinstance(line, str) for line in [*faults, *find_dangers(spoiled)])
        try:
            fill_in_channels(cfg)
        except ConfigError as error:
            faults.append(str(error))
        refused += bool(faults)
    assert refused > 15


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model.neck": "x"}, "model.neck: got 'x'; it must be a dict, or a list of dicts"),
        ({"model.backbone.type": ["A"]}, r"model.backbone.type: got \"\['A'\]\"; it must be the"),
        ({"model.neck.in_channels": 1.5}, "model.neck: got in_channels=1.5, and the backbone"),
        ({"default_scope": 5}, "default_scope: got '5'; it must be the name of a package"),
        ({"env_cfg.dist_cfg": ["nccl"]}, "env_cfg.dist_cfg: got .* it must be a dict"),
        ({"env_cfg.dist_cfg.backend": ["nccl"]}, "env_cfg.dist_cfg.backend: got .* a name"),
        (
            {"train_dataloader.dataset.backend_args": [1]},
            r"train_dataloader.dataset.backend_args: got '\[1\]'; it must be a dict",
        ),
    ],
)
def test_the_key_and_what_is_allowed_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        load_config("shapes/mask-rcnn_hornet-nano_horfpn_7e", options)


@pytest.mark.parametrize(
    ("key", "kind", "got", "allowed"),
    [
        ("model", "mmengine.hooks.logger_hook.LoggerHook", "hook", "model"),
        ("model", "LoggerHook", "hook", "model"),
        ("model.neck", "mmdet.datasets.coco.CocoDataset", "dataset", "model"),
        ("optim_wrapper", "torch.optim.SGD", "optimizer", "optim_wrapper"),
        ("optim_wrapper.optimizer", "mmengine.optim.OptimWrapper", "optim_wrapper", "optimizer"),
        ("train_cfg", "mmengine.dataset.DefaultSampler", "data sampler", "loop"),
        ("val_evaluator", "mmdet.FPN", "model", "metric"),
        ("custom_hooks", "mmengine.runner.EpochBasedTrainLoop", "loop", "hook"),
        ("train_dataloader.dataset", "mmdet.models.necks.fpn.FPN", "model", "dataset"),
    ],
)
def test_a_component_of_another_kind_is_named(key, kind, got, allowed):
    cfg = Config(dict(default_scope="mmdet"))
    part = [dict(type=kind)] if key == "custom_hooks" else {"type": kind}
    cfg.merge_from_dict({key: part})
    told = [line for line in find_faults(cfg) if "allowed here" in line]
    assert told == [f"{key}.type: {kind} is of the kind {got!r}; allowed here: {allowed!r}"]


def test_classes_that_no_registry_has_are_left_to_whoever_builds_them():
    cfg = Config(dict(model=dict(type="torch.nn.Identity"), train_cfg=dict(type="collections.abc")))
    assert not [line for line in find_faults(cfg) if "allowed here" in line]
