"""The network as a policy in the simulator, without ONNX: what trainers roll out, and what a bundle is held against."""

import torch

from training.network.network import PolicyNetwork
from training.sim.report import Cell, Decision, Report, matrix
from xapp.e2.report import MCS, MCS_OFFSET
from xapp.errors import InputError


class NetworkPolicy:
    """Greedy decisions of a network.

    Args:
        network: on the device that the links are on.
        name: shown in tables.

    Attributes:
        report, state: float32 [link, R] and [link, S], what the latest decision was made from.

    Raises:
        InputError: `start` refuses a cell whose MCS table the network was not made for.
    """

    def __init__(self, network: PolicyNetwork, name: str = "network") -> None:
        self.network, self.name = network, name
        self._kind = MCS if network.config.actions == "mcs" else MCS_OFFSET

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Begin with new links, whose memory is empty."""
        table = self.network.config.mcs_table
        if cell.mcs_table != table:
            raise InputError(f"{self.name}: made for MCS table {table}, the scenario has {cell.mcs_table}")
        self._cell = cell
        self._value = torch.tensor([action.value for action in self.network.actions], device=cell.device)
        self._next_state = self.network.zero_state(cell.num_links).to(cell.device)

    @torch.no_grad()
    def decide(self, report: Report) -> Decision:
        """Answer one report."""
        cell, self.state = self._cell, self._next_state
        self.report = matrix(report, self.network.columns, cell.mcs_table, cell.cqi_table)
        score, self._next_state = self.network(self.report, self.state)
        return Decision(self._kind, self._value[score.argmax(dim=1)])
