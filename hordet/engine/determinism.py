"""Runs that repeat bit for bit on a GPU, as far as its kernels allow."""

import os

import torch
from mmengine.config import Config

# What torch has no kernel of a fixed order for on CUDA, by what a model of hordet uses it in. torch
# says so once for each by a warning; `docs/training.md` has the same list.
UNORDERED = {
    "grid_sample": "gradient: deformable attention (Mask2Former), points (PointRend)",
    "deform_conv2d": "gradient: deformable convolutions",
    "adaptive_avg_pool2d": "gradient: pyramid pooling (UPerHead, HorUPerHead, PSPHead)",
    "nll_loss2d": "forward pass: cross entropy of label maps with class indices",
}


def prepare_determinism(cfg: Config) -> None:
    """Fit a config to `randomness.deterministic=True`; without it nothing changes.

    Args:
        cfg: Changed in place, before CUDA is used first: cuBLAS reads its workspace then.
    """
    if not (cfg.get("randomness") or {}).get("deterministic"):
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # cuDNN's search times its kernels, and another run may choose another.
    cfg.env_cfg = {**cfg.get("env_cfg", {}), "cudnn_benchmark": False}


def allow_unordered_kernels() -> None:
    """Let torch warn where no kernel of a fixed order exists; mmengine lets it raise.

    A training of Mask R-CNN or UperNet on a GPU would end in its first step otherwise. Without
    `torch.use_deterministic_algorithms` nothing changes.
    """
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(True, warn_only=True)
