"""hordet's default: the config that `hordet new-config` writes, unchanged but for its length."""

import json
import subprocess
import sys

import openmmlab
from protocol import read_task

from hordet import __version__
from hordet.engine.runner import build_training_runner, read_config

SMALLEST = 64  # `--max-side` of a dry run


def write_config() -> None:
    """Write the config, train by it and predict."""
    task = read_task()
    path = task.out / "config.py"
    words = ["new-config", "--out", str(path), "--force"]
    if (task.data / "meta.json").is_file():
        classes = task.out / "classes.txt"
        classes.write_text("\n".join(task.read_classes()) + "\n")
        words += ["--ade-like", str(task.data), "--classes", str(classes)]
    else:
        words += ["--coco", str(task.data)]
    if task.weights:
        words += ["--weights", str(task.weights)]
    if task.tiny:
        words += ["--max-side", str(SMALLEST)]
    if subprocess.run([sys.executable, "-m", "hordet", *words]).returncode:
        sys.exit("hordet new-config refused the data")
    cfg = read_config(path)
    if not task.weights and "HorNet" not in json.dumps(cfg.model.backbone.to_dict()):
        # With weights at hand they are its default; without, it has another backbone.
        sys.exit("hordet new-config found weights by itself: set HORDET_CACHE to an empty folder")
    openmmlab.set_minutes(cfg, task, "hordet.IterBasedTrainLoop")
    runner = build_training_runner(cfg, seed=task.seed)
    openmmlab.run(runner, task, f"hordet {__version__}")


if __name__ == "__main__":
    write_config()
