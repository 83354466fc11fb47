"""What a run on a GPU sets beside the model, told on a CPU that pretends to be one."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from hordet.engine import prepare
from hordet.engine import runner as run
from hordet.engine.amp import use_tf32
from hordet.layers import recompute

LEAF = Path(__file__).parents[2] / "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py"


@pytest.fixture(autouse=True)
def restore():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]
    recompute.switch_recomputation(True)


@pytest.mark.parametrize("cuda", [True, False])
def test_batches_are_loaded_into_pinned_memory_on_a_gpu(monkeypatch, cuda):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    loaders = dict(train_dataloader=dict(batch_size=2), val_dataloader=dict(pin_memory=False))
    cfg = Config(dict(loaders, test_dataloader=None, model=dict()))
    prepare.fit_to_machine(cfg, "work", "none")
    assert cfg.train_dataloader.get("pin_memory") == (True if cuda else None)
    assert cfg.val_dataloader == dict(pin_memory=False)  # as the config says


@pytest.mark.parametrize(
    ("cuda", "options", "wanted"),
    [
        (True, {}, [True]),
        (True, {"tf32": False}, [False]),
        (False, {"tf32": True}, []),
    ],
)
def test_tf32_is_for_gpus_and_on_unless_the_config_says_no(monkeypatch, cuda, options, wanted):
    found = []

    class Enough(Exception):
        pass

    def stop(cfg):
        raise Enough

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(run, "set_tf32", found.append)
    monkeypatch.setattr(run, "check_data", stop)
    cfg = Config(dict(optim_wrapper=dict(type="OptimWrapper"), **options))
    with pytest.raises(Enough):
        run.build_training_runner(cfg)
    assert found == wanted


def test_tf32_is_that_of_products_and_convolutions():
    for enabled in (True, False):
        run.set_tf32(enabled)
        assert torch.backends.cudnn.allow_tf32 == enabled
        precision = torch.get_float32_matmul_precision()
        assert precision == ("high" if enabled else "highest")


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("outside", [("medium", False), ("high", True), ("highest", True)])
def test_tf32_is_given_back_as_it_was(inside, outside):
    torch.set_float32_matmul_precision(outside[0])
    torch.backends.cudnn.allow_tf32 = outside[1]
    with pytest.raises(ZeroDivisionError), use_tf32(inside):
        assert torch.backends.cudnn.allow_tf32 == inside
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == outside[0]
    assert torch.backends.cudnn.allow_tf32 == outside[1]


def test_recomputation_has_one_key(tmp_path, cache_folder):
    x, weight = torch.randn(2, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    grads = []
    for wanted in (False, True):
        options = {} if wanted else {"recompute": False}  # the next run is not the last one's
        cfg = run.read_config(LEAF, tiny=True, options=options, work_dir=str(tmp_path))
        model = run.build_training_runner(cfg, force=True).model
        assert model.data_preprocessor._non_blocking
        calls = []

        def compute(x):
            calls.append(1)  # noqa: B023, it is called in this turn
            return x.exp()

        product = recompute.make_recomputable(compute, x)
        with recompute.recompute(product):
            out = product @ weight.t()
        grads.append(torch.autograd.grad(out.square().sum(), [x, weight]))
        assert len(calls) == 1 + wanted
    for one, other in zip(*grads, strict=True):
        assert torch.equal(one, other)


def test_a_batch_is_copied_while_the_host_goes_on(monkeypatch):
    from mmengine.model import BaseDataPreprocessor

    from hordet.ops.upstream import copy_without_waiting

    asked = []
    real = torch.Tensor.to

    def look(self, *args, **kwargs):
        asked.append(kwargs.get("non_blocking"))
        return real(self, *args, **kwargs)

    holder = torch.nn.ModuleDict(dict(preprocessor=BaseDataPreprocessor()))
    copy_without_waiting(holder)
    monkeypatch.setattr(torch.Tensor, "to", look)
    holder.preprocessor(dict(inputs=torch.ones(1)))
    assert asked == [True]  # False, and the host would wait
