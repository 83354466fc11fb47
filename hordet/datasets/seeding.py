"""Random numbers that follow from where a sample stands, whichever process draws it."""

import random

import numpy as np
import torch


def seed_sample(*numbers: int) -> None:
    """Seed what draws on the CPU from whole numbers >= 0 that name a sample's place.

    The generators of GPUs are left alone: they belong to the model.
    """
    words = np.random.SeedSequence(numbers).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1:3])
    torch.default_generator.manual_seed(int(words[3]))
