"""A training from its command to its loss, as a stranger walks it: room by room, downwards.

`python -m pytest -n0 tests/engine/test_walk.py` follows the calls of one dry run up to its first
backward pass. The engine, to which mmengine's Runner belongs here, leads from room to room in four
parts. Within each part it enters every room once, and none again after it has left it.
"""

import functools
import gc
import itertools
import sys
from pathlib import Path

import mmengine.runner
import pytest

import hordet
from hordet.cli import main

HOUSE, RUNNER = Path(hordet.__file__).parent, Path(mmengine.runner.__file__).parent
CONFIG = "shapes/mask-rcnn_hornet-nano_horfpn_7e"
# Not on the way: what any room may use at any time, and the rooms for weights and metrics, which a
# run only sets up before its first loss.
BESIDE = {"errors", "registry", "ops", "layers", "__init__", "checkpoints", "evaluation"}
# Calls that look at what is there, switch it over or write it down, and go no further.
GLANCES = {"walk_dicts", "init_weights", "train", "__len__", "__getattr__"}
GLANCES |= {"write_configs_readably", "write_config"}
# The parts, by the function of the engine that each begins with.
PARTS = {
    "read_config": ["config", "datasets"],  # the config, and where its data are
    "build_training_runner": ["datasets", "backbones", "necks"],  # data checked, model built
    "train": ["datasets"],  # data sets and loaders built
    "run_epoch": ["datasets", "hornet", "necks", "heads"],  # a batch, up to the loss
}


class Arrived(BaseException):
    """The loss is there."""


class Walk:
    """A profiler that notes which room calls which, up to the first backward pass.

    Attributes:
        calls: (caller, called, function) of each call from a room to another, and of each that
            begins a part.
    """

    def __init__(self):
        self.calls = []
        self._stack, self._importing = [], 0

    def __call__(self, frame, event, _):
        if event not in ("call", "return"):
            return
        code = frame.f_code
        if code.co_name == "<module>":  # an import walks nowhere
            self._importing += 1 if event == "call" else -1
            return
        room = find_room(code.co_filename)
        if room in BESIDE or self._importing:
            return
        if room is None:
            if code.co_name == "backward" and event == "call" and "torch" in code.co_filename:
                raise Arrived
        elif event == "call":
            caller = self._stack[-1][0] if self._stack else "shell"
            self._stack.append((room, frame))
            if caller != room or code.co_name in PARTS:
                self.calls.append((caller, room, code.co_name))
        elif self._stack and self._stack[-1][1] is frame:
            self._stack.pop()


@functools.cache
def find_room(file):
    """Return the room of a file; mmengine's Runner is of the engine, other libraries have none."""
    path = Path(file)
    if path.is_relative_to(RUNNER):
        return "engine"
    return path.relative_to(HOUSE).parts[0].removesuffix(".py") if HOUSE in path.parents else None


@pytest.fixture(scope="module")
def calls(drawn_images, tmp_path_factory):
    walk = Walk()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Arrived):
        patch.setenv("HORDET_CACHE", str(drawn_images))
        patch.chdir(tmp_path_factory.mktemp("walk"))
        gc.collect()  # what earlier trainings of this process have left would end within the walk
        gc.disable()
        sys.setprofile(walk)
        try:
            main(["train", CONFIG, "--tiny"])
        finally:
            sys.setprofile(None)
            gc.enable()
    return walk.calls


def split_into_parts(calls):
    """Return the rooms that the engine enters, by part, each as often as it is entered anew."""
    parts, part = {}, None
    for caller, room, function in calls:
        if room == "engine" and function in PARTS and function not in parts:
            part = parts.setdefault(function, [])
        elif caller == "engine" and room != "engine" and function not in GLANCES:
            part.append(room)
    return {name: [room for room, _ in itertools.groupby(part)] for name, part in parts.items()}


def test_the_engine_enters_each_room_once_a_part(calls):
    assert split_into_parts(calls) == PARTS


def test_the_command_enters_the_engine_alone(calls):
    """It looks a config's name up and reads its options before torch is imported."""
    entered = {(room, function) for caller, room, function in calls if caller == "cli"}
    others = {call for call in entered if call[0] != "engine"}
    assert others == {("config", "find_config"), ("config", "parse_options")}


def test_nobody_goes_back_up(calls):
    """A room calls none above itself, except what a hook of the engine has put there."""
    order = ["shell", "cli", "engine", "config", "datasets"]
    order += ["heads", "necks", "backbones", "hornet"]
    back = {call for call in calls if order.index(call[0]) > order.index(call[1])}
    assert back <= {("necks", "engine", "_in_float32")}
