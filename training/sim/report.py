"""What a policy hears and says, for all links at once: `Report`, `Decision`, and what a `Policy` has to offer.

The same types serve the E2 interface (an xApp's policy: a report every period) and the inside of the DU (its native
link adaptation: a report every slot). Shapes: ``link`` is the batch; ``slot`` the slots since the previous report.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from distila.xapp.kpi.report import MCS, MCS_OFFSET, NATIVE, NUM_MCS

NONE, ACK, NACK, DTX = range(4)
"""Outcome of a first transmission as its feedback tells it; NONE: no feedback of a first transmission."""

PER_MCS: Final = 2 * NUM_MCS


@dataclass(frozen=True, slots=True)
class Report:
    """What the node tells about every link. Not measured is NaN; nothing here is the truth about the channel."""

    slot: int
    """this report's slot, counted from the start"""
    period_slots: int
    cqi: Tensor
    """float32 [link], latest CQI known to the DU, NaN: none"""
    cqi_age_slots: Tensor
    """float32 [link], slots since it was measured, NaN: none"""
    native_mcs: Tensor | None
    """int64 [link], what the DU itself would use now; None: it has no link adaptation of its own"""
    prbs: Tensor
    """float32 [link], latest allocation"""
    layers: Tensor
    """float32 [link]"""
    dl_buffer_bytes: Tensor
    """float32 [link], NaN: full buffer"""
    mcs: Tensor
    """int64 [slot, link], MCS of the transmission that the slot's feedback is for"""
    outcome: Tensor
    """uint8 [slot, link], NONE, ACK, NACK or DTX: feedback of first transmissions that arrived in each slot"""
    residual: Tensor
    """float32 [link], transport blocks given up in the period"""
    retx: Tensor
    """float32 [3, link], retransmissions in the period after which the block was decoded, after which it was not, and
    the sum of the MCS of both"""
    combining: float
    """of retransmissions: 1 chase, 2 incremental redundancy, NaN: the node does not tell"""


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer for every link: kind as in `distila.xapp.kpi.report` (NATIVE, MCS, MCS_OFFSET), and its value."""

    kind: Tensor | int
    """int64 [link], or one for all"""
    value: Tensor
    """int64 [link]"""

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
        """No override anywhere."""
        return cls(NATIVE, torch.zeros(num_links, dtype=torch.int64, device=device))


@dataclass(frozen=True)
class Curves:
    """The nominal error-rate curves that model-based policies reason with: those of the nominal allocation, one layer.

    A link's true curves differ from these by the scenario's ``bler_slope`` and ``bler_shift_db``, and by allocation.
    """

    first_db: float
    step_db: float
    tbler: Tensor
    """float32 [mcs, step], transport block error rate at ``first_db + step * step_db``"""
    rate: Tensor
    """float32 [mcs], transport block size in bits per resource element"""
    cqi_threshold_db: Tensor
    """float32 [16], lowest SINR of each CQI at its own 10 %; entry 0 lies below entry 1 by as much as 2 above it"""

    @property
    def num_mcs(self) -> int:
        """MCS indices in the table."""
        return int(self.rate.numel())

    def index(self, sinr_db: Tensor) -> Tensor:
        """Nearest step to each SINR [dB], int64 of its shape; the edge beyond the range."""
        position = (sinr_db - self.first_db) * (1 / self.step_db)
        return position.clamp(0, self.tbler.shape[1] - 1).round().to(torch.int64)

    def threshold_db(self, target: float) -> Tensor:
        """Lowest SINR at which each MCS meets the target TBLER, float32 [mcs]; the range's end where it never does."""
        below = (self.tbler > target).sum(dim=1)
        return self.first_db + self.step_db * below.clamp(max=self.tbler.shape[1] - 1).to(torch.float32)


@dataclass(frozen=True)
class Cell:
    """What a policy may know of the cell before the first report."""

    num_links: int
    device: torch.device
    slot_us: float
    mcs_table: int
    cqi_table: int
    curves: Curves
    true_tbler: "TrueTbler"
    """for genies alone"""

    @property
    def max_mcs(self) -> int:
        """Highest MCS index."""
        return self.curves.num_mcs - 1


class TrueTbler(Protocol):
    """What nobody can know: the error rate of every MCS in a slot."""

    def __call__(self, slot: int) -> tuple[Tensor, Tensor]:
        """TBLER of a first transmission, float32 [link, mcs], and transport block size [bits], same shape.

        Slots must be asked for in order: those of the past are gone.
        """
        ...


class Policy(Protocol):
    """Link adaptation for a batch of links. State is reset by `start`; everything random comes from its generator."""

    name: str

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Begin with new links."""
        ...

    def decide(self, report: Report) -> Decision:
        """Answer one report."""
        ...


def matrix(report: Report, columns: list[str], mcs_table: int, cqi_table: int) -> Tensor:
    """The report as a policy bundle's graph expects it, float32 [link, column]; columns of
    `distila.xapp.policy.columns`."""
    links = report.cqi.shape[0]
    result = torch.empty((links, len(columns)), dtype=torch.float32, device=report.cqi.device)
    per_mcs: list[int] = []  # places of these columns, and
    wanted: list[int] = []  # which counts they are: one copy does for all of them
    for index, name in enumerate(columns):
        if name in ("cqi", "cqi_age_slots", "dl_buffer_bytes", "prbs"):
            result[:, index] = getattr(report, name)
        elif name == "ri":
            result[:, index] = report.layers
        elif name == "native_mcs":
            result[:, index] = torch.nan if report.native_mcs is None else report.native_mcs.to(torch.float32)
        elif name == "sinr_db":
            result[:, index] = torch.nan
        elif name in ("mcs_table", "cqi_table", "period_slots", "combining"):
            constant = {"mcs_table": mcs_table, "cqi_table": cqi_table}.get(name)
            result[:, index] = getattr(report, name) if constant is None else constant
        elif name == "harq_residual":
            result[:, index] = report.residual
        elif name in ("retx_ack", "retx_nack"):
            result[:, index] = report.retx[int(name == "retx_nack")]
        elif name == "retx_mcs_mean":
            decoded, undecoded, mcs_sum = report.retx
            result[:, index] = mcs_sum / (decoded + undecoded).clamp(min=1)
        elif name in ("harq_ack", "harq_nack", "harq_dtx"):
            outcome = {"harq_ack": ACK, "harq_nack": NACK, "harq_dtx": DTX}[name]
            result[:, index] = (report.outcome == outcome).sum(dim=0)
        elif name == "harq_mcs_mean":
            heard = (report.outcome == ACK) | (report.outcome == NACK)
            result[:, index] = (report.mcs * heard).sum(dim=0) / heard.sum(dim=0).clamp(min=1)
        else:
            kind, mcs = name.removeprefix("harq_").split("_mcs_")
            per_mcs.append(index)
            wanted.append(NUM_MCS * (kind == "nack") + int(mcs))
    if per_mcs:
        result[:, per_mcs] = _per_mcs(report)[:, wanted]
    return result


def _per_mcs(report: Report) -> Tensor:
    """ACK counts of every MCS, then NACK counts: float32 [link, PER_MCS]."""
    counts = torch.zeros((report.cqi.shape[0], PER_MCS), dtype=torch.float32, device=report.cqi.device)
    column = (report.mcs + NUM_MCS * (report.outcome == NACK)).clamp(0, PER_MCS - 1)
    weight = ((report.outcome == ACK) | (report.outcome == NACK)).to(torch.float32)
    counts.scatter_add_(1, column.T, weight.T)
    return counts
