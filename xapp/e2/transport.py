"""What the xApp asks of a transport, whichever wire it is. `distila.xapp.app.TRANSPORTS` lists those there are."""

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
    """Brings indications into an inbox and takes control messages out.

    Attributes:
        outcomes: UE decisions by what the E2 node said became of them: ``accepted``, or the cause of rejection.
        lost: control messages that could not be sent, and lost connections, by reason.
        failure: why it gave up for good; None unless it did.
        connected: whether indications can come in and control messages go out now.
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
        """Connect and begin to fill the inbox, on threads of the transport's own. Closes the inbox when it is over.

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
