"""The A1 mediator: policies over RMR to the xApp, its answers back, read as the real one reads them."""

import json
from typing import Any

from distila.xapp.e2 import rmr
from distila.xapp.e2.rmr import RmrMessage, RmrPort


class A1Mediator:
    """See the module.

    Args:
        port: RMR port to listen on.

    Attributes:
        instances: policy bodies by type and instance.
        status: what the xApp answered last, by type and instance.
        queries: policy types asked for.
        fatal: answers that would have ended the real mediator, which trusts their types.
    """

    def __init__(self, port: int) -> None:
        self.instances: dict[tuple[int, str], str] = {}
        self.status: dict[tuple[int, str], str] = {}
        self.queries: list[int] = []
        self.fatal: list[bytes] = []
        self.port = RmrPort(port)
        self.port.handle(rmr.A1_POLICY_RESP, self._response)
        self.port.handle(rmr.A1_POLICY_QUERY, self._query)
        self.port.start()

    def put(self, policy_type: int, instance: str, body: str) -> None:
        """Create a policy instance, or update it."""
        known = (policy_type, instance) in self.instances
        self.instances[policy_type, instance] = body
        self.send("UPDATE" if known else "CREATE", policy_type, instance, body)

    def delete(self, policy_type: int, instance: str) -> None:
        """Delete a policy instance."""
        self.instances.pop((policy_type, instance), None)
        self.send("DELETE", policy_type, instance, "")

    def send(self, operation: str, policy_type: int, instance: str, body: str) -> None:
        """Send a request, everything in it a string, as the mediator does."""
        message = {
            "operation": operation,
            "policy_type_id": str(policy_type),
            "policy_instance_id": instance,
            "payload": body,
        }
        self.send_bytes(json.dumps(message).encode(), policy_type)

    def send_bytes(self, payload: bytes, policy_type: int) -> None:
        """Send what may or may not be a request."""
        self.port.send(rmr.A1_POLICY_REQ, payload, sub_id=policy_type)

    def stop(self) -> None:
        """End."""
        self.port.close()

    def _response(self, message: RmrMessage) -> None:
        data: dict[str, Any] = json.loads(message.payload)
        strings = [data.get(name) for name in ("policy_instance_id", "handler_id", "status")]
        number = data.get("policy_type_id")
        if (
            isinstance(number, bool)
            or not isinstance(number, int | float)
            or not all(isinstance(s, str) for s in strings)
        ):
            self.fatal.append(message.payload)
            return
        self.status[int(number), data["policy_instance_id"]] = data["status"]

    def _query(self, message: RmrMessage) -> None:
        number = json.loads(message.payload).get("policy_type_id")
        if isinstance(number, bool) or not isinstance(number, int | float):
            self.fatal.append(message.payload)
            return
        self.queries.append(int(number))
        for (policy_type, instance), body in self.instances.items():
            if policy_type == number:
                self.send("CREATE", policy_type, instance, body)
