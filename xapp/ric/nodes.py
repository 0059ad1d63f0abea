"""The E2 nodes that the platform's E2 manager knows, and which of them offer distila's service model."""

import logging
from dataclasses import dataclass
from typing import Any, Final

import httpx
from google.protobuf.message import DecodeError

from distila.schemas import e2sm_v1_pb2 as pb
from distila.xapp.e2.codec import SERVICE_MODEL, SERVICE_MODEL_VERSION

log = logging.getLogger(__name__)

_CONNECTED: Final = "CONNECTED"


@dataclass(frozen=True)
class E2NodeOffer:
    """A connected E2 node that offers the service model, at one of its RAN functions."""

    meid: str
    ran_function_id: int


class NodesUnknownError(Exception):
    """The E2 manager did not tell."""


class Nodes:
    """Asks the E2 manager.

    Args:
        e2mgr: its address.
        client: with a timeout.
        ran_function_id: of the service model at every node; None: as each node announces it.
    """

    def __init__(self, e2mgr: str, client: httpx.Client, ran_function_id: int | None) -> None:
        self._base = f"{e2mgr}/v1/nodeb"
        self._client = client
        self._ran_function_id = ran_function_id

    def offers(self) -> list[E2NodeOffer]:
        """The connected nodes that offer the service model.

        Raises:
            NodesUnknownError: the E2 manager cannot be asked, or says nothing that makes sense.
        """
        states = self._get(f"{self._base}/states")
        if not isinstance(states, list):
            raise NodesUnknownError("E2 manager: the list of nodes is no list")
        offers = []
        for state in states:
            meid = state.get("inventoryName") if isinstance(state, dict) else None
            if isinstance(meid, str) and state.get("connectionStatus") == _CONNECTED:
                ran_function_id = self.ran_function_of(meid)
                if ran_function_id is not None:
                    offers.append(E2NodeOffer(meid, ran_function_id))
        return offers

    def ran_function_of(self, meid: str) -> int | None:
        """The RAN function by which a node offers the service model; None: it does not.

        Raises:
            NodesUnknownError: see `offers`.
        """
        if self._ran_function_id is not None:
            return self._ran_function_id
        node = self._get(f"{self._base}/{meid}")
        gnb = node.get("gnb") if isinstance(node, dict) else None
        for function in (gnb.get("ranFunctions") or []) if isinstance(gnb, dict) else []:
            if isinstance(function, dict) and _is_ours(function.get("ranFunctionDefinition")):
                ident = function.get("ranFunctionId")
                return ident if isinstance(ident, int) else None
        return None

    def _get(self, url: str) -> Any:
        try:
            response = self._client.get(url)
            response.raise_for_status()
            return response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise NodesUnknownError(f"E2 manager: {error}") from None


def _is_ours(definition: object) -> bool:
    """Whether a RAN function definition, hexadecimal as the E2 manager shows it, is that of our service model."""
    if not isinstance(definition, str):
        return False
    try:
        model = pb.RanFunctionDefinition.FromString(bytes.fromhex(definition)).service_model
    except (ValueError, DecodeError):
        return False
    return model.name == SERVICE_MODEL and model.version.split(".")[0] == SERVICE_MODEL_VERSION.split(".")[0]
