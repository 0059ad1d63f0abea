"""The simulator slot by slot: feedback, DTX, decisions, the DU's loop, counters, files.

Most tests use a channel without fading and a link where MCS m needs exactly m dB, so that every outcome is known
beforehand.
"""

import numpy as np
import pytest
import torch
from simulated_links import (
    BAD,
    GOOD,
    RTT,
    Fixed,
    Learner,
    absolute,
    assert_same,
    conditions,
    counted,
    simulator,
)

from distila.training.sim import conditions as conditions_module
from distila.training.sim.bank import fading_bank
from distila.training.sim.conditions import Banks, Conditions
from distila.training.sim.report import ACK, DTX, NACK, NONE, Decision
from distila.training.sim.scenario import families
from distila.training.sim.simulator import Simulator
from distila.training.sim.split import Split
from distila.xapp.kpi.report import MCS, MCS_OFFSET, NATIVE
from distila.xapp.nr.bler import SmoothBler

pytest.importorskip("sionna")


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
