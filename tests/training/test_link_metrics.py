"""Every link metric has one value for one run, whoever reports it: simulator, learning, benchmark, rollout, replay."""

from dataclasses import fields

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sionna")

from distila.replay.du import Du  # noqa: E402
from distila.replay.du_config import DuConfig  # noqa: E402
from distila.replay.link import load_bler  # noqa: E402
from distila.replay.record import RunRecord  # noqa: E402
from distila.replay.trace import ChannelTrace, bundled_trace  # noqa: E402
from distila.training.baselines import baseline  # noqa: E402
from distila.training.benchmark.episode import _episode  # noqa: E402
from distila.training.benchmark.figures import policy_figures, used_links  # noqa: E402
from distila.training.benchmark.policies import parse_policy  # noqa: E402
from distila.training.sim.conditions import Banks, Conditions  # noqa: E402
from distila.training.sim.report import ACK, DTX, NACK, Decision  # noqa: E402
from distila.training.sim.scenario import Scenario  # noqa: E402
from distila.training.sim.simulator import Simulator  # noqa: E402
from distila.training.sim.split import Split  # noqa: E402
from distila.xapp.kpi.link_metrics import RATIOS, LinkCounts, goodput, stalled_slot_share  # noqa: E402
from distila.xapp.kpi.report import NO_UE_ID, RESIDUAL, KpiReport, measured_columns  # noqa: E402
from distila.xapp.loop import DecisionLoop  # noqa: E402
from distila.xapp.policy.bundle import load_bundle  # noqa: E402
from distila.xapp.policy.guard import GuardConfig  # noqa: E402
from distila.xapp.rollout.exposure import Exposure  # noqa: E402
from distila.xapp.rollout.kpi import KpiMeter  # noqa: E402

LINKS, SLOTS, RTT = 12, 400, 8
SCENARIO = {
    "name": "dtx_and_losses",
    "channels": [{"model": "TDL-A", "speed_kmh": 60}],
    "snr_db": {"uniform": [0, 20]},
    "link": {"dtx_probability": 0.05, "max_transmissions": 2, "harq_rtt_slots": RTT},
}


@pytest.fixture(scope="module")
def run():
    """A simulation, and what its reports say: counts [link, outcome], residual losses and retransmissions [link]."""
    scenario = Scenario.model_validate(SCENARIO)
    conditions = Conditions(scenario, LINKS, Split.TEST, 3, SLOTS + RTT, banks=Banks(rows=4, slots=256))
    simulator = Simulator(conditions, native=baseline("olla", target=0.3))
    reports = [simulator.step(Decision.offset(torch.ones(LINKS, dtype=torch.int64))) for _ in range(SLOTS)]
    counters = simulator.counters
    # Feedback of the latest transmissions arrives one round trip later.
    reports += [simulator.step() for _ in range(RTT - 1)]
    return simulator, counters, reports


def as_kpi_report(report, sequence):
    """The indication that carries a simulator's report of one slot."""
    counts = np.stack([(report.outcome == kind).sum(dim=0).numpy() for kind in (ACK, NACK, DTX)], axis=1)
    counts = np.concatenate([counts, report.columns["harq_residual"].numpy()[:, None]], axis=1)
    simple = {name: np.asarray(report.columns[name]) for name in ("cqi", "prbs", "ri", "retx_ack", "retx_nack")}
    ue = np.flatnonzero(counts.sum(axis=1))
    return KpiReport(
        cell_id="cell", sequence=sequence, sfn=0, slot=0, timestamp_us=sequence, period_slots=1,
        rnti=np.arange(1, LINKS + 1), ue_id=np.full(LINKS, NO_UE_ID),
        cqi_table=np.full(LINKS, 1), mcs_table=np.full(LINKS, 1), measured=measured_columns(LINKS, simple),
        total_first_tx=np.zeros(LINKS), harq_ue=ue, harq_mcs=report.mcs[0].numpy()[ue],
        harq_counts=counts[ue].astype(float),
    )  # fmt: skip


def test_the_run_has_everything_that_metrics_can_differ_in(run):
    total = run[1].total()
    assert min(getattr(total, field.name) for field in fields(LinkCounts)) > 0
    assert total.first_tx_bler < total.first_tx_failure_rate
    assert total.residual_bler > 0
    assert 1 < total.transmissions_per_block < 2


def test_the_formulas_on_plain_numbers():
    counts = LinkCounts(
        bits=600.0, resource=300.0, first_ack=70.0, first_nack=20.0, first_dtx=10.0, retransmissions=35.0, residual=2.0
    )
    assert counts.first_tx_bler == 20 / 90
    assert counts.first_tx_failure_rate == 30 / 100
    assert counts.residual_bler == 2 / 100
    assert counts.transmissions_per_block == 135 / 100
    assert counts.retransmission_share == 35 / 135
    assert counts.goodput == 2


def test_stalled_slots():
    assert stalled_slot_share(3, 12) == 0.25
    assert np.isnan(stalled_slot_share(0, 0))


@pytest.mark.parametrize("kind", [float, np.asarray, torch.as_tensor])
def test_without_transmissions_rates_are_nan_and_goodput_is_0(kind):
    nothing = LinkCounts(**{field.name: kind(0.0) for field in fields(LinkCounts)})
    assert all(np.isnan(float(getattr(nothing, name))) for name in RATIOS)
    assert float(nothing.goodput) == 0


def test_floats_arrays_and_tensors_give_the_same(run):
    tensors = run[1]
    arrays = LinkCounts(**{field.name: getattr(tensors, field.name).numpy() for field in fields(LinkCounts)})
    for name in (*RATIOS, "goodput"):
        per_link = getattr(tensors, name)
        np.testing.assert_array_equal(per_link.numpy(), getattr(arrays, name))
        one = LinkCounts(**{field.name: float(getattr(arrays, field.name)[5]) for field in fields(LinkCounts)})
        assert getattr(one, name) == float(per_link[5])


def test_the_counters_are_what_the_reports_say(run):
    _, counters, reports = run
    outcome = torch.cat([report.outcome for report in reports])
    for kind, found in ((ACK, counters.first_ack), (NACK, counters.first_nack), (DTX, counters.first_dtx)):
        assert torch.equal((outcome == kind).sum(dim=0).to(torch.float64), found)
    columns = {
        name: sum(report.columns[name] for report in reports) for name in ("harq_residual", "retx_ack", "retx_nack")
    }
    assert torch.equal(columns["harq_residual"].to(torch.float64), counters.residual)
    assert torch.equal((columns["retx_ack"] + columns["retx_nack"]).to(torch.float64), counters.retransmissions)


def test_learning_and_benchmark_report_the_simulators_metrics(run):
    simulator, _, _ = run
    counters = simulator.counters
    learning = counters.figures()
    episodes = [_episode(simulator, 1.0, 1.0)]
    benchmark = policy_figures(parse_policy("olla"), "embb", episodes, episodes, used_links([episodes]), 0)
    nacks, dtx, first = (
        float(values.sum())
        for values in (
            counters.first_nack,
            counters.first_dtx,
            counters.first_ack + counters.first_nack + counters.first_dtx,
        )
    )
    expected = {
        "first_tx_bler": nacks / (first - dtx),
        "first_tx_failure_rate": (nacks + dtx) / first,
        "residual_bler": float(counters.residual.sum()) / first,
        "transmissions_per_block": 1 + float(counters.retransmissions.sum()) / first,
        "retransmission_share": float(counters.retransmissions.sum()) / (first + float(counters.retransmissions.sum())),
        "goodput": float((counters.bits / counters.resource).mean()),
    }
    assert {name: learning[name] for name in expected} == pytest.approx(expected)
    assert set(learning) - set(expected) == {
        "stalled_slot_share", "block_delay_ms_p50", "block_delay_ms_p95", "block_delay_ms_p99"
    }  # fmt: skip
    for name in ("first_tx_bler", "residual_bler", "goodput"):
        assert getattr(benchmark, name) == pytest.approx(learning[name], abs=5e-5), name


def test_a_rollout_evaluates_the_simulators_metrics(run):
    _, counters, reports = run
    loop = DecisionLoop(load_bundle("olla"), guard_config=GuardConfig(deadline_us=None))
    loop.meter = meter = KpiMeter(frozenset(), False, 1e9)
    for sequence, report in enumerate(reports, start=1):
        loop.decide(as_kpi_report(report, sequence))
    units, _, sums = meter.drain()
    exposure = Exposure(["champion", "control", "new"], 0)
    exposure.add(units, np.ones(len(units), np.int64), sums)
    exposure.close_interval(None)
    total = counters.total()
    for name in ("first_tx_failure_rate", "residual_bler"):
        over, under = exposure.exposed().moments["control"][name].sums[:2]
        assert over / under == pytest.approx(getattr(total, name), rel=1e-12), name


def test_a_replay_records_what_its_reports_say():
    trace, slots = ChannelTrace.load(bundled_trace()), 300
    du = Du(trace, load_bler("smooth"), DuConfig(olla_target_bler=0.4, max_transmissions=2), seed=1)
    record, results, reports = RunRecord(trace, slots, 1), [], []
    sinr_db, cqi, _ = trace.window(0, slots + 8)
    for slot in range(slots + 8):
        du.receive_feedback(slot, sinr_db[slot], cqi[slot])
        if du.report_due(slot):
            reports.append(du.report(slot))
        if slot < slots:
            results.append(du.transmit(slot, sinr_db[slot]))
    record.add(0, results, sinr_db[:slots], du.link.tbs_bits)
    found, sums = record.counts(), sum(report.harq_sums.sum(axis=0) for report in reports)
    retransmissions = sum(report.measured[:, [7, 8]].sum() for report in reports)
    expected = LinkCounts(
        bits=found.bits, resource=found.resource, first_ack=sums[0], first_nack=sums[1], first_dtx=sums[2],
        retransmissions=retransmissions, residual=sums[RESIDUAL],
    )  # fmt: skip
    assert found.residual > 0
    for name in RATIOS:
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-12), name
    summary = record.summary()
    assert summary["first_tx_bler"] == round(found.first_tx_bler, 5)
    assert summary["residual_bler"] == round(found.residual_bler, 6)
    assert summary["goodput_mbps"] == round(goodput(found.bits, found.resource), 4)
