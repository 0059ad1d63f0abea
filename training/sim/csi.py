"""CSI: the CQI that UEs measure and the rank that they report, when these arrive at the DU, and when they stop.

*CQI* is what TS 38.214 clause 5.2.2.1 defines, of the whole band: the highest one whose block a UE expects to decode
with the error rate of its CQI table, at its effective SINR (EESM with the beta that this SINR supports). Some nodes map
the mean SINR over PRBs to a CQI instead, which says too much of a frequency-selective channel (`CqiConfig.kind`).

*RI* is the number of layers with the highest rate in the slot in which it is measured. CQI are those of the rank that
the UE reported last. The DU uses a reported rank for new blocks.

Link ``n`` measures in the slots that equal ``n`` modulo the period; a report arrives ``delay_slots`` later. A link in
an outage reports nothing: the DU keeps what it has, which gets old.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from distila.training.sim.eesm import BETA_AT_0_DB, BETA_MIN, BETA_SLOPE_PER_DB, NODE_FIRST_DB, NODE_STEP_DB, NUM_NODES
from distila.training.sim.fading import LinkFading

# The exponential for beta in `distila.training.sim.eesm`, as a line in dB.
_BETA_AT_0_DB: Final = 10 * np.log10(BETA_AT_0_DB)
_BETA_PER_DB: Final = BETA_SLOPE_PER_DB * 10 / np.log(10)
_BETA_MIN_DB: Final = 10 * np.log10(BETA_MIN)
_NODE_LAST_DB: Final = NODE_FIRST_DB + (NUM_NODES - 1) * NODE_STEP_DB
_TYPICAL_GAIN_DB: Final = -1.5
"""Where Newton's method begins: what EESM typically is below the mean SNR [dB]."""
_NEWTON_STEPS: Final = 3
"""Within 0.01 dB of the solution for 99.9 % of CQI, measured over UMi, CDL-B, UMa, TDL-A and RMa with 1 to 4 layers."""
RANK_BETA_DB: Final = 10.0
"""Beta [dB] with which ranks are compared: that of the middle of a table."""


def self_consistent_sinr_db(fading: LinkFading, level_db: Tensor, place: Tensor, slot_index: Tensor) -> Tensor:
    """Effective SINR [dB] with the beta that this SINR itself supports, float32 of the shape of ``level_db``.

    With b = beta - s of `distila.training.sim.eesm` in dB and beta a line over the SINR, b solves
    ``b - p E(b) = a - (1 - p) s``: E is a broken line that rises by less than 1 dB per dB, so the left side rises, and
    Newton's method ends in few steps.

    Args:
        fading: of the links.
        level_db: mean SNR less interference [dB].
        place, slot_index: as in `LinkFading`, broadcast to the shape of ``level_db``.
    """
    lowest = _BETA_MIN_DB - level_db
    right = level_db * (_BETA_PER_DB - 1) + _BETA_AT_0_DB
    relative = torch.maximum(right + _BETA_PER_DB * _TYPICAL_GAIN_DB, lowest).clamp_(NODE_FIRST_DB, _NODE_LAST_DB)
    for step in range(_NEWTON_STEPS):
        gain, slope = fading.gain_and_slope(place, slot_index, relative)
        gain.addcmul_(slope, relative, value=-1)  # of the line through this piece of E, at b = 0
        relative = (right + _BETA_PER_DB * gain).div_(1 - _BETA_PER_DB * slope)
        relative = torch.maximum(relative, lowest).clamp_(NODE_FIRST_DB, _NODE_LAST_DB)
        if step == _NEWTON_STEPS - 1:
            return gain.addcmul_(slope, relative).add_(level_db)
    raise AssertionError("there is at least one step")


def mean_sinr_db(fading: LinkFading, level_db: Tensor, place: Tensor, slot_index: Tensor) -> Tensor:
    """Mean SINR over PRBs and layers [dB], arguments as in `self_consistent_sinr_db`: EESM for a very large beta."""
    return fading.gain_db(place, slot_index, torch.full_like(level_db, _NODE_LAST_DB)).add_(level_db)


def best_rank(
    fading: LinkFading, level_db: Tensor, place: Tensor, slot_index: Tensor, num_ranks: Tensor, highest_rate: float
) -> Tensor:
    """The number of layers with the highest rate, int64 of the shape of ``level_db``.

    Args:
        fading: of the links, with all ranks.
        level_db, place, slot_index: as in `self_consistent_sinr_db`; the place is that of rank 1.
        num_ranks: int64, ranks that each link can have.
        highest_rate: of one layer [bit/s/Hz], what the highest MCS carries.
    """
    best = torch.zeros_like(level_db)
    rank = torch.ones_like(level_db, dtype=torch.int64)
    for candidate in range(1, int(num_ranks.max()) + 1):
        layers = num_ranks.clamp(max=candidate)  # a link that cannot have so many keeps its last rate
        gain = fading.gain_db(place + fading.beyond(layers), slot_index, RANK_BETA_DB - level_db)
        rate = torch.log1p(torch.exp2((gain + level_db) * (np.log2(10) / 10))).clamp_(max=highest_rate * np.log(2))
        rate = rate * layers
        better = (rate > best) & (layers == candidate)
        best, rank = torch.where(better, rate, best), torch.where(better, candidate, rank)
    return rank


@dataclass(frozen=True)
class CsiSettings:
    """How the links of a batch report, as drawn from a `distila.training.sim.scenario.CqiConfig`."""

    kind: str
    """``effective_sinr`` or ``mean_sinr``"""
    cqi_period_slots: int
    ri_period_slots: int | None
    """None: no link ever reports another rank than its first"""
    delay_slots: int
    highest_rate: float
    """what the highest MCS carries on one layer [bit/s/Hz]"""
    reports: Tensor
    """bool [link], whether it reports at all"""
    shift_db: Tensor
    """float32 [link], how much more SINR its receiver needs than a nominal one"""
    bias_db: Tensor
    """float32 [link]"""
    error_db: Tensor
    """float32 [link], standard deviation"""
    out: Tensor | None
    """bool [link], in an outage at the start; None: no link ever is"""
    outage_end: Tensor
    """float32 [link], probability per slot that an outage ends"""
    outage_begin: Tensor
    """float32 [link], probability per slot that one begins"""


class CsiReports:
    """CSI of a batch of links, block by block.

    Args:
        settings: of the links.
        fading: of the links.
        thresholds_db: float32 [15], lowest SINR of CQI 1 to 15.
        layers: int64 [link], ranks at the start.
        generator: of the errors of CQI.
        outage_generator: of the outages.

    Attributes:
        cqi: float32 [link], latest CQI that has arrived; `slot`: when it was measured. Both NaN: none.
        layers: int64 [slot, link], ranks in the slots of the block; None where they never change.
    """

    def __init__(
        self,
        settings: CsiSettings,
        fading: LinkFading,
        thresholds_db: Tensor,
        layers: Tensor,
        generator: torch.Generator,
        outage_generator: torch.Generator,
    ) -> None:
        self._settings, self._fading, self._thresholds_db = settings, fading, thresholds_db
        self._generator, self._outage_generator = generator, outage_generator
        self._num_links, self._device = len(layers), layers.device
        self._exact = not bool(settings.error_db.any())
        self._out = settings.out
        self._measured_cqi: dict[int, Tensor] = {}
        self._measured_rank: dict[int, Tensor] = {}
        self._rank_of_ue, self._rank_of_du = layers.clone(), layers.clone()
        self.layers: Tensor | None = None
        self.cqi = torch.full((self._num_links,), torch.nan, device=self._device)
        self.slot = torch.full((self._num_links,), torch.nan, device=self._device)

    def enter(self, slot: int) -> None:
        """Receive the CQI that arrive in a slot; slots in order, each after its block was measured."""
        settings = self._settings
        measured = slot - settings.delay_slots
        values = self._measured_cqi.pop(measured, None)
        if values is None:
            return
        links = _links_of(measured, settings.cqi_period_slots)
        at = torch.where(values.isnan(), torch.nan, float(measured))
        if settings.out is not None:  # where nothing arrives, the DU keeps what it has
            values = torch.where(values.isnan(), self.cqi[links], values)
            at = torch.where(at.isnan(), self.slot[links], at)
        self.cqi[links], self.slot[links] = values, at

    def measure(self, start: int, level_db: Tensor, place: Tensor) -> None:
        """Measure in a block of slots.

        Args:
            start: its first slot.
            level_db: float32 [slot, link], mean SNR less interference.
            place: [link], see `LinkFading`; of rank 1 where ranks may change.
        """
        slots = level_db.shape[0]
        silent = (~self._settings.reports).expand(slots, -1)
        if self._out is not None:
            settings = self._settings
            states, self._out = two_states(
                self._out, settings.outage_end, settings.outage_begin, (slots, self._num_links), self._outage_generator
            )
            silent = silent | states
        rank = None
        if self._settings.ri_period_slots is not None:
            rank = self._ranks(start, level_db, place, silent, self._settings.ri_period_slots)
        self._measure_cqi(start, level_db, place, silent, rank)

    def _measuring(self, start: int, slots: int, period: int) -> tuple[Tensor, Tensor]:
        """Links that measure in each slot, int64 [slot, n], and int64 [slot, 1]; beyond the last link: link 0."""
        slot = torch.arange(slots, device=self._device)[:, None]
        most = max(1, -(-self._num_links // period))
        links = (start + slot) % period + torch.arange(0, most, device=self._device) * period
        return torch.where(links < self._num_links, links, 0), slot

    def _due(self, slot: int, period: int) -> int:
        """How many links measure in a slot."""
        return -(-(self._num_links - slot % period) // period)

    def _measure_cqi(self, start: int, level_db: Tensor, place: Tensor, silent: Tensor, rank: Tensor | None) -> None:
        settings, period = self._settings, self._settings.cqi_period_slots
        slots = level_db.shape[0]
        bias_db = settings.bias_db - settings.shift_db
        error_db = settings.error_db
        if period == 1:
            if rank is not None:
                place = place + self._fading.beyond(rank)
        else:
            links, slot = self._measuring(start, slots, period)
            level_db, silent = level_db[slot, links], silent[slot, links]
            place, bias_db, error_db = place[links], bias_db[links], error_db[links]
            if rank is not None:
                place = place + self._fading.beyond(rank[slot, links])
        sinr_of = mean_sinr_db if settings.kind == "mean_sinr" else self_consistent_sinr_db
        sinr_db = sinr_of(self._fading, level_db, place, self._fading.slot_index).add_(bias_db)
        if not self._exact:
            noise = torch.randn(level_db.shape, generator=self._generator, device=self._device)
            sinr_db.addcmul_(error_db, noise)
        cqi = torch.bucketize(sinr_db, self._thresholds_db, right=True, out_int32=True).to(torch.float32)
        cqi.masked_fill_(silent, torch.nan)
        for index in range(slots):
            due = self._due(start + index, period)
            if due > 0:
                self._measured_cqi[start + index] = cqi[index, :due]

    def _ranks(self, start: int, level_db: Tensor, place: Tensor, silent: Tensor, period: int) -> Tensor:
        """Measure ranks; ranks that the UEs reported last, int64 [slot, link]. Those of the DU are in `layers`."""
        slots = level_db.shape[0]
        links, slot = self._measuring(start, slots, period)
        rank = best_rank(
            self._fading,
            level_db[slot, links],
            place[links],
            self._fading.slot_index,
            self._fading.num_ranks[links],
            self._settings.highest_rate,
        ).masked_fill_(silent[slot, links], 0)
        of_ue = torch.empty((slots, self._num_links), dtype=torch.int64, device=self._device)
        of_du = torch.empty_like(of_ue)
        for index in range(slots):
            now = start + index
            due = self._due(now, period)
            if due > 0:
                self._measured_rank[now] = rank[index, :due]
                _update(self._rank_of_ue[_links_of(now, period)], rank[index, :due])
            measured = now - self._settings.delay_slots
            arrived = self._measured_rank.pop(measured, None)
            if arrived is not None:
                _update(self._rank_of_du[_links_of(measured, period)], arrived)
            of_ue[index], of_du[index] = self._rank_of_ue, self._rank_of_du
        self.layers = of_du
        return of_ue


def _links_of(slot: int, period: int) -> slice:
    """The links that measure in a slot."""
    return slice(slot % period, None, period)


def _update(rank: Tensor, reported: Tensor) -> None:
    """Set ranks to those that were reported, 0: none."""
    torch.where(reported > 0, reported, rank, out=rank)


def two_states(
    on: Tensor, end: Tensor, begin: Tensor, shape: tuple[int, int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """States of two-state Markov chains, bool [slot, link], and the states after them, bool [link].

    Args:
        on: bool [link], in the first slot.
        end, begin: float32 [link], probability per slot of going off and on.
        shape: slots and links.
        generator: of the random numbers.
    """
    chance = torch.rand(shape, generator=generator, device=on.device)
    states = torch.empty(shape, dtype=torch.bool, device=on.device)
    ends, begins = chance < end, chance < begin
    for slot in range(shape[0]):
        states[slot] = on
        on = on ^ torch.where(on, ends[slot], begins[slot])
    return states, on
