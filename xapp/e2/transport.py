"""The interface of a transport. `distila.xapp.app.TRANSPORTS` lists the implementations."""

from collections import Counter
from typing import Protocol

from distila.xapp.e2.inbox import Inbox


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of ``host:port``.

    Raises:
        ValueError: it is not of that form, or the port is above 65535.
    """
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 0xFFFF:
        raise ValueError("expected host:port, the port up to 65535")
    return host, int(port)


class Transport(Protocol):
    """Puts indications into an inbox and sends control messages.

    Attributes:
        outcomes: UE decisions by the outcome that the E2 node reported: ``accepted``, or the cause of rejection.
        lost: control messages that could not be sent, and lost connections, by reason.
        failure: why it ended for good; None unless it did.
        connected: whether indications can be received and control messages sent now.
    """

    outcomes: Counter[str]
    failure: str | None

    @property
    def lost(self) -> Counter[str]:
        """See above."""
        ...

    @property
    def connected(self) -> bool:
        """See above."""
        ...

    def start(self, inbox: Inbox) -> None:
        """Connect and fill the inbox, on threads of the transport's own; closes the inbox when the transport ends.

        Raises:
            InputError: the settings cannot work.
        """
        ...

    def send(self, header: bytes, message: bytes) -> None:
        """Send RICcontrolHeader and RICcontrolMessage; never blocks the caller."""
        ...

    def close(self) -> None:
        """Send what is still queued, then disconnect."""
        ...
