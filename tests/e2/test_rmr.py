"""RMR over a real librmr: what the platform's own Python framework gets wrong, and the transport with acknowledgements.

librmr never gives a port back while the process lives, so every test has ports of its own.
"""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

pytest.importorskip("pycrate_asn1dir", reason="E2AP")
from distila.replay.ric.e2term import E2Term
from distila.replay.ric.ric import MEID, free_ports, rmr_environment, write_route_table
from distila.xapp.config import RunConfig
from distila.xapp.e2 import e2ap, rmr
from distila.xapp.e2.codec import Identity, encode_indication
from distila.xapp.e2.e2ap import ControlAnswer, RicRequest
from distila.xapp.e2.rmr import RmrPort
from distila.xapp.errors import InputError

NODE = Identity(app_id="node", e2_node_id=MEID)
PATIENCE_S = 20.0


def has_librmr():
    try:
        RmrPort(1)
    except InputError:
        return False
    return True


needs_librmr = pytest.mark.skipif(not has_librmr(), reason="librmr_si.so or ricxappframe is not installed")


# ---------------------------------------------------------------- with or without librmr


def test_the_platform_s_sdks_leave_protobuf_on_its_fast_implementation():
    """Their pins would bring protobuf 3.20 in pure Python, which takes 14 times as long for an indication."""
    pytest.importorskip("ricsdl", reason="the platform's SDK")
    code = (
        "import ricsdl.syncstorage, ricxappframe, distila.xapp.e2.rmr_transport\n"
        "from google.protobuf.internal import api_implementation as a; print(a.Type())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "upb"


def test_without_librmr_one_line_says_what_to_install(tmp_path):
    config = tmp_path / "distila.yaml"
    config.write_text("e2: {transport: rmr}\n")
    code = (
        "import sys\nsys.modules['ricxappframe.rmr'] = None\n"
        f"from distila.xapp.cli import main; main(['run', '--config', {str(config)!r}])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 2
    [line] = ran.stderr.strip().splitlines()
    assert line.startswith("error: RMR needs librmr_si.so")
    assert "ricxappframe==3.2.2" in line


def test_a_loader_that_does_not_find_librmr_is_no_traceback():
    """The SDK raises OSError, not ImportError."""
    pytest.importorskip("ricxappframe", reason="the platform's SDK")
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    code = (
        "from distila.xapp.e2.rmr import RmrPort\nfrom distila.xapp.errors import InputError\n"
        "try: RmrPort(1); print('found')\nexcept InputError: print('one line')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    if ran.stdout.strip() == "found":
        pytest.skip("librmr is on the system's path, not to be hidden")
    assert ran.stdout.strip() == "one line", ran.stderr


# ---------------------------------------------------------------- the endpoint


@pytest.fixture
def routes(tmp_path, monkeypatch):
    """Ports of xApp and E2 termination, with routes between them."""
    xapp_port, node_port, a1_port = free_ports(3)
    for name, value in rmr_environment(write_route_table(tmp_path / "rt", xapp_port, node_port, a1_port)).items():
        monkeypatch.setenv(name, value)
    return xapp_port, node_port


class Pair:
    """Two endpoints, and what arrived at each."""

    def __init__(self, ports):
        self.xapp, self.node = (RmrPort(port) for port in ports)
        self.at_xapp, self.at_node = [], []

    def start(self):
        self.xapp.start()
        self.node.start()
        end = time.monotonic() + PATIENCE_S
        while not (self.xapp.ready and self.node.ready):
            assert time.monotonic() < end
            time.sleep(0.01)
        return self


@pytest.fixture
def pair(routes):
    both = Pair(routes)
    both.xapp.handle(rmr.INDICATION, both.at_xapp.append)
    both.node.handle(rmr.CONTROL_REQ, both.at_node.append)
    yield both.start()
    both.xapp.close()
    both.node.close()


@needs_librmr
@pytest.mark.parametrize("size", [0, 1, 500, 2048, 8192, 100_000])
def test_a_payload_of_any_size_arrives_whole(pair, eventually, size):
    payload = bytes(i % 253 for i in range(size))
    assert pair.node.send(rmr.INDICATION, payload, sub_id=7, meid=MEID)
    eventually(lambda: pair.at_xapp)
    [message] = pair.at_xapp
    assert (message.payload, message.sub_id, message.meid) == (payload, 7, MEID)


@needs_librmr
def test_a_control_request_routes_by_the_node_s_name_and_carries_the_subscription(pair, eventually):
    """The SDK's own send can set neither, and skips a subscription 0."""
    assert pair.xapp.send(rmr.CONTROL_REQ, b"pdu", sub_id=0, meid=MEID)
    eventually(lambda: pair.at_node)
    assert (pair.at_node[0].sub_id, pair.at_node[0].meid) == (0, MEID)


@needs_librmr
@pytest.mark.parametrize(
    ("mtype", "meid", "reason"),
    [
        (12040, "gnb_unknown", "no_route"),
        (12040, "", "no_route"),
        (31000, MEID, "no_route"),
        (12040, "x" * 32, "meid_too_long"),
    ],
)
def test_messages_without_a_route_are_counted(pair, mtype, meid, reason):
    assert not pair.xapp.send(mtype, b"pdu", meid=meid)
    assert pair.xapp.unsent == {reason: 1}


@needs_librmr
def test_a_handler_that_fails_does_not_stop_the_others(pair, eventually, caplog):
    """In the SDK's loop it would: silently, while its health check goes on saying that all is well."""

    def fail(message):
        raise RuntimeError("of the handler")

    pair.xapp.handle(rmr.INDICATION, fail)
    for _ in range(20):
        pair.node.send(rmr.INDICATION, b"x")
    eventually(lambda: pair.xapp.unhandled["handler_failed"] == 20)
    assert len([record for record in caplog.records if record.exc_info]) == 10, "the log is not filled"
    pair.xapp.handle(rmr.INDICATION, pair.at_xapp.append)
    pair.node.send(rmr.INDICATION, b"y")
    eventually(lambda: pair.at_xapp)


@needs_librmr
def test_idle_time_and_messages_of_unknown_type_do_no_harm(pair, eventually):
    pair.xapp._handlers.pop(rmr.INDICATION)
    pair.node.send(rmr.INDICATION, b"x")
    eventually(lambda: pair.xapp.unhandled == {"unknown_message_type": 1})
    time.sleep(0.35)  # several timeouts of the receive call, which gives NULL where it is not given a buffer
    pair.xapp.handle(rmr.INDICATION, pair.at_xapp.append)
    pair.node.send(rmr.INDICATION, b"y")
    eventually(lambda: pair.at_xapp)


@needs_librmr
def test_an_answer_longer_than_the_question_arrives_whole(pair, eventually):
    """The SDK would go on with a pointer to a buffer that was replaced."""
    answers = []
    pair.node.handle(rmr.HEALTH_CHECK_RESP, answers.append)
    pair.xapp.handle(rmr.HEALTH_CHECK_REQ, lambda message: (rmr.HEALTH_CHECK_RESP, b"ERROR " + b"e" * 20_000))
    for count in (1, 2, 3):
        pair.node.send(rmr.HEALTH_CHECK_REQ, b"?")
        eventually(lambda count=count: len(answers) == count)
    assert {answer.payload for answer in answers} == {b"ERROR " + b"e" * 20_000}


@needs_librmr
def test_messages_that_librmr_itself_drops_are_counted(pair, eventually):
    held = threading.Event()
    pair.xapp.handle(rmr.INDICATION, lambda message: (held.wait(PATIENCE_S), None)[1])
    sent = sum(pair.node.send(rmr.INDICATION, b"x" * 100) for _ in range(6000))
    eventually(lambda: pair.xapp.queue_drops() > 0)
    eventually(lambda: pair.xapp.queue_drops() >= sent - 4100)
    held.set()


# ---------------------------------------------------------------- the transport


@pytest.fixture
def node(routes):
    term = E2Term(routes[1], instance_id=7)
    yield term
    term.end()


def config(ports, **e2):
    rmr_section = {"port": ports[0], "ack_timeout_s": PATIENCE_S, **e2.pop("rmr", {})}
    return RunConfig.model_validate(
        {"guard": {"deadline_us": None}, "e2": {"transport": "rmr", "rmr": rmr_section, **e2}, "watch_every_s": None}
    )


def publish(node, report):
    node.publish(*encode_indication(report, NODE), report.cell_id)


@pytest.fixture
def running(start, node, routes, eventually):
    """Starts an xApp over RMR and waits until it hears the node."""

    def begin(**e2):
        xapp = start(config(routes, **e2))
        eventually(lambda: node.health_check(1.0) is not None)
        return xapp

    return begin


@needs_librmr
def test_an_indication_goes_out_its_decision_comes_back_and_is_acknowledged(node, running, make_report, eventually):
    xapp = running()
    publish(node, make_report(sequence=41, ues=3))
    answer = node.receive(PATIENCE_S)
    assert answer.decisions.answers_sequence == 41
    assert answer.decisions.rnti.tolist() == [0x4601, 0x4602, 0x4603]
    [request] = node.requests
    assert request.request == RicRequest(123, 7, 200), "the subscription's ids, so that the answer finds its way back"
    assert request.acknowledge
    answer.outcome.set_result(Counter(accepted=2, unknown_ue=1))
    eventually(lambda: xapp.stats().outcomes == {"accepted": 2, "unknown_ue": 1})
    assert xapp.xapp._transport.controls == {"sent": 1, "acknowledged": 1}
    assert xapp.stats().lost == {}


@needs_librmr
@pytest.mark.parametrize(
    ("cause", "word"),
    [
        (("ricRequest", "control-failed-to-execute"), "ric_request_control_failed_to_execute"),
        (("ricRequest", "request-id-unknown"), "ric_request_request_id_unknown"),
        (("ricService", "ran-function-not-supported"), "ric_service_ran_function_not_supported"),
        (("transport", "unspecified"), "transport_unspecified"),
        (("misc", "control-processing-overload"), "misc_control_processing_overload"),
    ],
)
def test_a_failure_is_counted_by_its_cause_for_all_its_ues(node, running, make_report, eventually, cause, word):
    xapp = running()
    node.fail_with = [cause]
    publish(node, make_report(ues=4))
    eventually(lambda: xapp.stats().outcomes == {word: 4})
    assert xapp.xapp._transport.controls == {"sent": 1, "failed": 1}


@needs_librmr
def test_a_failure_with_an_outcome_is_counted_by_what_the_outcome_says(node, running, make_report, eventually):
    xapp = running()
    publish(node, make_report(ues=2))
    node.receive(PATIENCE_S).outcome.set_result(Counter(expired=2))
    eventually(lambda: xapp.stats().outcomes == {"accepted": 0, "expired": 2})
    assert xapp.xapp._transport.controls["failed"] == 1


@needs_librmr
def test_missing_and_late_answers_are_counted(node, running, make_report, eventually):
    xapp = running(rmr={"ack_timeout_s": 0.3})
    node.silent = True
    publish(node, make_report())
    eventually(lambda: node.requests)
    eventually(lambda: xapp.stats().lost == {"control_not_acknowledged": 1})
    node.reply(node.requests[0], None, None)
    eventually(lambda: xapp.stats().lost == {"control_not_acknowledged": 1, "answer_unmatched": 1})
    assert xapp.xapp._transport.controls == {"sent": 1, "timed_out": 1}


@needs_librmr
def test_without_call_process_ids_answers_are_taken_in_order(node, running, make_report, eventually):
    xapp = running()
    node.silent = True
    for sequence, ues in ((1, 1), (2, 5)):
        publish(node, make_report(sequence=sequence, ues=ues))
        eventually(lambda sequence=sequence: len(node.requests) == sequence)
    first = ControlAnswer(node.requests[0].request, None, None, ("misc", "unspecified"))
    node.port.send(rmr.CONTROL_FAILURE, e2ap.encode_control_answer(first), 7, MEID)
    eventually(lambda: xapp.stats().outcomes == {"misc_unspecified": 1})


@needs_librmr
def test_no_answer_is_waited_for_where_none_is_asked_for(node, running, make_report, eventually):
    xapp = running(rmr={"acknowledge": False, "ack_timeout_s": 0.3})
    publish(node, make_report())
    assert node.receive(PATIENCE_S) is not None
    assert not node.requests[0].acknowledge
    time.sleep(0.4)
    assert xapp.stats().lost == {}


@needs_librmr
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda pdu: pdu[: len(pdu) // 2], "malformed_e2ap"),
        (lambda pdu: b"\x00\x04" + pdu[2:], "not_an_indication"),
        (lambda pdu: e2ap.encode_control_answer(ControlAnswer(RicRequest(1, 7, 1), None)), "not_an_indication"),
        (lambda pdu: bytes(200_000), "oversized"),
    ],
    ids=["truncated", "another procedure", "another message", "oversized"],
)
def test_other_messages_than_indications_are_dropped_by_reason_and_the_next_is_served(
    node, running, make_report, eventually, damage, reason
):
    xapp = running()
    pdu = e2ap.encode_indication(e2ap.Indication(RicRequest(123, 7, 200), 1, *encode_indication(make_report(), NODE)))
    node.send_pdu(damage(pdu), 7)
    eventually(lambda: xapp.stats().dropped == {reason: 1})
    publish(node, make_report())
    assert node.receive(PATIENCE_S) is not None


@needs_librmr
def test_an_answer_that_cannot_be_read_is_counted(node, running, eventually):
    xapp = running()
    node.port.send(rmr.CONTROL_ACK, b"nonsense", 7, MEID)
    eventually(lambda: xapp.stats().lost == {"answer_malformed_e2ap": 1})


@needs_librmr
def test_an_indication_of_a_subscription_that_is_not_ours_is_dropped(node, running, make_report, eventually):
    xapp = running()
    xapp.xapp._transport.subscribed = lambda meid, instance_id: (meid, instance_id) == (MEID, 8)
    publish(node, make_report())
    eventually(lambda: xapp.stats().dropped == {"unknown_subscription": 1})
    node.subscribe(8)
    publish(node, make_report(sequence=2))
    assert node.receive(PATIENCE_S) is not None


@needs_librmr
def test_cells_that_were_not_asked_for_are_dropped(node, running, make_report, eventually):
    xapp = running(cells=["mine"])
    publish(node, make_report())
    eventually(lambda: xapp.stats().dropped == {"not_subscribed": 1})
    publish(node, replace(make_report(), cell_id="mine"))
    assert node.receive(PATIENCE_S).decisions.cell_id == "mine"


@needs_librmr
def test_the_health_check_is_answered_with_the_actual_state(node, running):
    xapp = running()
    assert node.health == b"OK\n"
    xapp.xapp._transport.healthy = lambda: "not registered"
    assert node.health_check(PATIENCE_S) is not None
    assert node.health == b"ERROR not registered\n"


@needs_librmr
def test_a_node_that_restarts_under_a_new_subscription_is_answered_there(node, running, make_report):
    """As after a restart of the E2 termination: sequence and instance begin anew, the clock goes on."""
    running()
    for sequence in (50, 51):
        publish(node, make_report(sequence=sequence))
        node.receive(PATIENCE_S).accept()
    node.subscribe(9)
    publish(node, make_report(sequence=1, timestamp_us=10**9))
    assert node.receive(PATIENCE_S).decisions.answers_sequence == 1
    assert node.requests[-1].request.instance_id == 9


@needs_librmr
@pytest.mark.slow
def test_in_a_burst_the_newest_is_decided_and_every_other_counted(node, running, make_report, eventually):
    xapp = running()
    reports = [e2ap_of(make_report(sequence=sequence, ues=20)) for sequence in range(1, 5001)]
    for pdu in reports:
        node.send_pdu(pdu, 7)
    answers = []
    while not answers or answers[-1].decisions.answers_sequence < 5000:
        answers.append(node.receive(PATIENCE_S))
        assert answers[-1] is not None, "the newest was not decided on"
        answers[-1].accept()
    eventually(lambda: not xapp.xapp._inbox._waiting)
    stats = xapp.stats()
    dropped = stats.dropped.get("superseded", 0) + stats.lost.get("rmr_queue_full", 0)
    assert stats.indications + dropped + node.dropped["rmr_not_sent"] == 5000
    assert stats.indications == len(answers)


def e2ap_of(report):
    return e2ap.encode_indication(e2ap.Indication(RicRequest(123, 7, 200), 1, *encode_indication(report, NODE)))
