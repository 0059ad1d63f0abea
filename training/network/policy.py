"""The network as a policy in the simulator, without ONNX: for rollouts, and as the reference for bundles."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from distila.training.network.network import Network
from distila.training.sim.report import Cell, Decision, Report, matrix
from distila.xapp.errors import InputError
from distila.xapp.kpi.report import MCS, MCS_OFFSET, NATIVE
from distila.xapp.policy.bundle import Action

_KINDS: Final = {"native": NATIVE, "mcs": MCS, "mcs_offset": MCS_OFFSET}


class Answers:
    """A policy's actions as decisions, by number.

    Args:
        actions: of a network or bundle.
        device: where the links are.
    """

    def __init__(self, actions: Sequence[Action], device: torch.device | str = "cpu") -> None:
        self._kind = torch.tensor([_KINDS[action.kind] for action in actions], device=device)
        self._value = torch.tensor([action.value for action in actions], device=device)
        kinds = {_KINDS[action.kind] for action in actions}
        self._only_kind = kinds.pop() if len(kinds) == 1 else None

    def decision(self, chosen: Tensor) -> Decision:
        """The decision that int64 [link] names."""
        return Decision(self._kind[chosen] if self._only_kind is None else self._only_kind, self._value[chosen])


class NetworkPolicy:
    """Greedy decisions of a network.

    Args:
        network: put on the device that the links are on.
        name: shown in tables.

    Attributes:
        report, state: float32 [link, R] and [link, S], what the latest decision was made from.

    Raises:
        InputError: `start` rejects a cell whose MCS table is not the network's.
    """

    def __init__(self, network: Network, name: str = "network") -> None:
        self.network, self.name = network, name

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Begin with new links, whose memory is empty."""
        table = self.network.config.mcs_table
        if cell.mcs_table != table:
            raise InputError(f"{self.name}: made for MCS table {table}, the scenario has {cell.mcs_table}")
        self._answers = Answers(self.network.actions, cell.device)
        self.network.to(cell.device)
        self._next_state = self.network.zero_state(cell.num_links).to(cell.device)

    @torch.no_grad()
    def decide(self, report: Report) -> Decision:
        """Answer one report."""
        self.state = self._next_state
        self.report = matrix(report, self.network.columns)
        score, self._next_state = self.network(self.report, self.state)
        return self._answers.decision(score.argmax(dim=1))
