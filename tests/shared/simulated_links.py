"""Links of the simulator for tests, where MCS m needs exactly m dB or all is drawn; DUs that want one MCS, or learn."""

from dataclasses import dataclass, field

import numpy as np
import torch

from distila.training.sim.bank import FadingBank
from distila.training.sim.conditions import Banks, Conditions
from distila.training.sim.report import Decision
from distila.training.sim.scenario import Scenario
from distila.training.sim.simulator import Simulator
from distila.training.sim.split import Split
from distila.xapp.nr.bler import SmoothBler

RTT = 8
FLAT = {"cqi": {"share": 0}}
GOOD, BAD = 5, 20
"""MCS that always and never arrive at the first attempt at 10.5 dB."""


class MDbForMcsM:
    """A code block at MCS m arrives from m dB on, and never below."""

    def bler(self, mcs_table, mcs, code_block_size_bits, sinr_db):
        mcs, _, sinr_db = np.broadcast_arrays(mcs, code_block_size_bits, sinr_db)
        return np.where(sinr_db >= mcs, 0.0, 1.0)


STEPS = MDbForMcsM()


def a_bank(config, gain_cdb, seed=0, split=Split.TEST):
    rows = len(gain_cdb)
    blank = np.zeros(rows, np.float32)
    return FadingBank(config, seed, gain_cdb.astype(np.int16), blank, blank, split)


def conditions(num_links=3, num_slots=2000, seed=0, bler=STEPS, **settings):
    settings = {"snr_db": 10.5, **FLAT, **settings}
    scenario = Scenario.model_validate({"name": "made_up", "channels": [{"model": "TDL-A"}], **settings})
    return Conditions(scenario, num_links, Split.TEST, seed, num_slots, banks=Banks(rows=4, slots=256), bler=bler)


def simulator(native=None, **given):
    return Simulator(conditions(**given), native)


def absolute(*mcs):
    return Decision.absolute(torch.tensor(mcs))


@dataclass
class SlotFeedback:
    """What a native policy was told in one slot."""

    slot: int
    mcs: list[int]
    outcome: list[int]
    residual: list[float]


@dataclass
class Fixed:
    """A DU that always wants the same MCS, and remembers what it is told."""

    mcs: int | list[int] = GOOD
    name: str = "fixed"
    feedback: list[SlotFeedback] = field(default_factory=list)

    def start(self, cell, generator):
        self.choice = torch.zeros(cell.num_links, dtype=torch.int64) + torch.tensor(self.mcs)

    def decide(self, report):
        assert report.outcome.shape == (1, len(self.choice))
        assert report.period_slots == 1
        rows = (report.mcs[0].tolist(), report.outcome[0].tolist(), report.columns["harq_residual"].tolist())
        self.feedback.append(SlotFeedback(report.slot, *rows))
        return Decision.absolute(self.choice)


@dataclass
class Learner:
    """A DU whose MCS moves with every feedback: 1 up on an ACK, 4 down on a NACK, 8 on a DTX, in quarters of an MCS."""

    name: str = "learner"

    def start(self, cell, generator):
        self.level = torch.full((cell.num_links,), 40)
        self.top = cell.max_mcs

    def decide(self, report):
        step = torch.tensor([0, 1, -4, -8])
        self.level = (self.level + step[report.outcome[0].long()]).clamp(0, 4 * self.top)
        moved = torch.where(report.cqi.isnan(), 0, report.cqi).to(torch.int64) // 4
        return Decision.absolute((self.level // 4 + moved).clamp(0, self.top))


def counted(sim):
    counters = sim.counters
    names = ("bits", "resource", "first_ack", "first_nack", "first_dtx", "retransmissions", "residual", "mean_mcs")
    names += ("lost_bits",)
    return {name: getattr(counters, name) for name in names}


def assert_same(one, other, **tolerance):
    for name, value in one.items():
        assert torch.allclose(value, other[name], equal_nan=True, **{"rtol": 0, "atol": 0, **tolerance}), name


class EventLog:
    """Every transmission, slot by slot, as `on_sent` has it."""

    def __init__(self):
        self.windows = []

    def __call__(self, sent):
        self.windows.append(sent)

    def blocks(self, rtt):
        """(link, transmissions, delivered, slots from the first to the end of the last one) of every ended block."""
        first, failed, lost, bits = (
            torch.cat([getattr(window, name) for window in self.windows]).tolist()
            for name in ("first", "failed", "lost", "bits")
        )
        found = []
        for begin in range(len(first)):
            for link in range(len(first[0])):
                slot = begin
                while first[begin][link] and bits[begin][link] and slot < len(first):
                    if lost[slot][link] or not failed[slot][link]:
                        found.append((link, (slot - begin) // rtt + 1, not lost[slot][link], slot - begin + 1))
                        break
                    slot += rtt
        return found


WILD = {
    "bler": SmoothBler.load(),
    "num_links": 40,
    "snr_db": {"uniform": [0, 25]},
    "cqi": {"share": 0.7, "period_slots": 7, "delay_slots": 3},
    "interference": {"share": 0.5, "burst_slots": 10},
}
WILD_LINK = {
    "prbs": {"choice": [52, 13, 26]},
    "prb_hold_slots": 15,
    "dtx_probability": 0.03,
    "bler_slope": {"uniform": [0.7, 1.4]},
    "bler_shift_db": {"normal": [0, 0.7]},
}
BURSTY = {"full_buffer_share": 0.4, "file_bytes": {"log_uniform": [500, 50_000]}, "files_per_s": 60}
