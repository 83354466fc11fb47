"""The precision in which the operators compute."""

import torch


def get_working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return float32 for 16-bit types, which torchvision lacks on a CPU; otherwise `dtype`."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
