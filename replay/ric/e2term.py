"""The E2 termination and the E2 node behind it: E2AP over RMR to an xApp, like the platform's own.

The counterpart over gRPC is `distila.replay.e2_node.E2Node`; the same controller drives both.
"""

import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from typing import Final

from distila.replay.e2_node import Answer, outcome_of, rejection_outcome
from distila.xapp.e2 import e2ap, rmr
from distila.xapp.e2.codec import Rejected, decode_control
from distila.xapp.e2.e2ap import ControlAnswer, ControlRequest, Indication, RicRequest
from distila.xapp.e2.rmr import RmrMessage, RmrPort
from distila.xapp.kpi.report import Decisions

RIC_REQUESTOR_ID: Final = 123
"""Requestor id of every subscription by the subscription manager."""


class E2Term:
    """The E2 termination with one E2 node.

    Args:
        port: RMR port to listen on; the route table in RMR_SEED_RT has routes to it and to the xApp.
        meid: RAN name of the node.
        ran_function_id: of distila's service model at the node.
        instance_id: of a static subscription, without a subscription manager; None: there is no subscription yet.
        environment: for librmr: where its routes are.

    Attributes:
        requests: control requests received, the latest last.
        dropped: indications that were not sent.
        rejected: control messages that could not be read.
        fail_with: answer the next control requests with RICcontrolFailure of these causes, in turn.
        silent: answer no control request.
        health: what the xApp answered to the latest health check.
    """

    def __init__(
        self,
        port: int,
        meid: str = "gnb_001_001_0001",
        ran_function_id: int = 200,
        instance_id: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        e2ap.load()
        # librmr reads the environment of the process when a port is opened.
        os.environ.update(environment or {})
        self.meid = meid
        self.ran_function_id = ran_function_id
        self.instance_id = instance_id
        self.requests: list[ControlRequest] = []
        self.dropped: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.fail_with: list[tuple[str, str]] = []
        self.silent = False
        self._static = instance_id is not None
        self._sequence = 0
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._subscribed = threading.Event()
        self.subscribe(instance_id)
        self._healthy = threading.Event()
        self.health = b""
        self.port = RmrPort(port)
        self.port.handle(rmr.CONTROL_REQ, self._control)
        self.port.handle(rmr.HEALTH_CHECK_RESP, self._health)
        self.port.start()

    def subscribe(self, instance_id: int | None) -> None:
        """Begin a subscription; None ends it."""
        self.instance_id = instance_id
        if instance_id is None:
            self._subscribed.clear()
        else:
            self._subscribed.set()

    @property
    def address(self) -> None:
        """None: an xApp reaches it by routes, not by an address."""

    def wait_for_subscriber(self, timeout_s: float) -> bool:
        """Whether an xApp has subscribed in time; with a static subscription, whether one answers a health check."""
        if self._static:
            return self.health_check(timeout_s) is not None
        return self._subscribed.wait(timeout_s)

    @property
    def has_subscriber(self) -> bool:
        """Whether an xApp is subscribed now."""
        return self._subscribed.is_set()

    def publish(self, header: bytes, message: bytes, cell_id: str = "") -> None:
        """Send an indication under the current subscription."""
        instance_id = self.instance_id
        if instance_id is None:
            self.dropped["not_subscribed"] += 1
            return
        self._sequence = (self._sequence + 1) % 65536
        request = RicRequest(RIC_REQUESTOR_ID, instance_id, self.ran_function_id)
        self.send_pdu(e2ap.encode_indication(Indication(request, 1, header, message, self._sequence)), instance_id)

    def send_pdu(self, pdu: bytes, instance_id: int) -> None:
        """Send octets in a message of the type RICindication."""
        if not self.port.send(rmr.INDICATION, pdu, instance_id, self.meid):
            self.dropped["rmr_not_sent"] += 1

    def health_check(self, timeout_s: float) -> float | None:
        """Send a health check, as the platform does; returns the round trip [s], None without an answer."""
        self._healthy.clear()
        start_s = time.perf_counter()
        if not self.port.send(rmr.HEALTH_CHECK_REQ, b"") or not self._healthy.wait(timeout_s):
            return None
        return time.perf_counter() - start_s

    def _health(self, received: RmrMessage) -> None:
        self.health = received.payload
        self._healthy.set()

    def receive(self, timeout_s: float) -> Answer | None:
        """The next control message, or None if none arrives in time."""
        try:
            return self._answers.get(timeout=timeout_s) if timeout_s > 0 else self._answers.get_nowait()
        except queue.Empty:
            return None

    def end(self) -> None:
        """Stop."""
        self._subscribed.clear()
        self.port.close()

    def _control(self, received: RmrMessage) -> None:
        try:
            control = e2ap.decode_control_request(received.payload)
        except Rejected as rejection:
            self.rejected[rejection.reason] += 1
            return
        self.requests.append(control)
        if self.silent:
            return
        if self.fail_with:
            self.reply(control, None, self.fail_with.pop(0))
            return
        try:
            decisions = decode_control(control.header, control.message)
        except Rejected as rejection:
            self.rejected[rejection.reason] += 1
            outcome = rejection_outcome(rejection).SerializeToString()
            self.reply(control, outcome, ("ricRequest", "control-message-invalid"))
            return
        answer = Answer(decisions, time.perf_counter_ns())
        answer.outcome.add_done_callback(partial(self._reply_with_outcome, control, decisions))
        self._answers.put(answer)

    def _reply_with_outcome(self, control: ControlRequest, decisions: Decisions, done: "Future[Counter[str]]") -> None:
        counted = done.result()
        cause = None if counted["accepted"] else ("ricRequest", "control-failed-to-execute")
        self.reply(control, outcome_of(decisions, counted).SerializeToString(), cause)

    def reply(self, control: ControlRequest, outcome: bytes | None, cause: tuple[str, str] | None) -> None:
        """Answer a control request: acknowledge it, or fail it if there is a cause."""
        if not control.acknowledge:
            return
        answer = ControlAnswer(control.request, control.call_process_id, outcome, cause)
        mtype = rmr.CONTROL_ACK if cause is None else rmr.CONTROL_FAILURE
        self.port.send(mtype, e2ap.encode_control_answer(answer), control.request.instance_id, self.meid)
