"""Inner-loop and outer-loop link adaptation: what every RAN has, in the dB domain and in the CQI domain.

The **inner loop** (`Illa`) takes the SINR that the latest CQI stands for and the highest MCS whose nominal error rate
there does not exceed a target. The **outer loop** (`Olla`) adds an offset to that SINR: on a NACK it falls by a step,
on an ACK it rises by ``step * target / (1 - target)``, so that it settles where the first-transmission BLER equals the
target (Sampath, Kumar, Holtzman, VTC 1997; Pedersen et al., VTC 2007). `CqiOlla` does the same in the CQI domain, as
srsRAN Project's scheduler, with exactly the decisions of `distila.xapp.policy.olla.CqiOlla`.

A link that reports no CQI starts from a configured SINR (or CQI) and follows HARQ feedback alone, so its offset has a
much wider range.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from distila.training.baselines.settings import (
    NO_CQI,
    POSITIVE,
    PROBABILITY,
    SINR_DB,
    Feedback,
    Range,
    check,
    cqi_index,
    cqi_sinr_db,
)
from distila.training.sim.report import Cell, Decision, Report
from distila.xapp.policy.olla import MAX_CQI, cqi_to_mcs_table


@dataclass(frozen=True)
class IllaSettings:
    """Settings of the inner loop."""

    target: float = 0.1
    """Nominal error rate that the MCS must not exceed."""
    cqi_position: float = 0.0
    """SINR that a CQI stands for: 0 its own threshold, 1 the next one's, or between."""
    initial_sinr_db: float = 5.0
    """SINR of a link that reports no CQI."""

    def __post_init__(self) -> None:
        check("illa", self, target=PROBABILITY, cqi_position=Range(0, 1), initial_sinr_db=SINR_DB)


class Illa:
    """The inner loop alone: an MCS for every CQI."""

    name = "illa"

    def __init__(self, settings: IllaSettings) -> None:
        self.settings = settings

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Begin with new links; nothing is random here."""
        settings = self.settings
        inner = _InnerLoop(cell, settings.target, settings.cqi_position, settings.initial_sinr_db)
        cqi = torch.arange(NO_CQI + 1, device=cell.device)
        self._mcs = inner.mcs(cqi, torch.zeros(NO_CQI + 1, device=cell.device))  # [cqi]

    def decide(self, report: Report) -> Decision:
        """MCS of every link's latest CQI."""
        return Decision.absolute(self._mcs.index_select(0, cqi_index(report.cqi)))


@dataclass(frozen=True)
class OllaSettings:
    """Settings of the outer loop in dB."""

    target: float = 0.1
    """First-transmission BLER at which the offset rests."""
    step_on_nack_db: float = 0.5
    """How far the offset falls on a NACK; 0: it never moves, which leaves the inner loop."""
    max_offset_db: float = 10.0
    """The offset stays within plus and minus this on links that report CQI."""
    max_blind_offset_db: float = 40.0
    """The same on links that have no CQI: it has to span the whole range of MCS."""
    inner_target: float = 0.1
    """Nominal error rate that the MCS must not exceed at the SINR with offset."""
    cqi_position: float = 0.0
    """SINR that a CQI stands for: 0 its own threshold, 1 the next one's, or between."""
    initial_sinr_db: float = 5.0
    """SINR of a link that reports no CQI."""

    def __post_init__(self) -> None:
        check(
            "olla",
            self,
            target=Range(0, 0.5, "()"),
            step_on_nack_db=Range(0, 20),
            max_offset_db=POSITIVE,
            max_blind_offset_db=POSITIVE,
            inner_target=PROBABILITY,
            cqi_position=Range(0, 1),
            initial_sinr_db=SINR_DB,
        )


class Olla:
    """The outer loop over the inner loop, in dB."""

    name = "olla"

    def __init__(self, settings: OllaSettings) -> None:
        self.settings = settings

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Begin with new links; nothing is random here."""
        settings = self.settings
        self._feedback = Feedback(cell)
        self._steps = self._feedback.nack_steps(settings.target, settings.step_on_nack_db)
        self._limit = torch.full((NO_CQI + 1,), settings.max_offset_db, dtype=torch.float32, device=cell.device)
        self._limit[NO_CQI] = settings.max_blind_offset_db
        self._inner = _InnerLoop(cell, settings.inner_target, settings.cqi_position, settings.initial_sinr_db)
        self.offset_db = torch.zeros(cell.num_links, device=cell.device)
        """float32 [link], dB"""

    def decide(self, report: Report) -> Decision:
        """Move the offsets by the report's feedback, slot by slot; then the MCS of every link."""
        cqi = cqi_index(report.cqi)
        limit = self._limit.index_select(0, cqi)
        lowest = -limit
        for slot in range(report.outcome.shape[0]):
            self.offset_db += self._steps.index_select(0, self._feedback(report, slot))
            torch.clamp(self.offset_db, lowest, limit, out=self.offset_db)
        return Decision.absolute(self._inner.mcs(cqi, self.offset_db))


class _InnerLoop:
    """Highest MCS whose nominal error rate does not exceed the target, the lowest if none: Sionna's ILLA."""

    def __init__(self, cell: Cell, target: float, cqi_position: float, initial_sinr_db: float) -> None:
        curves = cell.curves
        sinr_db = cqi_sinr_db(cell, cqi_position)
        sinr_db = torch.cat((sinr_db, sinr_db.new_full((1,), initial_sinr_db)))
        # Half a step more, so that cutting off decimals finds the nearest step.
        self._position = ((sinr_db - curves.first_db) / curves.step_db + 0.5).to(torch.float32)  # [cqi]
        index = torch.arange(curves.num_mcs, device=cell.device)[:, None]
        self._mcs = ((curves.tbler.to(cell.device) <= target) * index).amax(dim=0)  # [step]
        self._last = curves.tbler.shape[1] - 0.5
        self._per_db = 1 / curves.step_db

    def mcs(self, cqi: Tensor, offset_db: Tensor) -> Tensor:
        """MCS of every link, int64 [link], for its CQI, as `cqi_index`, and its offset."""
        position = self._position.index_select(0, cqi).add_(offset_db, alpha=self._per_db)
        return self._mcs.index_select(0, position.clamp_(0, self._last).to(torch.int64))


@dataclass(frozen=True)
class CqiOllaSettings:
    """Settings of the outer loop in the CQI domain; srsRAN's own are target 0.01, step on ACK 0.001, offset 4."""

    target: float = 0.15
    """First-transmission BLER at which the offset rests."""
    step_on_nack: float = 0.02
    """How far the offset falls on a NACK, in CQI steps."""
    max_offset: float = 4.0
    """The offset stays within plus and minus this, in CQI steps."""
    initial_cqi: float = 7.0
    """First CQI of a link that has never reported one; its offset may span the whole CQI range."""

    def __post_init__(self) -> None:
        check(
            "srsran-olla",
            self,
            target=Range(0, 0.5, "()"),
            step_on_nack=POSITIVE,
            max_offset=Range(0, MAX_CQI, "(]"),
            initial_cqi=Range(1, MAX_CQI),
        )


class CqiOlla:
    """OLLA in the CQI domain: `distila.xapp.policy.olla.CqiOlla` for a batch of links, decision for decision.

    The same float32 operations in the same order; feedback is taken slot by slot, as that class is fed in a DU. The MCS
    at which the offset no longer rises is that of the highest CQI, also where the table has more.
    """

    name = "srsran-olla"

    def __init__(self, settings: CqiOllaSettings) -> None:
        self.settings = settings

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Begin with new links; nothing is random here."""
        settings = self.settings
        mcs_of_cqi = torch.as_tensor(cqi_to_mcs_table()[cell.mcs_table - 1, cell.cqi_table - 1], device=cell.device)
        self._low = mcs_of_cqi  # float32 [cqi]
        self._rise = torch.cat((mcs_of_cqi.diff(), mcs_of_cqi.new_zeros(1)))
        self._feedback = Feedback(cell)
        self._feedback.top = int(mcs_of_cqi[MAX_CQI])
        self._steps = self._feedback.nack_steps(settings.target, settings.step_on_nack)
        self.offset = torch.zeros(cell.num_links, device=cell.device)
        """float32 [link], CQI steps"""
        self._cqi = torch.full_like(self.offset, settings.initial_cqi)
        self._highest = torch.full_like(self.offset, MAX_CQI)
        self._lowest = -self._highest

    def decide(self, report: Report) -> Decision:
        """Move the offsets by the report's feedback, slot by slot; take over new CQI; then the MCS of every link."""
        offset = self.offset
        for slot in range(report.outcome.shape[0]):
            offset += self._steps.index_select(0, self._feedback(report, slot))
            torch.clamp(offset, self._lowest, self._highest, out=offset)
        # A CQI once known stays, even if a later report has none.
        none = report.cqi.isnan()
        self._cqi = torch.where(none, self._cqi, report.cqi)
        self._highest = torch.where(none, self._highest, self.settings.max_offset)
        self._lowest = -self._highest
        torch.clamp(offset, self._lowest, self._highest, out=offset)
        effective = (self._cqi + offset).clamp_(1, MAX_CQI)
        floor = effective.to(torch.int64)
        # Not addcmul: a fused product would round differently from numpy's.
        mcs = self._rise.index_select(0, floor).mul_(effective.sub_(floor)).add_(self._low.index_select(0, floor))
        return Decision.absolute(mcs.mul_(self._cqi != 0).to(torch.int64))
