"""The simulator slot by slot: HARQ, feedback, decisions, the DU's loop, counters; a plain one and replay.du agree.

Most tests use a channel without fading and a link where MCS m needs exactly m dB, so that every outcome is known
beforehand; those that compare use fading, real error rates and luck.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from distila.replay.du import Du
from distila.replay.du_config import DuConfig
from distila.replay.link import Link
from distila.replay.trace import NO_CQI, ChannelTrace, TraceMeta, UeMeta
from distila.training.baselines import baseline
from distila.training.sim import conditions as conditions_module
from distila.training.sim.bank import NUM_NODES, FadingBank, fading_bank
from distila.training.sim.conditions import Banks, Conditions
from distila.training.sim.link import steeper
from distila.training.sim.report import ACK, DTX, NACK, NONE, Decision, matrix
from distila.training.sim.scenario import Scenario, families
from distila.training.sim.simulator import Simulator
from distila.training.sim.split import Split, seed_sequence
from distila.training.sim.traffic import Traffic
from distila.xapp.kpi.report import MCS, MCS_OFFSET, NATIVE
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.nr.cqi import cqi_for_sinr_db, cqi_thresholds_db
from distila.xapp.nr.mcs import NUM_MCS
from distila.xapp.nr.soft_combining import SoftCombining
from distila.xapp.policy.olla import CqiOlla

pytest.importorskip("sionna")

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


@pytest.fixture(autouse=True)
def flat_channel(monkeypatch):
    def bank(config, rows, slots, split, seed, *_):
        return a_bank(config, np.zeros((rows, config.antennas.max_rank, slots, NUM_NODES)), seed, split)

    monkeypatch.setattr(conditions_module, "fading_bank", bank)


@pytest.fixture
def fading(monkeypatch):
    """Gains that move from slot to slot, the same for every MCS."""

    def bank(config, rows, slots, *_):
        steps = np.random.default_rng(5).normal(0, 60, (rows, 1, slots, 1)).cumsum(axis=2)
        gains = 800 * np.sin(steps / 400) - 200
        return a_bank(config, np.repeat(np.repeat(gains, config.antennas.max_rank, axis=1), NUM_NODES, axis=3))

    monkeypatch.setattr(conditions_module, "fading_bank", bank)


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


# --- HARQ ---


@pytest.mark.parametrize("rtt", [1, 2, 5, 6, 7, 8, 12, 32])
def test_feedback_of_a_slot_arrives_exactly_one_round_trip_later(rtt):
    sim = simulator(link={"harq_rtt_slots": rtt, "processes": 32})
    for slot in range(3 * rtt):
        # Another MCS in every slot tells which slot the feedback is of.
        report = sim.step(absolute(*[slot % 8] * 3))
        sent = slot + 1 - rtt
        if sent < 0:
            assert (report.outcome == NONE).all()
        else:
            assert (report.outcome == ACK).all()
            assert (report.mcs == sent % 8).all()


def test_a_report_holds_one_row_for_every_slot_since_the_one_before():
    sim = simulator(e2={"period_slots": 5}, link={"harq_rtt_slots": 7, "combining": "ideal"})
    outcomes = torch.cat([sim.step(absolute(GOOD, BAD, GOOD)).outcome for _ in range(6)])
    # Row i is slot i + 1, whose feedback is of slot i - 6. BAD is 9.5 dB short: the ideal rule gains 11.2 dB.
    assert outcomes.shape == (30, 3)
    assert outcomes[:, 0].tolist() == [NONE] * 6 + [ACK] * 24
    assert outcomes[:, 1].tolist() == [NONE] * 6 + [NACK] * 7 + [NONE] * 7 + [NACK] * 7 + [NONE] * 3


def test_the_first_report_has_no_feedback():
    report = simulator().report
    assert report.slot == 0
    assert (report.outcome == NONE).all()
    assert (report.columns["harq_residual"] == 0).all()


@pytest.mark.parametrize(
    ("combining", "mcs", "attempts"),
    # 10.5 dB once. By chase 13.5 twice, 15.3 three times, 16.5 four times, less what a repetition of 64QAM falls short.
    # Capacities that add up have 21.7 and 32.6; new parity bits of a real code gain some 4 to 6 dB, and 2 to 3 more by
    # each further one.
    [
        *(
            ("chase", 10, 1),
            ("chase", 11, 2),
            ("chase", 13, 2),
            ("chase", 14, 3),
            ("chase", 16, 4),
            ("chase", 17, None),
        ),
        *(("ideal", 10, 1), ("ideal", 11, 2), ("ideal", 21, 2), ("ideal", 22, 3), ("ideal", 28, 3)),
        *(("ir", 10, 1), ("ir", 11, 2), ("ir", 14, 2), ("ir", 17, 3), ("ir", 20, 4), ("ir", 24, None)),
    ],
)
def test_transmissions_are_combined_until_the_block_arrives(combining, mcs, attempts):
    sim = simulator(link={"combining": combining})
    size = float(sim.tables.tbs_bits[mcs])
    rounds = attempts or 4
    for _ in range(rounds * RTT):
        sim.step(absolute(mcs, mcs, mcs))
    counters = sim.counters
    assert (counters.bits == (RTT * size if attempts else 0)).all()
    assert (counters.residual == (0 if attempts else RTT)).all()
    assert (counters.first_ack + counters.first_nack == RTT).all()
    assert (counters.first_nack == (0 if attempts == 1 else RTT)).all()
    assert (counters.resource == rounds * RTT * 52 * 168).all()


@pytest.mark.parametrize("most", [1, 2, 4, 8])
def test_a_block_is_lost_after_the_last_transmission(most):
    sim = simulator(snr_db=-15, link={"max_transmissions": most, "combining": "chase"})
    reports = [sim.step(absolute(28, 28, 28)) for _ in range(RTT * (2 * most + 1) - 1)]
    residual = [int(report.columns["harq_residual"][0]) for report in reports]
    # The last transmission of slot t's block is in slot t + (most - 1) RTT, and known a round trip later.
    first = most * RTT - 1
    assert residual == [0] * first + [1] * RTT + [0] * (RTT * (most - 1)) + [1] * (len(residual) - first - RTT * most)
    outcomes = torch.cat([report.outcome for report in reports])[:, 0].tolist()
    assert outcomes[RTT - 1 : RTT * (most + 1) - 1] == [NACK] * RTT + [NONE] * (RTT * (most - 1))
    assert (sim.counters.residual == 2 * RTT + (RTT - 1 if most == 1 else 0)).all()


@pytest.mark.parametrize("period", [1, 2, 8])
def test_a_report_counts_the_retransmissions_that_sufficed_and_that_did_not(period):
    sim = simulator(link={"combining": "chase"}, e2={"period_slots": period})
    reports = [sim.step(absolute(10, 14, 17)) for _ in range(5 * RTT // period)]
    # MCS 10 arrives at once, 14 at the third attempt, 17 never. Heard are four round trips and the slot after them.
    known = torch.stack(
        [torch.stack([report.columns[f"retx_{name}"] for name in ("ack", "nack", "mcs_sum")]) for report in reports]
    ).sum(dim=0)
    assert known.tolist() == [[0, RTT, 0], [0, RTT + 1, 3 * RTT], [0, (2 * RTT + 1) * 14, 3 * RTT * 17]]


def test_a_report_says_how_many_transmissions_the_node_allows_unless_it_is_not_reported():
    columns = ["max_transmissions", "combining"]
    assert matrix(simulator(link={"max_transmissions": 3}).report, columns).tolist() == [[3, 2]] * 3
    found = matrix(simulator(e2={"not_reported": ["max_transmissions"]}).report, columns)
    assert found[:, 0].isnan().all()
    assert (found[:, 1] == 2).all()


@pytest.mark.parametrize(("combining", "expected"), [("chase", 1), ("ir", 2), ("ideal", 2)])
def test_a_report_says_how_retransmissions_are_combined_unless_it_is_not_reported(combining, expected):
    assert simulator(link={"combining": combining}).report.columns["combining"] == expected
    for e2 in ({"not_reported": ["combining"]}, {"tells_combining": False}):  # the latter in scenarios of before
        assert "combining" not in simulator(link={"combining": combining}, e2=e2).report.columns


def test_a_retransmission_keeps_its_mcs_whatever_is_decided():
    sim = simulator(link={"combining": "chase"})
    for _ in range(RTT):
        sim.step(absolute(16, 16, 16))  # arrives at the fourth attempt
    for _ in range(3 * RTT):
        sim.step(absolute(0, 28, GOOD))
    assert (sim.counters.bits == RTT * sim.tables.tbs_bits[16]).all()
    assert (sim.counters.mean_mcs == 16).all()


def test_a_retransmission_keeps_its_size_when_the_allocation_changes():
    given = conditions(
        200,
        bler=STEPS,
        link={"prbs": {"choice": [52, 13]}, "prb_hold_slots": 2, "combining": "chase", "harq_rtt_slots": 4},
    )
    sim = Simulator(given)
    first = [given.allocated_prbs(0).clone()]
    for slot in range(1, 5):
        sim.step(Decision.absolute(torch.full((200,), 14)))  # third attempt
        if slot < 4:
            first.append(given.allocated_prbs(slot).clone())
    for _ in range(8):
        sim.step(Decision.absolute(torch.full((200,), 14)))
    size = {52: float(sim.tables.tbs_bits[14]), 13: float(sim.tables.tbs_bits[NUM_MCS + 14])}
    assert given.tables.allocations == [(52, 1), (13, 1)]
    expected = sum(torch.tensor([size[int(p)] for p in prbs]) for prbs in first)
    assert torch.equal(sim.counters.bits, expected.double())
    # Three times the PRBs of the first transmission.
    assert torch.equal(sim.counters.resource, 3 * 168 * sum(first).double())


def test_random_draw_and_error_rate_decide_whether_a_block_is_decoded(fading):
    sim = simulator(num_links=2000, bler=SmoothBler.load(), snr_db={"uniform": [5, 15]})
    rates, bits = sim.conditions.true_tbler(0)
    expected_ack = sim.conditions.draws(0, 1)[0] >= rates[:, 12]
    sim.step(Decision.absolute(torch.full((2000,), 12)))
    assert torch.equal(sim.counters.first_ack, expected_ack.double())
    assert torch.equal(sim.counters.bits, (expected_ack * bits[:, 12]).double())
    assert 0.2 < expected_ack.float().mean() < 0.8


# --- what a retransmission costs ---


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


@pytest.mark.parametrize("rlc", ["am", "um"])
@pytest.mark.parametrize(("rtt", "most"), [(1, 3), (5, 4), (12, 2), (16, 8)])
def test_block_delay_is_that_of_every_block_counted_one_by_one(fading, rlc, rtt, most):
    log = EventLog()
    link = {"harq_rtt_slots": rtt, "max_transmissions": most, "rlc": rlc, "rlc_delay_ms": 15, "dtx_probability": 0.05}
    given = conditions(30, bler=SmoothBler.load(), snr_db={"uniform": [5, 15]}, link=link)
    sim = Simulator(given, Learner(), log)
    sim.run(600)
    blocks = log.blocks(rtt)
    counters = sim.counters
    decoded = np.zeros((30, 8))
    for number, transmissions, delivered, _ in blocks:
        decoded[number, transmissions - 1] += delivered
    assert np.array_equal(counters.decoded_after.numpy(), decoded)
    assert sum(not delivered for _, _, delivered, _ in blocks) == counters.residual.sum()
    assert (counters.residual.sum() > 0) == (most < 8)

    # A lost block is followed by another one's delay, drawn by chance here.
    rng = np.random.default_rng(1)
    ended = rng.permutation(np.array([[delivered, slots] for _, _, delivered, slots in blocks]))
    delays = []
    for delivered, slots in ended:
        delay = slots
        while not delivered and rlc == "am":
            delivered, slots = ended[rng.integers(len(ended))]
            delay += 30 + slots  # 15 ms are 30 slots
        if delivered:
            delays.append(delay)
    found = counters.block_delays_ms().percentiles()
    expected = np.percentile(delays, [50, 95, 99], method="inverted_cdf") * 0.5
    # The last percentile falls into the tail of losses, where a few blocks by chance make one more or less.
    assert found[:2] == pytest.approx(expected[:2])
    assert found.p99 == pytest.approx(expected[2], abs=0.5 * (30 + rtt * most))
    assert counters.figures()["block_delay_ms_p95"] == found.p95


@pytest.mark.parametrize(
    ("rtt", "processes", "stalled"), [(16, 8, 8), (16, 16, 0), (12, 8, 4), (64, 32, 32), (8, 16, 0)]
)
@pytest.mark.parametrize("period", [1, 7, 100])
def test_slots_without_a_free_process_send_nothing(rtt, processes, stalled, period):
    log = EventLog()
    link = {"harq_rtt_slots": rtt, "processes": processes}
    sim = Simulator(conditions(link=link, e2={"period_slots": period}), Fixed(GOOD), log)
    while sim.slot < 5 * rtt:
        sim.step(absolute(GOOD, 2, 3))
    sent = torch.cat([window.bits for window in log.windows]) > 0
    expected = torch.tensor([slot % rtt < processes for slot in range(sim.slot)])
    assert torch.equal(sent, expected[:, None].expand(-1, 3))
    counters = sim.counters
    assert (counters.first_ack == expected.sum()).all()
    assert (counters.resource == expected.sum() * 52 * 168).all()
    assert counters.stalled_slots == (~expected).sum()
    assert counters.stalled_slot_share == pytest.approx(stalled / rtt, abs=stalled / sim.slot)


def test_stalled_slots_of_a_warm_up_do_not_count():
    sim = simulator(Fixed(), link={"harq_rtt_slots": 16, "processes": 8})
    sim.run(28)
    sim.restart_counters()
    sim.run(16)
    assert sim.counters.stalled_slots == 8
    assert sim.counters.stalled_slot_share == 0.5
    assert (sim.counters.resource == 8 * 52 * 168).all()


def test_files_wait_for_a_free_process():
    log = EventLog()
    link = {"harq_rtt_slots": 16, "processes": 8}
    traffic = {"full_buffer_share": 0, "file_bytes": {"uniform": [500, 20_000]}, "files_per_s": 40}
    sim = Simulator(conditions(40, link=link, traffic=traffic), Fixed(), log)
    sim.run(800)
    bits = torch.cat([window.bits for window in log.windows])
    assert (bits[[slot % 16 >= 8 for slot in range(800)]] == 0).all()
    assert torch.equal(bits.sum(dim=0).double(), sim.counters.bits)
    assert sim.counters.stalled_slots == 400


def test_one_transmission_only_never_sends_again():
    sim = simulator(link={"max_transmissions": 1})
    for _ in range(5 * RTT):
        sim.step(absolute(GOOD, BAD, BAD))
    counters = sim.counters
    assert (counters.retransmissions == 0).all()
    assert counters.residual.tolist() == [0, 5 * RTT, 5 * RTT]
    assert counters.decoded_after.tolist() == [[5 * RTT, *[0] * 7], [0] * 8, [0] * 8]
    assert counters.figures()["retransmission_share"] == 0


@pytest.mark.parametrize(
    ("efficiency", "attempts"),
    # At 10.5 dB MCS 14 has 15 dB after two transmissions, and 10.5 or less alone. Half the soft bits are enough for 12.
    [(1, {12: 2, 14: 2}), (0.5, {12: 2, 14: None}), (0, {12: None, 14: None})],
)
def test_combining_efficiency(efficiency, attempts):
    for mcs, needed in attempts.items():
        link = {"combining_efficiency": efficiency, "max_transmissions": 2}
        sim = simulator(link=link)
        for _ in range(2 * RTT):
            sim.step(absolute(mcs, mcs, mcs))
        decoded = (sim.counters.decoded_after > 0).nonzero()
        assert sorted({column + 1 for _, column in decoded.tolist()}) == ([] if needed is None else [needed]), mcs


def test_efficiency_is_each_links_own():
    given = conditions(2, link={"max_transmissions": 2, "combining_efficiency": {"uniform": [0.1, 0.9]}})
    given.combining_efficiency = torch.tensor([0.0, 1.0])
    sim = Simulator(given)
    for _ in range(2 * RTT):
        sim.step(absolute(14, 14))
    assert sim.counters.residual.tolist() == [RTT, 0]


def test_a_missed_first_grant_costs_a_transmission_more_than_one_that_failed():
    """At 10.5 dB MCS 5 is decoded at once; without RV 0, RV 2 alone is not, and RV 3 is."""
    link = {"dtx_probability": 0.5, "harq_rtt_slots": 1}
    received = torch.stack([(conditions(3000, link=link).draws(slot, 1)[0] >= 0.5) for slot in range(3)])
    sim = simulator(num_links=3000, link=link)
    for _ in range(3):
        sim.step(Decision.absolute(torch.full((3000,), GOOD)))
    after = sim.counters.decoded_after
    # RV 2 was received, RV 0 was not.
    late = ~received[0] & received[1]
    assert late.sum() > 500
    assert (after[late, 1] == 0).all()
    assert torch.equal(after[late, 2], received[2][late].double())


def test_lost_bits_come_back_after_rlcs_delay_or_never():
    link = {"max_transmissions": 1, "rlc_delay_ms": 10}
    traffic = {"full_buffer_share": 0, "files_per_s": 0.5, "file_bytes": 1000}
    for rlc in ("am", "um"):
        log = EventLog()
        sim = Simulator(conditions(60, link={**link, "rlc": rlc}, traffic=traffic), Fixed(BAD), log)
        sim.run(1500)
        sent = torch.cat([window.bits for window in log.windows])
        assert (sim.counters.bits == 0).all()
        links = sent.sum(dim=0).nonzero()[:, 0].tolist()
        assert len(links) > 10
        for link_number in links:
            slots = sent[:, link_number].nonzero()[:, 0]
            # A file is one block, which is known to be lost a round trip later, and 20 slots later it is sent again.
            if rlc == "am":
                assert (slots.diff() == RTT + 20).all() or len(sim.file_delays_slots()[link_number]) > 1
            else:
                assert len(slots) == len(sim.file_delays_slots()[link_number])
                assert (sim.file_delays_slots()[link_number] == 1).all()
                assert sim.counters.lost_bits[link_number] == 8000 * len(slots)


def test_the_buffer_is_limited_by_the_carrier():
    """66 PRBs fill their own carrier: the highest MCS gains less by two transmissions than on a carrier of 273 PRBs."""
    own, wide = (
        simulator(snr_db=15, link={"prbs": 66, "max_transmissions": 2, **carrier})
        for carrier in ({}, {"carrier_prbs": 273, "carrier_layers": 4})
    )
    row, sinr_db = torch.tensor([28]), torch.tensor([15.0])
    gain_db = []
    for sim in (own, wide):
        combining = sim.conditions.combining
        store = combining.add(combining.first(sinr_db), 2, sinr_db)
        gain_db.append(float(combining.effective_sinr_db(row, store, 2)) - 15)
    assert gain_db[0] < gain_db[1] - 0.4


def test_the_same_seed_gives_the_same_results(fading):
    link = {**WILD_LINK, "combining_efficiency": {"uniform": [0, 1]}, "processes": 4, "rlc": "um"}
    runs = [simulator(Learner(), link=link, traffic=BURSTY, **WILD) for _ in range(2)]
    for sim in runs:
        sim.run(300)
    assert_same(*(counted(sim) for sim in runs))
    assert torch.equal(runs[0].counters.decoded_after, runs[1].counters.decoded_after)


# --- DTX ---


def test_dtx_is_its_own_outcome_and_counts_apart():
    sim = simulator(num_links=1000, link={"dtx_probability": 0.1})
    outcomes = torch.cat([sim.step(Decision.absolute(torch.full((1000,), GOOD))).outcome for _ in range(80)])
    share = (outcomes == DTX).sum() / (outcomes != NONE).sum()
    assert float(share) == pytest.approx(0.1, abs=0.005)
    assert (outcomes != NACK).all()
    counters = sim.counters
    # What is counted is known by the sender a round trip later.
    assert counters.first_dtx.sum() > (outcomes == DTX).sum()
    assert (counters.first_nack == 0).all()
    assert float(counters.first_dtx.sum() / (counters.first_dtx + counters.first_ack).sum()) == pytest.approx(
        0.1, abs=0.005
    )


def test_a_grant_that_is_not_received_leaves_no_energy():
    # 11 dB needs two transmissions; those that lost one need three.
    sim = simulator(num_links=2000, link={"dtx_probability": 0.3, "combining": "chase", "harq_rtt_slots": 1})
    given = conditions(2000, link={"dtx_probability": 0.3, "combining": "chase", "harq_rtt_slots": 1})
    received = torch.stack([(given.draws(slot, 1)[0] >= 0.3) for slot in range(4)])
    for _ in range(2):
        sim.step(Decision.absolute(torch.full((2000,), 11)))
    arrived = sim.counters.bits > 0
    assert torch.equal(arrived, received[:2].all(dim=0))
    for _ in range(2):
        sim.step(Decision.absolute(torch.full((2000,), 11)))
    never = received.sum(dim=0) < 2
    assert torch.equal(sim.counters.residual > 0, never)


def test_a_dtx_followed_by_an_ack_is_reported_as_dtx():
    sim = simulator(num_links=500, link={"dtx_probability": 0.5, "harq_rtt_slots": 1})
    outcomes = torch.cat([sim.step(Decision.absolute(torch.full((500,), GOOD))).outcome for _ in range(40)])
    lost = outcomes[:-1] == DTX
    assert set(outcomes[1:][lost].unique().tolist()) <= {NONE}


def test_certain_dtx():
    sim = simulator(link={"dtx_probability": 1})
    for _ in range(4 * RTT):
        sim.step(absolute(0, 0, 0))
    assert (sim.counters.bits == 0).all()
    assert (sim.counters.first_dtx == RTT).all()
    assert (sim.counters.residual == RTT).all()


# --- decisions ---


def sent_mcs(sim, decisions, slots):
    """MCS of every slot's first transmission, [slot, link], as feedback tells it; GOOD and below always arrive."""
    steps = -(-(slots + RTT) // sim.conditions.report_period_slots)
    return torch.cat([sim.step(decisions(number)).mcs for number in range(steps)])[RTT - 1 :][:slots]


@pytest.mark.parametrize("delay", [0, 1, 3, 5, 10, 23, 70])
@pytest.mark.parametrize("period", [1, 5, 8, 100])
def test_a_decision_acts_exactly_its_delay_after_its_report(period, delay):
    sim = simulator(Fixed(7), e2={"period_slots": period, "delay_slots": delay})
    slots = 3 * period + delay + 20
    found = sent_mcs(sim, lambda number: absolute(*[number % 5] * 3), slots)[:, 0].tolist()
    expected = [7 if slot < delay else (slot - delay) // period % 5 for slot in range(slots)]
    assert found == expected


def test_kinds_of_decision():
    sim = simulator(Fixed([1, 2, 3]), num_links=3)
    mixed = Decision(torch.tensor([MCS, NATIVE, MCS_OFFSET]), torch.tensor([6, 6, 4]))
    script = [
        (None, [1, 2, 3]),
        (Decision.native(3, torch.device("cpu")), [1, 2, 3]),
        (absolute(4, 5, 6), [4, 5, 6]),
        (Decision.offset(torch.tensor([2, -1, 0])), [3, 1, 3]),
        (Decision.offset(torch.tensor([-9, -2, -3])), [0, 0, 0]),  # not below the lowest
        (mixed, [6, 2, 7]),
        (None, [1, 2, 3]),
    ]
    found = sent_mcs(sim, lambda number: script[min(number, 6)][0], len(script))
    assert found.tolist() == [mcs for _, mcs in script]


def test_an_offset_does_not_go_above_the_highest_mcs():
    sim = simulator(Fixed(27), snr_db=35)
    assert (sent_mcs(sim, lambda _: Decision.offset(torch.tensor([3, 1, 0])), 5) == torch.tensor([28, 28, 27])).all()


def test_a_decision_holds_until_the_next_answer():
    sim = simulator(Fixed(7), e2={"period_slots": 10, "delay_slots": 0})
    found = sent_mcs(sim, lambda number: absolute(4, 4, 4) if number == 1 else None, 40)[:, 0]
    assert found.tolist() == [7] * 10 + [4] * 10 + [7] * 20


@pytest.mark.parametrize(
    "decision",
    [
        None,
        Decision.native(3, torch.device("cpu")),
        Decision.offset(torch.zeros(3, dtype=torch.int64)),
        Decision(torch.tensor([MCS, NATIVE, MCS]), torch.tensor([1, 1, 1])),
    ],
)
def test_without_a_native_loop_only_an_absolute_mcs_will_do(decision):
    sim = simulator()
    with pytest.raises(ValueError, match="without native link adaptation every decision must be an absolute MCS"):
        sim.step(decision)
    assert sim.slot == 0


def test_without_a_native_loop_it_cannot_run_alone():
    with pytest.raises(ValueError, match="without native link adaptation"):
        simulator().run(10)
    assert "native_mcs" not in simulator().report.columns


def test_an_absolute_mcs_may_differ_from_link_to_link():
    decision = Decision(torch.full((3,), MCS), torch.tensor([1, 2, 3]))
    assert sent_mcs(simulator(), lambda _: decision, 5).tolist() == [[1, 2, 3]] * 5


@pytest.mark.parametrize("mcs", [-1, 29])
def test_an_mcs_outside_the_table_is_rejected(mcs):
    sim = simulator(link={"prbs": {"choice": [52, 13]}, "prb_hold_slots": 10})
    with pytest.raises(ValueError, match=str(mcs)):
        sim.step(absolute(mcs, mcs, mcs))


# --- the DU's own loop ---


def test_native_link_adaptation_gets_the_feedback_of_every_slot_in_order():
    native = Fixed([GOOD, BAD, 28])
    sim = simulator(native, snr_db=10.5, link={"combining": "chase"})
    sim.run(5 * RTT)
    assert [feedback.slot for feedback in native.feedback] == list(range(5 * RTT + 1))
    outcomes = np.array([feedback.outcome for feedback in native.feedback])
    assert outcomes[:RTT].sum() == 0
    assert (outcomes[RTT:, 0] == ACK).all()
    assert (outcomes[RTT : 2 * RTT, 1] == NACK).all()
    assert (outcomes[2 * RTT : 5 * RTT, 1] == NONE).all()
    residual = np.array([feedback.residual for feedback in native.feedback])
    assert (residual[:, 0] == 0).all()
    assert (residual[4 * RTT : 5 * RTT, 1:] == 1).all()
    assert residual.sum() == 2 * RTT


def test_an_override_freezes_the_native_loop():
    native = Fixed([GOOD, GOOD, GOOD])
    sim = simulator(native)
    for slot in range(4 * RTT):
        # Link 0 is never overridden, link 1 in odd slots, link 2 always, but by what the DU would have chosen itself.
        kind = torch.tensor([NATIVE, MCS if slot % 2 else NATIVE, MCS])
        sim.step(Decision(kind, torch.tensor([0, 3, GOOD])))
    outcomes = np.array([feedback.outcome for feedback in native.feedback])[RTT:]
    assert (outcomes[:, 0] == ACK).all()
    assert outcomes[:, 1].tolist() == [ACK if slot % 2 == 0 else NONE for slot in range(3 * RTT + 1)]
    assert (outcomes[:, 2] == ACK).all()


def test_an_override_that_comes_late_freezes_only_what_it_changed():
    native = Fixed(GOOD)
    sim = simulator(native, e2={"period_slots": 4, "delay_slots": 6})
    for number in range(10):
        sim.step(absolute(3, 3, 3) if number == 1 else None)  # in force in slots 10 to 13
    outcomes = np.array([feedback.outcome for feedback in native.feedback])[:, 0].tolist()
    expected = [NONE if slot < RTT or 10 <= slot - RTT < 14 else ACK for slot in range(41)]
    assert outcomes == expected


def test_the_report_has_the_mcs_that_the_du_would_use():
    sim = simulator(Learner(), e2={"period_slots": 3})
    for _ in range(20):
        report = sim.step()
        assert torch.equal(report.columns["native_mcs"], sim.native_mcs)
    assert report.columns["native_mcs"].dtype == torch.int64


# --- counters and reports ---


def test_counters_add_up(fading):
    sim = simulator(Learner(), num_links=300, bler=SmoothBler.load(), link={"dtx_probability": 0.05})
    outcomes = torch.cat([sim.step().outcome for _ in range(300)])
    counters = sim.counters
    # A full buffer sends a block in every slot, and each is a first one or a repetition.
    assert (counters.resource == 300 * 52 * 168).all()
    for outcome, count in ((ACK, counters.first_ack), (NACK, counters.first_nack), (DTX, counters.first_dtx)):
        feedback = (outcomes == outcome).sum(dim=0)
        assert (feedback <= count).all()
        assert (count - feedback < RTT).all()
    first = counters.first_ack + counters.first_nack + counters.first_dtx
    assert (first <= 300).all()
    assert (first > 150).all()
    assert (counters.residual <= first).all()
    assert all(value.dtype == torch.float64 for value in counted(sim).values())


def test_goodput_is_delivered_bits_per_resource_element_of_all_transmissions():
    sim = simulator(link={"combining": "chase"})
    for _ in range(4 * RTT):
        sim.step(absolute(GOOD, 13, 28))
    size = sim.tables.tbs_bits
    expected = [float(size[GOOD]) / (52 * 168), float(size[13]) / (2 * 52 * 168), 0]
    assert torch.allclose(sim.counters.goodput, torch.tensor(expected, dtype=torch.float64))


def test_goodput_of_nothing_sent_is_0():
    sim = simulator()
    assert (sim.counters.goodput == 0).all()
    assert sim.counters.mean_mcs.isnan().all()


def test_counters_can_begin_after_a_warm_up():
    sim = simulator(Fixed(GOOD))
    sim.run(50)
    sim.restart_counters()
    assert (sim.counters.bits == 0).all()
    sim.run(30)
    assert (sim.counters.first_ack == 30).all()
    assert (sim.counters.bits == 30 * sim.tables.tbs_bits[GOOD]).all()


def test_report_of_cqi_allocation_and_layers(fading):
    channels = [{"model": "UMi", "antennas": {"tx": 2, "rx": 2, "max_rank": 2}}]
    sim = simulator(
        Fixed(),
        num_links=20,
        channels=channels,
        bler=SmoothBler.load(),
        link={"prbs": {"choice": [52, 13]}, "prb_hold_slots": 3},
        cqi={"share": 1, "period_slots": 10, "delay_slots": 4},
        e2={"period_slots": 7},
    )
    for _ in range(12):
        report = sim.step()
        assert report.slot == sim.slot
        assert torch.equal(report.cqi.nan_to_num(-1), sim.conditions.cqi.nan_to_num(-1))
        age = sim.slot - sim.conditions.cqi_slot
        assert torch.equal(report.cqi_age_slots.nan_to_num(-1), age.nan_to_num(-1))
        assert torch.equal(report.columns["prbs"], sim.conditions.allocated_prbs(sim.slot))
        assert torch.equal(report.columns["ri"], sim.conditions.layers)
        assert report.columns["dl_buffer_bytes"].isnan().all()
    assert (report.cqi_age_slots >= 4).all()
    assert (report.cqi_age_slots < 14).all()


def tensors(report):
    """Everything in a report that could change."""
    columns = {name: value for name, value in report.columns.items() if torch.is_tensor(value)}
    return columns | {"mcs": report.mcs, "outcome": report.outcome}


def snapshot(report):
    return {name: value.clone() for name, value in tensors(report).items()}


def test_a_report_does_not_change_after_it_was_made(fading):
    sim = simulator(
        Learner(),
        num_links=20,
        bler=SmoothBler.load(),
        cqi={"share": 1, "period_slots": 3},
        link={"prbs": {"choice": [52, 13]}, "prb_hold_slots": 3},
        traffic={"full_buffer_share": 0.5},
    )
    reports = [sim.step() for _ in range(100)]
    kept = [snapshot(report) for report in reports]
    sim.run(100)
    for report, before in zip(reports, kept, strict=True):
        assert {"cqi", "native_mcs", "retx_ack", "harq_residual"} <= before.keys()
        for name, value in before.items():
            assert torch.equal(value.nan_to_num(-1), tensors(report)[name].nan_to_num(-1)), name


def test_the_first_report_does_not_change_after_it_was_made():
    sim = simulator(Fixed())
    first = sim.report
    before = first.mcs.clone(), first.outcome.clone()
    sim.run(20)
    assert torch.equal(first.mcs, before[0])
    assert torch.equal(first.outcome, before[1])


def test_layers_are_float32_as_the_report_says():
    assert simulator().report.columns["ri"].dtype == torch.float32


# --- ends ---


@pytest.mark.parametrize("slots", [64, 128])
def test_a_simulation_may_last_as_long_as_its_conditions(slots):
    simulator(Fixed(), num_slots=slots).run(slots)


@pytest.mark.parametrize("slots", [1, 63, 65, 100])
def test_a_simulation_may_last_as_long_as_its_conditions_other_lengths(slots):
    sim = simulator(Fixed(), num_slots=slots)
    sim.run(slots)
    assert (sim.counters.first_ack == slots).all()


def test_it_cannot_last_much_longer():
    with pytest.raises(ValueError, match="these conditions were made for 100 slots"):
        simulator(Fixed(), num_slots=100).run(200)


def test_run_is_the_dus_own_link_adaptation_alone():
    sim = simulator(Fixed(7))
    sim.step(absolute(2, 2, 2))
    sim.restart_counters()
    sim.run(20)
    assert (sim.counters.mean_mcs == 7).all()


# --- how it is cut into windows changes nothing ---

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


def advanced(how, rtt, traffic):
    link = {**WILD_LINK, "harq_rtt_slots": rtt}
    sim = simulator(Learner(), link=link, traffic=traffic, **WILD, e2={"period_slots": 7 if how == "step 7" else 1})
    if how == "run":
        sim.run(420)
    elif how == "runs":
        for slots in (1, 62, 3, 64, 128, 5, 157):
            sim.run(slots)
    else:
        while sim.slot < 420:
            sim.step()
    return sim


@pytest.mark.parametrize("traffic", [{}, BURSTY], ids=["full buffer", "files"])
@pytest.mark.parametrize("rtt", [5, 8, 12])
@pytest.mark.parametrize("how", ["runs", "step 1", "step 7"])
def test_results_do_not_depend_on_how_it_goes_on(fading, how, rtt, traffic):
    one, other = advanced("run", rtt, traffic), advanced(how, rtt, traffic)
    assert one.slot == other.slot == 420
    assert_same(counted(one), counted(other))
    assert torch.equal(one.native_mcs, other.native_mcs)
    for a, b in zip(one.file_delays_slots(), other.file_delays_slots(), strict=True):
        assert np.array_equal(a, b)


# --- against a plain simulation of one slot after the other ---


class Plain:
    """The simulator's docstring, word for word and slot by slot, on the same conditions."""

    def __init__(self, given, native, decisions):
        self.given, self.native, self.decisions = given, native, decisions
        self.rtt, self.count = given.harq_rtt_slots, given.num_links
        self.combining = SoftCombining.for_blocks(
            given.scenario.link.combining,
            given.mcs_table,
            np.tile(np.arange(NUM_MCS), len(given.tables.allocations)).clip(max=given.tables.max_mcs),
            given.tables.tbs_bits.numpy().astype(np.int64),
            given.carrier,
        )
        self.returning = {}
        self.sent = {}  # by slot: what is known a round trip later
        self.traffic = None
        traffic = given.scenario.traffic
        if traffic.full_buffer_share.bounds[0] < 1:
            rng = np.random.default_rng(seed_sequence(Split.TEST, given.seed, f"traffic {given.scenario.name}"))
            self.traffic = Traffic(traffic, self.count, given.num_slots, given.slot_us, rng, given.device)
        names = ("bits", "resource", "first_ack", "first_nack", "first_dtx", "retransmissions", "residual")
        names += ("lost_bits", "mcs")
        self.sums = {name: torch.zeros(self.count, dtype=torch.float64) for name in names}
        self.decoded_after = torch.zeros((self.count, 8), dtype=torch.float64)
        native.start(given.cell(), torch.Generator())
        self.feedback, self.reports = [], []
        self.in_force = None

    def run(self, slots):
        for slot in range(slots + 1):
            self.slot(slot, transmit=slot < slots)
        return self

    def slot(self, slot, transmit):
        given = self.given
        given.enter(slot)
        nothing = {
            "mcs": torch.zeros(self.count, dtype=torch.int64),
            "outcome": torch.zeros(self.count, dtype=torch.uint8),
        }
        nothing |= {"own": torch.ones(self.count, dtype=torch.bool), "lost": torch.zeros(self.count)}
        before = self.sent.get(slot - self.rtt, nothing)
        if self.traffic is not None:
            everyone = torch.arange(self.count)
            if given.rlc == "am":
                due = slot + given.rlc_delay_slots
                lost = before["lost"] * before.get("payload", torch.zeros(self.count))
                self.returning[due] = self.returning.get(due, 0) + lost
            self.traffic.give_back(everyone, self.returning.pop(slot, torch.zeros(self.count)))
            self.traffic.arrive(slot)
        if slot > 0:
            self.feedback.append((before["mcs"], before["outcome"], before["lost"]))

        def report(**fields):
            return type("Report", (), {"cqi": given.cqi.clone(), **fields})

        own_outcome = torch.where(before["own"], before["outcome"], torch.zeros_like(before["outcome"]))
        native = self.native.decide(report(outcome=own_outcome[None], mcs=before["mcs"][None])).value
        if slot % given.report_period_slots == 0:
            self.reports.append((slot, self.feedback, native, given.cqi.clone()))
            self.feedback = []
        answered = slot - given.decision_delay_slots
        if answered >= 0 and answered % given.report_period_slots == 0:
            self.in_force = self.decisions(answered // given.report_period_slots)
        if transmit and slot % self.rtt >= given.processes:
            self.sent[slot] = nothing
        elif transmit:
            self.sent[slot] = self.transmit(slot, self.chosen(native), native, before)

    def chosen(self, native):
        if self.in_force is None:
            return native
        kind, value = self.in_force.kind, self.in_force.value
        kind = torch.full_like(native, kind) if isinstance(kind, int) else kind
        found = native.clone()
        found[kind == MCS] = value[kind == MCS]
        found[kind == MCS_OFFSET] = (native + value).clamp(0, self.given.tables.max_mcs)[kind == MCS_OFFSET]
        return found

    def transmit(self, slot, chosen, native, before):
        given, tables = self.given, self.given.tables
        again = before.get("again", torch.zeros(self.count, dtype=torch.bool))
        first_row = given.first_row(slot, 1)
        new_row = chosen if first_row is None else chosen + first_row[0]
        row = torch.where(again, before.get("row", new_row), new_row)
        mcs = torch.where(again, before["mcs"], chosen)
        attempt = torch.where(again, before.get("attempt", 0) + 1, 1)
        size, prbs = tables.tbs_bits[row], tables.prbs[row]
        payload, share = size, torch.ones(self.count)
        if self.traffic is not None:
            taken = self.traffic.take(torch.where(again, 0.0, size))
            payload = torch.where(again, before.get("payload", taken), taken)
            needs = torch.ceil(taken.double() / size * prbs - 1e-6).float() / prbs
            share = torch.where(again, before.get("share", needs), needs)
        sent = share > 0
        draw = given.draws(slot, 1)[0]
        missed = draw < given.dtx
        draw = (draw - given.dtx) / (1 - given.dtx)
        once_db = given.effective_sinr_db(slot, tables.beta_db[mcs][None], row[None])[0].numpy()
        efficiency = given.combining_efficiency.numpy()
        held = before.get("store", np.zeros((4, self.count), np.float32))
        added = self.combining.add(held, attempt.numpy(), once_db, efficiency)
        store = np.where(missed.numpy(), np.where(again.numpy(), held, 0), added)
        combined_db = self.combining.effective_sinr_db(row.numpy(), store, attempt.numpy(), efficiency)
        sinr_db = torch.as_tensor(np.where(again.numpy(), combined_db, once_db))
        if not given.plain_curves:
            sinr_db = steeper(sinr_db, tables.centre_db[row], given.slope, given.shift_db)
        failed = ((draw < tables.tbler(row, sinr_db)) | missed) & sent
        first = (attempt == 1) & sent
        lost = failed & (attempt == given.max_transmissions)
        arrived = torch.where(sent & ~failed, payload, 0.0)
        lost_bits = lost * payload * (given.rlc == "um")
        if self.traffic is not None:
            self.traffic.deliver(slot, arrived, lost_bits)
        outcome = torch.where(failed, torch.where(missed, DTX, NACK), ACK) * first
        for name, value in (
            ("bits", arrived),
            ("resource", prbs * share * 168),
            ("first_ack", outcome == ACK),
            ("first_nack", outcome == NACK),
            ("first_dtx", outcome == DTX),
            ("retransmissions", again),
            ("residual", lost),
            ("lost_bits", lost_bits),
            ("mcs", mcs * first),
        ):
            self.sums[name] += value
        decoded = (sent & ~failed).nonzero()[:, 0]
        self.decoded_after[decoded, attempt[decoded].long() - 1] += 1
        own = torch.where(again, before["own"], chosen == native)
        found = {
            "mcs": mcs,
            "row": row,
            "attempt": attempt,
            "store": store,
            "payload": payload,
            "share": share,
            "own": own,
        }
        return {**found, "again": failed & ~lost, "outcome": outcome.to(torch.uint8), "lost": lost.float()}


def decisions_of(seed, num_links=40):
    """Decisions of all kinds by their number."""

    def decide(number):
        rng = np.random.default_rng([seed, number])
        value = torch.as_tensor(rng.integers(0, 29, num_links))
        small = torch.as_tensor(rng.integers(-5, 6, num_links))
        kind = torch.as_tensor(rng.integers(0, 3, num_links))
        mixed = Decision(kind, torch.where(kind == MCS, value, small))
        return [None, Decision.absolute(value), Decision.offset(small), mixed][number % 4]

    return decide


@pytest.mark.parametrize(
    ("mcs_table", "cqi_table", "ri_period"), [(2, 2, None), (3, 3, None), (2, 1, None), (1, 3, 10), (3, 2, 10)]
)
def test_all_tables_and_large_carriers(fading, mcs_table, cqi_table, ri_period):
    """Four layers on 273 PRBs, 256QAM where its SINR is, CQI tables of another kind: what a plain simulation does."""
    settings = {
        **WILD,
        "snr_db": {"uniform": [20, 40]},
        "channels": [{"model": "UMi", "antennas": {"tx": 4, "rx": 4, "max_rank": 4}}],
        "link": {"mcs_table": mcs_table, "prbs": {"choice": [273, 20]}, "prb_hold_slots": 20},
        "cqi": {"share": 1, "table": cqi_table, "period_slots": 5, "delay_slots": 2, "ri_period_slots": ri_period},
    }
    sim = Simulator(conditions(**settings), Learner())
    sim.run(200)
    plain = Plain(conditions(**settings), Learner(), lambda number: None).run(200)
    found = counted(sim)
    assert_same({name: plain.sums[name] for name in ("bits", "first_ack", "first_nack", "residual")}, found)
    assert {layers for _, layers in sim.tables.allocations} == {1, 2, 3, 4}
    report = sim.report
    assert (report.columns["mcs_table"], report.columns["cqi_table"]) == (mcs_table, cqi_table)
    assert torch.equal(report.columns["ri"], sim.conditions.layers.float())
    assert int(sim.native_mcs.max()) <= sim.tables.max_mcs
    if mcs_table == 2:
        assert float(found["mean_mcs"].max()) > 22, "256QAM is used"


@pytest.mark.parametrize(
    ("rtt", "period", "delay"), [(8, 1, 0), (5, 3, 7), (6, 20, 10), (7, 100, 3), (12, 64, 70), (1, 2, 1), (32, 10, 25)]
)
@pytest.mark.parametrize("kind", ["plain", "wild", "files"])
def test_it_does_what_a_plain_simulation_does(fading, kind, rtt, period, delay):
    link = {} if kind == "plain" else WILD_LINK
    combining = "chase" if rtt % 2 else "ir"
    harq = {"harq_rtt_slots": rtt, "combining": combining, "processes": 4 if period == 100 else 16, "rlc_delay_ms": 5}
    if kind != "plain":
        harq |= {"combining_efficiency": {"uniform": [0, 1]}, "rlc": "um" if delay % 2 else "am"}
        harq |= {"max_transmissions": 6}
    settings = {
        **WILD,
        "link": {**link, **harq},
        "e2": {"period_slots": period, "delay_slots": delay},
        "traffic": BURSTY if kind == "files" else {},
    }
    decide = decisions_of(rtt)
    sim = Simulator(conditions(**settings), Learner())
    reports, number = [sim.report], 0
    while sim.slot < 260:
        reports.append(sim.step(decide(number)))
        number += 1
    plain = Plain(conditions(**settings), Learner(), decide).run(sim.slot)

    # A payload makes a detour through a quotient in the simulator, see the test of files below.
    tolerance = {"rtol": 1e-5, "atol": 1e-2} if kind == "files" else {}
    expected = {k: v for k, v in plain.sums.items() if k != "mcs"}
    assert (expected["lost_bits"].sum() > 0) == (sim.conditions.rlc == "um")
    first = expected["first_ack"] + expected["first_nack"] + expected["first_dtx"]
    assert_same({**expected, "mean_mcs": plain.sums["mcs"] / first}, counted(sim), **tolerance)
    assert torch.equal(sim.counters.decoded_after, plain.decoded_after)
    assert sim.counters.stalled_slots == sum(slot % rtt >= harq["processes"] for slot in range(sim.slot))
    assert len(reports) == len(plain.reports)
    for report, (slot, feedback, native, cqi) in zip(reports[1:], plain.reports[1:], strict=True):
        assert report.slot == slot
        assert report.outcome.shape[0] == report.period_slots == period
        assert torch.equal(report.columns["native_mcs"], native)
        assert torch.equal(report.cqi.nan_to_num(-1), cqi.nan_to_num(-1))
        assert torch.equal(report.outcome, torch.stack([outcome for _, outcome, _ in feedback]))
        known = report.outcome != NONE
        assert torch.equal(report.mcs[known], torch.stack([mcs for mcs, _, _ in feedback])[known])
        assert torch.equal(report.columns["harq_residual"], sum(lost for _, _, lost in feedback))


# --- files ---


def files(num_links=60, slots=800, **settings):
    traffic = {"full_buffer_share": 0, "file_bytes": {"uniform": [500, 20_000]}, "files_per_s": 40}
    sim = simulator(Fixed(settings.pop("mcs", GOOD)), num_links=num_links, traffic=traffic, **settings)
    for _ in range(slots):
        sim.step()
    arrival = sim.traffic._arrival_slot
    arrived_bits = (arrival <= sim.slot).sum(dim=1) * sim.traffic._file_bits.double()
    return sim, arrived_bits


@pytest.mark.parametrize("rlc", ["am", "um"])
def test_files_bits_are_delivered_lost_in_flight_on_their_way_back_or_in_the_buffer(rlc):
    link = {"combining": "chase", "dtx_probability": 0.1, "rlc": rlc, "rlc_delay_ms": 30}
    sim, arrived_bits = files(mcs=16, link=link)
    in_flight = (sim._payload * sim._open).sum(dim=0)
    if rlc == "am":
        # The feedback on a block's last transmission is still to come, except that which arrives in the present slot.
        in_flight += (sim._payload * sim._lost).sum(dim=0) - (sim._payload * sim._lost)[sim.slot % RTT]
        for _, links, bits in sim._returning:
            in_flight[links] += bits
    counters = sim.counters
    assert counters.residual.sum() > 0
    assert (counters.lost_bits.sum() > 0) == (rlc == "um")
    there = counters.bits + counters.lost_bits + in_flight + sim.traffic.buffer_bits
    assert torch.allclose(there, arrived_bits, rtol=1e-6)


def test_files_are_delivered_to_the_bit():
    sim, arrived_bits = files()
    waiting = sim.traffic.buffer_bits > 0
    assert waiting.sum() < 30
    assert torch.equal(sim.counters.bits[~waiting], arrived_bits[~waiting])


def test_files_take_as_many_slots_as_they_have_blocks():
    sim, _ = files(slots=1500)
    size = float(sim.tables.tbs_bits[GOOD])
    for link, found in enumerate(sim.file_delays_slots()):
        bits = float(sim.traffic._file_bits[link])
        arrival = sim.traffic._arrival_slot[link].tolist()
        waiting, expected, since = 0.0, [], 0
        for slot in arrival[: len(found)]:
            # One block per slot, whatever it is filled with; a file is done with the block that has its last bit.
            waiting = max(0.0, waiting - (slot - since) * size) + bits
            since = slot
            expected.append(-(-waiting // size))
        done = [delay for slot, delay in zip(arrival, expected, strict=False) if slot + delay <= sim.slot]
        assert found[: len(done)].tolist() == done


def test_a_link_with_nothing_to_send_sends_nothing():
    sim = simulator(Fixed(), traffic={"full_buffer_share": 0, "files_per_s": 1e-6})
    reports = [sim.step() for _ in range(50)]
    assert (sim.counters.resource == 0).all()
    assert all((report.outcome == NONE).all() for report in reports)
    assert (reports[-1].columns["dl_buffer_bytes"] == 0).all()


def test_the_last_block_takes_only_the_prbs_that_it_needs():
    sim, arrived_bits = files()
    size = float(sim.tables.tbs_bits[GOOD])
    blocks = arrived_bits / size
    prbs = sim.counters.resource / 168
    done = sim.traffic.buffer_bits == 0
    assert (prbs[done] >= 52 * blocks[done] - 1).all()
    assert (prbs <= 52 * blocks + (sim.traffic._arrival_slot <= sim.slot).sum(dim=1) + 1).all()


def test_reports_have_the_buffer_of_links_with_files_only():
    sim = simulator(Fixed(), num_links=100, traffic={"full_buffer_share": 0.5, "files_per_s": 200})
    for _ in range(50):
        report = sim.step()
    assert torch.equal(report.columns["dl_buffer_bytes"].isnan(), ~sim.traffic.bursty)
    waiting = report.columns["dl_buffer_bytes"][sim.traffic.bursty]
    assert torch.equal(waiting, sim.traffic.buffer_bits[sim.traffic.bursty] / 8)
    assert waiting.max() > 0


# --- against the DU stand-in of the replay ---


class SrsranOlla:
    """`distila.xapp.policy.olla.CqiOlla`, the DU stand-in's own loop, as a policy."""

    name = "replayed"

    def start(self, cell, generator):
        tables = np.ones(cell.num_links, np.int64)
        self.olla = CqiOlla(DuConfig().olla(), tables, tables)
        self.slot_of_cqi = np.full(cell.num_links, np.nan)

    def decide(self, report):
        outcome = report.outcome[0].numpy()
        if outcome.any():
            self.olla.update(report.mcs[0].numpy(), *((outcome == o).astype(np.float32) for o in (ACK, NACK)))
        measured = report.slot - report.cqi_age_slots.numpy()
        fresh = measured > np.nan_to_num(self.slot_of_cqi, nan=-1)
        self.slot_of_cqi = measured
        self.olla.observe_cqi(np.where(fresh, report.cqi.numpy(), np.nan).astype(np.float32))
        return Decision.absolute(torch.as_tensor(self.olla.mcs()))


CROSS = {
    "snr_db": {"uniform": [5, 20]},
    "cqi": {"share": 1, "bias_db": 0, "error_db": 0, "period_slots": 40, "delay_slots": 8},
    "bler": SmoothBler.load(),
}


def replayed(num_links, slots, harq, draws=None):
    """The DU stand-in on the channel and with the CQI (and luck) of the simulator's conditions.

    Args:
        num_links: number of links.
        slots: number of slots.
        harq: settings that ``link`` of a scenario and `DuConfig` have in common.
        draws: "same": as the simulator's.

    Returns:
        MCS, attempt and outcome of every slot, [slot, link] each, and the link's tables.
    """
    given = conditions(num_links, **CROSS, link=harq)
    beta = given.tables.beta_db[:1].expand(1, num_links)
    sinr_db = []
    drawn = []
    for slot in range(slots):
        given.enter(slot)
        sinr_db.append(given.effective_sinr_db(slot, beta)[0].numpy().copy())
        drawn.append(given.draws(slot, 1)[0].numpy().copy())
    sinr = np.array(sinr_db)
    thresholds = cqi_thresholds_db(1, SmoothBler.load()).astype(np.float32)
    trace = ChannelTrace(
        meta=TraceMeta(
            name="exported", slot_us=500, source="test", ues=[UeMeta(name=f"ue{n}", prbs=52) for n in range(num_links)]
        ),
        offset=np.arange(num_links + 1) * slots,
        slots=np.ones(num_links * slots, np.int32),
        sinr_db=sinr.T.reshape(-1),
        cqi=cqi_for_sinr_db(sinr.T.reshape(-1), thresholds).astype(np.int8),
    )
    du = Du(trace, SmoothBler.load(), DuConfig(**harq), seed=3)
    if draws == "same":
        du._draws.draw = lambda slot: drawn[slot]
    window = trace.window(0, slots)
    results = []
    for slot in range(slots):
        du.receive_feedback(slot, window[0][slot], window[1][slot])
        results.append(du.transmit(slot, window[0][slot]))
    assert (window[1] != NO_CQI).all()
    rows = [np.array([getattr(r, name) for r in results]) for name in ("mcs", "attempt", "outcome", "lost")]
    return (*rows, du.link)


def figures(mcs, attempt, outcome, lost, link):
    first = attempt == 1
    bits = link.tbs_bits[np.arange(mcs.shape[1])[None, :], mcs] * (outcome == 1)
    return {
        "bits": torch.as_tensor(bits.sum(axis=0), dtype=torch.float64),
        "first_ack": torch.as_tensor((first & (outcome == 1)).sum(axis=0), dtype=torch.float64),
        "first_nack": torch.as_tensor((first & (outcome == 2)).sum(axis=0), dtype=torch.float64),
        "residual": torch.as_tensor(lost.sum(axis=0), dtype=torch.float64),
        "mean_mcs": torch.as_tensor((mcs * first).sum(axis=0) / first.sum(axis=0)),
    }


@pytest.mark.parametrize(
    "harq",
    [
        *({"combining": combining} for combining in ("ir", "chase", "ideal")),
        {"combining": "ir", "combining_efficiency": 0.5, "max_transmissions": 8, "harq_rtt_slots": 3},
        {"combining": "ir", "carrier_prbs": 273, "carrier_layers": 4, "max_transmissions": 2},
        {"combining": "chase", "processes": 4, "max_transmissions": 1},
    ],
    ids=lambda harq: " ".join(f"{name}={value}" for name, value in harq.items()),
)
def test_with_the_same_random_draws_and_curves_it_equals_the_du_stand_in_bit_for_bit(fading, monkeypatch, harq):
    num_links, slots = 50, 1000
    expected = figures(*replayed(num_links, slots, harq, draws="same"))
    given = conditions(num_links, **CROSS, link=harq)
    link = Link([UeMeta(name="a", prbs=52)] * num_links, SmoothBler.load())
    monkeypatch.setattr(
        given,
        "tables",
        type(
            "Tables",
            (),
            {
                **vars(given.tables),
                "tbler": lambda row, sinr_db: torch.as_tensor(
                    np.stack([link.tbler(r, s) for r, s in zip(row.numpy(), sinr_db.numpy(), strict=True)])
                ),
            },
        ),
    )
    sim = Simulator(given, SrsranOlla())
    sim.run(slots)
    assert_same(expected, counted(sim))
    assert expected["first_nack"].sum() > 0.05 * expected["first_ack"].sum()


@pytest.mark.slow
@pytest.mark.parametrize("native", ["xapp", "training"])
def test_by_chance_and_with_its_own_curves_it_agrees_with_the_du_stand_in(fading, native):
    num_links, slots = 250, 1200
    expected = figures(*replayed(num_links, slots, {"combining": "ir"}))
    policy = SrsranOlla() if native == "xapp" else baseline("srsran-olla")
    sim = Simulator(conditions(num_links, **CROSS, link={"combining": "ir"}), policy)
    sim.run(slots)
    found = counted(sim)

    def bler(of):
        return float(of["first_nack"].sum() / (of["first_nack"] + of["first_ack"]).sum())

    assert bler(found) == pytest.approx(bler(expected), abs=0.005)
    assert float(found["bits"].sum()) == pytest.approx(float(expected["bits"].sum()), rel=0.01)
    assert float(found["residual"].sum()) == pytest.approx(float(expected["residual"].sum()), rel=0.2, abs=30)


# --- real fading ---


@pytest.mark.slow
def test_on_generated_fading(tmp_path, monkeypatch):
    monkeypatch.setattr(conditions_module, "fading_bank", fading_bank)
    banks = Banks(rows=2, slots=128, cache=tmp_path)
    found = []
    for _ in range(2):
        given = Conditions(families()["mixed_traffic"], 40, Split.TEST, 0, 400, banks=banks)
        sim = Simulator(given, Learner())
        sim.run(390)
        found.append(counted(sim))
    assert_same(*found)
    assert 0.1 < float(sim.counters.goodput.mean()) < 10
    assert (sim.counters.first_ack.sum() / sim.counters.first_nack.sum()) > 1
