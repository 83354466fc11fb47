"""The door: what import hordet costs, which mmcv._ext is found, what a missing operator says."""

import importlib
import subprocess
import sys
import textwrap

import pytest

import hordet
from hordet.errors import MissingOperatorError
from hordet.ops import ExtensionFinder, OperatorStatus, describe_operators, install
from hordet.ops.extension import OPERATORS, populate


def run(code, folder):
    """Runs the code in a fresh Python and returns what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split("\n")


def finders():
    return [finder for finder in sys.meta_path if isinstance(finder, ExtensionFinder)]


@pytest.fixture
def stand_in_module():
    module = type(sys)("stand_in")
    populate(module)
    return module


def test_import_is_light(tmp_path):
    lines = run(
        """
        import sys
        import hordet
        heavy = {"torch", "torchvision", "numpy", "mmcv", "mmengine", "mmdet", "mmseg", "timm"}
        print(sorted(heavy & set(sys.modules)))
        print(type(sys.meta_path[-1]).__name__)
        """,
        tmp_path,
    )
    assert lines[:2] == ["[]", "ExtensionFinder"]


def test_install_twice_is_install_once():
    assert len(finders()) == 1
    install()
    assert len(finders()) == 1


@pytest.mark.parametrize("name", ["mmcv", "mmcv.ops", "mmcv._ext2", "mmdet._ext", "panopticapi.x"])
def test_finder_answers_for_no_other_name(name):
    assert ExtensionFinder().find_spec(name, None) is None
    assert ExtensionFinder().find_spec("mmcv._ext", None).name == "mmcv._ext"


def with_extension(source, action):
    """Code that puts a file _ext.py where a compiled mmcv has its module, and then acts."""
    return f"""
        from pathlib import Path
        import hordet, mmcv
        from hordet.ops import describe_operators
        Path("_ext.py").write_text({source!r})
        mmcv.__path__.append(str(Path.cwd()))
        {action}
    """


def test_compiled_module_is_used_untouched(tmp_path):
    source = "nms = 'compiled nms'\ndef __getattr__(name): return lambda *args, **kwargs: name"
    action = """
        import mmcv._ext, mmcv.ops
        print(mmcv._ext.__file__)
        print(mmcv._ext.nms, mmcv.ops.get_compiler_version())
        print(describe_operators().provider)
    """
    lines = run(with_extension(source, action), tmp_path)
    assert lines[0] == str(tmp_path / "_ext.py")
    assert lines[1:3] == ["compiled nms get_compiler_version", "mmcv"]


@pytest.mark.parametrize(
    "source, cause",
    [
        ("raise ImportError('undefined symbol: _ZN3c10')", "ImportError: undefined symbol"),
        ("nms = None", "miss in module _ext"),
    ],
    ids=["of another torch", "of another mmcv"],
)
def test_broken_compiled_module_is_reported(tmp_path, source, cause):
    action = "print(describe_operators().provider, describe_operators().message)"
    (line, *_) = run(with_extension(source, action), tmp_path)
    assert line.startswith("none the compiled operators at ")
    assert cause in line and str(tmp_path / "_ext.py") in line
    assert "pip install mmcv-lite" in line


def test_missing_mmcv_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmcv", None)
    found = describe_operators()
    assert found.provider == "none" and "pip install mmcv-lite" in found.message


def test_status_here():
    found = describe_operators()
    assert isinstance(found, OperatorStatus)
    assert found.provider in ("torchvision", "mmcv")
    loader = importlib.import_module("mmcv._ext").__spec__.loader
    assert (found.provider == "torchvision") == isinstance(loader, ExtensionFinder)


def test_every_operator_stands_under_its_name(stand_in_module):
    assert len(OPERATORS) == 31
    for name, operator in OPERATORS.items():
        assert getattr(stand_in_module, name) is operator and operator.__name__ == name


def test_missing_operator_names_itself_and_the_cure(stand_in_module):
    assert hasattr(stand_in_module, "box_iou_rotated")  # mmcv.ops asks at import
    with pytest.raises(MissingOperatorError, match="'box_iou_rotated'.*compiled mmcv.*for torch"):
        stand_in_module.box_iou_rotated(1, key=2)
    with pytest.raises(NotImplementedError):
        stand_in_module.nms_rotated()


@pytest.mark.parametrize("name", ["__path__", "__wrapped__", "_private"])
def test_underscored_names_are_not_operators(stand_in_module, name):
    assert not hasattr(stand_in_module, name)
    with pytest.raises(AttributeError, match=name):
        getattr(stand_in_module, name)


def test_importing_hordet_did_not_shadow_the_function():
    assert callable(hordet.install) and hordet.ops.install is hordet.install
