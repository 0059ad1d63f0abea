"""A1 policies: requests of the A1 mediator over RMR, which are checked, applied to the loop, and answered.

The mediator writes the policy type id as a string but reads it as a number; an answer with a string would crash it.
"""

import logging
import queue
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distila.xapp.e2 import rmr
from distila.xapp.e2.rmr import RmrMessage, RmrPort
from distila.xapp.errors import InputError, first_error
from distila.xapp.ric.a1_policy import A1Policy
from distila.xapp.ric.reload import Reloader
from distila.xapp.ric.worker import Worker

log = logging.getLogger(__name__)

_QUEUED: Final = 256
_QUERY_AGAIN_S: Final = 1.0


Operation = Literal["CREATE", "UPDATE", "DELETE"]
Status = Literal["OK", "DELETED", "ERROR"]

Apply = Callable[[Operation, str, str], None]
"""Applies a policy, given operation, instance id and payload; raises InputError or ValidationError if it cannot."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore")

    operation: Operation
    policy_type_id: int = Field(ge=0)
    policy_instance_id: str = Field(min_length=1)
    payload: str = ""


class _Query(BaseModel):
    policy_type_id: int


class _Answer(BaseModel):
    policy_type_id: int
    policy_instance_id: str
    handler_id: str
    status: Status


class A1:
    """Receives A1 policies and answers them.

    Args:
        port: the RMR endpoint.
        handler_id: name of the xApp, in answers.

    Attributes:
        counts: requests and answers by result.
    """

    def __init__(self, port: RmrPort, handler_id: str) -> None:
        self._port = port
        self._handler_id = handler_id
        self._types: dict[int, Apply] = {}
        self._to_query: list[int] = []
        self._requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._worker = Worker("ric-a1", self._step)
        self.counts: Counter[str] = Counter()
        port.handle(rmr.A1_POLICY_REQ, self._received)

    def serve(self, policy_type: int, apply: Apply) -> None:
        """Accept policies of a type; ``apply`` is called on the A1 thread. To be called before `start`."""
        self._types[policy_type] = apply
        self._to_query.append(policy_type)

    def start(self) -> None:
        """Start: query the existing policies, then serve requests."""
        self._worker.start()

    def stop(self, timeout_s: float) -> None:
        """Stop the thread."""
        self._worker.stop(timeout_s)

    def _received(self, message: RmrMessage) -> None:
        # On the receive thread, which loading a policy bundle would block for too long.
        if self._requests.qsize() >= _QUEUED:
            self.counts["queue_full"] += 1
            return
        self._requests.put(message.payload)
        self._worker.wake()

    def _step(self) -> float | None:
        while self._to_query and self._port.ready:
            query = _Query(policy_type_id=self._to_query[0])
            if not self._port.send(rmr.A1_POLICY_QUERY, query.model_dump_json().encode()):
                self.counts["query_not_sent"] += 1
                break
            self.counts["queried"] += 1
            del self._to_query[0]
        while True:
            try:
                payload = self._requests.get_nowait()
            except queue.Empty:
                return _QUERY_AGAIN_S if self._to_query else None
            self._serve(payload)

    def _serve(self, payload: bytes) -> None:
        try:
            request = _Request.model_validate_json(payload)
        except ValidationError as error:
            # An answer needs the policy type and instance.
            self.counts["malformed"] += 1
            log.warning("A1: not a policy request: %s", first_error(error))
            return
        try:
            status = self._apply(request)
        except ValidationError as error:
            status = self._rejected(request, first_error(error))
        except InputError as error:
            status = self._rejected(request, str(error))
        self.counts[status.lower()] += 1
        answer = _Answer(
            policy_type_id=request.policy_type_id,
            policy_instance_id=request.policy_instance_id,
            handler_id=self._handler_id,
            status=status,
        )
        if not self._port.send(rmr.A1_POLICY_RESP, answer.model_dump_json().encode()):
            self.counts["answer_not_sent"] += 1

    def _apply(self, request: _Request) -> Status:
        apply = self._types.get(request.policy_type_id)
        if apply is None:
            known = ", ".join(str(policy_type) for policy_type in self._types)
            raise InputError(f"policy type {request.policy_type_id} is unknown; this xApp takes {known}")
        apply(request.operation, request.policy_instance_id, request.payload)
        return "DELETED" if request.operation == "DELETE" else "OK"

    def _rejected(self, request: _Request, why: str) -> Status:
        log.warning("A1 policy %s rejected: %s", request.policy_instance_id, why)
        return "ERROR"


def link_adaptation_policies(reloader: Reloader) -> Apply:
    """The handler of the policy type of `distila.xapp.ric.a1_policy`."""

    def apply(operation: Operation, ident: str, payload: str) -> None:
        if operation == "DELETE":
            reloader.remove(ident)
            log.info("A1 policy %s deleted", ident)
            return
        policy = A1Policy.model_validate_json(payload)
        reloader.put(ident, policy)
        log.info("A1 policy %s in force: %s", ident, policy.model_dump_json(exclude_defaults=True))

    return apply
