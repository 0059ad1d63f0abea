"""Classical resource management: algorithms that set powers, found by name.

The modules of this folder hold the algorithms as functions of `Channels` and starts. `METHODS` names them as the
benchmark compares them, `TEACHERS` lists those whose powers may enter a loss.
"""

import re
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from distila.training.resource.algorithms.fplinq import fplinq, schedule
from distila.training.resource.algorithms.rules import all_on, greedy, random_power, strongest_only
from distila.training.resource.algorithms.search import MOST_BRUTE_FORCE, brute_force, flip
from distila.training.resource.algorithms.wmmse import (
    ITERATIONS,
    all_ones,
    best_start,
    check_converged,
    random_starts,
    wmmse,
)
from distila.training.resource.problems import Channels
from distila.xapp.errors import InputError

Method = Callable[[Channels, torch.Generator], Tensor]
"""A function from instances and generator to power, float32 [instance, 1, link]."""

BEST_OF: Final = "wmmse-best-of-100"


def best_of(given: Channels, starts: int, generator: torch.Generator, iterations: int = ITERATIONS) -> Tensor:
    """Run WMMSE from full power and from random powers, and keep the best result; float32 [instance, 1, link]."""
    return best_start(given, wmmse(given, random_starts(given, starts, generator), iterations))


def _scheduled(given: Channels) -> Tensor:
    return schedule(fplinq(given, all_ones(given)))


METHODS: Final[dict[str, Method]] = {
    "wmmse": lambda given, generator: wmmse(given, all_ones(given)),
    "fplinq": lambda given, generator: fplinq(given, all_ones(given)),
    "fplinq-scheduled": lambda given, generator: _scheduled(given),
    "fplinq-scheduled-flips": lambda given, generator: flip(given, _scheduled(given), given.links),
    "wmmse-random": lambda given, generator: wmmse(given, random_power(given, generator)),
    BEST_OF: lambda given, generator: best_of(given, 100, generator),
    "greedy": lambda given, generator: greedy(given),
    "all-on": lambda given, generator: all_on(given),
    "random": random_power,
    "strongest-only": lambda given, generator: strongest_only(given),
    "brute-force": lambda given, generator: brute_force(given),
}
"""Every method, as a function that sets powers."""

_ITERATIVE: Final = ("wmmse", "fplinq", "wmmse-random", BEST_OF)
TEACHERS: Final = (*_ITERATIVE, "fplinq-scheduled", "fplinq-scheduled-flips", "greedy", "brute-force")
_AT_ONCE: Final = 250  # instances whose candidates are in memory


def find_method(name: str, links: int) -> Method:
    """Find a method by its name.

    Raises:
        InputError: no method has that name, or it cannot handle so many links.
    """
    fewer = re.fullmatch(r"wmmse-(best-of-)?(\d+)", name)
    if fewer is not None and name not in METHODS and int(fewer[2]) > 0:
        count = int(fewer[2])
        if fewer[1]:
            return lambda given, generator: best_of(given, count, generator)
        return lambda given, generator: wmmse(given, all_ones(given), count)
    if name not in METHODS:
        raise InputError(
            f"method {name!r}: there are {', '.join(METHODS)}; wmmse-N for N iterations, wmmse-best-of-N for N starts"
        )
    if name == "brute-force" and links > MOST_BRUTE_FORCE:
        raise InputError(f"brute force: {links} links have 2^{links} schedules; it goes up to K = {MOST_BRUTE_FORCE}")
    return METHODS[name]


def apply(name: str, given: Channels, generator: torch.Generator) -> Tensor:
    """The powers that a method sets, computed in parts to save memory; float32 [instance, 1, link].

    Raises:
        InputError: see `find_method`.
    """
    method = find_method(name, given.links)
    return torch.cat([method(given[at : at + _AT_ONCE], generator) for at in range(0, len(given), _AT_ONCE)])


def teach(name: str, given: Channels, generator: torch.Generator) -> Tensor:
    """The powers of a teaching algorithm; float32 [instance, 1, link].

    Raises:
        InputError: the algorithm is not in `TEACHERS`, cannot handle so many links, or did not converge.
    """
    if name not in TEACHERS:
        raise InputError(f"teacher {name!r}: there are {', '.join(TEACHERS)}")
    power = apply(name, given, generator)
    if name in _ITERATIVE:
        check_converged(given, power, name)
    return power
