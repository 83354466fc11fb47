#!/usr/bin/env bash
# The tests on another Python and torch, in an environment of their own:
#
#   tests/run_on.sh 3.13 newest                   # the default tests
#   tests/run_on.sh 3.13 newest --smoke           # the command, two dry runs, quick tests
#   tests/run_on.sh 3.10 2.6 -n0 tests/layers     # arguments of pytest
#   NUMPY=1.26 tests/run_on.sh 3.10 2.6           # with an older numpy
#
# With VENV=FOLDER the environment stays, and is used again. Where uv is installed (pip install uv) it
# installs in place of pip: it finds that versions do not fit in seconds, before anything is fetched,
# and fetches several files at a time. CUDA's libraries, which torch needs on x86, are 3 GB; PyTorch's
# own index of CPU builds, as PIP_EXTRA_INDEX_URL (uv: UV_INDEX), spares them. The exit code is 3 if
# there is no such Python here.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
python=$1 torch=$2
shift 2
if [ -n "${VENV:-}" ]; then VENV=$(realpath -m "$VENV"); fi
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0

program=
for candidate in "$(command -v "python$python" || true)" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$python".*/bin/python; do
    # A shim of pyenv is there for versions that are switched off.
    if [ -x "$candidate" ] && "$candidate" -c "" 2>/dev/null; then program=$candidate; fi
done
if [ -z "$program" ]; then
    echo "no Python $python here: install it, or have pyenv install it; nothing was tested" >&2
    exit 3
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HORDET_CACHE="$work/cache"
venv=${VENV:-$work/venv}
if [ ! -e "$venv/bin/python" ]; then
    "$program" -m venv "$venv"
    wanted=("setuptools>=82")
    if [ "$torch" = newest ]; then wanted+=(torch); else wanted+=("torch==$torch.*"); fi
    if [ -n "${NUMPY:-}" ]; then wanted+=("numpy==$NUMPY.*"); fi
    install=("$venv/bin/pip" install -q)
    if command -v uv >/dev/null; then install=(uv pip install -q --compile-bytecode --python "$venv/bin/python"); fi
    "${install[@]}" "${wanted[@]}" -e ".[test]" || {
        rm -rf "$venv"  # half an environment would be taken for a whole one
        exit 1
    }
fi
export PATH="$venv/bin:$PATH"
for pair in "$python $(python -c 'import platform; print(platform.python_version())')" \
    "$torch $(python -c 'import torch; print(torch.__version__)')"; do
    read -r asked found <<<"$pair"
    if [ "$asked" != newest ] && [[ "$found" != "$asked"* ]]; then
        echo "$venv has $found, and $asked is asked for: remove it, or name another VENV" >&2
        exit 2
    fi
done

python -m hordet
if [ "${1:-}" != --smoke ]; then
    python -m pytest "$@"
    exit
fi
hordet train mask-rcnn_hornet-nano_horfpn_7e --tiny --work-dir "$work/detection"
hordet train upernet_hornet-nano_horuperhead_1k --tiny --work-dir "$work/segmentation"
python -m pytest tests/layers tests/hornet tests/necks tests/config
