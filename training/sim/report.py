"""The interface between simulator and policy, for all links at once: `Report`, `Decision` and `Policy`.

The same types are used at the E2 interface (an xApp's policy gets a report every period) and inside the DU (its native
link adaptation gets one every slot). Shapes: ``link`` counts the batch; ``slot`` the slots since the previous report.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from distila.xapp.kpi.observations import COLUMNS, COUNTED_PER_MCS
from distila.xapp.kpi.report import MCS, MCS_OFFSET, NATIVE
from distila.xapp.nr.mcs import NUM_MCS

NONE, ACK, NACK, DTX = range(4)
"""Feedback of a first transmission; NONE: no feedback of a first transmission."""

PER_MCS: Final = len(COUNTED_PER_MCS) * NUM_MCS


@dataclass(frozen=True, slots=True)
class Report:
    """What the node reports of every link. A value that is not measured is NaN; no true channel value is in it."""

    slot: int
    """this report's slot, counted from the start"""
    period_slots: int
    columns: Mapping[str, Tensor | float]
    """by name, columns of `distila.xapp.kpi.observations` that are reported as they are: a tensor [link], or one number
    for all links. A column of the table that is neither here nor made of ``mcs`` and ``outcome`` is NaN. ``cqi`` and
    ``cqi_age_slots`` must be there, float32 [link]; ``native_mcs``, int64 [link], is there where the DU has link
    adaptation of its own."""
    mcs: Tensor
    """int64 [slot, link], MCS of the transmission that the slot's feedback is for"""
    outcome: Tensor
    """uint8 [slot, link], NONE, ACK, NACK or DTX: feedback of first transmissions that arrived in each slot"""

    @property
    def cqi(self) -> Tensor:
        """Latest CQI known to the DU, float32 [link], NaN: none."""
        return torch.as_tensor(self.columns["cqi"])

    @property
    def cqi_age_slots(self) -> Tensor:
        """Slots since it was measured, float32 [link], NaN: none."""
        return torch.as_tensor(self.columns["cqi_age_slots"])


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision for every link: kind as in `distila.xapp.kpi.report` (NATIVE, MCS, MCS_OFFSET), and its value."""

    kind: Tensor | int
    """int64 [link], or one for all"""
    value: Tensor
    """int64 [link]"""

    @property
    def override_share(self) -> float:
        """Share of links whose MCS it sets, in place of the DU's own choice or relative to it; 0 to 1."""
        if isinstance(self.kind, int):
            return float(self.kind != NATIVE)
        return float((self.kind != NATIVE).to(torch.float32).mean())

    @classmethod
    def absolute(cls, mcs: Tensor) -> "Decision":
        """An MCS for every link."""
        return cls(MCS, mcs)

    @classmethod
    def offset(cls, value: Tensor) -> "Decision":
        """An offset to the DU's own choice, for every link."""
        return cls(MCS_OFFSET, value)

    @classmethod
    def native(cls, num_links: int, device: torch.device) -> "Decision":
        """No override on any link."""
        return cls(NATIVE, torch.zeros(num_links, dtype=torch.int64, device=device))


@dataclass(frozen=True)
class Curves:
    """The nominal error-rate curves that model-based policies use: those of the nominal allocation with one layer.

    A link's true curves differ from these by the scenario's ``bler_slope`` and ``bler_shift_db``, and by allocation.
    """

    first_db: float
    step_db: float
    tbler: Tensor
    """float32 [mcs, step], transport block error rate at ``first_db + step * step_db``"""
    rate: Tensor
    """float32 [mcs], transport block size in bits per resource element"""
    cqi_threshold_db: Tensor
    """float32 [16], lowest SINR of each CQI, where its own BLER is 10 %; entry 0 extrapolates entries 1 and 2"""

    @property
    def num_mcs(self) -> int:
        """MCS indices in the table."""
        return int(self.rate.numel())

    def index(self, sinr_db: Tensor) -> Tensor:
        """Nearest step to each SINR [dB], int64 of its shape; clamped to the range."""
        position = (sinr_db - self.first_db) * (1 / self.step_db)
        return position.clamp(0, self.tbler.shape[1] - 1).round().to(torch.int64)

    def threshold_db(self, target: float) -> Tensor:
        """Lowest SINR at which each MCS meets the target TBLER, float32 [mcs]; the end of the range where none does."""
        below = (self.tbler > target).sum(dim=1)
        return self.first_db + self.step_db * below.clamp(max=self.tbler.shape[1] - 1).to(torch.float32)


@dataclass(frozen=True)
class Cell:
    """What a policy may know about the cell before the first report."""

    num_links: int
    device: torch.device
    slot_us: float
    mcs_table: int
    cqi_table: int
    curves: Curves
    true_tbler: "TrueTbler"
    """true error rates, for genies only"""

    @property
    def max_mcs(self) -> int:
        """Highest MCS index."""
        return self.curves.num_mcs - 1


class TrueTbler(Protocol):
    """The true error rate of every MCS in a slot, which only a genie may use."""

    def __call__(self, slot: int) -> tuple[Tensor, Tensor]:
        """TBLER of a first transmission, float32 [link, mcs], and transport block size [bits], same shape.

        Slots must be requested in order: past ones are not kept.
        """
        ...


class Policy(Protocol):
    """Link adaptation for a batch of links. `start` resets its state and gives it its source of random numbers."""

    name: str

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Start with new links."""
        ...

    def decide(self, report: Report) -> Decision:
        """Decide on one report."""
        ...


def matrix(report: Report, columns: Sequence[str]) -> Tensor:
    """The report as a policy bundle's graph expects it, float32 [link, column].

    Args:
        report: of all links.
        columns: names in `distila.xapp.kpi.observations.UNITS`.

    Raises:
        KeyError: an unknown column.
    """
    links = report.mcs.shape[1]
    result = torch.empty((links, len(columns)), dtype=torch.float32, device=report.mcs.device)
    per_mcs: list[int] = []  # places of these columns, and
    count_columns: list[int] = []  # the columns of `_per_mcs` that they take, copied at once
    for index, name in enumerate(columns):
        if name in _COUNT_PER_MCS:
            per_mcs.append(index)
            count_columns.append(_COUNT_PER_MCS[name])
        elif name in _DERIVED:
            result[:, index] = _DERIVED[name](report)
        else:
            result[:, index] = report.columns.get(COLUMNS[name].name, torch.nan)
    if per_mcs:
        result[:, per_mcs] = _per_mcs(report)[:, count_columns]
    return result


def _per_mcs(report: Report) -> Tensor:
    """ACK counts of every MCS, then NACK counts: float32 [link, PER_MCS]."""
    counts = torch.zeros((report.mcs.shape[1], PER_MCS), dtype=torch.float32, device=report.mcs.device)
    column = (report.mcs + NUM_MCS * (report.outcome == NACK)).clamp(0, PER_MCS - 1)
    weight = ((report.outcome == ACK) | (report.outcome == NACK)).to(torch.float32)
    counts.scatter_add_(1, column.T, weight.T)
    return counts


def _count(outcome: int) -> Callable[[Report], Tensor]:
    """The function that counts feedback of a kind, int64 [link]."""
    return lambda report: (report.outcome == outcome).sum(dim=0)


def _harq_mcs_mean(report: Report) -> Tensor:
    decided = (report.outcome == ACK) | (report.outcome == NACK)
    return (report.mcs * decided).sum(dim=0) / decided.sum(dim=0).clamp(min=1)


def _retx_mcs_mean(report: Report) -> Tensor:
    decoded, undecoded, mcs_sum = (
        torch.as_tensor(report.columns[name]) for name in ("retx_ack", "retx_nack", "retx_mcs_sum")
    )
    return mcs_sum / (decoded + undecoded).clamp(min=1)


_COUNT_PER_MCS: Final = {
    f"harq_{outcome}_mcs_{mcs}": NUM_MCS * index + mcs
    for index, outcome in enumerate(COUNTED_PER_MCS)
    for mcs in range(NUM_MCS)
}
_DERIVED: Final[dict[str, Callable[[Report], Tensor | float]]] = {
    "period_slots": lambda report: report.period_slots,
    "harq_ack": _count(ACK),
    "harq_nack": _count(NACK),
    "harq_dtx": _count(DTX),
    "harq_mcs_mean": _harq_mcs_mean,
    "retx_mcs_mean": _retx_mcs_mean,
}
