"""E2 over a real socket: indications to a running xApp, its decisions back, outcomes to its counters; TLS; faults."""

import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import grpc
import pytest

from distila.replay.e2_node import E2Node
from distila.schemas import e2_service_v1_pb2 as service_pb
from distila.schemas import e2sm_v1_pb2 as pb
from distila.schemas.e2_service_v1_pb2_grpc import E2ServiceStub
from distila.xapp.app import Xapp, XappSummary
from distila.xapp.config import RunConfig
from distila.xapp.e2.codec import Identity, encode_indication
from distila.xapp.e2.grpc_client import GrpcClient
from distila.xapp.e2.inbox import Inbox
from distila.xapp.e2.tls import TlsConfig
from distila.xapp.errors import InputError
from distila.xapp.kpi.report import MCS

PATIENCE_S = 30.0
NODE = Identity(app_id="node", e2_node_id="gnb-7")


def config(port, **e2):
    return RunConfig.model_validate(
        {"guard": {"deadline_us": None}, "e2": {"endpoint": f"127.0.0.1:{port}", **e2}, "instance_id": "distila-3"}
    )


def ask(node, report):
    """Send a report; the answer to it, which still waits for its outcome."""
    assert node.wait_for_subscriber(PATIENCE_S)
    node.publish(*encode_indication(report, NODE), report.cell_id)
    answer = node.receive(PATIENCE_S)
    assert answer is not None, "the xApp did not answer"
    return answer


def tell(answer, **outcome):
    answer.outcome.set_result(Counter(outcome))


def test_a_subscription_to_some_cells_brings_only_those(nodes, start, make_report):
    node = nodes()
    start(config(node.port, cells=["mine"]))
    assert node.wait_for_subscriber(PATIENCE_S)
    for sequence, cell_id in enumerate(["other", "mine"], start=1):
        report = replace(make_report(sequence=sequence), cell_id=cell_id)
        node.publish(*encode_indication(report, NODE), cell_id)
    answer = node.receive(PATIENCE_S)
    assert answer is not None
    assert answer.decisions.cell_id == "mine"
    assert node.dropped == {"not_subscribed": 1}
    tell(answer, accepted=1)


def test_an_indication_goes_out_its_decision_comes_back_and_the_outcome_is_counted(nodes, start, make_report):
    node = nodes()
    running = start(config(node.port))
    first = ask(node, make_report(sequence=41, ues=3))
    assert first.decisions.answers_sequence == 41
    assert first.decisions.rnti.tolist() == [0x4601, 0x4602, 0x4603]
    assert first.decisions.kind.tolist() == [MCS] * 3
    assert first.decisions.arms == [("policy", running.xapp.loop.bundle.digest)]
    tell(first, accepted=2, unknown_ue=1)
    tell(ask(node, make_report(sequence=42, ues=3)), stale=3)
    tell(ask(node, make_report(sequence=43, ues=3)), accepted=3)
    node.end()
    stats = running.ended()
    assert running.error is None
    assert stats.outcomes == {"accepted": 5, "stale": 3, "unknown_ue": 1}
    assert (stats.indications, stats.decisions) == (3, 9)
    assert (stats.dropped, stats.lost) == ({}, {})


def test_a_bad_indication_is_counted_and_the_next_one_answered(nodes, start, make_report, eventually):
    node = nodes()
    running = start(config(node.port))
    assert node.wait_for_subscriber(PATIENCE_S)
    header, message = encode_indication(make_report(), NODE)
    node.publish(b"\xff", message)
    eventually(lambda: running.stats().dropped == {"malformed_header": 1})
    node.publish(header, message[:-1])
    eventually(lambda: running.stats().dropped == {"malformed_header": 1, "malformed_message": 1})
    ask(node, make_report()).accept()
    node.end()
    assert running.ended().indications == 1


# --- TLS ---


def files(folder, name=None, ca="ca"):
    pair = {"cert_file": folder / f"{name}.pem", "key_file": folder / f"{name}.key"} if name else {}
    return {**({"ca_file": folder / f"{ca}.pem"} if ca else {}), **pair}


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(nodes, start, make_report, certificates, mutual):
    node = nodes(tls=TlsConfig(**files(certificates, "node", ca="ca" if mutual else None)))
    running = start(config(node.port, tls=files(certificates, "xapp" if mutual else None)))
    ask(node, make_report()).accept()
    node.end()
    assert running.ended().outcomes == {"accepted": 2}


@pytest.mark.parametrize(
    ("client_ca", "client"),
    [("other", "xapp"), ("ca", None), ("ca", "spy"), (None, "xapp"), ("plain text", None)],
    ids=["a node signed by another CA", "no certificate", "certificate of another CA", "the system's CAs", "no TLS"],
)
def test_mutual_tls_lets_nobody_else_in(nodes, start, make_report, certificates, eventually, client_ca, client):
    node = nodes(tls=TlsConfig(**files(certificates, "node")))
    tls = None if client_ca == "plain text" else files(certificates, client, ca=client_ca)
    running = start(config(node.port, tls=tls), exit_on_end=False)
    node.publish(*encode_indication(make_report(), NODE))
    eventually(lambda: running.stats().lost.get("connection_unavailable", 0) >= 2)
    assert not node.has_subscriber
    assert node.receive(0) is None
    running.stop.set()
    assert running.ended().indications == 0
    assert running.error is None


@pytest.mark.parametrize("field", ["ca_file", "cert_file", "key_file"])
def test_a_tls_file_that_cannot_be_read_is_named(certificates, tmp_path, field):
    tls = {**files(certificates, "node"), field: tmp_path / "missing.pem"}
    with pytest.raises(InputError, match=rf"^tls\.{field}: .*missing\.pem: No such file or directory$"):
        Xapp(config(1, tls=tls)).run(None)
    with pytest.raises(InputError, match=rf"^tls\.{field}: "):
        E2Node(tls=TlsConfig(**tls))


def test_a_certificate_that_is_none_is_named(certificates, tmp_path):
    (tmp_path / "node.pem").write_text("no certificate")
    with pytest.raises(InputError, match="cert_file"):
        E2Node(tls=TlsConfig(cert_file=tmp_path / "node.pem", key_file=certificates / "node.key"))


# --- the subscription ---


def test_another_major_version_of_the_service_model_is_rejected_in_one_line(nodes, start, monkeypatch):
    node, ours = nodes(), Identity.envelope

    def next_major(self):
        envelope = ours(self)
        envelope.service_model.version = "2.0"
        return envelope

    monkeypatch.setattr(Identity, "envelope", next_major)
    running = start(config(node.port), exit_on_end=False)
    running.ended()
    assert isinstance(running.error, InputError)
    assert str(running.error) == (
        f"E2 node 127.0.0.1:{node.port} rejected the subscription: FAILED_PRECONDITION: "
        "service model is 'distila-la' '2.0', expected distila-la 1.2"
    )
    assert not node.has_subscriber


def test_a_second_xapp_is_rejected_keeps_trying_and_takes_over_when_the_first_leaves(
    nodes, start, make_report, eventually
):
    node = nodes()
    first = start(config(node.port))
    ask(node, make_report(sequence=1)).accept()
    second = start(config(node.port))
    eventually(lambda: second.stats().lost.get("connection_resource_exhausted", 0) >= 2)
    ask(node, make_report(sequence=2)).accept()
    first.stop.set()
    assert first.ended().indications == 2
    # The node sees that the first one is gone when it next has something to send.
    node.publish(*encode_indication(make_report(sequence=3), NODE))
    eventually(lambda: not node.has_subscriber)
    tell(ask(node, make_report(sequence=4)), accepted=2)
    node.end()
    assert second.ended().outcomes == {"accepted": 2}
    # An answer may be on its way when the node ends, on a busy machine; then it is counted.
    assert set(second.stats().lost) - {"control_not_sent"} == {"connection_resource_exhausted"}


def test_a_subscriber_that_leaves_makes_room_at_once(nodes, start, make_report, eventually):
    node = nodes()
    first = start(config(node.port))
    ask(node, make_report()).accept()
    first.stop.set()
    first.ended()
    eventually(lambda: not node.has_subscriber, patience_s=2)


def test_when_the_node_restarts_the_xapp_comes_back_and_decides_again(nodes, start, make_report):
    node = nodes()
    running = start(config(node.port), exit_on_end=False)
    ask(node, make_report(sequence=500)).accept()
    node.end()
    again = nodes(f"127.0.0.1:{node.port}")
    answer = ask(again, make_report(sequence=1, timestamp_us=10**9))
    assert answer.decisions.answers_sequence == 1
    answer.accept()
    running.stop.set()
    stats = running.ended()
    assert running.error is None
    assert stats.indications == 2
    assert stats.noticed["node_restart"] == 1
    assert stats.lost["stream_ended"] >= 1


def test_a_port_in_use_is_rejected(nodes):
    node = nodes()
    with pytest.raises(InputError, match="in use"):
        nodes(f"127.0.0.1:{node.port}")


def test_a_control_that_cannot_be_sent_is_counted_as_lost(nodes, make_report):
    node, inbox = nodes(), Inbox()
    client = GrpcClient(f"127.0.0.1:{node.port}", Identity(), exit_on_end=True)
    client.start(inbox)
    assert node.wait_for_subscriber(PATIENCE_S)
    node.end()
    while not inbox.closed:
        inbox.take(PATIENCE_S)
    client.send(b"header", b"message")
    client.close()
    assert client.lost.total() == 1


def test_a_cause_that_this_version_does_not_know_is_counted():
    client = GrpcClient("127.0.0.1:1", Identity())
    outcome = pb.ControlOutcome(accepted=1, rejections=[pb.Rejection(cause=99, ues=2)])
    client._read_outcomes(iter([service_pb.ControlResponse(outcome=outcome.SerializeToString())] * 2))
    assert client.outcomes["accepted"] == 2
    assert client.outcomes.total() == 6


# --- the node's answer to a control message ---


def answers(node, *controls):
    """What the node answers to control messages, in order."""
    with grpc.insecure_channel(f"127.0.0.1:{node.port}") as channel:
        requests = iter([service_pb.ControlRequest(header=header, message=message) for header, message in controls])
        return [pb.ControlOutcome.FromString(response.outcome) for response in E2ServiceStub(channel).Control(requests)]


def test_a_control_message_that_the_node_cannot_use_is_answered_with_the_cause(nodes):
    node = nodes()
    envelope = Identity().envelope()
    envelope.service_model.version = "2.0"
    other_major = pb.ControlHeader(envelope=envelope).SerializeToString()
    good_header = pb.ControlHeader(envelope=Identity().envelope()).SerializeToString()
    outcomes = answers(node, (b"\xff", b""), (good_header, b"\xff"), (other_major, b""))
    causes = [[pb.Cause.Name(rejection.cause) for rejection in outcome.rejections] for outcome in outcomes]
    assert causes == [["CAUSE_MALFORMED"], ["CAUSE_MALFORMED"], ["CAUSE_SERVICE_MODEL_NOT_SUPPORTED"]]
    assert node.rejected == {"malformed_control": 2, "service_model": 1}
    assert node.receive(0) is None, "the DU sees none of them"


# --- the process ---


def test_sigterm_ends_distila_run_in_good_order_with_its_counters_on_stdout(nodes, make_report):
    node = nodes()
    command = [
        sys.executable,
        "-m",
        "distila.xapp.cli",
        "run",
        "--e2",
        f"127.0.0.1:{node.port}",
        "--no-deadline",
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            ask(node, make_report(ues=5)).accept()
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 0, err
    stats = XappSummary.model_validate_json(out)
    assert (stats.indications, stats.decisions, stats.dropped) == (1, 5, {})
    assert stats.outcomes == {"accepted": 5}
    assert "Traceback" not in err


def test_an_endpoint_that_is_none_is_named_in_one_line():
    command = [sys.executable, "-m", "distila.xapp.cli", "run", "--e2", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "nonsense" in done.stderr


class Deaf(E2Node):
    """A node whose control stream breaks at once, while it goes on sending indications."""

    def Control(self, request_iterator, context):  # noqa: N802  # the name is the service's
        context.abort(grpc.StatusCode.INTERNAL, "no control today")


def test_a_control_stream_that_breaks_alone_is_noticed_and_the_session_begins_anew(start, make_report, eventually):
    node = Deaf()
    try:
        running = start(config(node.port), exit_on_end=False)
        eventually(lambda: running.stats().lost.get("control_stream_internal", 0) >= 2)
    finally:
        node.end(0)


def test_the_outcome_of_one_decision_does_not_hold_up_the_next(nodes, start, make_report):
    node = nodes()
    start(config(node.port))
    first = ask(node, make_report(sequence=1))
    second = ask(node, make_report(sequence=2))
    assert (first.decisions.answers_sequence, second.decisions.answers_sequence) == (1, 2)
    tell(second, accepted=1)
    tell(first, accepted=1)
