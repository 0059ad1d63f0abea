"""The E2 node's end of gRPC: serves `E2Service` to one xApp, and hands the replay its answers.

`E2Node` is the server, `RemoteXapp` the `Controller` on top of it, or of any other `Node`: a report goes out as octet
strings, the decisions that come back are decoded here, and their outcome is sent to the xApp as a ControlOutcome.
"""

import queue
import sys
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

import grpc

from distila.schemas import e2_service_v1_pb2 as service_pb
from distila.schemas import e2sm_v1_pb2 as pb
from distila.schemas.e2_service_v1_pb2_grpc import E2ServiceServicer, add_E2ServiceServicer_to_server
from distila.xapp.e2.codec import Identity, Rejected, check_envelope, decode_control, encode_indication
from distila.xapp.e2.tls import TlsConfig
from distila.xapp.e2.transport import split_endpoint
from distila.xapp.errors import InputError
from distila.xapp.kpi.report import Decisions, KpiReport
from distila.xapp.stats import LatencyRecorder

_OUTCOME_WAIT_S: Final = 5.0
_MAX_UNANSWERED: Final = 3
_IDLE_S: Final = 0.1
_SWITCH_INTERVAL_S: Final = 0.0002


@dataclass(slots=True)
class Answer:
    """A control message that waits for its outcome."""

    decisions: Decisions
    arrived_ns: int
    outcome: "futures.Future[Counter[str]]" = field(default_factory=futures.Future)

    def accept(self) -> None:
        """Answer that every decision was accepted."""
        self.outcome.set_result(Counter(accepted=len(self.decisions.rnti)))


class Node(Protocol):
    """An E2 node as `RemoteXapp` needs it, over any transport; see `E2Node`."""

    dropped: Counter[str]
    rejected: Counter[str]

    @property
    def has_subscriber(self) -> bool: ...  # noqa: D102

    def publish(self, header: bytes, message: bytes, cell_id: str = "") -> None: ...  # noqa: D102

    def receive(self, timeout_s: float) -> Answer | None: ...  # noqa: D102


class E2Node(E2ServiceServicer):
    """A gRPC server that stands in for an E2 node, for one subscribed xApp at a time.

    Args:
        endpoint: ``host:port`` to listen on; port 0 takes a free one.
        tls: None for plain text.

    Raises:
        InputError: it cannot listen on the endpoint.
    """

    def __init__(self, endpoint: str = "127.0.0.1:0", tls: TlsConfig | None = None) -> None:
        # The newest indication of each cell that is not sent yet.
        self._unsent: OrderedDict[str, service_pb.Indication] = OrderedDict()
        self._published = threading.Condition()
        self._over = False
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._subscribed = threading.Event()
        self._busy = threading.Lock()
        self.dropped: Counter[str] = Counter()  # indications that were not sent
        self.rejected: Counter[str] = Counter()  # control messages that could not be read
        # The threads of the streams must run while the DU computes.
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        # Two long-lived streams per xApp, one more pair so that a second xApp is rejected instead of left waiting.
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)])
        add_E2ServiceServicer_to_server(self, self._server)
        try:
            self._host, _ = split_endpoint(endpoint)
        except ValueError as error:
            raise InputError(f"cannot listen on {endpoint!r}: {error}, 0 for any") from None
        try:
            if tls is None:
                self.port = self._server.add_insecure_port(endpoint)
            else:
                self.port = self._server.add_secure_port(endpoint, tls.server_credentials())
        except RuntimeError:
            raise InputError(f"cannot listen on {endpoint}: in use, or not an address of this machine") from None
        self._server.start()

    def Subscribe(  # noqa: N802  # the name is the service's
        self, request: service_pb.SubscribeRequest, context: grpc.ServicerContext
    ) -> Iterator[service_pb.Indication]:
        """Stream indications until `end`."""
        try:
            check_envelope(request.envelope)
        except Rejected as rejection:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(rejection))
        if not self._busy.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "another xApp is subscribed")
        try:
            self._subscribed.set()
            while context.is_active():
                cell_id, indication = self._next_unsent()
                if indication is not None and request.cell_ids and cell_id not in request.cell_ids:
                    self.dropped["not_subscribed"] += 1
                elif indication is not None:
                    yield indication
                elif self._over:
                    return
        finally:
            self._subscribed.clear()
            self._busy.release()

    def Control(  # noqa: N802  # likewise
        self, request_iterator: Iterator[service_pb.ControlRequest], context: grpc.ServicerContext
    ) -> Iterator[service_pb.ControlResponse]:
        """Read control messages; answer each with its outcome, once the DU has handled it."""
        outcomes: queue.SimpleQueue[pb.ControlOutcome | None] = queue.SimpleQueue()
        # A thread of its own: a message that waits for its outcome must not keep the next from being read and stamped.
        threading.Thread(target=self._read_controls, args=(request_iterator, outcomes), daemon=True).start()
        while (outcome := outcomes.get()) is not None:
            yield service_pb.ControlResponse(outcome=outcome.SerializeToString())

    def _read_controls(
        self,
        requests: Iterator[service_pb.ControlRequest],
        outcomes: "queue.SimpleQueue[pb.ControlOutcome | None]",
    ) -> None:
        """Hand every control message to the DU; its outcome goes to ``outcomes``, None after the last."""
        open_answers: deque[Answer] = deque()
        try:
            for request in requests:
                arrived_ns = time.perf_counter_ns()
                try:
                    answer = Answer(decode_control(request.header, request.message), arrived_ns)
                except Rejected as rejection:
                    self.rejected[rejection.reason] += 1
                    outcomes.put(rejection_outcome(rejection))
                    continue
                decisions = answer.decisions
                answer.outcome.add_done_callback(partial(_send_outcome, outcomes, decisions))
                self._answers.put(answer)
                open_answers.append(answer)
                while open_answers and open_answers[0].outcome.done():
                    open_answers.popleft()
        except grpc.RpcError:
            # The xApp disconnected; what it had sent still gets its outcome.
            pass
        futures.wait([answer.outcome for answer in open_answers], _OUTCOME_WAIT_S)
        outcomes.put(None)

    @property
    def address(self) -> str:
        """``host:port`` at which an xApp on this machine reaches the node."""
        host = "127.0.0.1" if self._host in ("0.0.0.0", "[::]", "") else self._host
        return f"{host}:{self.port}"

    def wait_for_subscriber(self, timeout_s: float) -> bool:
        """Whether an xApp has subscribed in time."""
        return self._subscribed.wait(timeout_s)

    @property
    def has_subscriber(self) -> bool:
        """Whether an xApp is subscribed now."""
        return self._subscribed.is_set()

    def publish(self, header: bytes, message: bytes, cell_id: str = "") -> None:
        """Send an indication to the subscriber; it replaces an unsent one of the same cell, which is counted."""
        with self._published:
            if cell_id in self._unsent:
                self.dropped["overtaken"] += 1
            self._unsent[cell_id] = service_pb.Indication(header=header, message=message)
            self._published.notify()

    def _next_unsent(self) -> tuple[str, service_pb.Indication | None]:
        """Cell and indication that have waited longest; None if there is none for a while."""
        with self._published:
            if not self._unsent and not self._over:
                self._published.wait(_IDLE_S)
            return self._unsent.popitem(last=False) if self._unsent else ("", None)

    def receive(self, timeout_s: float) -> Answer | None:
        """The next control message, or None if none arrives in time."""
        try:
            return self._answers.get(timeout=timeout_s) if timeout_s > 0 else self._answers.get_nowait()
        except queue.Empty:
            return None

    def end(self, grace_s: float = 2.0) -> None:
        """End the stream of indications, then stop the server."""
        with self._published:
            self._over = True
            self._published.notify_all()
        while (answer := self.receive(0)) is not None:
            answer.outcome.set_result(Counter(not_ready=len(answer.decisions.rnti)))
        self._server.stop(grace_s).wait()


def _send_outcome(
    outcomes: "queue.SimpleQueue[pb.ControlOutcome | None]", decisions: Decisions, done: "futures.Future[Counter[str]]"
) -> None:
    outcomes.put(outcome_of(decisions, done.result()))


def rejection_outcome(rejection: Rejected) -> pb.ControlOutcome:
    """The outcome that is sent to the xApp for a control message that could not be read."""
    unsupported = rejection.reason in ("service_model", "encoding")
    cause = pb.CAUSE_SERVICE_MODEL_NOT_SUPPORTED if unsupported else pb.CAUSE_MALFORMED
    return pb.ControlOutcome(rejections=[pb.Rejection(cause=cause)])


def outcome_of(decisions: Decisions, counted: Counter[str]) -> pb.ControlOutcome:
    """The outcome that is sent to the xApp, given how many of its decisions were accepted, and rejected by reason."""
    return pb.ControlOutcome(
        cell_id=decisions.cell_id,
        answers_sequence=decisions.answers_sequence,
        accepted=counted["accepted"],
        rejections=[
            pb.Rejection(cause=f"CAUSE_{reason.upper()}", ues=count)
            for reason, count in sorted(counted.items())
            if reason != "accepted"
        ],
    )


class RemoteXapp:
    """The xApp at the other end of gRPC, as a `distila.replay.closed_loop.Controller`.

    Args:
        node: the server that the xApp is subscribed to.
        lockstep: wait for the answer to each report, as a replay at full speed must; False: read what has arrived.
        answer_timeout_s: in lockstep, how long to wait before the report counts as ``unanswered``.
    """

    def __init__(self, node: Node, lockstep: bool, answer_timeout_s: float = 2.0) -> None:
        self._node = node
        self._lockstep = lockstep
        self._answer_timeout_s = answer_timeout_s
        self._identity = Identity(app_id="distila-replay", e2_node_id="replay")
        self._sent_ns: dict[int, int] = {}
        self._open: dict[int, Answer] = {}
        self.unanswered = 0
        self.answered = 0
        self.decisions = 0
        self.arm: tuple[str, str] | None = None
        """Name and policy digest of the arm that the latest control message carried."""
        self._unanswered_in_a_row = 0
        self.latency = LatencyRecorder()

    def exchange(self, report: KpiReport | None) -> Iterable[Decisions]:
        """See `Controller`.

        Raises:
            InputError: the xApp ended its subscription, or has stopped answering.
        """
        if report is not None:
            header, message = encode_indication(report, self._identity)
            self._sent_ns[report.sequence] = time.perf_counter_ns()
            self._node.publish(header, message, report.cell_id)
        if report is None or not self._lockstep:
            if not self._node.has_subscriber:
                raise InputError("the xApp ended its subscription in the middle of the replay")
            while (answer := self._node.receive(0)) is not None:
                yield self._arrived(answer)
            return
        deadline = time.monotonic() + self._answer_timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            answer = self._node.receive(min(left_s, 0.1))
            if answer is not None:
                yield self._arrived(answer)
                if answer.decisions.answers_sequence >= report.sequence:
                    return
            elif not self._node.has_subscriber:
                raise InputError("the xApp ended its subscription in the middle of the replay")
        del self._sent_ns[report.sequence]
        self.unanswered += 1
        self._unanswered_in_a_row += 1
        if self._unanswered_in_a_row >= _MAX_UNANSWERED:
            waited_s = _MAX_UNANSWERED * self._answer_timeout_s
            raise InputError(f"the xApp has not answered a report for {waited_s:.0f} s; its log says why")

    def finish(self) -> None:
        """Count the reports without an answer: the replay is over, so none will arrive."""
        self.unanswered += len(self._sent_ns)
        self._sent_ns.clear()

    def outcome(self, decisions: Decisions, outcome: Counter[str]) -> None:
        """See `Controller`."""
        answer = self._open.pop(id(decisions), None)
        if answer is not None:
            answer.outcome.set_result(outcome)

    def _arrived(self, answer: Answer) -> Decisions:
        self._unanswered_in_a_row = 0
        self.answered += 1
        self.decisions += len(answer.decisions.rnti)
        if answer.decisions.arms:
            self.arm = answer.decisions.arms[0]
        sent_ns = self._sent_ns.pop(answer.decisions.answers_sequence, None)
        if sent_ns is not None:
            self.latency.add((answer.arrived_ns - sent_ns) / 1000)
        # Reports that were dropped on the way are never answered.
        for sequence in [s for s in self._sent_ns if s < answer.decisions.answers_sequence]:
            del self._sent_ns[sequence]
            self.unanswered += 1
        self._open[id(answer.decisions)] = answer
        return answer.decisions
