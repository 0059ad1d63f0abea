"""Seeds that cannot meet: what is trained, tuned and tested on differs by construction.

A seed is a pair of split and number, and everything random is drawn from a `numpy.random.SeedSequence` that has the
split in its entropy: channel banks, set-ups, random draws and traffic of two splits are different streams for every
number. (PyTorch's CPU generators take 32 bits of seed: two of those streams coincide with a chance of 2^-32.)
"""

from enum import IntEnum
from typing import Final

import numpy as np


class Split(IntEnum):
    """What a stream of random numbers is for."""

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
    """The same as one number below 2^63, for generators that take no more."""
    return int(seed_sequence(split, seed, purpose).generate_state(1, np.uint64)[0] >> 1)
