"""What baselines share: checks of their settings, HARQ feedback as an index into tables, and what a CQI stands for."""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from distila.training.sim.report import ACK, NACK, Cell, Report
from distila.xapp.errors import InputError

OUTCOMES: Final = 4
NO_CQI: Final = 16
"""Index that stands for an absent CQI in tables over CQI."""


@dataclass(frozen=True)
class Range:
    """Where a setting may lie; ``ends``: which ends belong to it, as in interval notation."""

    low: float
    high: float
    ends: str = "[]"

    def __str__(self) -> str:
        return f"{self.ends[0]}{self.low:g}, {self.high:g}{self.ends[1]}"

    def holds(self, value: float) -> bool:
        """Whether a number lies within; NaN does not."""
        above = value > self.low if self.ends[0] == "(" else value >= self.low
        below = value < self.high if self.ends[1] == ")" else value <= self.high
        return above and below


PROBABILITY: Final = Range(0, 1, "()")
SINR_DB: Final = Range(-50, 80)
POSITIVE: Final = Range(0, math.inf, "()")


def check(owner: str, settings: object, **ranges: Range) -> None:
    """Check settings against their ranges; None, where a setting may be left out, passes.

    Raises:
        InputError: a setting outside, with name and value.
    """
    for name, allowed in ranges.items():
        value = getattr(settings, name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{owner}: {name} = {value!r} is not a number")
        if not allowed.holds(value):
            raise InputError(f"{owner}: {name} = {value:g} is outside {allowed}")


def check_order(owner: str, low_name: str, low: float, high_name: str, high: float) -> None:
    """Check that one setting stays below another.

    Raises:
        InputError: it does not.
    """
    if low >= high:
        raise InputError(f"{owner}: {low_name} = {low:g} is not below {high_name} = {high:g}")


class Feedback:
    """Reads HARQ feedback: every (MCS, outcome) has an index, the row of tables that say how to update.

    NONE and DTX update nothing: NONE means that there was no first transmission, DTX that the UE missed the grant,
    which says something about the PDCCH but nothing about the transport block's MCS.
    """

    def __init__(self, cell: Cell) -> None:
        self.size = cell.curves.num_mcs * OUTCOMES
        index = torch.arange(self.size, device=cell.device)
        self.mcs = index // OUTCOMES
        """int64 [index]"""
        self.ack = (index % OUTCOMES == ACK).to(torch.float64)
        """float64 [index], 1 for ACK"""
        self.nack = (index % OUTCOMES == NACK).to(torch.float64)
        """float64 [index], 1 for NACK"""
        self.top = cell.max_mcs

    def __call__(self, report: Report, slot: int) -> Tensor:
        """Index of every link's feedback in a slot (row) of the report, int64 [link]."""
        # The MCS beside an outcome of NONE means nothing, so it may be any number.
        return torch.add(report.outcome[slot], report.mcs[slot], alpha=OUTCOMES).clamp_(0, self.size - 1)

    def nack_steps(self, target: float, step_on_nack: float) -> Tensor:
        """What an outer loop adds on each feedback so that it settles at the target, float32 [index].

        Frozen upwards at the top MCS and downwards at MCS 0: there it would run away without effect.

        Args:
            target: first-transmission BLER.
            step_on_nack: how far to fall on a NACK.
        """
        rise = step_on_nack * target / (1 - target) * (self.ack * (self.mcs < self.top))
        return (rise - step_on_nack * (self.nack * (self.mcs > 0))).to(torch.float32)


def cqi_sinr_db(cell: Cell, position: float = 0.0) -> Tensor:
    """SINR [dB] that each CQI stands for, float64 [16]: so far on the way from its threshold to the next one's."""
    last = cell.curves.first_db + cell.curves.step_db * (cell.curves.tbler.shape[1] - 1)
    # A BLER model with gaps puts the threshold of a CQI that is never reported at infinity.
    threshold = cell.curves.cqi_threshold_db.to(cell.device, torch.float64).clamp(cell.curves.first_db, last)
    step = threshold.diff()
    return threshold + position * torch.cat((step, step[-1:]))


def cqi_index(cqi: Tensor) -> Tensor:
    """Index of every CQI into tables of 17 entries, int64 [link]: itself, or `NO_CQI`."""
    return cqi.nan_to_num(NO_CQI).to(torch.int64)
