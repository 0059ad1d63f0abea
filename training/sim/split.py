"""Seeds of separate random streams for training, validation and test, so that these never share random numbers.

A seed is a pair of split and number. Every random number is drawn from a `numpy.random.SeedSequence` that has the split
in its entropy: channel banks, set-ups, random draws and traffic of two splits are different streams for every
number. (PyTorch's CPU generators take 32 bits of seed: two of those streams coincide with probability 2^-32.)
"""

from enum import IntEnum
from typing import Final

import numpy as np


class Split(IntEnum):
    """Which runs may use a stream of random numbers."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


_PROJECT: Final = 0xD157


def seed_sequence(split: Split, seed: int, purpose: str) -> np.random.SeedSequence:
    """The entropy of one purpose (``bank``, ``setup``, ``cqi``...) under one seed of one split."""
    if seed < 0:
        raise ValueError(f"seed is {seed}; must be 0 or above")
    return np.random.SeedSequence([_PROJECT, int(split), seed, *purpose.encode()])


def torch_seed(split: Split, seed: int, purpose: str) -> int:
    """The same entropy as one number below 2^63, for generators that take one number."""
    return int(seed_sequence(split, seed, purpose).generate_state(1, np.uint64)[0] >> 1)
