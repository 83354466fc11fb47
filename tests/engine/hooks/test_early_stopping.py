"""A run stops where the metric stands still, also if it was killed in between."""

import pytest
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook

from hordet.checkpoints import use_safe_loading
from hordet.engine.hooks import EarlyStoppingHook

SCORES = [0.1, 0.2, 0.2005, 0.19, 0.2, 0.2, 0.2, 0.2]


class Score(BaseMetric):
    """A number for each epoch."""

    runner = None

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return dict(mIoU=SCORES[self.runner.epoch - 1])


class StopAfterEpoch(Hook):
    priority = "LOWEST"

    def after_val_epoch(self, runner, metrics=None):
        if runner.epoch == 3:
            raise KeyboardInterrupt


@pytest.fixture
def train(toy_run):
    use_safe_loading()

    def run(name, hooks=(), resume=None):
        rule = EarlyStoppingHook(monitor="mIoU", rule="greater", patience=2, min_delta=0.001)
        score = Score()
        runner = toy_run(
            [rule, *hooks],
            checkpoint=dict(type="hordet.CheckpointHook", interval=1),
            train_cfg=dict(type="hordet.EpochBasedTrainLoop", max_epochs=8),
            val_evaluator=Evaluator(score),
            experiment_name=f"early_{name}",
            resume=resume is not None,
            load_from=resume and str(resume),
        )
        score.runner = runner
        try:
            runner.train()
        finally:
            for hook in runner.hooks:  # a process that was killed keeps no handlers
                hook.after_run(runner)
        return runner

    return run


def test_it_stops_after_its_patience(train):
    runner = train("whole")
    assert runner.epoch == 4  # 0.2005 and 0.19 are no gain of 0.001 over 0.2
    assert runner.message_hub.get_info("early_stopping") == dict(best=0.2, waited=2)


@pytest.mark.parametrize("epoch", [2, 3])
def test_a_killed_run_stops_at_the_same_epoch(train, tmp_path, epoch):
    with pytest.raises(KeyboardInterrupt):
        train("killed", [StopAfterEpoch()])
    assert train("resumed", resume=tmp_path / "run" / f"epoch_{epoch}.pth").epoch == 4
