"""Each reach into a third party still has its reason, and leaves everything else as it is."""

import ast
import importlib
import importlib.util
import inspect
import json
import pickle
import subprocess
import sys
import textwrap

import pytest

from hordet.ops import upstream


def run(code):
    """Run code in a process of its own; it prints JSON last."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def imports_of(name):
    """What a module imports as it is loaded, under `try` and `if` as well, but no function."""
    spec = importlib.util.find_spec(name)
    package = name if spec.submodule_search_locations else name.rpartition(".")[0]
    found, open_nodes = set(), [ast.parse(open(spec.origin).read())]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            module = importlib.util.resolve_name(module, package)
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        elif not isinstance(node, ast.FunctionDef):
            open_nodes += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("importer", upstream.UNUSED)
def test_every_postponed_import_is_still_made(importer):
    missing = set(upstream.UNUSED[importer]) - imports_of(importer)
    assert not missing, f"{importer} no longer imports {missing}: take it out of UNUSED"


def test_every_late_component_is_still_registered_by_its_module():
    for name, (registry, module) in upstream.LATE.items():
        root = importlib.import_module("mmengine.registry")
        assert getattr(root, registry).get(name).__module__ == module


def test_torch_still_imports_the_compiler_for_an_optimizer():
    import torch

    # torch.optim hides the module of this name.
    step = importlib.import_module("torch.optim.optimizer")._use_grad_for_differentiable
    disable = importlib.import_module("torch._compile")._disable_dynamo
    for function in (torch.compiler.disable, step, disable):
        assert "import torch._dynamo" in inspect.getsource(inspect.unwrap(function))
    assert "__dynamo_disable" in inspect.getsource(inspect.unwrap(disable))


def test_mmengine_still_finds_no_config_of_a_package():
    from mmengine.config import Config

    assert "get_installed_path" in inspect.getsource(Config._get_cfg_path)
    from mmengine.utils import get_installed_path

    assert "pkg_resources" in inspect.getsource(get_installed_path)


def test_import_of_hordet_postpones_nothing():
    code = """
        import json, sys
        import hordet.registry, hordet.inference.predictor, mmdet.models
        watching = [type(finder).__name__ for finder in sys.meta_path]
        print(json.dumps(["_ImportWatch" in watching, "torch._dynamo" in sys.modules]))
    """
    assert run(code) == [False, True]


def test_what_is_postponed_is_real_when_it_is_used():
    code = """
        import json, sys
        from hordet.ops.upstream import postpone_imports
        postpone_imports()
        postpone_imports()
        import torch, torchvision, mmdet.models, mmdet.utils.mot_error_visualize as plots
        from mmdet.models.task_modules.assigners import hungarian_assigner
        heavy = ["scipy.optimize", "matplotlib", "matplotlib.pyplot", "torch._dynamo",
                 "torch.distributed.fsdp", "sympy", "torchvision.models", "timm"]
        before = [name for name in heavy if name in sys.modules]
        rows, columns = hungarian_assigner.linear_sum_assignment([[4, 1], [2, 3]])
        figure = plots.plt.figure()
        red = plots.Rectangle((0, 0), 1, 1, color="red")
        import matplotlib, matplotlib.pyplot, matplotlib.patches
        compilable = torchvision.ops.roi_align.__globals__["is_compile_supported"]("cpu")
        print(json.dumps([
            before, rows.tolist(), columns.tolist(), plots.plt.fignum_exists(figure.number),
            type(red) is matplotlib.patches.Rectangle, isinstance(red, plots.Rectangle),
            torchvision.models.resnet18.__module__, compilable,
            torchvision.__spec__.loader.__class__.__name__,
            sys.modules["torchvision.models"].__class__.__name__,
        ]))
    """
    assert run(code) == [
        [], [0, 1], [1, 0], True, True, True, "torchvision.models.resnet", True,
        "SourceFileLoader", "module",
    ]  # fmt: skip


def test_what_is_imported_already_stays():
    code = """
        import json, sys
        import scipy.optimize
        from hordet.ops.upstream import postpone_imports
        postpone_imports()
        from mmdet.models.task_modules.assigners import hungarian_assigner as module
        print(json.dumps(module.linear_sum_assignment is scipy.optimize.linear_sum_assignment))
    """
    assert run(code) is True


def test_a_config_may_name_what_mmengine_registers_late():
    code = """
        import json, sys
        from hordet.ops.upstream import postpone_imports
        postpone_imports()
        import torch, mmdet.registry
        from mmengine.model import MMFullyShardedDataParallel
        from mmengine.registry import MODEL_WRAPPERS, OPTIMIZERS, STRATEGIES
        late = "mmengine.optim.optimizer.zero_optimizer"
        before = late in sys.modules, "SGD" in OPTIMIZERS, "AnyName" in OPTIMIZERS
        found = mmdet.registry.OPTIMIZERS.get("ZeroRedundancyOptimizer")
        wrapper = MODEL_WRAPPERS.get("MMFullyShardedDataParallel")
        class Own(MMFullyShardedDataParallel):
            pass
        from hordet.config.faults import find_faults
        wrong = dict(type="OptimWrapper", optimizer=dict(type="ZeroRedundancyOptimiser"))
        print(json.dumps([
            before, found.__mro__[1].__module__, wrapper.__name__, Own.__mro__[1] is wrapper,
            STRATEGIES.get("FSDPStrategy").__name__, len(find_faults(dict(optim_wrapper=wrong))),
        ]))
    """
    assert run(code) == [
        [False, True, False],
        "torch.distributed.optim.zero_redundancy_optimizer",
        "MMFullyShardedDataParallel",
        True,
        "FSDPStrategy",
        1,
    ]


def test_optimizers_step_as_before_and_torch_compiles_as_before():
    code = """
        import json, sys
        from hordet.ops.upstream import postpone_imports, disable_compiler
        postpone_imports()
        import torch

        def train(optimize):
            torch.manual_seed(0)
            layer = torch.nn.Linear(3, 2)
            optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
            step = optimize(optimizer)
            for _ in range(3):
                optimizer.zero_grad()
                layer(torch.ones(4, 3)).square().sum().backward()
                assert torch.is_grad_enabled()
                step()
            return layer.weight.detach()

        first = train(lambda optimizer: optimizer.step)
        light = "torch._dynamo" not in sys.modules
        add_group = torch.optim.Optimizer.add_param_group.__wrapped__
        unchecked = hasattr(add_group, "__dynamo_disable")

        def apart(x):
            return x + 1 if torch.compiler.is_compiling() else x + 2

        late = disable_compiler(apart)
        assert "torch._dynamo" not in sys.modules and late(torch.ones(1)) == 3
        import torch._dynamo
        from torch._dynamo.testing import CompileCounter
        counter = CompileCounter()
        out = torch.compile(lambda x: late(x * 2) * 3, backend=counter)(torch.ones(1))
        as_torch = CompileCounter()
        real = torch.compiler.disable(apart)
        torch.compile(lambda x: real(x * 2) * 3, backend=as_torch)(torch.ones(1))
        restored = hasattr(add_group, "__dynamo_disable")
        second = train(lambda optimizer: optimizer.step)
        compiled = train(lambda optimizer: torch.compile(optimizer.step, backend="eager"))
        print(json.dumps([
            light, unchecked, restored, out.item(), counter.frame_count == as_torch.frame_count,
            torch.equal(first, second), torch.allclose(first, compiled, atol=1e-5),
        ]))
    """
    assert run(code) == [True, True, False, 12.0, True, True, True]


def test_a_late_object_is_pickled_by_its_name():
    late = upstream._LateObject("fractions", "Fraction")
    assert pickle.loads(pickle.dumps(late))(1, 2) == importlib.import_module("fractions").Fraction(
        1, 2
    )
    assert issubclass(importlib.import_module("fractions").Fraction, late)


def test_log_buffers_grow_without_copies_and_hold_the_same(monkeypatch):
    import numpy as np
    from mmengine.logging import HistoryBuffer

    stock = getattr(HistoryBuffer.update, "__wrapped__", HistoryBuffer.update)
    assert "np.append" in inspect.getsource(stock), "mmengine no longer copies: take it out"
    monkeypatch.setattr(HistoryBuffer, "update", stock)
    plain, grown = HistoryBuffer(max_length=900), HistoryBuffer(max_length=900)
    whole = HistoryBuffer([1, 2], [1, 1]), HistoryBuffer([1, 2], [1, 1])
    for i in range(3000):
        plain.update(i / 7, 1 + i % 3)
    for value in (3, 0.5):
        whole[0].update(value)
    upstream.grow_log_buffers()
    upstream.grow_log_buffers()
    rooms = set()
    kept = None
    for i in range(3000):
        grown.update(i / 7, 1 + i % 3)
        rooms.add(grown.data[0].base.ctypes.data)
        if i == 500:
            kept = grown.data[0]
            before = kept.copy()
    for value in (3, 0.5):
        whole[1].update(value)
    for one, other in ((plain, grown), whole, (plain, pickle.loads(pickle.dumps(grown)))):
        for want, got in zip(one.data, other.data, strict=True):
            assert np.array_equal(want, got) and want.dtype == got.dtype
    assert np.array_equal(kept, before)  # what was handed out stays
    assert len(rooms) < 20 and len(pickle.dumps(grown)) < 1.1 * len(pickle.dumps(plain))
    with pytest.raises(TypeError, match="log_val must be int or float"):
        grown.update("1")
