"""MCS steps on a windowed BLER: what OpenAirInterface's gNB does by default.

OpenAirInterface, ``get_mcs_from_bler`` in openair2/LAYER2/NR_MAC_gNB/gNB_scheduler_primitives.c; its successors in the
develop branch, ``update_bler_stats`` and ``nr_adapt_mcs_from_bler``, take the same arguments:

* Every 10 frames (``BLER_UPDATE_FRAME``, 100 ms) the window's BLER is the number of first retransmissions over that of
  first transmissions, and ``bler = 0.9 bler + 0.1 window`` (``BLER_FILTER``). An empty window leaves it.
* ``bler < lower``, more than 3 transmissions, below the top: one MCS up. ``bler > upper``, or at most 3 transmissions:
  one down, not below the lowest. Else the MCS stays. Defaults of the configuration: lower 0.05, upper 0.15, lowest 0.
* The first MCS is 9, the first ``bler`` the middle of the two thresholds.

Older versions raised the MCS after more than 9 transmissions, lowered it for errors only above MCS 6, and for lack of
activity only above MCS 9; the settings ``quiet`` and ``min_mcs`` come close. The MAC documentation speaks of a 50 ms
window; the code has 10 frames.

Two things differ here. OpenAirInterface counts retransmissions when it schedules them, so a DTX counts as an error;
here it is not counted, as in every baseline. Neither uses the CQI.
"""

from dataclasses import dataclass

import torch

from distila.training.baselines.settings import Range, check, check_order
from distila.training.sim.report import ACK, NACK, Cell, Decision, Report

_FAILED = 1 << 20  # counts of errors lie above those of transmissions in one integer: one addition per slot


@dataclass(frozen=True)
class BlerWindowSettings:
    """Settings of the stepping."""

    lower: float = 0.05
    """Filtered BLER below which the MCS rises."""
    upper: float = 0.15
    """Filtered BLER above which it falls."""
    window_ms: float = 100.0
    """Time between two steps."""
    memory: float = 0.9
    """Weight of the previous BLER; the window's has the rest."""
    quiet: float = 3.0
    """A window of at most this many transmissions counts as no activity, which lowers the MCS."""
    initial_mcs: float = 9.0
    """First MCS of a link."""
    min_mcs: float = 0.0
    """Lowest MCS."""

    def __post_init__(self) -> None:
        check(
            "bler-window",
            self,
            lower=Range(0, 1),
            upper=Range(0, 1),
            window_ms=Range(0, 10_000, "(]"),
            memory=Range(0, 1, "[)"),
            quiet=Range(-1, 10_000),
            initial_mcs=Range(0, 28),
            min_mcs=Range(0, 28),
        )
        check_order("bler-window", "lower", self.lower, "upper", self.upper)


class BlerWindow:
    """One MCS up or down per window, by thresholds on a filtered BLER."""

    name = "bler-window"

    def __init__(self, settings: BlerWindowSettings) -> None:
        self.settings = settings

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Begin with new links; nothing is random here."""
        settings = self.settings
        # In float32, as what it weighs, so that both weights make one.
        self._memory = torch.tensor(settings.memory, dtype=torch.float32, device=cell.device)
        self._max_mcs = cell.max_mcs
        self._min_mcs = min(int(settings.min_mcs), cell.max_mcs)
        self._window = max(round(settings.window_ms * 1000 / cell.slot_us), 1)  # slots
        initial = min(max(int(settings.initial_mcs), self._min_mcs), cell.max_mcs)
        self.mcs = torch.full((cell.num_links,), initial, device=cell.device)
        """int64 [link]"""
        self.bler = torch.full((cell.num_links,), (settings.lower + settings.upper) / 2, device=cell.device)
        """float32 [link], filtered"""
        self._counts = torch.zeros_like(self.mcs)
        weight = torch.zeros(4, dtype=torch.int64)
        weight[ACK], weight[NACK] = 1, 1 + _FAILED
        self._weight = weight.to(cell.device)
        self._slot = 0

    def decide(self, report: Report) -> Decision:
        """Count the report's feedback, slot by slot; step wherever a window ends."""
        for slot in range(report.outcome.shape[0]):
            self._counts += self._weight.index_select(0, report.outcome[slot].to(torch.int64))
            self._slot += 1
            if self._slot % self._window == 0:
                self._step()
        return Decision.absolute(self.mcs)

    def _step(self) -> None:
        failed, sent = self._counts // _FAILED, self._counts % _FAILED
        window = torch.where(sent > 0, failed / sent, self.bler)
        self.bler = self._memory * self.bler + (1 - self._memory) * window
        active = sent > self.settings.quiet
        up = (self.bler < self.settings.lower) & active & (self.mcs < self._max_mcs)
        down = ((self.bler > self.settings.upper) | ~active) & ~up & (self.mcs > self._min_mcs)
        # A new tensor: earlier decisions, perhaps still on their way, keep theirs.
        self.mcs = self.mcs + up.to(torch.int64) - down.to(torch.int64)
        self._counts.zero_()
