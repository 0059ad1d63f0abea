"""EdgeRIC: its octets to reports and back, what its messages leave open, and a gNB that speaks them over sockets."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from distila.replay.closed_loop import InProcess, run
from distila.replay.du_config import DuConfig
from distila.replay.edgeric_gnb import EdgeRicGnb, OverEdgeRic
from distila.replay.trace import ChannelTrace
from distila.schemas import edgeric_v1_pb2 as pb
from distila.xapp.app import Xapp
from distila.xapp.config import RunConfig
from distila.xapp.e2.codec import Identity, Rejected, decode_indication, decode_indication_header, encode_indication
from distila.xapp.e2.edgeric_config import EdgeRicConfig
from distila.xapp.e2.edgeric_telemetry import NO_OVERRIDE, VALID_TTIS, Telemetry
from distila.xapp.errors import InputError
from distila.xapp.kpi.observations import MEASURED
from distila.xapp.kpi.report import ACK, MCS, MCS_OFFSET, NACK, NATIVE, NO_UE_ID, Decisions
from distila.xapp.loop import DecisionLoop
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.policy.bundle import load_bundle
from distila.xapp.policy.guard import GuardConfig

TRACE = Path(__file__).resolve().parents[2] / "replay" / "traces" / "urban.trace"
RNTI = 0x4601
PATIENCE_S = 30.0


# --- octets written by hand, from the field numbers alone ---


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field, value):
    return varint(field << 3) + varint(value)


def nested(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def real32(field, value):
    return varint(field << 3 | 5) + np.float32(value).tobytes()


def test_the_octets_of_a_gnb_are_understood_and_what_is_not_listed_is_skipped():
    mac = b"".join([
        number(1, 11), real32(2, 18.5), number(3, 156_200), number(4, 10), number(5, 3329), number(6, 241),
        number(7, 1), number(8, 2), number(9, 1), number(10, 0), number(11, 27), number(12, 1), number(13, 40),
        number(14, 47), real32(17, 3.0), number(22, 3329), number(23, 99),
    ])  # fmt: skip
    bearer = nested(4, number(1, 4) + number(2, 77))
    ue = number(1, RNTI) + nested(2, mac) + bearer + nested(6, number(1, 30_336))
    octets = number(1, 4999) + number(2, 1_710_000_000_000_000) + nested(3, ue)
    telemetry = Telemetry(EdgeRicConfig(feedback_delay_ttis=1, uplink_snr_as_sinr=True))
    before = number(1, 4998) + number(2, 1_709_999_999_999_000)
    telemetry.report(before + nested(3, number(1, RNTI) + nested(2, number(11, 26) + number(13, 40))))
    report = telemetry.report(octets)
    assert (report.sequence, report.timestamp_us, report.period_slots) == (4999, 1_710_000_000_000_000, 1)
    assert report.rnti.tolist() == [RNTI]
    reported = dict(zip(MEASURED, report.measured[0].tolist(), strict=True))
    assert (reported["cqi"], reported["sinr_db"], reported["dl_buffer_bytes"], reported["prbs"]) == (
        11,
        18.5,
        156_200,
        40,
    )
    assert np.isnan([reported["cqi_age_slots"], reported["ri"]]).all()
    assert report.harq_mcs.tolist() == [26], "the MCS of the TTI before, not that of this one"
    assert report.harq_counts[0, [ACK, NACK]].tolist() == [1, 2]


def test_the_octets_for_a_gnb_are_what_it_reads():
    telemetry = Telemetry(EdgeRicConfig(ran_index=3))
    telemetry.report(tti(77, ue()))
    octets = telemetry.control(decisions(77, [(RNTI, MCS, 19), (RNTI, NATIVE, 0)]))
    expected = number(1, 3) + number(2, 77)
    expected += nested(3, number(1, RNTI) + number(2, 19)) + nested(3, number(1, RNTI) + number(2, 255))
    assert octets == expected


# --- what telemetry becomes ---


def ue(rnti=RNTI, **mac):
    return pb.UeMetrics(rnti=rnti, mac=pb.MacUeMetrics(**mac))


def tti(index, *ues, timestamp_us=None):
    timestamp_us = 1000 * index + 10**9 if timestamp_us is None else timestamp_us
    return pb.TtiMetrics(tti_index=index, timestamp_us=timestamp_us, ues=ues).SerializeToString()


def decisions(sequence, rows, valid_for_slots=18):
    rnti, kind, value = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return Decisions(
        cell_id="edgeric",
        answers_sequence=sequence,
        sfn=0,
        slot=0,
        timestamp_us=0,
        valid_for_slots=valid_for_slots,
        rnti=rnti,
        ue_id=np.full(len(rnti), NO_UE_ID),
        kind=kind,
        value=value,
    )


def overrides(octets):
    return {ue.rnti: ue.mcs for ue in pb.McsControl.FromString(octets).ue_mcs}


def measured(report, name, row=0):
    return report.measured[row, MEASURED.index(name)]


@pytest.fixture
def telemetry():
    return Telemetry(EdgeRicConfig())


def test_zero_fields_of_edgeric_count_as_not_measured(telemetry):
    report = telemetry.report(tti(1, ue(), pb.UeMetrics(rnti=7)))
    assert np.isnan(measured(report, "cqi"))
    assert np.isnan(measured(report, "prbs"))
    assert np.isnan(measured(report, "native_mcs")), "nothing was scheduled: the MCS 0 is none"
    assert np.isnan(measured(report, "sinr_db")), "the SNR is the uplink's"
    assert measured(report, "dl_buffer_bytes") == 0, "an empty buffer is one"
    assert np.isnan(measured(report, "cqi", row=1))


def test_feedback_is_booked_on_the_mcs_that_was_sent_so_long_before(telemetry):
    for index, mcs in enumerate([10, 11, 12, 13], start=1):
        telemetry.report(tti(index, ue(dl_mcs=mcs, dl_prbs=5)))
    report = telemetry.report(tti(5, ue(dl_mcs=14, dl_prbs=5, dl_harq_ack=1)))
    assert report.harq_mcs.tolist() == [10]
    # Not scheduled for a while: the latest before that.
    report = telemetry.report(tti(30, ue(dl_harq_nack=1)))
    assert report.harq_mcs.tolist() == [14]
    assert report.total_first_tx.tolist() == [2]


def test_feedback_for_unseen_transmissions_is_counted_and_skipped(telemetry):
    report = telemetry.report(tti(1, ue(dl_harq_ack=2, dl_harq_nack=1, dl_mcs=9, dl_prbs=3)))
    assert len(report.harq_mcs) == 0
    assert telemetry.lost == {"harq_without_mcs": 3}
    assert report.total_first_tx.tolist() == [0], "or the loop would take it for feedback that was lost"


def test_a_ue_that_left_and_came_back_counts_anew(telemetry):
    for index in range(1, 7):
        telemetry.report(tti(index, ue(dl_mcs=9, dl_prbs=3)))
    assert telemetry.report(tti(7, ue(dl_harq_ack=1))).total_first_tx.tolist() == [1]
    telemetry.report(tti(8))
    report = telemetry.report(tti(9, ue(dl_harq_ack=1)))
    assert report.total_first_tx.tolist() == [0]
    assert np.isnan(measured(report, "native_mcs"))


def test_ttis_go_on_where_the_gnb_wraps_at_ten_thousand(telemetry):
    sequences = [
        telemetry.report(tti(index % 10_000, ue(), timestamp_us=index)).sequence
        for index in (9998, 9999, 10_000, 20_003)
    ]
    assert sequences[:3] == [9998, 9999, 10_000]
    assert pb.McsControl.FromString(telemetry.control(decisions(sequences[3], [(RNTI, MCS, 5)]))).tti_index == 3


def test_ttis_of_a_gnb_that_counts_on_are_taken_as_they_are(telemetry):
    for index in (9_999, 10_000, 25_000):
        assert telemetry.report(tti(index, ue())).sequence == index
    assert pb.McsControl.FromString(telemetry.control(decisions(25_000, [(RNTI, MCS, 5)]))).tti_index == 25_000


@pytest.mark.parametrize("latest", [25_000, 2_000])
def test_a_gnb_that_restarts_is_a_new_one(telemetry, latest):
    for index in range(latest - 6, latest):
        telemetry.report(tti(index, ue(dl_mcs=9, dl_prbs=3, dl_harq_ack=1)))
    report = telemetry.report(tti(3, ue(), timestamp_us=10**12))
    assert report.sequence == 3
    assert report.total_first_tx.tolist() == [0]


def test_a_tti_that_comes_twice_counts_once(telemetry):
    telemetry.report(tti(5, ue()))
    with pytest.raises(Rejected) as rejection:
        telemetry.report(tti(5, ue()))
    assert rejection.value.reason == "duplicate_tti"


@given(st.binary(max_size=200))
def test_any_octets_are_a_report_or_rejected(octets):
    telemetry = Telemetry(EdgeRicConfig())
    try:
        report = telemetry.report(octets)
    except Rejected:
        return
    # Whatever it holds passes the codec, which leaves out what makes no sense.
    noticed = Counter()
    header, message = encode_indication(report, Identity())
    assert decode_indication(decode_indication_header(header), message, noticed).num_ues <= report.num_ues


mac_metrics = st.builds(
    pb.MacUeMetrics,
    **{
        name: st.integers(0, 2**32 - 1)
        for name in ("cqi", "dl_buffer", "dl_harq_ack", "dl_harq_nack", "dl_mcs", "dl_prbs", "dl_tbs")
    },
    snr=st.floats(width=32),
)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), mac_metrics), min_size=1, max_size=20))
def test_any_telemetry_is_survived_by_the_whole_loop(messages):
    telemetry, loop = Telemetry(EdgeRicConfig(uplink_snr_as_sinr=True)), DecisionLoop(load_bundle("olla"))
    taken = 0
    for index, rnti, mac in messages:
        message = pb.TtiMetrics(tti_index=index, timestamp_us=index, ues=[pb.UeMetrics(rnti=rnti, mac=mac)])
        try:
            report = telemetry.report(message.SerializeToString())
        except Rejected:
            continue
        loop.step(*encode_indication(report, Identity()))
        taken += 1
    assert loop.stats.indications + sum(loop.stats.dropped.values()) == taken


# --- what decisions become ---


def test_native_is_255_and_an_mcs_is_itself(telemetry):
    telemetry.report(tti(1, ue(1), ue(2)))
    assert overrides(telemetry.control(decisions(1, [(1, MCS, 28), (2, NATIVE, 0)]))) == {1: 28, 2: NO_OVERRIDE}
    assert telemetry.outcomes == {}


@pytest.mark.parametrize(("table", "value", "sent"), [(1, 28, 28), (1, 29, NO_OVERRIDE), (2, 28, NO_OVERRIDE)])
def test_an_mcs_that_the_table_does_not_have_is_not_sent(table, value, sent):
    telemetry = Telemetry(EdgeRicConfig(mcs_table=table))
    telemetry.report(tti(1, ue()))
    assert overrides(telemetry.control(decisions(1, [(RNTI, MCS, value)]))) == {RNTI: sent}
    assert telemetry.outcomes["mcs_out_of_range"] == (sent == NO_OVERRIDE)


def test_a_decision_for_a_ue_that_is_gone_is_counted(telemetry):
    telemetry.report(tti(1, ue(1)))
    telemetry.report(tti(2))
    assert overrides(telemetry.control(decisions(1, [(1, MCS, 5)]))) == {1: NO_OVERRIDE}
    assert telemetry.outcomes == {"unknown_ue": 1}


@pytest.mark.parametrize("age", range(5))
def test_a_decision_is_sent_while_the_gnb_would_apply_it(telemetry, age):
    for index in range(10, 11 + age):
        telemetry.report(tti(index, ue()))
    sent = telemetry.control(decisions(10, [(RNTI, MCS, 5)]))
    assert (sent is not None) == (age <= VALID_TTIS)
    assert telemetry.lost["control_expired"] == (age > VALID_TTIS)


def test_an_offset_is_to_what_the_gnb_chose_itself(telemetry):
    telemetry.report(tti(1, ue(dl_mcs=14, dl_prbs=5)))
    assert overrides(telemetry.control(decisions(1, [(RNTI, MCS_OFFSET, -3)]))) == {RNTI: 11}
    # The gNB obeys: 11 is not its own choice, and must not be added to.
    report = telemetry.report(tti(2, ue(dl_mcs=11, dl_prbs=5)))
    assert measured(report, "native_mcs") == 14
    assert overrides(telemetry.control(decisions(2, [(RNTI, MCS_OFFSET, -3)]))) == {RNTI: 11}
    # Left alone for longer than an override lasts, it shows its choice again.
    for index, mcs in ((3, 11), (4, 11), (5, 16)):
        report = telemetry.report(tti(index, ue(dl_mcs=mcs, dl_prbs=5)))
    assert measured(report, "native_mcs") == 16
    assert telemetry.outcomes == {"applied": 3}


@pytest.mark.parametrize(("offset", "sent"), [(-20, 0), (20, 28)])
def test_an_offset_ends_at_the_edge_of_the_table(telemetry, offset, sent):
    telemetry.report(tti(1, ue(dl_mcs=14, dl_prbs=5)))
    assert overrides(telemetry.control(decisions(1, [(RNTI, MCS_OFFSET, offset)]))) == {RNTI: sent}


def test_an_offset_to_nothing_is_rejected_and_counted_and_the_gnb_shows_its_choice_anew():
    telemetry = Telemetry(EdgeRicConfig(native_max_age_ttis=10))
    sent, own = [], 20
    in_force = {}
    for index in range(1, 60):
        dl_mcs = next((in_force[t] for t in (index - 1, index - 2) if in_force.get(t, NO_OVERRIDE) != NO_OVERRIDE), own)
        telemetry.report(tti(index, ue(dl_mcs=dl_mcs, dl_prbs=5)))
        in_force[index] = overrides(telemetry.control(decisions(index, [(RNTI, MCS_OFFSET, -2)])))[RNTI]
        sent.append(in_force[index])
    assert set(sent) == {18, NO_OVERRIDE}
    probes = sent.count(NO_OVERRIDE)
    assert telemetry.outcomes["offset_without_native"] == probes
    assert 0.1 < probes / len(sent) < 0.4
    assert set(telemetry.outcomes) == {"applied", "offset_without_native"}


def test_a_gnb_that_does_not_obey_is_seen(telemetry):
    telemetry.report(tti(1, ue(dl_mcs=14, dl_prbs=5)))
    telemetry.control(decisions(1, [(RNTI, MCS, 9)]))
    telemetry.report(tti(2, ue(dl_mcs=14, dl_prbs=5)))
    assert telemetry.outcomes == {"not_applied": 1}


# --- over sockets ---


@pytest.fixture
def addresses(tmp_path):
    return {"metrics": f"ipc://{tmp_path}/metrics_data", "control": f"ipc://{tmp_path}/control_mcs"}


@pytest.fixture
def gnb(addresses):
    node = EdgeRicGnb(**addresses)
    yield node
    node.close()


def config(addresses, **edgeric):
    e2 = {"transport": "edgeric", "edgeric": {**addresses, **edgeric}}
    return RunConfig.model_validate({"e2": e2, "guard": {"deadline_us": None}})


def ask(gnb, octets, index):
    """Publish a TTI; the answer to it."""
    gnb.publish(octets)
    control = gnb.receive(int(1000 * PATIENCE_S))
    assert control is not None, "the xApp did not answer"
    assert control.tti_index == index
    return control


def test_telemetry_goes_out_and_an_override_comes_back(gnb, start, addresses, eventually):
    running = start(config(addresses), exit_on_end=False)
    assert gnb.wait_for_controller(PATIENCE_S)
    control = ask(gnb, tti(9999, ue(1, cqi=12), ue(2, cqi=4)), 9999)
    assert {ue.rnti for ue in control.ue_mcs} == {1, 2}
    by_rnti = {ue.rnti: ue.mcs for ue in control.ue_mcs}
    assert 0 <= by_rnti[2] < by_rnti[1] <= 28
    ask(gnb, tti(0, ue(1, cqi=12), timestamp_us=10**10), 0)
    gnb.publish(b"\xff\xff")
    eventually(lambda: running.stats().lost.get("malformed_metrics") == 1)
    ask(gnb, tti(1, ue(1, cqi=12), timestamp_us=10**10 + 1), 1)
    running.stop.set()
    stats = running.ended()
    assert running.error is None
    assert (stats.indications, stats.decisions) == (3, 4)
    assert stats.dropped == {}


def test_a_ue_without_any_measurement_is_left_to_the_gnb(gnb, start, addresses):
    running = start(config(addresses), exit_on_end=False)
    assert gnb.wait_for_controller(PATIENCE_S)
    control = ask(gnb, tti(5, ue(dl_buffer=100)), 5)
    assert [ue.mcs for ue in control.ue_mcs] != []
    assert running.stats().indications == 1


def test_silence_is_counted_and_ends_a_run_that_shall_end(gnb, start, addresses):
    running = start(config(addresses, silent_after_s=1.0), exit_on_end=True)
    assert gnb.wait_for_controller(PATIENCE_S)
    ask(gnb, tti(5, ue(cqi=9)), 5)
    assert running.ended().lost["telemetry_silent"] == 1


def test_an_xapp_that_waits_for_a_gnb_is_not_connected_and_does_not_end(start, addresses, eventually):
    running = start(config(addresses, silent_after_s=0.1), exit_on_end=True)
    eventually(lambda: running.xapp._transport._thread is not None)
    assert not running.xapp._transport.connected
    running.stop.set()
    running.ended()
    assert running.error is None


@pytest.mark.parametrize(
    ("field", "address"),
    [("metrics", "nonsense"), ("control", "ipc:///nowhere/to/be/found"), ("control", "tcp://host:port")],
)
def test_an_address_that_cannot_be_used_is_named(start, addresses, field, address):
    running = start(config({**addresses, field: address}))
    running.ended()
    assert isinstance(running.error, InputError)
    assert str(running.error).startswith(f"e2.edgeric.{field} = {address!r}: ")


def test_two_xapps_at_one_gnb_are_one_too_many(start, gnb, addresses, tmp_path):
    other = zmq.Context()
    taken = other.socket(zmq.PUB)
    taken.bind("tcp://127.0.0.1:*")
    address = taken.getsockopt_string(zmq.LAST_ENDPOINT)
    running = start(config({**addresses, "control": address}))
    running.ended()
    taken.close()
    other.term()
    assert "in use" in str(running.error)


def test_without_pyzmq_the_error_says_what_to_install(addresses, monkeypatch):
    monkeypatch.setitem(sys.modules, "zmq", None)
    with pytest.raises(InputError, match=r"^e2\.transport = 'edgeric' needs pyzmq: pip install 'distila\[edgeric\]'$"):
        Xapp(config(addresses)).run(None)


@pytest.mark.slow
def test_olla_over_edgeric_does_about_what_it_does_with_all_that_edgeric_leaves_out(gnb, start, addresses):
    trace, bler, slots = ChannelTrace.load(TRACE), SmoothBler.load(), 1500
    du = DuConfig(period_slots=1, harq_rtt_slots=8)
    loop = DecisionLoop(load_bundle("olla"), guard_config=GuardConfig(deadline_us=None))
    full, _ = run(trace, bler, du, seed=1, controller=InProcess(loop), max_slots=slots)
    # The telemetry names the MCS of the slot before, whose feedback comes eight slots after it.
    olla = config(addresses, feedback_delay_ttis=7).model_copy(update={"policy": "olla"})
    running = start(olla, exit_on_end=False)
    assert gnb.wait_for_controller(PATIENCE_S)
    controller = OverEdgeRic(gnb)
    edgeric, _ = run(trace, bler, du, seed=1, controller=controller, max_slots=slots)
    running.stop.set()
    stats = running.ended()
    assert controller.unanswered == 0
    assert stats.indications == slots
    assert stats.outcomes["applied"] > 100 * stats.outcomes.get("not_applied", 0)
    assert edgeric.goodput_mbps() == pytest.approx(full.goodput_mbps(), rel=0.005)


@pytest.mark.slow
def test_the_benchmark_accounts_for_every_tti():
    command = [sys.executable, "-m", "distila.xapp.cli", "bench", "edgeric", "--ues", "4", "--ttis", "1000", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    shares = [result["sockets"][name] for name in ("in_time", "too_late", "unanswered")]
    assert sum(shares) == pytest.approx(1, abs=0.001)
    assert shares[0] > 0
    assert all(result["stages_us"][stage]["p50"] > 0 for stage in result["stages_us"])
