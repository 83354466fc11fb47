"""`--safe-config`: a config is data, or it is refused before a line of it is run."""

import pytest

from hordet.config.load import load_config
from hordet.config.safe import find_code
from hordet.errors import ConfigError

RUNS = "import os; os.mkdir({made!r})"


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.mkdir({made!r})",
        "__import__('os').mkdir({made!r})",
        "x = [].__class__.__base__.__subclasses__()\nopen({made!r}, 'w')",
        "x = [open({made!r}, 'w') for _ in range(1)]",
        "x = f'{{open({made!r}, \"w\")}}'",
        "def f(x=open({made!r}, 'w')):\n    pass",
        "class A(metaclass=print):\n    x = open({made!r}, 'w')",
        "x = dict(a=open({made!r}, 'w'))",
        "x = (lambda: 1)()",
        "dict = open\n_base_ = [open({made!r}, 'w')]",
        "from mmengine.config import read_base\nwith read_base():\n    from .evil import *",
        "x = 9**9**9",
        "x = 1 if open({made!r}, 'w') else 2",
        "_base_ = 'base.py'",
    ],
)
def test_code_is_refused_and_not_run(tmp_path, text):
    made = str(tmp_path / "made")
    (tmp_path / "base.py").write_text(RUNS.format(made=made))
    (tmp_path / "config.py").write_text(text.format(made=made))
    with pytest.raises(ConfigError, match="holds more than data, which --safe-config refuses:\n"):
        load_config(tmp_path / "config.py", safe=True)
    assert not (tmp_path / "made").exists()


def test_yaml_that_calls_python_is_refused(tmp_path):
    made = tmp_path / "made"
    (tmp_path / "c.yaml").write_text(f"x: !!python/object/apply:os.mkdir [{str(made)!r}]\n")
    with pytest.raises(ConfigError, match="holds more than data"):
        load_config(tmp_path / "c.yaml", safe=True)
    assert not made.exists()


@pytest.mark.parametrize(
    "text",
    [
        "model = dict(type='subprocess.Popen', args='true', shell=True)",
        "model = dict(type='mmengine.load', file='x.pkl')",
        "model = dict(type='torch.load', f='x.pkl')",
        "custom_hooks = [dict(type='os.system')]",
        "custom_imports = dict(imports=['antigravity'])",
    ],
)
def test_types_that_run_anything_are_refused(tmp_path, text):
    (tmp_path / "config.py").write_text(text)
    with pytest.raises(ConfigError, match="is no registered component|is not of hordet"):
        load_config(tmp_path / "config.py", safe=True)


def test_the_configs_here_are_data(repository):
    configs = [*repository.glob("configs/[!_]*/*.py")]
    refused = {path.name: list(find_code(path)) for path in configs}
    assert len(configs) > 50 and {name for name, found in refused.items() if found} == set()
    path = repository / "configs" / "coco" / "mask-rcnn_hornet-small-7x7_horfpn-7x7_1x.py"
    assert load_config(path, safe=True).to_dict() == load_config(path).to_dict()


def test_a_config_of_mmdet_by_name(tmp_path):
    (tmp_path / "c.py").write_text(
        "_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\nlr = 2 * 1e-4\n"
        "optim_wrapper = dict(optimizer=dict(type='torch.optim.SGD', lr=lr))\n"
    )
    assert load_config(tmp_path / "c.py", safe=True).optim_wrapper.optimizer.lr == 2e-4
