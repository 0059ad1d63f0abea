"""A1 policies: requests of the A1 mediator over RMR, checked, brought to the loop, and answered.

The mediator writes the policy type id as a string and reads it as a number: an answer with a string would end it.
"""

import json
import logging
import queue
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distila.xapp.e2 import rmr
from distila.xapp.e2.rmr import RmrMessage, RmrPort
from distila.xapp.errors import InputError, first_error
from distila.xapp.ric.a1_policy import A1Policy
from distila.xapp.ric.steering import Steering
from distila.xapp.ric.worker import Worker

log = logging.getLogger(__name__)

_QUEUED: Final = 256
_QUERY_AGAIN_S: Final = 1.0


Operation = Literal["CREATE", "UPDATE", "DELETE"]

Apply = Callable[[Operation, str, str], None]
"""Takes operation, policy instance id and payload; raises InputError or ValidationError where it cannot be used."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore")

    operation: Operation
    policy_type_id: int = Field(ge=0)
    policy_instance_id: str = Field(min_length=1)
    payload: str = ""


class A1:
    """Takes A1 policies.

    Args:
        port: the RMR endpoint.
        handler_id: name of the xApp, in answers.

    Attributes:
        counts: requests and answers by what came of them.
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
        """Take policies of a type; ``apply`` is called on a thread of its own. Before `start`."""
        self._types[policy_type] = apply
        self._to_query.append(policy_type)

    def start(self) -> None:
        """Begin: ask for the policies there are, then take what comes."""
        self._worker.start()

    def stop(self, timeout_s: float) -> None:
        """End."""
        self._worker.stop(timeout_s)

    def _received(self, message: RmrMessage) -> None:
        # On the receive thread; to load a policy bundle takes longer than it may be held up.
        if self._requests.qsize() >= _QUEUED:
            self.counts["queue_full"] += 1
            return
        self._requests.put(message.payload)
        self._worker.wake()

    def _step(self) -> float | None:
        while self._to_query and self._port.ready:
            query = json.dumps({"policy_type_id": self._to_query[0]}).encode()
            if not self._port.send(rmr.A1_POLICY_QUERY, query):
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
            # Without type and instance there is nothing an answer could be about.
            self.counts["malformed"] += 1
            log.warning("A1: not a policy request: %s", first_error(error))
            return
        try:
            status = self._do(request)
        except ValidationError as error:
            status = self._refused(request, first_error(error))
        except InputError as error:
            status = self._refused(request, str(error))
        self.counts[status.lower()] += 1
        answer: dict[str, Any] = {
            "policy_type_id": request.policy_type_id,
            "policy_instance_id": request.policy_instance_id,
            "handler_id": self._handler_id,
            "status": status,
        }
        if not self._port.send(rmr.A1_POLICY_RESP, json.dumps(answer).encode()):
            self.counts["answer_not_sent"] += 1

    def _do(self, request: _Request) -> str:
        apply = self._types.get(request.policy_type_id)
        if apply is None:
            known = ", ".join(str(policy_type) for policy_type in self._types)
            raise InputError(f"policy type {request.policy_type_id}; this xApp takes {known}")
        apply(request.operation, request.policy_instance_id, request.payload)
        return "DELETED" if request.operation == "DELETE" else "OK"

    def _refused(self, request: _Request, why: str) -> str:
        log.warning("A1 policy %s refused: %s", request.policy_instance_id, why)
        return "ERROR"


def applied_to(steering: Steering) -> Apply:
    """The policy type of `distila.xapp.ric.a1_policy`, brought to ``steering``."""

    def apply(operation: Operation, ident: str, payload: str) -> None:
        if operation == "DELETE":
            steering.remove(ident)
            log.info("A1 policy %s deleted", ident)
            return
        policy = A1Policy.model_validate_json(payload)
        steering.put(ident, policy)
        log.info("A1 policy %s in force: %s", ident, policy.model_dump_json(exclude_defaults=True))

    return apply
