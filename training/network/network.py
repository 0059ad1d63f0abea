"""The network of a policy bundle: raw report and memory in, a score per action and new memory out.

Everything a policy knows about radio is in it, so that what is trained is what is served. Here is what networks have in
common whatever their memory, which is fixed (`distila.training.network.filters`) or learnt
(`distila.training.network.recurrent`).
"""

import copy
from collections.abc import Iterator
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from distila.training.network.config import NetworkConfig
from distila.xapp.nr.arrays import Float64Array
from distila.xapp.nr.bler import SmoothBler, sinr_db_for_tbler
from distila.xapp.nr.mcs import mcs_table
from distila.xapp.nr.tbs import num_re, transport_block_size_bits
from distila.xapp.policy.bundle import Action

NOMINAL_PRBS: Final = 52
"""Allocation (one layer) whose curves the centres and rates are those of, as in
`distila.training.sim.report.Curves`."""

SHARE_LOW: Final = -2.0
"""What an action is worth, as a share of its rate, lies between this (it may cost more than it brings) and"""
SHARE_HIGH: Final = 1.0

MOST: Final = 300.0
"""No column has more to say: 275 PRBs are the most, an older CQI or a longer period than this is just old or long."""

_NEXT_TO_NOTHING: Final = 1e-3  # bit per resource element: below, no action brings anything


class Network(nn.Module):
    """What a policy's networks have in common, whatever their memory: their face, and what scores mean.

    Attributes:
        config: what it was built from.
        columns: report columns it reads, in this order.
        state_size: width of a UE's memory.
        actions: what each score is for.
    """

    columns: list[str]
    state_size: int
    rate: Tensor
    offsets: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.actions = _actions(config)
        rate = torch.from_numpy(mcs_facts(config.mcs_table)[1]).to(torch.float32)
        self.register_buffer("rate", rate, persistent=False)
        self._num_mcs = sum(action.kind == "mcs" for action in self.actions)
        offsets = [action.value for action in self.actions[self._num_mcs :]]
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.int64), persistent=False)

    def _layers(self, width: int) -> nn.Sequential:
        """The layers on top of what memory brings, whose width this is, up to the outputs."""
        layers: list[nn.Module] = []
        for hidden in self.config.hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        outputs = len(self.actions) * (3 if self.config.head == "value" else 1)
        return nn.Sequential(*layers, nn.Linear(width, outputs))

    def forward(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and new memory.

        Args:
            report: float32 [n, R], raw units in the order of `columns`, NaN = not measured.
            state: float32 [n, S], zeros for a new UE.

        Returns:
            Score of every action, float32 [n, M], and next state, float32 [n, S].
        """
        raise NotImplementedError

    def batches(self, rows: Tensor, steps: Tensor, size: int, luck: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Outputs of the last layer to learn from, in random batches.

        Args:
            rows: float32 [t, n, R], a sequence of reports of new UEs.
            steps: int64 [s], those to learn from.
            size: of a batch.
            luck: of the order.

        Yields:
            Which of the s * n (step first) they are, int64 [batch], and the outputs, float32 [batch, ...].
        """
        raise NotImplementedError

    def zero_state(self, num_ues: int) -> Tensor:
        """Memory of new UEs, float32 [n, S]."""
        raise NotImplementedError

    def rated(self, z: Tensor, report: Tensor) -> Tensor:
        """Score of every action, float32 [n, M], from the last layer's output and the report that it is of.

        Head ``logit``: the output as it is. Head ``value``: what the action is expected to be worth [bit per resource
        element], its rate times `worth`. An offset has the rate of the MCS that it makes of the DU's own choice in the
        report.
        """
        if self.config.head == "logit":
            return z
        worth = self.worth(z)
        if self._num_mcs == len(self.actions):
            return self.rate * worth
        # Where the node does not tell its choice an offset is held to be worth that of MCS 0: next to nothing.
        native = report[:, [self.columns.index("native_mcs")]]
        native = torch.where(native >= 0, native, 0).to(torch.int64)
        rate = self.rate[(native + self.offsets).clamp(0, len(self.rate) - 1)]
        if not self._num_mcs:
            return rate * worth
        return torch.cat([self.rate * worth[:, : self._num_mcs], rate * worth[:, self._num_mcs :]], dim=1)

    def priced(self, residual_price: float) -> "Network":
        """The same network, with the same weights, at another price of a block that is given up."""
        other = copy.copy(self)
        other.config = self.config.model_copy(update={"residual_price": residual_price})
        return other

    def expected(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Expected share, failure and residual (`distila.training.learning.worth`) of every action, from a ``value``
        head."""
        share, failure, residual = torch.sigmoid(z).chunk(3, dim=-1)
        return SHARE_LOW + (SHARE_HIGH - SHARE_LOW) * share, failure, residual

    def worth(self, z: Tensor) -> Tensor:
        """Expected share of its rate of every action, what it may cost deducted, from a ``value`` head's output."""
        share, failure, residual = self.expected(z)
        return share - self.config.failure_price * failure - self.config.residual_price * residual


def relative(score: Tensor) -> Tensor:
    """Scores in bits relative to each row's best, float32 [n, M]: 0 for the best one, -1 for one that brings nothing.

    What matters is by what share an action is worse than the best one, at 0.2 bit as at 5.
    """
    best = score.amax(dim=1, keepdim=True)
    return (score - best) / best.clamp(min=_NEXT_TO_NOTHING)


class _Measured(torch.autograd.Function):
    """What is above 0, and 0 for the rest, NaN included; one operation in the graph."""

    @staticmethod
    def forward(ctx: Any, report: Tensor) -> Tensor:
        return torch.where(report > 0, report, 0.0)

    @staticmethod
    def symbolic(g: Any, report: Any) -> Any:
        """For `torch.onnx`: ONNX defines it by the comparison, which is false for NaN; Relu and Max let NaN pass."""
        return g.op("ThresholdedRelu", report, alpha_f=0.0)


def measured(report: Tensor) -> Tensor:
    """What is above 0, and 0 for the rest, NaN included; any shape."""
    return cast(Tensor, _Measured.apply(report))  # type: ignore[no-untyped-call]


def mcs_facts(table: int) -> tuple[Float64Array, Float64Array]:
    """What a table's MCS are, by the curves of the nominal allocation; both float64 [mcs].

    Returns:
        SINR [dB] at which a transport block fails every other time, and its size in bits per resource element.
    """
    rows = mcs_table(table)
    bits = transport_block_size_bits(num_re(NOMINAL_PRBS), rows.code_rate, rows.modulation_order)
    centre_db = sinr_db_for_tbler(SmoothBler.load(), table, np.arange(rows.num_mcs), bits, 0.5)
    return centre_db, bits / num_re(NOMINAL_PRBS)


def _actions(config: NetworkConfig) -> list[Action]:
    """Absolute MCS first, then offsets."""
    actions: list[Action] = []
    if config.actions != "mcs_offset":
        actions += [Action(kind="mcs", value=mcs) for mcs in range(mcs_table(config.mcs_table).num_mcs)]
    if config.actions != "mcs":
        most = config.max_offset
        actions += [Action(kind="mcs_offset", value=value) for value in range(-most, most + 1)]
    return actions
