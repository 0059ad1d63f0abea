"""Replay end to end: runs that repeat, A/A that is exactly nothing, a real xApp behind a real socket, open loop."""

import gc
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from distila.replay import closed_loop, open_loop
from distila.replay.closed_loop import InProcess
from distila.replay.compared_run import ReplayOptions
from distila.replay.comparison import replay_channel, replay_log
from distila.replay.du import Du
from distila.replay.du_config import DuConfig
from distila.replay.e2_node import E2Node, RemoteXapp
from distila.replay.harq import IDLE
from distila.replay.importers.ranalyzer import import_ranalyzer, import_ranalyzer_kpi_log
from distila.replay.importers.tractor import import_tractor, import_tractor_kpi_log
from distila.replay.kpi_log import KPI_COLUMNS, KpiLog, KpiLogMeta
from distila.replay.ric.demo import has_rmr
from distila.replay.statistics import paired_gain
from distila.replay.summary import Agreement, ClosedLoopSummary, OpenLoopSummary
from distila.replay.trace import ChannelTrace, TraceMeta, UeMeta, bundled_trace
from distila.replay.xapp_process import XappProcess
from distila.xapp.e2.codec import Identity, decode_control, encode_indication
from distila.xapp.errors import InputError
from distila.xapp.kpi.observations import MEASURED
from distila.xapp.loop import DecisionLoop
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.policy.bundle import BUNDLES, Action, load_bundle, write_bundle
from distila.xapp.policy.guard import GuardConfig
from distila.xapp.result_file import read_result

TRACES = os.environ.get("DISTILA_TRACES")
real_traces = pytest.mark.skipif(TRACES is None, reason="DISTILA_TRACES does not name the folder of real traces")
BLER = SmoothBler.load()
SERIES = ("bits", "slots", "first_tx", "first_fail", "lost", "mcs_sum", "mcs_at_sinr")


def make_trace(num_ues=12, slots=600, mean_db=14.0, gap=None):
    rng = np.random.default_rng(0)
    sinr_db = mean_db + rng.normal(0, 3, (num_ues, 1)) + rng.normal(0, 2, (num_ues, slots))
    if gap is not None:
        sinr_db[:, gap] = np.nan
    return ChannelTrace(
        meta=TraceMeta(
            name="made up", slot_us=500, source="the test", ues=[UeMeta(name=f"ue{u}", prbs=52) for u in range(num_ues)]
        ),
        offset=np.arange(num_ues + 1) * slots,
        slots=np.ones(num_ues * slots, np.int32),
        sinr_db=sinr_db.astype(np.float32).reshape(-1),
        cqi=np.full(num_ues * slots, 9, np.int8),
    )


def a_loop(path=None):
    return DecisionLoop(load_bundle(path or BUNDLES.find("olla")), guard_config=GuardConfig(deadline_us=None))


def olla_du(**settings):
    """A DU whose native OLLA is set as the shipped bundle is."""
    made = load_bundle("olla").manifest.training
    return DuConfig(
        olla_target_bler=made["target_bler"],
        olla_step_on_nack=made["step_on_nack"],
        olla_max_offset=made["max_offset"],
        **settings,
    )


def run(trace, controller=None, seed=1, config=None, **settings):
    return closed_loop.run(trace, BLER, config or olla_du(), seed=seed, controller=controller, **settings)


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in SERIES)


class Octets:
    """The loop behind its wire format: reports and decisions as octet strings, as the E2 interface carries them."""

    def __init__(self, loop):
        self.loop = loop

    def exchange(self, report):
        control = self.loop.step(*encode_indication(report, Identity(e2_node_id="test")))
        return () if control is None else (decode_control(*control),)

    def outcome(self, decisions, outcome):
        self.loop.stats.outcomes += outcome


@pytest.fixture
def slots_of(monkeypatch):
    """Runs the replay and gives MCS, attempt and outcome of every slot, each [slot, ue], too."""

    def watched(*args, **settings):
        results = []
        transmit = Du.transmit
        with monkeypatch.context() as patch:
            patch.setattr(Du, "transmit", lambda *a: results.append(transmit(*a)) or results[-1])
            record, _ = run(*args, **settings)
        return record, *(np.stack([getattr(r, name) for r in results]) for name in ("mcs", "attempt", "outcome"))

    return watched


@pytest.fixture(scope="module")
def constant(tmp_path_factory):
    """Writes a bundle that always takes one action."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    def write(kind, value):
        actions = [Action(kind=kind, value=value), Action(kind="native")]
        nodes = [
            helper.make_node("Shape", ["report"], ["rows"], start=0, end=1),
            helper.make_node("Concat", ["rows", "width"], ["shape"], axis=0),
            helper.make_node("Expand", ["scores", "shape"], ["score"]),
            helper.make_node("ArgMax", ["score"], ["action"], axis=1, keepdims=0),
            helper.make_node("Identity", ["state"], ["next_state"]),
        ]
        value_info = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes,
            "constant",
            [value_info("report", TensorProto.FLOAT, ["n", 1]), value_info("state", TensorProto.FLOAT, ["n", 1])],
            [
                value_info("score", TensorProto.FLOAT, ["n", 2]),
                value_info("action", TensorProto.INT64, ["n"]),
                value_info("next_state", TensorProto.FLOAT, ["n", 1]),
            ],
            [
                numpy_helper.from_array(np.array([[1, 0]], np.float32), "scores"),
                numpy_helper.from_array(np.array([2], np.int64), "width"),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        path = tmp_path_factory.mktemp("bundles") / f"{kind}_{value}"
        write_bundle(
            path, model.SerializeToString(), name=path.name, version="1", columns=["cqi"], state_size=1,
            actions=actions, mcs_tables=[1, 2, 3], training={"kind": "constant"},
            golden_report=np.array([[np.nan], [3]], np.float32), golden_state=np.zeros((2, 1), np.float32),
        )  # fmt: skip
        return path

    return write


def test_the_same_seed_twice_is_the_same_run_and_another_seed_another():
    trace = make_trace()
    (first, _), (again, _), (other, _) = (run(trace, InProcess(a_loop()), seed=seed) for seed in (5, 5, 6))
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("wire", [InProcess, Octets])
def test_a_a_olla_through_the_whole_xapp_decides_exactly_as_the_dus_own(slots_of, wire):
    trace = ChannelTrace.load(bundled_trace())
    loop = a_loop()
    ours, our_mcs, our_attempt, our_outcome = slots_of(trace, wire(loop), max_slots=1500)
    theirs, their_mcs, their_attempt, their_outcome = slots_of(trace, max_slots=1500)
    sent = our_outcome != IDLE
    np.testing.assert_array_equal(our_outcome, their_outcome)
    np.testing.assert_array_equal(our_mcs[sent], their_mcs[sent])
    np.testing.assert_array_equal(our_attempt[sent], their_attempt[sent])
    assert len(np.unique(our_mcs[sent])) > 5, "it adapts"
    assert same(ours, theirs)
    gain = paired_gain(ours, theirs, np.random.default_rng(0))
    assert (gain.mean_pct, gain.low_pct, gain.high_pct) == (0, 0, 0)
    assert loop.stats.indications == 1500
    assert not loop.stats.dropped + loop.stats.guarded
    assert loop.stats.outcomes == {"accepted": loop.stats.decisions}
    assert set(loop.stats.noticed) <= {"ue_new"}


def test_over_grpc_to_a_process_of_its_own_is_the_same_run():
    trace = make_trace()
    config = olla_du(period_slots=3, decision_delay_slots=1)
    loop = a_loop()
    in_process, _ = run(trace, InProcess(loop), config=config)
    node = E2Node()
    process = XappProcess(node, "olla", deadline=False)
    controller = RemoteXapp(node, lockstep=True)
    try:
        over_grpc, _ = run(trace, controller, config=config)
        node.end()
        stats = process.finish()
    finally:
        process.kill()
    assert same(in_process, over_grpc)
    assert controller.unanswered == 0
    assert controller.latency.count == stats.indications == 200
    assert (stats.decisions, stats.dropped, stats.lost) == (2400, {}, {})
    assert stats.outcomes == loop.stats.outcomes


needs_librmr = pytest.mark.skipif(not has_rmr(), reason="librmr_si.so or ricxappframe is not installed")


@pytest.mark.parametrize("transport", ["inproc", "grpc", pytest.param("rmr", marks=needs_librmr)])
def test_summary_and_report_are_written(tmp_path, transport):
    trace = make_trace(slots=200)
    settings = ReplayOptions(du=olla_du(period_slots=2), transport=transport, max_slots=150, seed=3)
    summary = replay_channel(Path("some.trace"), trace, "olla", "olla", settings, tmp_path / "out")
    assert read_result(ClosedLoopSummary, tmp_path / "out" / "summary.json") == summary
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "summary.json"]
    assert "made up" in (tmp_path / "out" / "report.html").read_text()
    assert (summary.kind, summary.trace.slots, summary.trace.ues) == ("closed-loop", 150, 12)
    assert (summary.indications, summary.decisions) == (75, 900)
    record, _ = run(trace, InProcess(a_loop()), seed=3, config=olla_du(period_slots=2), max_slots=150)
    assert {name: getattr(summary.policy, name) for name in record.summary()} == record.summary()
    assert summary.against.name == "native OLLA"
    assert summary.outcomes == {"accepted": 900}


def test_slots_without_a_free_harq_process_cost_goodput(constant):
    trace, mcs_8 = make_trace(slots=1600, mean_db=30.0, gap=slice(400, 800)), constant("mcs", 8)
    full, half = (
        run(trace, InProcess(a_loop(mcs_8)), config=olla_du(harq_rtt_slots=16, processes=count))[0] for count in (16, 8)
    )
    assert full.summary()["stalled_slot_share"] == 0
    assert half.summary()["stalled_slot_share"] == 0.5
    # Half of the blocks in the same time; time away from the cell counts for neither.
    assert half.goodput_mbps() == pytest.approx(full.goodput_mbps() / 2, rel=0.01)
    assert full.goodput_mbps() == pytest.approx(full.bits.sum() / (12 * 1200 * 500))
    for name in ("bits", "slots", "first_tx"):
        assert getattr(half, name).sum() == pytest.approx(getattr(full, name).sum() / 2, rel=0.01)


def test_du_settings_that_come_with_a_trace_apply_unless_others_are_given(tmp_path):
    trace = make_trace(slots=60)
    trace.meta.du = DuConfig(max_transmissions=1, cqi_period_slots=5)
    options = ReplayOptions(du=DuConfig(cqi_period_slots=20, processes=8))
    summary = replay_channel(Path("some.trace"), trace, "olla", "native", options, tmp_path / "out")
    used = summary.settings.du
    assert (used.max_transmissions, used.cqi_period_slots, used.processes, used.rlc) == (1, 20, 8, "am")
    assert summary.settings.du_from_trace == ["max_transmissions"]
    assert summary.policy.retransmission_share == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Settings of the DU stand-in come with the trace: max_transmissions=1. They apply unless" in page


@pytest.mark.parametrize("transport", ["inproc", "grpc"])
def test_a_paced_replay_accounts_for_every_report(tmp_path, transport):
    settings = ReplayOptions(du=olla_du(period_slots=20), transport=transport, speed=40)
    summary = replay_channel(Path("t"), make_trace(slots=2000), "olla", "olla", settings, tmp_path)
    assert summary.settings.speed == 40
    assert summary.indications > 0
    assert summary.indications + sum(summary.dropped.values()) == 100


def test_a_paced_replay_applies_an_answer_when_it_arrives():
    node = E2Node()
    process = XappProcess(node, "olla", deadline=False)
    try:
        config = olla_du(period_slots=1000)  # five seconds at this speed, for an answer that takes milliseconds
        _, du = run(make_trace(slots=1000), RemoteXapp(node, lockstep=False), config=config, speed=0.1)
        node.end()
    finally:
        process.kill()
    assert du.accepted + sum(du.rejected.values()) > 0


@pytest.mark.parametrize("when", [0, 256])
def test_an_xapp_that_dies_in_the_middle_is_named(when):
    node = E2Node()
    process = XappProcess(node, "olla", deadline=False)
    if when == 0:
        process.kill()
    try:
        controller = RemoteXapp(node, lockstep=True, answer_timeout_s=0.3)
        with pytest.raises(InputError, match="xApp") as caught:
            run(make_trace(), controller, progress=lambda done, total: process.kill())
        assert "\n" not in str(caught.value)
    finally:
        process.kill()
        node.end(grace_s=0)


def test_an_xapp_that_cannot_start_says_why(tmp_path):
    node = E2Node()
    with pytest.raises(InputError, match=r"the xApp did not start: .*nonesuch"):
        XappProcess(node, "nonesuch")
    node.end(grace_s=0)


def test_an_xapp_process_closes_its_files():
    node = E2Node()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ResourceWarning)
        process = XappProcess(node, "olla")
        node.end()
        process.finish()
        del process
        gc.collect()
    assert [str(warning.message) for warning in seen] == []


def test_an_unanswered_report_counts_once():
    """The xApp drops the first report in silence (it lacks a cell id), and answers the second."""
    node = E2Node()
    process = XappProcess(node, "olla", deadline=False)
    try:
        controller = RemoteXapp(node, lockstep=True, answer_timeout_s=2.0)
        du = Du(make_trace(1), BLER, olla_du(), 1)
        first, second = du.report(0), du.report(1)
        first.cell_id = ""  # refused by the codec
        answers = [list(controller.exchange(report)) for report in (first, second)]
        controller.outcome(answers[1][0], du.receive(answers[1][0], 1))
        node.end()
        process.finish()
    finally:
        process.kill()
    assert [len(answer) for answer in answers] == [0, 1]
    assert controller.unanswered == 1


def test_two_policies_with_the_same_mcs_in_a_slot_get_the_same_random_draw(slots_of, constant):
    trace = make_trace(slots=1500)
    _, their_mcs, their_attempt, their_outcome = slots_of(trace)
    usual = int(np.bincount(their_mcs[their_attempt == 1]).argmax())
    _, our_mcs, our_attempt, our_outcome = slots_of(trace, InProcess(a_loop(constant("mcs", usual))))
    both_first = (our_attempt == 1) & (their_attempt == 1) & (our_mcs == their_mcs)
    assert both_first.sum() > 200
    np.testing.assert_array_equal(our_outcome[both_first], their_outcome[both_first])
    assert len(np.unique(our_outcome[both_first])) == 2, "some arrived, some did not"


def test_a_worse_policy_loses_and_a_better_one_wins(tmp_path, constant):
    trace, settings = make_trace(), ReplayOptions(du=olla_du())
    mcs_0, mcs_8 = str(constant("mcs", 0)), str(constant("mcs", 8))
    worse = replay_channel(Path("t"), trace, mcs_0, "olla", settings, tmp_path / "worse")
    better = replay_channel(Path("t"), trace, mcs_8, mcs_0, settings, tmp_path / "better")
    assert worse.policy.mean_mcs == 0
    assert worse.gain_pct.ci95[1] < 0
    assert better.gain_pct.ci95[0] > 0


def test_an_a_a_replay_with_other_random_draws_has_zero_in_its_interval():
    """Forty pairs of native runs that share the channel but not the luck: about one interval in twenty may miss 0."""
    trace = make_trace(30, 150)
    records = [run(trace, seed=seed)[0] for seed in range(80)]
    gains = [paired_gain(a, b, np.random.default_rng(0)) for a, b in zip(records[::2], records[1::2], strict=True)]
    assert all(gain.low_pct < gain.high_pct for gain in gains)
    assert sum(gain.low_pct <= 0 <= gain.high_pct for gain in gains) >= 35


def test_native_decisions_leave_everything_to_the_du(constant):
    trace = make_trace()
    assert same(run(trace, InProcess(a_loop(constant("native", 0))))[0], run(trace)[0])
    assert same(run(trace, InProcess(a_loop(constant("mcs_offset", 0))))[0], run(trace)[0])


def test_a_silent_cell_misses_no_indication():
    loop = a_loop()
    run(make_trace(gap=slice(100, 130)), InProcess(loop))
    assert "indications_missed" not in loop.stats.noticed


def test_the_xapp_gets_all_feedback_of_ues_that_come_and_go():
    trace, loop = make_trace(), a_loop()
    trace.sinr_db[np.random.default_rng(1).random(len(trace.sinr_db)) < 0.2] = np.nan
    run(trace, InProcess(loop))
    assert set(loop.stats.noticed) <= {"ue_new"}


def make_log(rows, **measured):
    """Rows are (timestamp, UE)."""
    columns = {name: np.full(len(rows), np.nan) for name in KPI_COLUMNS}
    columns |= {name: np.asarray(values, np.float64) for name, values in measured.items()}
    meta = KpiLogMeta(name="made up", source="the test", period_us=1000, ues=["a", "b"])
    times, ues = np.array(rows).T
    return KpiLog(meta, times.astype(np.int64), ues.astype(np.int32), columns)


# Two UEs; UE 0 twice at time 1; a row with counts but no MCS; one without HARQ.
ROWS = ((1, 0), (1, 1), (1, 0), (2, 0), (2, 1), (3, 0))
LOGGED = {
    "mcs": [10, 12.4, 11, np.nan, 9, 8],
    "cqi": [7, 8.6, np.nan, 5, 5, 5],
    "harq_ack": [5, 9, 3, 4, np.nan, 0],
    "harq_nack": [1, 2, 0, 2, np.nan, 0],
    "harq_dtx": [1, 0, 0, 0, np.nan, 0],
    "harq_residual": [0, 1, 0, 0, np.nan, 0],
}


class TestOpenLoop:
    def replayed(self, log, loop):
        """What the loop was given, and what `open_loop.run` made of its decisions."""
        seen, decide = [], loop.decide
        loop.decide = lambda report: seen.append(report) or decide(report)
        return seen, *open_loop.run(log, loop)

    def test_rows_of_one_time_are_one_indication_and_a_ue_is_in_it_once(self):
        loop = a_loop()
        seen, decided, latency = self.replayed(make_log(ROWS, **LOGGED), loop)
        assert [(r.sequence, r.timestamp_us, (r.rnti - seen[0].rnti[0]).tolist()) for r in seen] == [
            (1, 1, [0, 1]), (2, 1, [0]), (3, 2, [0, 1]), (4, 3, [0])
        ]  # fmt: skip
        assert (loop.stats.indications, loop.stats.decisions, latency.count) == (4, 6, 4)
        assert not loop.stats.dropped
        assert not np.isnan(decided).any()

    def test_counts_go_to_the_nearest_mcs_or_the_latest_known(self):
        seen, _, _ = self.replayed(make_log(ROWS, **LOGGED), a_loop())
        arrays = [(r.harq_ue.tolist(), r.harq_mcs.tolist(), r.harq_counts.tolist()) for r in seen]
        entries = [list(zip(*columns, strict=True)) for columns in arrays]
        assert entries == [
            [(0, 10, [5, 1, 1, 0]), (1, 12, [9, 2, 0, 1])], [(0, 11, [3, 0, 0, 0])], [(0, 11, [4, 2, 0, 0])], []
        ]  # fmt: skip

    def test_measured_values_and_the_logged_mcs_reach_the_policy(self):
        seen, _, _ = self.replayed(make_log(ROWS, **LOGGED), a_loop())
        np.testing.assert_array_equal(seen[0].measured[:, 0], [7, 9])
        np.testing.assert_array_equal(seen[0].measured[:, MEASURED.index("native_mcs")], [10, 12])
        assert np.isnan(seen[2].total_first_tx[1])

    def test_a_consistent_log_misses_no_feedback(self):
        rng = np.random.default_rng(0)
        rows = [(time, ue) for time in range(300) for ue in range(2) if rng.random() < 0.8]
        counts = {f"harq_{name}": rng.poisson(3, len(rows)) for name in ("ack", "nack", "dtx", "residual")}
        loop = a_loop()
        open_loop.run(make_log(rows, mcs=rng.uniform(0, 28, len(rows)), **counts), loop)
        assert loop.stats.decisions == len(rows)
        assert set(loop.stats.noticed) <= {"ue_new"}

    def test_decisions_are_written_beside_the_log_and_compared(self, tmp_path, constant):
        log = make_log(ROWS, **LOGGED)
        summary = replay_log(tmp_path / "log", log, str(constant("mcs", 10)), tmp_path / "out")
        assert summary.agreement == Agreement(rows_compared=5, same_mcs_share=0.2, mean_difference=0.0)
        assert (summary.kind, summary.decisions, summary.dropped) == ("open-loop", 6, {})
        assert read_result(OpenLoopSummary, tmp_path / "out" / "summary.json") == summary
        assert (tmp_path / "out" / "report.html").exists()
        native = replay_log(tmp_path / "log", log, str(constant("native", 0)), tmp_path / "out")
        assert native.agreement == Agreement(rows_compared=0, same_mcs_share=None, mean_difference=None)
        assert native.native == 6

    def test_an_offset_of_0_is_the_mcs_that_was_used(self, tmp_path, constant):
        log = make_log(ROWS, **LOGGED)
        summary = replay_log(tmp_path / "log", log, str(constant("mcs_offset", 0)), tmp_path / "out")
        assert summary.agreement == Agreement(rows_compared=5, same_mcs_share=1.0, mean_difference=0.0)

    def test_an_offset_ends_at_the_table(self, constant):
        decided, _ = open_loop.run(make_log([(1, 0)], mcs=[27], cqi=[9]), a_loop(constant("mcs_offset", 6)))
        assert decided.tolist() == [28]


@real_traces
@pytest.mark.parametrize("source", ["ranalyzer", "tractor"])
def test_a_a_on_a_real_channel_holds_zero(source, tmp_path):
    importer, pattern = {
        "ranalyzer": (import_ranalyzer, "2023*"), "tractor": (import_tractor, "*Trial0*")
    }[source]  # fmt: skip
    for path in sorted((Path(TRACES) / source).glob(pattern))[:6]:
        (tmp_path / path.name).symlink_to(path)
    trace, _ = importer(tmp_path, bler=BLER)
    settings = ReplayOptions(du=olla_du(), max_slots=2000)
    gain = replay_channel(tmp_path, trace, "olla", "olla", settings, tmp_path / "out").gain_pct
    assert gain.ci95[0] <= 0 <= gain.ci95[1]


@real_traces
@pytest.mark.parametrize("source", ["ranalyzer", "tractor"])
def test_real_kpi_logs_replay_open_loop_without_a_dropped_report(source, tmp_path):
    importer, pattern = {
        "ranalyzer": (import_ranalyzer_kpi_log, "2024*"), "tractor": (import_tractor_kpi_log, "*Trial1*")
    }[source]  # fmt: skip
    for path in sorted((Path(TRACES) / source).glob(pattern))[:4]:
        (tmp_path / path.name).symlink_to(path)
    log, _ = importer(tmp_path)
    summary = replay_log(tmp_path, log, "olla", tmp_path / "out")
    assert summary.dropped == {}
    assert summary.decisions == log.num_rows
    assert "harq_feedback_missed" not in summary.noticed
