"""Experiment trackers by one key, and the learning rate by the batch."""

import pytest
from mmengine.config import Config, ConfigDict

from hordet.config.load import load_config
from hordet.engine import trackers as tracking
from hordet.engine.runner import build_training_runner, read_config
from hordet.engine.trackers import add_trackers
from hordet.errors import ConfigError

LEAF = "configs/shapes/upernet_hornet-nano_horuperhead_1k.py"
pytestmark = pytest.mark.usefixtures("cache_folder")


@pytest.fixture
def installed(monkeypatch):
    """Pretend that every tracker's package is there."""
    monkeypatch.setattr(tracking, "find_spec", lambda name: object())


def backends_of(cfg):
    return [backend["type"] for backend in cfg.visualizer.vis_backends]


@pytest.mark.parametrize(
    ("asked", "backends"),
    [
        (None, []),
        ("tensorboard", ["TensorboardVisBackend"]),
        (["wandb", "mlflow"], ["WandbVisBackend", "MLflowVisBackend"]),
    ],
)
def test_trackers_stand_beside_the_local_files(installed, asked, backends):
    local = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
    cfg = Config(dict(tracker=asked, visualizer=local))
    add_trackers(cfg)
    add_trackers(cfg)  # of a config that has it already
    assert backends_of(cfg) == ["LocalVisBackend", *backends]


def test_a_config_without_a_visualizer_gets_one(installed):
    cfg = Config(dict(tracker="wandb"))
    add_trackers(cfg)
    assert backends_of(cfg) == ["WandbVisBackend"]


def test_unknown_and_absent_trackers_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="'tensorbord' is unknown; did you mean 'tensorboard'"):
        add_trackers(Config(dict(tracker="tensorbord")))
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="tracker='mlflow' needs a package: pip install mlflow"):
        add_trackers(Config(dict(tracker=["mlflow"])))


def test_the_key_is_known(repository):
    assert load_config(repository / LEAF, {"tracker": "wandb"}).tracker == "wandb"


def test_tensorboard_gets_the_losses_and_the_rate_follows_the_batch(repository, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = {"tracker": "tensorboard", "train_cfg.max_iters": 2, "train_cfg.val_interval": 2}
    options |= {"param_scheduler": None, "auto_scale_lr.base_batch_size": 8}
    # A dry run takes batches of 2: a quarter of the 8 that the rate of 1.5e-3 is for.
    cfg = read_config(repository / LEAF, options=options, tiny=True, work_dir=str(tmp_path))
    runner = build_training_runner(cfg, seed=0, auto_scale_lr=True)
    runner.train()
    rates = {group["lr"] for group in runner.optim_wrapper.optimizer.param_groups}
    assert rates == {1.5e-3 * 2 / 8}
    events = EventAccumulator(str(next(tmp_path.rglob("events.out.tfevents.*"))))
    events.Reload()
    losses = [event.value for event in events.Scalars("loss")]
    steps = [event.step for event in events.Scalars("loss")]
    assert steps == list(range(1, len(steps) + 1)) and all(0 < loss < 100 for loss in losses)
    logged = runner.message_hub.get_scalar("train/loss").data[0]
    assert losses[0] == pytest.approx(float(logged[0]), rel=1e-5)
    assert events.Scalars("mIoU")[0].value >= 0


def test_scaling_without_a_base_is_refused():
    cfg = Config(dict(auto_scale_lr=ConfigDict(enable=False)))
    with pytest.raises(ConfigError, match=r"set auto_scale_lr\.base_batch_size"):
        build_training_runner(cfg, auto_scale_lr=True)
