#!/usr/bin/env bash
# The default tests with the maintained forks of OpenMMLab in place of the original packages.
# Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv"
# Without its compiled operators onedl-mmcv builds in seconds, and hordet.ops supplies them. The fork
# of mmdetection computes COCO's metrics with faster-coco-eval, which it does not declare.
MMCV_WITH_OPS=0 "$venv/bin/pip" install -q torch torchvision onedl-mmcv onedl-mmengine \
    onedl-mmdetection onedl-mmsegmentation pycocotools faster-coco-eval timm tqdm safetensors \
    sahi opencv-python ftfy regex lazy_loader argcomplete jinja2 filelock hypothesis pytest pytest-xdist
# The forks bring OpenCV without windows as well; of two packages with the same files one must go.
"$venv/bin/pip" uninstall -q -y opencv-python-headless
opencv=$("$venv/bin/pip" show opencv-python | sed -n 's/^Version: //p')
"$venv/bin/pip" install -q --force-reinstall --no-deps "opencv-python==$opencv"
"$venv/bin/pip" install -q --no-deps -e .
"$venv/bin/python" -m hordet
"$venv/bin/python" -m pytest "$@"
