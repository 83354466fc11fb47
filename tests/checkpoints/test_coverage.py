"""Every load says how many of how many tensors matched, and another model's file is an error."""

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from hordet.checkpoints import CoverageHook, load_weights
from hordet.errors import CheckpointError


def network(width=4, classes=3):
    backbone = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))
    return nn.ModuleDict({"backbone": backbone, "head": nn.Conv2d(width, classes, 1)})


def saved(tmp_path, content, name="file.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


# Tensors without BatchNorm's counter: conv 2 + norm 4 + head 2.
TOTAL, BACKBONE = 8, 6


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"model": {f"module.{k}": v for k, v in state.items()}},
    ],
)
def test_forms_of_files(tmp_path, wrap):
    source, target = network(), network()
    coverage = load_weights(target, saved(tmp_path, wrap(source.state_dict())), 1.0)
    assert (coverage.matched, coverage.total) == (TOTAL, TOTAL)
    assert str(coverage) == "8 of 8 tensors match"
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


def test_backbone_file_into_a_whole_model_and_back(tmp_path):
    source, target = network(), network()
    path = saved(tmp_path, {"model": source["backbone"].state_dict()})
    coverage = load_weights(target, path)
    assert (coverage.matched, coverage.total) == (BACKBONE, BACKBONE)
    assert torch.equal(target["backbone"][0].weight, source["backbone"][0].weight)
    # To predict, all of the model is needed: a head would be random.
    with pytest.raises(
        CheckpointError, match=rf"{BACKBONE} of {TOTAL} tensors match; missing: head"
    ):
        load_weights(target, path, 1.0)

    backbone = network()["backbone"]
    coverage = load_weights(backbone, saved(tmp_path, source.state_dict()))
    assert coverage.matched == BACKBONE and len(coverage.unexpected) == 2
    assert torch.equal(backbone[0].weight, source["backbone"][0].weight)


def test_other_classes_are_counted_and_the_rest_is_loaded(tmp_path):
    source, target = network(classes=5), network(classes=3)
    path = saved(tmp_path, source.state_dict())
    coverage = load_weights(target, path)
    assert coverage.matched == BACKBONE and coverage.total == TOTAL
    assert coverage.mismatched == ("head.weight", "head.bias")
    assert torch.equal(target["backbone"][0].weight, source["backbone"][0].weight)
    with pytest.raises(CheckpointError, match=r"6 of 8 tensors match.*all are needed"):
        load_weights(target, path, 1.0)


def test_another_model(tmp_path):
    path = saved(tmp_path, network(width=8).state_dict())
    with pytest.raises(CheckpointError, match=r"1 of 8 tensors match.*other shape") as caught:
        load_weights(network(), path)
    assert str(path) in str(caught.value) and "backbone.0.weight" in str(caught.value)
    with pytest.raises(CheckpointError, match="0 of 8 tensors match"):
        load_weights(network(), saved(tmp_path, {"x": torch.ones(1)}), 0.0)


class Line(BaseModel):
    """One linear layer, for runs of a second."""

    def __init__(self, width=1):
        super().__init__()
        self.layer = nn.Linear(1, width)

    def forward(self, inputs, mode="tensor", **kwargs):
        return {"loss": self.layer(inputs).square().mean()}


def runner(folder, hooks=(), epochs=2, width=1, **options):
    data = DataLoader(
        [torch.ones(1)] * 4, batch_size=2, collate_fn=lambda b: {"inputs": torch.stack(b)}
    )
    result = Runner(
        model=Line(width),
        work_dir=str(folder),
        train_dataloader=data,
        train_cfg={"by_epoch": True, "max_epochs": epochs},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 0.1}},
        param_scheduler={"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "end": 9},
        default_hooks={"logger": {"type": "LoggerHook", "interval": 1}},
        experiment_name=f"{folder.name}-{len(MessageHub._instance_dict)}",
        **options,
    )
    for hook in hooks:
        result.register_hook(hook)
    return result


def test_a_training_checkpoint_of_mmengine_resumes(tmp_path, installed):
    whole = runner(tmp_path / "whole", epochs=3)
    start = {key: value.clone() for key, value in whole.model.state_dict().items()}
    whole.train()

    first = runner(tmp_path / "run", epochs=2)
    first.model.load_state_dict(start)
    first.train()
    path = tmp_path / "run" / "epoch_2.pth"
    hook = CoverageHook(str(path), 1.0)
    second = runner(tmp_path / "run", [hook], epochs=3, load_from=str(path), resume=True)
    second.train()
    assert second.epoch == 3 and second.iter == 6
    assert "train/loss" in second.message_hub.log_scalars
    for key, value in whole.model.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[key], value)


def test_the_hook_stops_at_another_model(tmp_path, installed):
    path = saved(tmp_path, Line(width=7).state_dict())
    other = runner(tmp_path, [CoverageHook(str(path), 0.5)], load_from=str(path))
    with pytest.raises(CheckpointError, match="0 of 2 tensors match"):
        other.train()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda w: w.fill_(float("nan")),
            r"NaN or infinite values in 1 of .*, first backbone\.0\.weight; the training",
        ),
        (lambda w: w.view(-1)[3:4].fill_(-float("inf")), "NaN or infinite.* an earlier checkpoint"),
        (lambda w: w.mul(100).round().long(), "holds int64 in place of floating-point numbers"),
        (lambda w: w > 0, "holds bool in place of .* write them as floating-point numbers"),
        (lambda w: w.to(torch.complex64), "holds complex64 in place of"),
    ],
)
def test_values_that_no_weights_have_are_refused(tmp_path, spoil, words):
    state = network().state_dict()
    state["backbone.0.weight"] = spoil(state["backbone.0.weight"].clone())
    with pytest.raises(CheckpointError, match=words):
        load_weights(network(), saved(tmp_path, state))


def test_a_buffer_that_is_infinite_is_no_fault(tmp_path):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)
            self.register_buffer("mask", torch.tensor([0.0, -float("inf")]))

    assert load_weights(Masked(), saved(tmp_path, Masked().state_dict())).share == 1
