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
from distila.training.sim.csi import RANK_BETA_DB, CsiReports, CsiSettings, two_states
from distila.training.sim.distribution import Distribution
from distila.training.sim.fading import LinkFading
from distila.training.sim.link import LinkTables, link_combining, link_tables, steeper
from distila.training.sim.report import Cell
from distila.training.sim.scenario import SAME_TABLE, Scenario
from distila.training.sim.split import Split, seed_sequence, torch_seed
from distila.xapp.nr.arrays import Float64Array
from distila.xapp.nr.bler import BlerModel, SmoothBler
from distila.xapp.nr.mcs import NUM_MCS, mcs_table
from distila.xapp.nr.soft_combining import Carrier, CombiningKind
from distila.xapp.progress import Progress, no_progress

BLOCK_SLOTS: Final = 64


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
        scenario: that of the kind of node that was drawn, where the scenario is a mixture.
        node: name of that kind of node, empty: all nodes are alike.
        tables: the link's look-up tables.
        slot_us: slot duration [us].
        snr_db, speed_kmh: float32 [link].
        layers: int64 [link], ranks of new blocks in the slot that was entered last; `ri`: the same, float32.
        fading_row: numpy int64 [link]; links with the same number read the same fading, at different times and SNR.
        slope, shift_db: float32 [link] of the BLER curves; `plain_curves` where they are 1 and 0 throughout.
        dtx: float32 [link], probability; `has_dtx`.
        harq_rtt_slots, processes, max_transmissions, report_period_slots, decision_delay_slots, cqi_period_slots,
            cqi_delay_slots, rlc, rlc_delay_slots: values drawn for the batch.
        carrier: what limits the decoder's buffer.
        combining: soft combining of the blocks of the tables.
        combining_efficiency: float32 [link]; `combines_fully` where it is 1 throughout.
    """

    layers: Tensor
    ri: Tensor
    _csi_settings: CsiSettings
    _num_ranks: int
    _place: Tensor
    _place_now: Tensor
    _ri: Tensor

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
        self.node, scenario = scenario.drawn(split, seed)
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
        self.combining = link_combining(self._combining_kind, self.tables, self.carrier)
        # The purposes are part of the seeds: other words would give other numbers.
        self._generator, self._burst_generator, self._allocation_generator = (
            self.generator(purpose) for purpose in ("luck", "bursts", "allocations")
        )
        self._csi = CsiReports(
            self._csi_settings,
            self._fading,
            self.tables.curves.cqi_threshold_db[1:],
            self.layers,
            self.generator("cqi"),
            self.generator("outages"),
        )
        if self.rank_changes:
            ranks = torch.arange(1, self._num_ranks + 1, device=self.device)
            of_allocation = self._fading.beyond(ranks).repeat(len(self._prb_values()))
            self._beyond_of_row = of_allocation.repeat_interleave(NUM_MCS)
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
        self._csi.enter(slot)
        if self._csi.layers is not None:
            self.layers, self.ri = self._csi.layers[slot - self._start], self._ri[slot - self._start]

    @property
    def cqi(self) -> Tensor:
        """Latest CQI that has arrived, float32 [link], NaN: none; changed in place by `enter`."""
        return self._csi.cqi

    @property
    def cqi_slot(self) -> Tensor:
        """When it was measured, float32 [link], NaN: there is none; changed in place by `enter`."""
        return self._csi.slot

    @property
    def rank_changes(self) -> bool:
        """Whether links report ranks, which the DU follows."""
        return self._csi_settings.ri_period_slots is not None

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

    def effective_sinr_db(self, slot: int, beta_db: Tensor, row: Tensor | None = None) -> Tensor:
        """Effective SINR [dB] by EESM, float32 [slot, link].

        Args:
            slot: the first slot.
            beta_db: EESM's parameter, float32 [slot, link].
            row: int64 [slot, link], of the blocks, whose layers may be others than the present rank; None: new blocks.
        """
        rows = slice(slot - self._start, slot - self._start + beta_db.shape[0])
        place = self._place
        if self.rank_changes:
            place = self._place_now[rows] if row is None else place + self._beyond_of_row[row]
        return self._eesm(self._level_db[rows], place, self._fading.slot_index[rows], beta_db)

    def true_tbler(self, slot: int) -> tuple[Tensor, Tensor]:
        """TBLER of a first transmission, and transport block size [bits]; float32 [link, mcs]."""
        row = self.rows(slot)
        return self.tbler_at(self.sinr_db_of_each_mcs(slot), row), self.tables.tbs_bits[row]

    def sinr_db_of_each_mcs(self, slot: int, row: Tensor | None = None) -> Tensor:
        """Effective SINR [dB] of a transmission at each MCS, float32 [link, mcs].

        Args:
            slot: the slot.
            row: int64 [link, mcs], of blocks whose layers may be others than the present rank; None: new blocks.
        """
        offset, tables = slot - self._start, self.tables
        place = self._place[:, None]
        if self.rank_changes:
            place = self._place_now[offset, :, None] if row is None else place + self._beyond_of_row[row]
        level = self._level_db[offset, :, None]
        beta_db = tables.beta_db[: tables.max_mcs + 1][None, :]
        return self._eesm(level, place, self._fading.slot_index[offset], beta_db)

    def rows(self, slot: int) -> Tensor:
        """Rows of the link's tables for a new block at each MCS, int64 [link, mcs]."""
        mcs = torch.arange(self.tables.max_mcs + 1, device=self.device)
        first_row = self.first_row(slot, 1)
        row = mcs[None, :] if first_row is None else first_row[0, :, None] + mcs[None, :]
        return row.expand(self.num_links, -1)

    def tbler_at(self, sinr_db: Tensor, row: Tensor) -> Tensor:
        """TBLER of blocks of these rows at an effective SINR [dB], all float32 [link, mcs]."""
        if not self.plain_curves:
            sinr_db = steeper(sinr_db, self.tables.centre_db[row], self.slope[:, None], self.shift_db[:, None])
        return self.tables.tbler(row, sinr_db)

    def _eesm(self, level_db: Tensor, place: Tensor, slot_index: Tensor, beta_db: Tensor) -> Tensor:
        return self._fading.gain_db(place, slot_index, beta_db - level_db).add_(level_db)

    def generator(self, purpose: str) -> torch.Generator:
        """A generator of random numbers for a purpose, from these conditions' split and seed, on their device."""
        generator = torch.Generator(self.device)
        generator.manual_seed(torch_seed(self.split, self.seed, f"{purpose} {self.scenario.name}"))
        return generator

    # Set-up

    def _draw_batch(self, scenario: Scenario, rng: np.random.Generator) -> None:
        def one(distribution: Distribution) -> int:
            return int(distribution.draw_one(rng))

        self.mcs_table = one(scenario.link.mcs_table)
        self.cqi_table = self.mcs_table if scenario.cqi.table == SAME_TABLE else one(scenario.cqi.table)
        self.harq_rtt_slots = one(scenario.link.harq_rtt_slots)
        self.max_transmissions = one(scenario.link.max_transmissions)
        kind = scenario.link.combining
        self._combining_kind: CombiningKind = ("chase", "ir")[int(rng.integers(0, 2))] if kind == "drawn" else kind
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
        ranks = [channel.antennas.max_rank for channel in scenario.channels]
        self.carrier = Carrier(
            prbs=max(self._prb_values()) if link.carrier_prbs is None else int(link.carrier_prbs.draw_one(rng)),
            max_layers=max(ranks) if link.carrier_layers is None else int(link.carrier_layers.draw_one(rng)),
            max_modulation_order=int(mcs_table(self.mcs_table).modulation_order.max()),
        )

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
        varies = scenario.cqi.ri_period_slots is not None
        self._fading = LinkFading(banks, which, row, None if varies else layers, rng, BLOCK_SLOTS, self.device)
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
        self.ri = self.layers.to(torch.float32)
        self._rise_db, self._burst_end, self._gap_end = tensor(rise_db), tensor(1 / burst), tensor(1 / gap)
        self._on = tensor(rng.random(count)) < tensor(burst / (burst + gap))  # stationary from the first slot on
        self._csi_settings = self._draw_csi(has_cqi, bias_db, error_db, highest)
        self._prb_choice = torch.as_tensor(prb_choice, device=self.device)
        self._prb_change = None if hold_slots is None else tensor(1 / hold_slots)

    def _tensor(self, values: npt.NDArray[np.generic]) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.float32), device=self.device)

    def _prb_values(self) -> list[int]:
        return [int(value) for value in dict.fromkeys(self.scenario.link.prbs.values)]

    def _draw_csi(
        self, reports: npt.NDArray[np.bool_], bias_db: Float64Array, error_db: Float64Array, highest_rate: float
    ) -> CsiSettings:
        # Numbers of their own: that these settings exist changes no other draw.
        rng = np.random.default_rng(seed_sequence(self.split, self.seed, f"csi {self.scenario.name}"))
        cqi, count = self.scenario.cqi, self.num_links
        kind = ("effective_sinr", "mean_sinr")[int(rng.integers(0, 2))] if cqi.kind == "drawn" else cqi.kind
        ri_period = None if cqi.ri_period_slots is None else int(cqi.ri_period_slots.draw_one(rng))
        stops = rng.random(count) < cqi.outage_share.draw(rng, count)
        outage, gap = (np.maximum(1.0, x.draw(rng, count)) for x in (cqi.outage_slots, cqi.outage_gap_slots))
        out = stops & (rng.random(count) < outage / (outage + gap))  # stationary from the first slot on
        return CsiSettings(
            kind=kind,
            cqi_period_slots=self.cqi_period_slots,
            ri_period_slots=ri_period,
            delay_slots=self.cqi_delay_slots,
            highest_rate=highest_rate,
            reports=torch.as_tensor(reports, device=self.device),
            shift_db=self.shift_db,
            bias_db=self._tensor(bias_db),
            error_db=self._tensor(error_db),
            out=torch.as_tensor(out, device=self.device) if stops.any() else None,
            outage_end=self._tensor(1 / outage),
            outage_begin=self._tensor(stops / gap),
        )

    def _tables(self, bler: BlerModel) -> LinkTables:
        most = self._fading.num_ranks if self.rank_changes else self.layers
        self._num_ranks = int(most.max())
        allocations = tuple((prb, rank) for prb in self._prb_values() for rank in range(1, self._num_ranks + 1))
        return link_tables(self.mcs_table, self.cqi_table, allocations, bler, self.device)

    # A block of slots

    def _block(self, start: int) -> None:
        if start > self.num_slots:
            raise ValueError(f"slot {start}: these conditions were made for {self.num_slots} slots")
        self._start = start
        count = self.num_links
        self._place = self._fading.place(start)
        self._uniform = torch.rand((BLOCK_SLOTS, count), generator=self._generator, device=self.device)
        self._level_db = self.snr_db.expand(BLOCK_SLOTS, count)
        if self.has_interference:
            self._level_db = self._level_db - self._bursts() * self._rise_db
        self._csi.measure(start, self._level_db, self._place)
        if self._csi.layers is not None:
            self._place_now = self._place + self._fading.beyond(self._csi.layers)
            self._ri = self._csi.layers.to(torch.float32)
        self._first_row = self._allocation_rows()

    def _bursts(self) -> Tensor:
        shape = (BLOCK_SLOTS, self.num_links)
        states, self._on = two_states(self._on, self._burst_end, self._gap_end, shape, self._burst_generator)
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
        layers = self.layers if self._csi.layers is None else self._csi.layers
        return (choice * self._num_ranks + (layers - 1)) * NUM_MCS


def _rank(bank: FadingBank, row: int, snr_db: float, highest_rate: float) -> int:
    """The number of layers with the highest mean rate at this SNR: the rank that a UE would always report."""
    rates = []
    for rank in range(1, bank.gain_cdb.shape[1] + 1):
        gain_db = bank.gain_cdb[row, rank - 1, ::16] / 100
        node = np.clip((RANK_BETA_DB - snr_db - NODE_FIRST_DB) / NODE_STEP_DB, 0, NUM_NODES - 1)
        sinr_db = snr_db + gain_db[:, round(node)]
        rates.append(rank * np.minimum(np.log2(1 + 10 ** (sinr_db / 10)), highest_rate).mean())
    return int(np.argmax(rates)) + 1
