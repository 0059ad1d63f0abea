"""Runs the network as a policy in the simulator, without ONNX: to collect training data, and to check bundles."""

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
    """Turns a policy's actions, by number, into decisions.

    Args:
        actions: of a network or bundle.
        max_mcs: highest MCS of the cell's table, which stands for the actions of an MCS above it.
        device: device of the links' tensors.
    """

    def __init__(self, actions: Sequence[Action], max_mcs: int, device: torch.device | str = "cpu") -> None:
        self._kind = torch.tensor([_KINDS[action.kind] for action in actions], device=device)
        values = [min(action.value, max_mcs) if action.kind == "mcs" else action.value for action in actions]
        self._value = torch.tensor(values, device=device)
        kinds = {_KINDS[action.kind] for action in actions}
        self._only_kind = kinds.pop() if len(kinds) == 1 else None

    def decision(self, chosen: Tensor) -> Decision:
        """The decision for the actions' numbers, int64 [link]."""
        return Decision(self._kind[chosen] if self._only_kind is None else self._only_kind, self._value[chosen])


class NetworkPolicy:
    """Greedy decisions of a network.

    Args:
        network: moved to the device of the links.
        name: shown in tables.

    Attributes:
        report, state: float32 [link, R] and [link, S], inputs of the latest decision.

    Raises:
        InputError: `start` rejects a cell whose MCS table is not the network's.
    """

    def __init__(self, network: Network, name: str = "network") -> None:
        self.network, self.name = network, name

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Start with new links, whose memory is zeros."""
        table = self.network.config.mcs_table
        if cell.mcs_table != table:
            raise InputError(f"{self.name}: made for MCS table {table}, the scenario has {cell.mcs_table}")
        self._answers = Answers(self.network.actions, cell.max_mcs, cell.device)
        self.network.to(cell.device)
        self._next_state = self.network.zero_state(cell.num_links).to(cell.device)

    @torch.no_grad()
    def decide(self, report: Report) -> Decision:
        """Decide on one report."""
        self.state = self._next_state
        self.report = matrix(report, self.network.columns)
        score, self._next_state = self.network(self.report, self.state)
        return self._answers.decision(score.argmax(dim=1))
