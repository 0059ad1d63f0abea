"""The conditions of links that no decision changes: set-up, channel, interference, CQI, random draws, allocations.

Because they do not depend on the policy, two policies that run under `Conditions` of the same scenario, split and seed
get the same conditions (common random numbers): the draw that decides a transport block of link ``n`` in slot ``t`` is
the same whatever was sent. They are computed for `BLOCK_SLOTS` slots at a time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from distila.training.sim.bank import NODE_FIRST_DB, NODE_STEP_DB, NUM_NODES, FadingBank, fading_bank
from distila.training.sim.distribution import Distribution
from distila.training.sim.eesm import BETA_AT_0_DB, BETA_MIN, BETA_SLOPE_PER_DB
from distila.training.sim.link import Combining, LinkTables, link_tables, steeper
from distila.training.sim.report import Cell
from distila.training.sim.scenario import Scenario
from distila.training.sim.split import Split, seed_sequence, torch_seed
from distila.xapp.nr.arrays import IntArray
from distila.xapp.nr.bler import BlerModel, SmoothBler
from distila.xapp.nr.mcs import NUM_MCS, mcs_table
from distila.xapp.progress import Progress, no_progress

BLOCK_SLOTS: Final = 64
# The exponential for beta in `distila.training.sim.eesm`, as a line in dB.
_BETA_AT_0_DB: Final = 10 * np.log10(BETA_AT_0_DB)
_BETA_PER_DB: Final = BETA_SLOPE_PER_DB * 10 / np.log(10)
_BETA_MIN_DB: Final = 10 * np.log10(BETA_MIN)
_PAIRS: Final = NUM_NODES - 1


@dataclass(frozen=True)
class Banks:
    """Size of the fading banks that are generated for a scenario, and where they are stored."""

    rows: int = 64
    """UEs per channel configuration; links share them at different times and SNR"""
    slots: int = 4096
    """slots of each UE; read forwards and backwards in turn, so that a run may be longer"""
    seed: int = 0
    cache: Path | None = None
    """directory; None: the user's cache"""

    def __post_init__(self) -> None:
        # Workers of a training have another current directory.
        if self.cache is not None:
            object.__setattr__(self, "cache", self.cache.absolute())


class Conditions:
    """The exogenous part of a simulation.

    Args:
        scenario: ranges of the settings to draw.
        num_links: size of the batch.
        split, seed: seed of the random numbers, and the split it belongs to; see `distila.training.sim.split`.
        num_slots: longest duration of the simulation.
        device: device of the tensors.
        banks: size and place of the fading banks.
        bler: error-rate model.
        progress: called with the rows done and their total while fading is generated.

    Attributes:
        tables: the link's look-up tables.
        slot_us: slot duration [us].
        snr_db, speed_kmh: float32 [link].
        layers: int64 [link].
        fading_row: numpy int64 [link]; links with the same number read the same fading, at different times and SNR.
        slope, shift_db: float32 [link] of the BLER curves; `plain_curves` where they are 1 and 0 throughout.
        dtx: float32 [link], probability; `has_dtx`.
        harq_rtt_slots, processes, max_transmissions, report_period_slots, decision_delay_slots, cqi_period_slots,
            cqi_delay_slots, rlc, rlc_delay_slots: values drawn for the batch.
        combining_efficiency: float32 [link]; `combines_fully` where it is 1 throughout.
        cqi: float32 [link], latest CQI that has arrived; `cqi_slot`: when it was measured. Both NaN: none.
    """

    def __init__(
        self,
        scenario: Scenario,
        num_links: int,
        split: Split,
        seed: int,
        num_slots: int,
        device: torch.device | str = "cpu",
        banks: Banks | None = None,
        bler: BlerModel | None = None,
        progress: Progress = no_progress,
    ) -> None:
        if num_links < 1 or num_slots < 1:
            raise ValueError(f"num_links is {num_links}, num_slots {num_slots}; both must be at least 1")
        self.scenario, self.num_links, self.num_slots = scenario, num_links, num_slots
        self.split, self.seed = split, seed
        self.device = torch.device(device)
        banks = banks or Banks()
        rng = np.random.default_rng(seed_sequence(split, seed, f"setup {scenario.name}"))
        self._draw_batch(scenario, rng)
        fading = [
            fading_bank(channel, banks.rows, banks.slots, split, banks.seed, banks.cache, progress)
            for channel in self._channels
        ]
        self.slot_us = fading[0].config.slot_us
        self._draw_links(fading, rng)
        self._draw_harq(scenario)
        self.tables = self._tables(bler or SmoothBler.load())
        self._cqi_thresholds_db = self.tables.curves.cqi_threshold_db[1:]
        # The purposes are part of the seeds: other words would give other numbers.
        self._generator, self._burst_generator, self._cqi_generator, self._allocation_generator = (
            self.generator(purpose) for purpose in ("luck", "bursts", "cqi", "allocations")
        )
        self._measured_cqi: dict[int, Tensor] = {}
        self.cqi = torch.full((num_links,), torch.nan, device=self.device)
        self.cqi_slot = torch.full((num_links,), torch.nan, device=self.device)
        self._block(0)

    def cell(self) -> Cell:
        """What a policy may know about the cell before the first report."""
        return Cell(
            num_links=self.num_links,
            device=self.device,
            slot_us=self.slot_us,
            mcs_table=self.mcs_table,
            cqi_table=self.cqi_table,
            curves=self.tables.curves,
            true_tbler=self.true_tbler,
        )

    # Values for the simulator, requested slot by slot in order

    def window_slots(self, slot: int) -> int:
        """How many slots from this one on can be processed at once."""
        return BLOCK_SLOTS - slot % BLOCK_SLOTS

    def enter(self, slot: int) -> None:
        """Start a slot: compute its block of slots if it is a new one, and receive the CQI that arrives in it."""
        if slot >= self._start + BLOCK_SLOTS:
            self._block(slot)
        measured = slot - self.cqi_delay_slots
        values = self._measured_cqi.pop(measured, None)
        if values is not None:
            links = slice(measured % self.cqi_period_slots, None, self.cqi_period_slots)
            self.cqi[links] = values
            self.cqi_slot[links] = torch.where(values.isnan(), torch.nan, float(measured))

    def draws(self, slot: int, count: int) -> Tensor:
        """Uniform random draws that decide transmissions, float32 [slot, link]."""
        return self._uniform[slot - self._start : slot - self._start + count]

    def first_row(self, slot: int, count: int) -> Tensor | None:
        """Allocation times NUM_MCS, int64 [slot, link], what is added to an MCS; None: 0 everywhere."""
        if self._first_row is None:
            return None
        return self._first_row[slot - self._start : slot - self._start + count]

    def allocated_prbs(self, slot: int) -> Tensor:
        """PRBs of the slot's allocation, float32 [link]."""
        row = self.first_row(slot, 1)
        return self.tables.prbs[:1].expand(self.num_links) if row is None else self.tables.prbs[row[0]]

    def effective_sinr_db(self, slot: int, beta_db: Tensor) -> Tensor:
        """Effective SINR [dB] by EESM, float32 [slot, link], for the parameter ``beta_db`` of that shape."""
        offset = slot - self._start
        rows = slice(offset, offset + beta_db.shape[0])
        return self._eesm(self._level_db[rows], self._link_index, self._slot_index[rows], beta_db)

    def true_tbler(self, slot: int) -> tuple[Tensor, Tensor]:
        """TBLER of a first transmission, and transport block size [bits]; float32 [link, mcs]."""
        row = self.rows(slot)
        return self.tbler_left(self.received(slot), row), self.tables.tbs_bits[row]

    def received(self, slot: int) -> Tensor:
        """What one transmission at each MCS would add to the decoder's store, float32 [link, mcs]; see `Combining`."""
        offset, tables = slot - self._start, self.tables
        level, index = self._level_db[offset, :, None], self._link_index[:, None]
        beta_db = tables.beta_db[: tables.max_mcs + 1][None, :]
        return self.combining.received(self._eesm(level, index, self._slot_index[offset], beta_db))

    def rows(self, slot: int) -> Tensor:
        """Rows of the link's tables for a new block at each MCS, int64 [link, mcs]."""
        mcs = torch.arange(self.tables.max_mcs + 1, device=self.device)
        first_row = self.first_row(slot, 1)
        row = mcs[None, :] if first_row is None else first_row[0, :, None] + mcs[None, :]
        return row.expand(self.num_links, -1)

    def tbler_left(self, store: Tensor, row: Tensor) -> Tensor:
        """TBLER of blocks of these rows, given what the decoder has stored of them; float32 [link, mcs]."""
        sinr_db = self.combining.sinr_db(store)
        if not self.plain_curves:
            sinr_db = steeper(sinr_db, self.tables.centre_db[row], self.slope[:, None], self.shift_db[:, None])
        return self.tables.tbler(row, sinr_db)

    def _eesm(self, level_db: Tensor, link_index: Tensor, slot_index: Tensor, beta_db: Tensor) -> Tensor:
        # E(beta - level) + level, between the two nearest nodes (see `distila.training.sim.eesm`).
        position = torch.sub(beta_db, level_db).sub_(NODE_FIRST_DB).mul_(1 / NODE_STEP_DB)
        position.clamp_(0, NUM_NODES - 1.001)
        index = position.to(self._index_type)
        position.sub_(index)
        index.add_(link_index).add_(slot_index)
        pair = torch.index_select(self._fading, 0, index.view(-1)).view(torch.int16).view(*index.shape, 2)
        below = pair[..., 0].to(torch.float32)
        gain = below.lerp_(pair[..., 1].to(torch.float32), position)
        return torch.add(level_db, gain, alpha=0.01)

    def generator(self, purpose: str) -> torch.Generator:
        """A generator of random numbers for a purpose, from these conditions' split and seed, on their device."""
        generator = torch.Generator(self.device)
        generator.manual_seed(torch_seed(self.split, self.seed, f"{purpose} {self.scenario.name}"))
        return generator

    # Set-up

    def _draw_batch(self, scenario: Scenario, rng: np.random.Generator) -> None:
        def one(distribution: Distribution) -> int:
            return int(distribution.draw_one(rng))

        self.mcs_table, self.cqi_table = one(scenario.link.mcs_table), one(scenario.cqi.table)
        self.harq_rtt_slots = one(scenario.link.harq_rtt_slots)
        self.max_transmissions = one(scenario.link.max_transmissions)
        kind = scenario.link.combining
        self.combining = Combining(("chase", "ir")[int(rng.integers(0, 2))] if kind == "drawn" else kind)
        self.cqi_period_slots, self.cqi_delay_slots = one(scenario.cqi.period_slots), one(scenario.cqi.delay_slots)
        self.report_period_slots = one(scenario.e2.period_slots)
        self.decision_delay_slots = one(scenario.e2.delay_slots)
        # A batch has one numerology.
        subcarriers = sorted({channel.subcarrier_khz for channel in scenario.channels})
        khz = subcarriers[int(rng.integers(0, len(subcarriers)))]
        self._channels = [channel for channel in scenario.channels if channel.subcarrier_khz == khz]

    def _draw_harq(self, scenario: Scenario) -> None:
        # Numbers of their own: that these settings exist changes no other draw.
        rng = np.random.default_rng(seed_sequence(self.split, self.seed, f"harq {scenario.name}"))
        link = scenario.link
        self.processes = int(link.processes.draw_one(rng))
        self.rlc = link.rlc
        self.rlc_delay_slots = round(float(link.rlc_delay_ms.draw_one(rng)) * 1e3 / self.slot_us)
        efficiency = link.combining_efficiency.draw(rng, self.num_links)
        self.combining_efficiency = self._tensor(efficiency)
        self.combines_fully = bool((efficiency == 1).all())

    def _draw_links(self, banks: list[FadingBank], rng: np.random.Generator) -> None:
        count, scenario = self.num_links, self.scenario
        which = np.arange(count) % len(banks)
        # Every row is used once before any is used twice.
        order = [rng.permutation(bank.num_rows) for bank in banks]
        row = np.array([order[bank][link // len(banks) % len(order[bank])] for link, bank in enumerate(which)])
        self.fading_row = which * max(bank.num_rows for bank in banks) + row
        if scenario.snr_from_geometry:
            snr_db = np.array([banks[bank].snr_db[r] for bank, r in zip(which, row, strict=True)], np.float64)
        else:
            snr_db = scenario.snr_db.draw(rng, count)
        highest = float(mcs_table(self.mcs_table).spectral_efficiency[-1])
        layers = np.array(
            [_rank(banks[bank], r, snr, highest) for bank, r, snr in zip(which, row, snr_db, strict=True)]
        )
        self._set_fading(banks, which, row, layers, rng)
        interference = scenario.interference
        suffers = rng.random(count) < interference.share.draw(rng, count)
        self.has_interference = bool(suffers.any())
        burst = np.maximum(1.0, interference.burst_slots.draw(rng, count))
        gap = np.maximum(1.0, burst * interference.gap_per_burst.draw(rng, count))
        rise_db = interference.rise_db.draw(rng, count) * suffers
        slope, shift_db = scenario.link.bler_slope.draw(rng, count), scenario.link.bler_shift_db.draw(rng, count)
        dtx = scenario.link.dtx_probability.draw(rng, count)
        self.plain_curves = bool((slope == 1).all() and (shift_db == 0).all())
        self.has_dtx = bool(dtx.any())
        has_cqi = rng.random(count) < scenario.cqi.share.draw(rng, count)
        bias_db, error_db = scenario.cqi.bias_db.draw(rng, count), scenario.cqi.error_db.draw(rng, count)
        prb_choice = rng.integers(0, len(self._prb_values()), count)
        hold = scenario.link.prb_hold_slots
        hold_slots = None if hold is None else np.maximum(1.0, hold.draw(rng, count))
        tensor = self._tensor
        self.snr_db, self.slope, self.shift_db, self.dtx = tensor(snr_db), tensor(slope), tensor(shift_db), tensor(dtx)
        self.speed_kmh = tensor(np.array([banks[b].speed_kmh[r] for b, r in zip(which, row, strict=True)], np.float64))
        self.layers = torch.as_tensor(layers, device=self.device)
        self._rise_db, self._burst_end, self._gap_end = tensor(rise_db), tensor(1 / burst), tensor(1 / gap)
        self._on = tensor(rng.random(count)) < tensor(burst / (burst + gap))  # stationary from the first slot on
        self._has_cqi, self._cqi_bias_db, self._cqi_error_db = tensor(has_cqi), tensor(bias_db), tensor(error_db)
        self._prb_choice = torch.as_tensor(prb_choice, device=self.device)
        self._prb_change = None if hold_slots is None else tensor(1 / hold_slots)

    def _tensor(self, values: npt.NDArray[np.generic]) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.float32), device=self.device)

    def _prb_values(self) -> list[int]:
        return [int(value) for value in dict.fromkeys(self.scenario.link.prbs.values)]

    def _set_fading(
        self,
        banks: list[FadingBank],
        which: IntArray,
        row: IntArray,
        layers: IntArray,
        rng: np.random.Generator,
    ) -> None:
        """Move the used rows to the device, each forwards and backwards, plus a block so that no read has to wrap."""
        slots = min(bank.num_slots for bank in banks)
        keys, series = np.unique(np.stack([which, row, layers], axis=1), axis=0, return_inverse=True)
        period = 2 * slots
        fading = np.empty((len(keys), period + BLOCK_SLOTS, NUM_NODES), np.int16)
        for place, (bank, bank_row, rank) in enumerate(keys):
            forth = banks[bank].gain_cdb[bank_row, rank - 1, :slots]
            there_and_back = np.concatenate([forth, forth[::-1]])
            fading[place] = there_and_back[np.arange(period + BLOCK_SLOTS) % period]
        # Each node is packed with the next one, two int16 in an int32: an interpolation then reads both at once.
        pairs = np.stack([fading[..., :-1], fading[..., 1:]], axis=-1).reshape(-1).view(np.int32)
        self._fading = torch.as_tensor(pairs, device=self.device)
        self._period = period
        self._series = torch.as_tensor(series.reshape(-1), device=self.device)
        self._series *= (period + BLOCK_SLOTS) * _PAIRS
        self._begin = torch.as_tensor(rng.integers(0, period, self.num_links), device=self.device)
        # Narrow types are faster where their range suffices.
        self._index_type = torch.int32 if self._fading.numel() < 2**31 else torch.int64
        self._slot_index = torch.arange(BLOCK_SLOTS, dtype=self._index_type, device=self.device)[:, None] * _PAIRS

    def _tables(self, bler: BlerModel) -> LinkTables:
        ranks, prbs = range(1, int(self.layers.max()) + 1), self._prb_values()
        allocations = tuple((prb, rank) for prb in prbs for rank in ranks)
        self._num_ranks = len(ranks)
        return link_tables(self.mcs_table, self.cqi_table, allocations, bler, self.device)

    # A block of slots

    def _block(self, start: int) -> None:
        if start > self.num_slots:
            raise ValueError(f"slot {start}: these conditions were made for {self.num_slots} slots")
        self._start = start
        count = self.num_links
        self._link_index = (self._series + (self._begin + start) % self._period * _PAIRS).to(self._index_type)
        self._uniform = torch.rand((BLOCK_SLOTS, count), generator=self._generator, device=self.device)
        self._level_db = self.snr_db.expand(BLOCK_SLOTS, count)
        if self.has_interference:
            self._level_db = self._level_db - self._bursts() * self._rise_db
        self._first_row = self._allocation_rows()
        self._measure_cqi()

    def _bursts(self) -> Tensor:
        chance = torch.rand((BLOCK_SLOTS, self.num_links), generator=self._burst_generator, device=self.device)
        states = torch.empty((BLOCK_SLOTS, self.num_links), device=self.device)
        ends, begins = chance < self._burst_end, chance < self._gap_end
        for slot in range(BLOCK_SLOTS):
            states[slot] = self._on
            self._on = self._on ^ torch.where(self._on, ends[slot], begins[slot])
        return states

    def _allocation_rows(self) -> Tensor | None:
        if len(self.tables.allocations) == 1:
            return None
        choice = self._prb_choice.expand(BLOCK_SLOTS, self.num_links)
        if self._prb_change is not None:
            shape = (BLOCK_SLOTS, self.num_links)
            change = torch.rand(shape, generator=self._allocation_generator, device=self.device) < self._prb_change
            values = len(self._prb_values())
            # Always to another value than the present one, or values would be held longer on average than configured.
            further = torch.randint(1, max(2, values), shape, generator=self._allocation_generator, device=self.device)
            choice = choice.clone()
            current = self._prb_choice
            for slot in range(BLOCK_SLOTS):
                current = torch.where(change[slot], (current + further[slot]) % values, current)
                choice[slot] = current
            self._prb_choice = current
        return (choice * self._num_ranks + (self.layers - 1)) * NUM_MCS

    def _measure_cqi(self) -> None:
        """The CQI that UEs measure in this block; link ``n`` measures in slots that equal ``n`` modulo the period."""
        period, count = self.cqi_period_slots, self.num_links
        slots = torch.arange(BLOCK_SLOTS, device=self.device)[:, None]
        links = (self._start + slots) % period + torch.arange(
            0, max(1, -(-count // period)), device=self.device
        ) * period
        inside = links < count
        links_or_0 = torch.where(inside, links, 0)
        noise = torch.randn(links.shape, generator=self._cqi_generator, device=self.device)
        level_db = self._level_db[slots, links_or_0]
        index = self._link_index[links_or_0]
        # SINR and beta depend on each other, so they are iterated: six rounds come within 0.03 dB for 99 % of CQI,
        # three only within 0.5 dB.
        sinr_db = level_db
        for _ in range(6):
            sinr_db = self._eesm(
                level_db, index, self._slot_index, (_BETA_AT_0_DB + _BETA_PER_DB * sinr_db).clamp_(min=_BETA_MIN_DB)
            )
        sinr_db = (
            sinr_db - self.shift_db[links_or_0] + self._cqi_bias_db[links_or_0] + self._cqi_error_db[links_or_0] * noise
        )
        cqi = torch.bucketize(sinr_db, self._cqi_thresholds_db, right=True).to(torch.float32)
        cqi = torch.where(self._has_cqi[links_or_0] > 0, cqi, torch.nan)
        for slot in range(BLOCK_SLOTS):
            due = -(-(count - (self._start + slot) % period) // period)
            if due > 0:
                self._measured_cqi[self._start + slot] = cqi[slot, :due]


def _rank(bank: FadingBank, row: int, snr_db: float, highest_rate: float) -> int:
    """The number of layers with the highest mean rate at this SNR: the rank that a UE would always report."""
    rates = []
    for rank in range(1, bank.gain_cdb.shape[1] + 1):
        gain_db = bank.gain_cdb[row, rank - 1, ::16] / 100
        node = np.clip((10.0 - snr_db - NODE_FIRST_DB) / NODE_STEP_DB, 0, NUM_NODES - 1)
        sinr_db = snr_db + gain_db[:, round(node)]
        rates.append(rank * np.minimum(np.log2(1 + 10 ** (sinr_db / 10)), highest_rate).mean())
    return int(np.argmax(rates)) + 1
