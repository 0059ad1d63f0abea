"""The simulator against a plain one that goes slot by slot, and against the DU stand-in of the replay."""

import numpy as np
import pytest
import torch
from simulated_links import (
    BURSTY,
    WILD,
    WILD_LINK,
    Learner,
    assert_same,
    conditions,
    counted,
    simulator,
)

from distila.replay.du import Du
from distila.replay.du_config import DuConfig
from distila.replay.link import Link
from distila.replay.trace import NO_CQI, ChannelTrace, TraceMeta, UeMeta
from distila.training.baselines import baseline
from distila.training.sim.link import steeper
from distila.training.sim.report import ACK, DTX, NACK, NONE, Decision
from distila.training.sim.simulator import Simulator
from distila.training.sim.split import Split, seed_sequence
from distila.training.sim.traffic import Traffic
from distila.xapp.kpi.report import MCS, MCS_OFFSET
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.nr.cqi import cqi_for_sinr_db, cqi_thresholds_db
from distila.xapp.nr.mcs import NUM_MCS
from distila.xapp.nr.soft_combining import SoftCombining
from distila.xapp.policy.olla import CqiOlla

pytest.importorskip("sionna")


# --- how it is cut into windows changes nothing ---


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
