"""Settings shared by every test: quiet threads, shared data where present, `--slow`."""

import functools
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before torch is imported: beside a busy neighbor, spinning OpenMP threads stall for seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# No test asks the internet; those of fetching bring a source of their own.
os.environ.setdefault("HORDET_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # a process a core already
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("HORDET_SHARED", ROOT.parent / "shared"))


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


@pytest.fixture
def repository():
    """The root folder of the checkout."""
    return ROOT


@pytest.fixture(autouse=True)
def default_scope():
    """Forget the default scope that a Runner leaves behind: it decides where types are found."""
    yield
    if "mmengine" in sys.modules:
        from mmengine.registry import DefaultScope

        DefaultScope._instance_dict.clear()


@pytest.fixture(autouse=True)
def open_doors():
    """Undo what a safe config closes for the whole process."""
    yield
    if "hordet.config.allowed" in sys.modules:
        sys.modules["hordet.config.allowed"].open_doors()


@pytest.fixture
def shared():
    """The folder of real data and reference numbers; it may be absent."""
    return SHARED


@pytest.fixture
def shared_data():
    """The folder of small real data, or a skip that says why."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set HORDET_SHARED to its parent)")
    return folder


@pytest.fixture
def reference():
    """The folder of numbers from the authors' implementation, or a skip that says why."""
    folder = SHARED / "reference"
    if not folder.is_dir():
        pytest.skip(f"no reference numbers at {folder} (set HORDET_SHARED to its parent)")
    return folder


@pytest.fixture(scope="session")
def drawn_images(tmp_path_factory):
    """One cache folder for the images that configs draw, whichever tests read them."""
    return tmp_path_factory.mktemp("drawn_images")


@pytest.fixture(scope="module")
def cache_folder(drawn_images):
    """Let the configs of a module's tests draw into that folder and not into the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HORDET_CACHE", str(drawn_images))
        yield


@pytest.fixture(scope="session")
def cost_of():
    """Count the cost of a leaf once, whichever tests ask; takes its path from the root."""
    from hordet.benchmark.complexity import count_complexity
    from hordet.config.load import load_config

    @functools.cache
    def count(leaf):
        return count_complexity(load_config(ROOT / leaf))

    return count


@pytest.fixture
def installed():
    """hordet's loaders in mmengine, for one test."""
    from mmengine.runner import CheckpointLoader

    from hordet.checkpoints import use_safe_loading

    before = CheckpointLoader._schemes.copy()
    use_safe_loading()
    yield
    CheckpointLoader._schemes = before


@dataclass
class RandomModel:
    """A config, random weights, the folder of its test images and their annotation file."""

    config: Any
    checkpoint: Path
    images: Path
    annotations: Path


@pytest.fixture(scope="session")
def make_model(drawn_images, tmp_path_factory):
    """Build a dry run's model from a leaf and write its random weights."""
    import torch
    from mmengine.registry import MODELS, DefaultScope

    from hordet.engine.runner import read_config

    def make(leaf, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HORDET_CACHE", str(drawn_images))
            cfg = read_config(ROOT / leaf, options=options, tiny=True)
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = MODELS.build(cfg.model)
        checkpoint = tmp_path_factory.mktemp("weights") / "random.pth"
        torch.save({"state_dict": model.state_dict(), "meta": {}}, checkpoint)
        root = Path(cfg.test_dataloader.dataset.data_root)
        return RandomModel(cfg, checkpoint, root / "val", root / "annotations/instances_val.json")

    return make


@pytest.fixture(scope="session")
def detector(make_model):
    return make_model("configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py")


@pytest.fixture(scope="session")
def segmentor(make_model):
    """150 classes whose label files count from 1, by sliding windows."""
    return make_model("configs/ade20k/upernet_hornet-nano_horuperhead_2k.py")
