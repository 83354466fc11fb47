"""The rivals' own environment: what hordet has stays hordet's, what they need beside it is theirs.

It is a `venv` whose last entry of `sys.path` is the folder of packages that hordet itself uses, so
torch lies on the disk once. What pip installs for a rival comes before it.
"""

import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from hordet.errors import BenchmarkError

SHARED = "zz_shared.pth"  # read after all others
_FIND = """\
import sys
from importlib.metadata import PackageNotFoundError, version
for name in sys.argv[1:]:
    try:
        version(name.partition("[")[0])
    except PackageNotFoundError:
        print(name)
"""


def locate_python(folder: Path) -> Path:
    """Return the Python of an environment; it may not be there."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def prepare_environment(folder: Path, packages: Sequence[str]) -> Path:
    """Make the environment where it is not there, and install what it lacks.

    Args:
        folder: The environment.
        packages: Names of packages, with their extras if any, such as `rfdetr[train]`.

    Returns:
        Its Python.

    Raises:
        BenchmarkError: It cannot be made, or pip cannot install a package.
    """
    python = locate_python(folder)
    if not python.exists():
        _run([sys.executable, "-m", "venv", str(folder)], f"{folder} cannot be made")
        words = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        found = Path(_run(words, f"{python} does not run").strip())
        (found / SHARED).write_text(sysconfig.get_path("purelib") + "\n")
    lacking = _run([str(python), "-c", _FIND, *packages], f"{python} does not run").split()
    if lacking:
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, *lacking], f"pip cannot install {', '.join(lacking)} in {folder}")
    return python


def _run(words: list[str], problem: str) -> str:
    """Return what a command prints.

    Raises:
        BenchmarkError: It fails; the message has its last line.
    """
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise BenchmarkError(
            f"{problem}: {last[-300:]}. A package index must be reached for it; an environment "
            "that has the packages is named with --env"
        )
    return done.stdout
