"""The A1 mediator: sends policies to the xApp over RMR, and reads its answers as the real one does."""

import json

from pydantic import JsonValue

from distila.xapp.e2 import rmr
from distila.xapp.e2.rmr import RmrMessage, RmrPort


class A1Mediator:
    """See the module.

    Args:
        port: RMR port to listen on.

    Attributes:
        instances: policy bodies by type and instance.
        status: the xApp's latest answer, by type and instance.
        queries: policy types that the xApp queried.
        fatal: answers with wrong types, which would crash the real mediator.
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
        """Send a request whose values are all strings, as the mediator does."""
        message = {
            "operation": operation,
            "policy_type_id": str(policy_type),
            "policy_instance_id": instance,
            "payload": body,
        }
        self.send_bytes(json.dumps(message).encode(), policy_type)

    def send_bytes(self, payload: bytes, policy_type: int) -> None:
        """Send octets in a message of the type of a request."""
        self.port.send(rmr.A1_POLICY_REQ, payload, sub_id=policy_type)

    def stop(self) -> None:
        """Close the RMR port."""
        self.port.close()

    def _response(self, message: RmrMessage) -> None:
        data: dict[str, JsonValue] = json.loads(message.payload)
        instance, handler, status = (data.get(name) for name in ("policy_instance_id", "handler_id", "status"))
        number = data.get("policy_type_id")
        if (
            isinstance(number, bool)
            or not isinstance(number, int | float)
            or not (isinstance(instance, str) and isinstance(handler, str) and isinstance(status, str))
        ):
            self.fatal.append(message.payload)
            return
        self.status[int(number), instance] = status

    def _query(self, message: RmrMessage) -> None:
        number = json.loads(message.payload).get("policy_type_id")
        if isinstance(number, bool) or not isinstance(number, int | float):
            self.fatal.append(message.payload)
            return
        self.queries.append(int(number))
        for (policy_type, instance), body in self.instances.items():
            if policy_type == number:
                self.send("CREATE", policy_type, instance, body)
