"""A model split among two processes trains as one that is not, and its checkpoints are ordinary."""

import os
import re
import shutil
import signal

import pytest
import torch
from forking import run_forked
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner, Runner
from packaging.version import Version

from hordet.checkpoints import find_newest_checkpoint, load_checkpoint
from hordet.datasets.seeding import seed_sample
from hordet.engine import runner as run
from hordet.engine.runner import SHARDED, choose_runner_class
from hordet.engine.sharding import FullyShardedStrategy
from hordet.errors import ConfigError, Interrupted, NotFiniteError
from hordet.registry import MODELS

needs_torch_2_7 = pytest.mark.skipif(
    Version(torch.__version__) < Version("2.7"),
    reason="fully_shard of torch 2.6 does not run on a CPU: its stream records no event",
)
pytestmark = pytest.mark.usefixtures("cache_folder", "installed")
CONFIG = "configs/shapes/upernet_hornet-nano_horuperhead_1k.py"
OPTIONS = {
    "model.decode_head.channels": 16,
    "model.auxiliary_head.channels": 16,
}
NANO = dict(base_channels=8, depths=(1, 1, 1, 1), orders=(2, 3, 3, 3))
SPLIT = {"runner_type": "FlexibleRunner", "strategy": dict(type=SHARDED)}


class Seed(Hook):
    """Lets a process draw the same from here on, whatever the building of its Runner drew."""

    def before_train(self, runner):
        seed_sample(runner.rank)


class Stop(Hook):
    """Asks one process to stop in the second iteration, before all read who is asked."""

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 1 and runner.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)


class Spoil(Hook):
    """Makes a weight NaN after two iterations."""

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 2:
            runner.model.get_parameter("decode_head.conv_seg.bias").to_local().data.fill_(torch.nan)


def one_of_two(rank, root, name, options, resume, hook):
    """Train in a process of two, and write down what ended it."""
    torch.set_num_threads(1)
    os.chdir(root.parent)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    meeting = f"file://{root}/meeting_{name}_{resume is None}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    cfg = run.read_config(
        options.pop("config"), options=options, work_dir=str(root / name), tiny=True
    )
    cfg.model.backbone.arch = NANO
    cfg.model.decode_head.in_channels = [8, 16, 32, 64]
    cfg.model.auxiliary_head.in_channels = 32
    object.__setattr__(cfg, "_format_python_code", False)  # takes longer than the training
    cfg.experiment_name = f"{root.name}_{name}"
    cfg.custom_hooks = [dict(type="hordet.FiniteLossHook")]
    cfg.randomness = dict(seed=0)
    cfg.load_from = str(root / "start.pth")
    runner = run.build_training_runner(cfg, resume=resume and str(resume))
    runner.register_hook(Seed())
    if hook:
        runner.register_hook(hook)
    end = "trained"
    try:
        runner.train()
        if isinstance(runner, FlexibleRunner):
            assert isinstance(runner.strategy, FullyShardedStrategy)
            split = runner.model.backbone.get_parameter("stages.0.0.gnconv.proj_in.weight")
            assert split.to_local().numel() * 2 == split.numel() == 16 * 8
    except (Interrupted, NotFiniteError) as error:
        end = f"{type(error).__name__}: {error}"
    (root / f"{name}_{rank}.txt").write_text(end)


@pytest.fixture
def two(repository, tmp_path):
    """Train in two processes, and return the newest checkpoint and what each process ended with."""
    cfg = run.read_config(repository / CONFIG, options=OPTIONS, tiny=True)
    cfg.model.backbone.arch = NANO
    cfg.model.decode_head.in_channels = [8, 16, 32, 64]
    cfg.model.auxiliary_head.in_channels = 32
    torch.save(MODELS.build(dict(cfg.model, _scope_="mmseg")).state_dict(), tmp_path / "start.pth")

    def both(name, options=None, resume=None, hook=None):
        options = {"config": repository / CONFIG, **OPTIONS, **(options or {})}
        arguments = (tmp_path, name, options, resume, hook)
        assert run_forked(one_of_two, [(rank, *arguments) for rank in range(2)]) == [0, 0]
        newest, _ = find_newest_checkpoint(tmp_path / name)
        ends = [(tmp_path / f"{name}_{rank}.txt").read_text() for rank in range(2)]
        return newest and load_checkpoint(newest), ends

    return both


def assert_close(one, other):
    assert one["state_dict"].keys() == other["state_dict"].keys()
    for key, value in one["state_dict"].items():
        # The gradient of a bias before a batch norm is rounding alone, which AdamW turns into
        # steps of up to the learning rate: 1.1e-4 in all, in a direction that nothing decides.
        atol = 2e-4 if key.endswith("bias") else 1e-5
        torch.testing.assert_close(other["state_dict"][key], value, atol=atol, rtol=1e-5, msg=key)
    for key in ("base_param_settings", "param_groups"):
        assert str(one["optimizer"][key]) == str(other["optimizer"][key])
    states = [each["optimizer"]["state"] for each in (one, other)]
    assert states[0].keys() == states[1].keys()
    for number, state in states[0].items():
        for key, value in state.items():
            torch.testing.assert_close(states[1][number][key], value, msg=f"{number}.{key}")


@needs_torch_2_7
def test_split_or_not_is_the_same_run(two, tmp_path, capfd):
    whole, ends = two("whole")
    assert ends == ["trained"] * 2 and whole["meta"]["iter"] == 4
    stopped, ends = two("parts", SPLIT, hook=Stop())
    assert all(end.startswith("Interrupted: ") and "iteration 2 is saved" in end for end in ends)
    assert stopped["meta"]["iter"] == 2 and (tmp_path / "parts" / "iter_2.pth.sha256").is_file()
    shutil.copy(tmp_path / "parts" / "iter_2.pth", tmp_path)
    for name, options in (("parts", SPLIT), ("other", {})):  # with shards, and without
        resumed, ends = two(name, options, resume=tmp_path / "iter_2.pth")
        assert ends == ["trained"] * 2 and resumed["meta"]["iter"] == 4
        assert_close(whole, resumed)
    printed = capfd.readouterr().out  # of four runs, of one process each
    assert "System environment" not in printed and "Epoch(train)" not in printed
    assert len(re.findall("^work folder ", printed, re.M)) == 4
    assert len(re.findall("^model +EncoderDecoder, .*: HorNet, HorUPerHead", printed, re.M)) == 4
    assert len(re.findall("^iteration 4/4  loss ", printed, re.M)) == 3  # one was stopped


@needs_torch_2_7
def test_a_number_that_is_none(two, tmp_path):
    _, ends = two("spoilt", SPLIT, hook=Spoil())
    kept = tmp_path / "spoilt" / "not_finite" / "iter_2.pth"
    for end in ends:
        assert end.startswith("NotFiniteError: got a loss that is not finite at iteration 3.")
        assert str(kept) in end and "split among processes" in end
    state = load_checkpoint(kept)["state_dict"]
    wrong = [key for key, value in state.items() if not torch.isfinite(value).all()]
    assert wrong == ["decode_head.conv_seg.bias"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(strategy=dict(type=SHARDED)), "needs runner_type='FlexibleRunner'"),
        (dict(runner_type="FlexRunner"), "there are 'Runner' and 'FlexibleRunner'"),
        (dict(runner_type="FlexibleRunner"), "got strategy.type=None"),
        (
            dict(runner_type="FlexibleRunner", strategy=dict(type="DeepSpeedStrategy")),
            r"got strategy.type='DeepSpeedStrategy', .* is tested with 'hordet.FullySharded",
        ),
        (dict(SPLIT, launcher="none"), "start them by torchrun"),
        (dict(SPLIT, custom_hooks=[dict(type="EMAHook")]), "without EMAHook"),
        (dict(SPLIT, compile_regions=True), "without compile_regions: remove it"),
    ],
)
def test_what_does_not_fit(change, message):
    with pytest.raises(ConfigError, match=message):
        choose_runner_class(Config({"launcher": "pytorch", **change}))


def test_who_asks_for_nothing_gets_the_runner():
    assert choose_runner_class(Config({})) is Runner
    assert choose_runner_class(Config({"launcher": "pytorch", **SPLIT})) is FlexibleRunner


def test_torch_2_6_on_a_cpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.6.0+cpu")
    strategy = FullyShardedStrategy.__new__(FullyShardedStrategy)
    with pytest.raises(ConfigError, match="needs torch 2.7 or newer, and this is torch 2.6.0.cpu"):
        strategy._wrap_model(torch.nn.Linear(1, 1))
