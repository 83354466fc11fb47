"""A run of a toy model under mmengine's Runner, in milliseconds."""

import logging
import re

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from torch.utils.data import Dataset


class Images(Dataset):
    """Eight vectors with the names of images; item 5 is NaN if asked."""

    metainfo = dict(classes=("thing",))

    def __init__(self, with_nan=False):
        self.with_nan = with_nan

    def __len__(self):
        return 8

    def __getitem__(self, index):
        value = float("nan") if self.with_nan and index == 5 else index / 8
        sample = BaseDataElement(metainfo=dict(img_path=f"images/{index}.png"))
        return dict(inputs=torch.full((3,), value), data_samples=sample)


class Toy(BaseModel):
    """A linear layer with two losses."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 1)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        if mode == "predict":
            return data_samples
        out = self.linear(torch.stack(inputs))
        return dict(loss_good=out.new_tensor(0.25, requires_grad=True), loss_fit=(out**2).mean())


class Count(BaseMetric):
    """The number of images seen."""

    def process(self, data_batch, data_samples):
        self.results += [1] * len(data_samples)

    def compute_metrics(self, results):
        return dict(count=len(results))


def screen(text):
    """Return the lines a terminal shows after `text`."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[A|\x1b\[[0-9;]*m|[^\x1b]", text):
        if token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            column = 0
        elif token == "\x1b[A":
            row -= 1
        elif len(token) == 1:
            lines[row] = lines[row].ljust(column)[:column] + token + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


@pytest.fixture
def shown():
    """The function that tells which lines a terminal shows after a text."""
    return screen


@pytest.fixture
def toy_run(tmp_path):
    """Make a Runner of two epochs of four iterations; forget it afterwards."""
    kinds = (MMLogger, MessageHub, Visualizer, DefaultScope)
    before = {kind: dict(kind._instance_dict) for kind in kinds}
    loader = dict(batch_size=2, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False))

    def make(hooks, with_nan=False, checkpoint=None, interval=1, runner_class=Runner, **kwargs):
        settings = dict(
            model=Toy(),
            work_dir=str(tmp_path / "run"),
            train_dataloader=dict(loader, dataset=Images(with_nan)),
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.125)),
            val_dataloader=dict(loader, dataset=Images()),
            val_cfg=dict(),
            val_evaluator=Evaluator(Count()),
            default_hooks=dict(
                logger=dict(type="LoggerHook", interval=interval), checkpoint=checkpoint
            ),
            custom_hooks=hooks,
            default_scope="mmengine",
            experiment_name=f"toy_{tmp_path.name}",
        )
        return runner_class(**(settings | kwargs))

    yield make
    for kind in kinds:
        for name in kind._instance_dict.keys() - before[kind].keys():
            instance = kind._instance_dict.pop(name)
            if kind is MMLogger:
                for handler in instance.handlers:
                    if isinstance(handler, logging.FileHandler):
                        handler.close()
