"""What a replay measures: the record of a run, the interval of a gain, and (bench) how fast the decision loop is."""

import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distila.replay.bench_load import indications, widen
from distila.replay.du import Du
from distila.replay.du_config import DuConfig
from distila.replay.harq import IDLE, SENT_ACK, SENT_NACK, SlotResult, Transmissions
from distila.replay.loop_bench import bench_in_process, bench_over_grpc, bench_replay
from distila.replay.record import SINR_EDGES_DB, RunRecord
from distila.replay.statistics import paired_gain
from distila.replay.trace import NO_CQI, ChannelTrace, TraceMeta, UeMeta, bundled_trace
from distila.xapp.e2.codec import decode_indication, decode_indication_header
from distila.xapp.errors import InputError
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.policy.bundle import load_bundle
from distila.xapp.stats import STAGES


def a_trace(num_ues, slots):
    rng = np.random.default_rng(0)
    ues = [UeMeta(name=f"ue{u}", prbs=20 + u) for u in range(num_ues)]
    return ChannelTrace(
        meta=TraceMeta(name="made up", slot_us=500, source="the test", ues=ues),
        offset=np.arange(num_ues + 1) * slots,
        slots=np.ones(num_ues * slots, np.int32),
        sinr_db=rng.uniform(5, 20, num_ues * slots).astype(np.float32),
        cqi=rng.integers(NO_CQI, 16, num_ues * slots).astype(np.int8),
    )


@st.composite
def runs(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    slots, num_ues = draw(st.integers(1, 60)), draw(st.integers(1, 4))
    outcome = rng.integers(0, 3, (slots, num_ues))
    attempt = rng.integers(1, 5, (slots, num_ues))
    mcs = rng.integers(0, 29, (slots, num_ues))
    stalled = rng.uniform(size=slots) < 0.2
    sinr_db = np.where(outcome == IDLE, np.nan, rng.uniform(-30, 60, (slots, num_ues))).astype(np.float32)
    outcome[stalled] = IDLE
    lost = (attempt == 4) & (outcome == SENT_NACK)
    since = np.arange(slots)[:, None] - rng.integers(0, 2000, (slots, num_ues))
    sent = Transmissions(mcs, attempt, outcome, lost, since)
    results = [SlotResult.known(sent, row, stalled=bool(no_process)) for row, no_process in enumerate(stalled)]
    cuts = sorted(draw(st.sets(st.integers(1, slots))) | {slots})
    return results, sinr_db, draw(st.integers(1, min(slots, 9))), cuts


@given(runs())
def test_the_record_is_what_a_naive_count_over_the_slots_gives(run):
    results, sinr_db, bins, cuts = run
    slots, num_ues = sinr_db.shape
    trace = a_trace(num_ues, slots)
    tbs = np.random.default_rng(0).integers(24, 10**6, (num_ues, 29))
    made = RunRecord(trace, slots, bins)
    for start, stop in zip([0, *cuts], cuts, strict=False):
        made.add(start, results[start:stop], sinr_db[start:stop], tbs)
    naive = Counter()
    at_sinr = np.zeros_like(made.mcs_at_sinr)
    for slot, ue in np.ndindex(slots, num_ues):
        r, where = results[slot], (ue, next(b for b in range(bins) if slot < made.end_slot[b]))
        naive["stalled", where] += r.stalled and not np.isnan(sinr_db[slot, ue])
        if r.outcome[ue] == IDLE:
            continue
        acked, first, mcs = r.outcome[ue] == SENT_ACK, r.attempt[ue] == 1, r.mcs[ue]
        naive["bits", where] += acked * tbs[ue, mcs]
        naive["slots", where] += 1
        naive["first_tx", where] += first
        naive["first_fail", where] += first and not acked
        naive["lost", where] += r.lost[ue]
        naive["mcs_sum", where] += first * mcs
        at_sinr[sum(sinr_db[slot, ue] > SINR_EDGES_DB), mcs] += first
    assert made.end_slot[-1] == slots
    total = Counter()
    for name in ("bits", "slots", "stalled", "first_tx", "first_fail", "lost", "mcs_sum"):
        expected = [[naive[name, (ue, b)] for b in range(bins)] for ue in range(num_ues)]
        np.testing.assert_array_equal(getattr(made, name), expected, name)
        total[name] = int(np.sum(expected))
    np.testing.assert_array_equal(made.mcs_at_sinr, at_sinr)
    summary = made.summary()
    scheduled_us = (total["slots"] + total["stalled"]) * 500
    if total["slots"] + total["stalled"]:
        share = total["stalled"] / (total["slots"] + total["stalled"])
        assert summary["stalled_slot_share"] == pytest.approx(share, abs=1e-5)
    assert summary["first_transmissions"] == total["first_tx"]
    if not total["first_tx"]:
        assert [summary[name] for name in FIGURES] == [None] * len(FIGURES)
        return
    assert summary["goodput_mbps"] == pytest.approx(total["bits"] / scheduled_us, abs=1e-4)
    assert summary["first_tx_bler"] == pytest.approx(total["first_fail"] / total["first_tx"], abs=1e-5)
    assert summary["residual_bler"] == pytest.approx(total["lost"] / total["first_tx"], abs=1e-6)
    again = total["slots"] - total["first_tx"]
    assert summary["transmissions_per_block"] == pytest.approx(total["slots"] / total["first_tx"], abs=1e-4)
    assert summary["retransmission_share"] == pytest.approx(again / total["slots"], abs=1e-5)
    assert summary["mean_mcs"] == pytest.approx(total["mcs_sum"] / total["first_tx"], abs=1e-3)


FIGURES = (
    "goodput_mbps", "first_tx_bler", "transmissions_per_block", "retransmission_share", "residual_bler", "mean_mcs"
)  # fmt: skip


def test_figures_of_a_run_that_sent_nothing_are_null():
    summary = RunRecord(a_trace(2, 10), 10, 10).summary()
    assert summary == {**dict.fromkeys(FIGURES), "stalled_slot_share": None, "first_transmissions": 0}


def replayed(config, slots=1500, num_ues=5, seed=1):
    """A run of the DU alone over UEs that come and go: its record, and what it did in every slot."""
    rng = np.random.default_rng(seed)
    trace = a_trace(num_ues, slots)
    trace.sinr_db[rng.uniform(size=len(trace.sinr_db)) < 0.3] = np.nan
    du = Du(trace, SmoothBler.load(), config, seed)
    made, results = RunRecord(trace, slots, 10), []
    sinr_db, cqi, _ = trace.window(0, slots)
    for slot in range(slots):
        du.receive_feedback(slot, sinr_db[slot], cqi[slot])
        results.append(du.transmit(slot, sinr_db[slot]))
    for start in range(0, slots, 256):
        made.add(start, results[start : start + 256], sinr_db[start : start + 256], du.link.tbs_bits)
    return made, results, du.link


def events(results, rtt, ue):
    """Blocks of a UE as an event log: (first slot, last slot, decoded) of each that ended."""
    since, ended = {}, []
    for slot, result in enumerate(results):
        if result.outcome[ue] == IDLE:
            continue
        if result.attempt[ue] == 1:
            assert slot % rtt not in since, "a block is given up before its last transmission"
            since[slot % rtt] = slot
        if result.outcome[ue] == SENT_ACK or result.lost[ue]:
            ended.append((since.pop(slot % rtt), slot, result.outcome[ue] == SENT_ACK))
    return ended


@pytest.mark.parametrize("settings", [{}, {"max_transmissions": 2, "harq_rtt_slots": 5}, {"processes": 3}])
def test_block_delays_are_those_of_an_event_log(settings):
    """Blocks that are decoded: from the first slot of the first transmission to the last slot of the last one."""
    config = DuConfig(rlc="um", **settings)
    made, results, _ = replayed(config)
    log = [event for ue in range(5) for event in events(results, config.harq_rtt_slots, ue)]
    expected = Counter(last + 1 - first for first, last, decoded in log if decoded)
    delays = made.block_delays(config.block_timing(500))
    found = Counter()
    for delay, blocks in zip(delays.delay.tolist(), delays.blocks.tolist(), strict=True):
        found[int(delay)] += int(blocks)
    assert found == expected
    assert max(expected) > 3 * config.harq_rtt_slots, "a UE that is not scheduled makes its blocks wait"
    every = sorted(expected.elements())
    wanted = [every[int(np.ceil(share * len(every))) - 1] for share in (0.5, 0.95, 0.99)]
    assert list(delays.percentiles()) == wanted


def test_a_lost_block_adds_the_delay_of_rlc_in_acknowledged_mode_and_none_in_the_other():
    """One transmission, so that every first failure is a loss: half a round trip of RLC after it, another try."""
    made, results, _ = replayed(DuConfig(max_transmissions=1))
    um = made.block_delays(DuConfig(max_transmissions=1, rlc="um").block_timing(500))
    assert set(um.delay) == {1}
    assert um.blocks.sum() == sum((result.outcome == SENT_ACK).sum() for result in results)
    am = made.block_delays(DuConfig(max_transmissions=1, rlc_delay_ms=20).block_timing(500))
    values = np.unique(am.delay)
    assert values[:3].tolist() == [1, 1 + 41, 1 + 2 * 41], "20 ms are 40 slots, and a slot for the lost transmission"
    lost = sum(result.lost.sum() for result in results)
    assert am.blocks.sum() == pytest.approx(um.blocks.sum() + lost)


def test_a_retransmission_delivers_the_bits_of_its_first_transmission():
    made, results, link = replayed(DuConfig(max_transmissions=8))
    bits = np.zeros(5)
    for ue in range(5):
        sent_at = {first: int(results[first].mcs[ue]) for first, *_ in events(results, 8, ue)}
        bits[ue] = sum(link.tbs_bits[ue, sent_at[first]] for first, _, decoded in events(results, 8, ue) if decoded)
    np.testing.assert_array_equal(made.bits.sum(axis=1), bits)


def record(bits):
    made = RunRecord(a_trace(len(bits), np.shape(bits)[1]), np.shape(bits)[1], np.shape(bits)[1])
    made.bits[:] = bits
    return made


def test_the_interval_of_a_gain_contains_the_truth_as_often_as_it_says():
    """Forty UEs of a kind whose true gain is 5 %: the 95 % interval of 200 draws of them."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(200):
        theirs = rng.gamma(4, 100, (40, 1))
        ours = theirs * rng.normal(1.05, 0.1, (40, 1))
        gain = paired_gain(record(ours), record(theirs), rng)
        assert gain.low_pct <= gain.mean_pct <= gain.high_pct
        hits += gain.low_pct <= 5 <= gain.high_pct
    assert 0.90 <= hits / 200 <= 0.99


def test_pairs_cancel_what_both_sides_share():
    """UEs differ a hundredfold, the two policies by 1 %: paired, that 1 % is certain."""
    theirs = np.geomspace(1, 100, 30)[:, None]
    gain = paired_gain(record(1.01 * theirs), record(theirs), np.random.default_rng(0))
    assert gain.low_pct == pytest.approx(1)
    assert gain.high_pct == pytest.approx(1)


def test_ten_ues_are_the_units_fewer_are_cut_into_stretches_of_time():
    bits = np.random.default_rng(0).uniform(1, 2, (10, 100))
    other = np.random.default_rng(1).uniform(1, 2, (10, 100))
    assert paired_gain(record(bits), record(other), np.random.default_rng(0)).unit == "UE"
    few = paired_gain(record(bits[:9]), record(other[:9]), np.random.default_rng(0))
    assert few.unit == "UE and stretch of time"
    assert few.mean_pct == pytest.approx(100 * (bits[:9].sum() / other[:9].sum() - 1))
    assert few.low_pct < few.mean_pct < few.high_pct


@pytest.mark.parametrize("num_ues", [1, 3, 12])
@pytest.mark.parametrize("bins", [1, 7, 200])
def test_a_a_is_exactly_nothing_for_any_shape(num_ues, bins):
    bits = np.random.default_rng(0).uniform(0, 9, (num_ues, bins))
    gain = paired_gain(record(bits), record(bits), np.random.default_rng(0))
    assert (gain.mean_pct, gain.low_pct, gain.high_pct) == (0, 0, 0)


def test_without_traffic_there_is_no_interval():
    gain = paired_gain(record(np.zeros((12, 5))), record(np.zeros((12, 5))), np.random.default_rng(0))
    assert np.isnan([gain.mean_pct, gain.low_pct, gain.high_pct]).all()


def test_ues_without_traffic_on_both_sides_do_not_count():
    bits = np.r_[np.full((10, 3), 5.0), np.zeros((10, 3))]
    gain = paired_gain(record(1.1 * bits), record(bits), np.random.default_rng(0))
    assert gain.mean_pct == pytest.approx(10)
    assert gain.high_pct == pytest.approx(10)


def test_a_gain_over_zero_goodput_is_undefined():
    gain = paired_gain(record(np.ones((12, 5))), record(np.zeros((12, 5))), np.random.default_rng(0))
    assert gain.mean_pct != 0


def test_a_baseline_with_little_traffic_gives_no_warning():
    theirs = np.zeros((12, 1))
    theirs[0] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gain = paired_gain(record(np.ones((12, 1))), record(theirs), np.random.default_rng(0))
    assert np.isnan(gain.low_pct) == np.isnan(gain.high_pct), "an interval has two ends or none"


@pytest.mark.parametrize("num_ues", [1, 2, 3, 5, 8])
def test_widen_repeats_the_ues_of_a_trace(num_ues):
    trace = a_trace(3, 20)
    wide = widen(trace, num_ues)
    assert len({ue.name for ue in wide.meta.ues}) == wide.num_ues == num_ues
    for ours, theirs in zip(wide.window(0, 25), trace.window(0, 25), strict=True):
        if ours.dtype != np.int64:  # the index of the segment is the trace's own
            np.testing.assert_array_equal(ours, theirs[:, np.arange(num_ues) % 3])
    assert [ue.prbs for ue in wide.meta.ues] == [20 + u % 3 for u in range(num_ues)]


@pytest.mark.parametrize("slots", [400, 30])
def test_indications_are_those_of_one_cell_one_after_another(slots):
    """Also where the trace is shorter than what is asked for."""
    encoded = indications(a_trace(3, slots), 7, 120)
    assert len(encoded) == 120
    noticed, total = Counter(), np.zeros(7)
    for sequence, (header, message) in enumerate(encoded, start=1):
        report = decode_indication(decode_indication_header(header), message, noticed)
        assert (report.sequence, report.num_ues, report.timestamp_us) == (sequence, 7, (sequence - 1) * 500)
        total += report.first_tx
        np.testing.assert_array_equal(report.total_first_tx, total)
    assert not noticed
    assert total.min() > 50, "the reports carry HARQ feedback"


@pytest.fixture(scope="module")
def encoded():
    return indications(ChannelTrace.load(bundled_trace()), 10, 1200)


def test_bench_in_process(encoded):
    progress = []
    figures = bench_in_process(load_bundle("olla"), encoded, lambda *at: progress.append(at))
    assert set(figures.stages_us) == set(STAGES) - {"total"}
    assert all(stage.p50 <= stage.p99 <= stage.max for stage in figures.stages_us.values())
    assert 0 < figures.p50_us <= figures.p99_us <= figures.max_us
    assert sum(stage.p50 for stage in figures.stages_us.values()) <= figures.max_us
    assert figures.ue_decisions_per_s > 0
    assert figures.dropped == {}
    assert progress == [(0, 1000)]


def test_bench_over_grpc(encoded):
    figures = bench_over_grpc("olla", encoded, lambda *_: None)
    assert set(STAGES) - {"total"} <= set(figures.stages_us)
    assert 0 < figures.p50_us <= figures.p99_us <= figures.max_us
    assert figures.ue_decisions_per_s > 0
    assert figures.dropped == {}


def test_bench_with_a_policy_that_does_not_exist(encoded):
    with pytest.raises(InputError, match="nonesuch"):
        bench_over_grpc("nonesuch", encoded, lambda *_: None)


def test_replay_is_timed_with_the_xapp_and_without():
    trace = ChannelTrace.load(bundled_trace())
    with_xapp, du_alone = bench_replay(load_bundle("olla"), trace, 3, 200, lambda done, total: None)
    for speed in (with_xapp, du_alone):
        assert speed.ue_slots_per_s > 0
        assert speed.elapsed_s > 0
