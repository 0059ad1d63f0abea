"""Genies: link adaptation that knows the slot's true error rates, which no real policy can. They are references.

They know the slot of the report, so they make sense in the DU only; an xApp's decision takes effect later.
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

    The first transmission alone: what retransmissions could still deliver is not counted.
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
    """Settings of the genie with a target error rate."""

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
