"""Genies: link adaptation that knows the slot's true error rates. Nobody can; they are marks to compare with.

They know the slot that the report is of, so they mean something inside the DU only; an xApp's decision acts later.
"""

from dataclasses import dataclass

import torch

from distila.training.baselines.settings import PROBABILITY, check
from distila.training.sim.report import Cell, Decision, Report


@dataclass(frozen=True)
class GenieSettings:
    """The genie has no settings."""


class Genie:
    """The MCS with the largest expected number of bits from the first transmission, ``tbs * (1 - tbler)``.

    The first transmission alone: what retransmissions with combining could still earn is not weighed.
    """

    name = "genie"

    def __init__(self, settings: GenieSettings) -> None:
        self.settings = settings

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Begin with new links; nothing is random here."""
        self._true_tbler = cell.true_tbler

    def decide(self, report: Report) -> Decision:
        """Best MCS of every link in this very slot."""
        tbler, tbs = self._true_tbler(report.slot)
        return Decision.absolute((tbs - tbs * tbler).argmax(dim=1))


@dataclass(frozen=True)
class GenieTargetSettings:
    """Settings of the genie that keeps to an error rate."""

    target: float = 0.1
    """True error rate that the MCS must not exceed."""

    def __post_init__(self) -> None:
        check("genie-target", self, target=PROBABILITY)


class GenieTarget:
    """The highest MCS whose true error rate does not exceed the target; MCS 0 if none does."""

    name = "genie-target"

    def __init__(self, settings: GenieTargetSettings) -> None:
        self.settings = settings

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Begin with new links; nothing is random here."""
        self._true_tbler = cell.true_tbler

    def decide(self, report: Report) -> Decision:
        """Highest allowed MCS of every link in this very slot."""
        tbler, _ = self._true_tbler(report.slot)
        mcs = torch.arange(tbler.shape[1], dtype=torch.int16, device=tbler.device)
        return Decision.absolute(((tbler <= self.settings.target) * mcs).amax(dim=1).to(torch.int64))
