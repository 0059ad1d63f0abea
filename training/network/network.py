"""The network of a policy bundle: raw report and memory in, a score per action and new memory out.

The network holds all of a policy's radio knowledge, so that the trained network is the one that the xApp runs. This
module has what is common to networks with fixed memory (`distila.training.network.filters`) and with learnt memory
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
"""PRBs of the nominal allocation (one layer), whose curves give centres and rates, as in
`distila.training.sim.report.Curves`."""

SHARE_LOW: Final = -2.0
"""Lowest return of an action as a share of its rate; negative where retransmissions cost more than the block brings."""
SHARE_HIGH: Final = 1.0
"""Highest return of an action as a share of its rate: the block is decoded at once."""

MOST: Final = 300.0
"""Columns are clipped here: there are at most 275 PRBs, and a still older CQI or longer period does not matter."""

_LEAST_SCORE: Final = 1e-3  # bit per resource element: below this, no action delivers anything


class Network(nn.Module):
    """Base of networks with either kind of memory: their interface and the meaning of scores.

    Attributes:
        config: settings that it was built from.
        columns: report columns that it reads, in this order.
        state_size: width of a UE's memory.
        actions: action of each score.
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
        """The trained layers: from features of this width to the outputs."""
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

    def batches(
        self, rows: Tensor, steps: Tensor, size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Outputs of the last layer to learn from, in random batches.

        Args:
            rows: float32 [t, n, R], a sequence of reports of new UEs.
            steps: int64 [s], the steps to learn from.
            size: decisions in a batch.
            generator: draws the order.

        Yields:
            Indices of the batch's decisions among the s * n (step first), int64 [batch], and the outputs, float32
            [batch, ...].
        """
        raise NotImplementedError

    def zero_state(self, num_ues: int) -> Tensor:
        """Memory of new UEs, float32 [n, S]."""
        raise NotImplementedError

    def rated(self, z: Tensor, report: Tensor) -> Tensor:
        """Score of every action, float32 [n, M], from the last layer's output for a report, and that report.

        Head ``logit``: the output itself. Head ``value``: the expected return of the action less prices [bit per
        resource element], its rate times `priced_share`. An offset has the rate of the MCS that it results in,
        from the DU's own choice in the report.
        """
        if self.config.head == "logit":
            return z
        share = self.priced_share(z)
        if self._num_mcs == len(self.actions):
            return self.rate * share
        # Where the node does not report its choice, offsets get the rate of MCS 0, next to nothing.
        native = report[:, [self.columns.index("native_mcs")]]
        native = torch.where(native >= 0, native, 0).to(torch.int64)
        rate = self.rate[(native + self.offsets).clamp(0, len(self.rate) - 1)]
        if not self._num_mcs:
            return rate * share
        return torch.cat([self.rate * share[:, : self._num_mcs], rate * share[:, self._num_mcs :]], dim=1)

    def with_residual_price(self, residual_price: float) -> "Network":
        """The same network, with the same weights, with another price of a lost block."""
        other = copy.copy(self)
        other.config = self.config.model_copy(update={"residual_price": residual_price})
        return other

    def expected(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Expected share, failure and residual of every action (`distila.training.learning.action_values`), from the
        output of a ``value`` head."""
        share, failure, residual = torch.sigmoid(z).chunk(3, dim=-1)
        return SHARE_LOW + (SHARE_HIGH - SHARE_LOW) * share, failure, residual

    def priced_share(self, z: Tensor) -> Tensor:
        """Expected return of every action less prices, as a share of its rate, from the output of a ``value`` head."""
        share, failure, residual = self.expected(z)
        return share - self.config.failure_price * failure - self.config.residual_price * residual


def relative(score: Tensor) -> Tensor:
    """Scores [bit/RE] relative to each row's best, float32 [n, M]: 0 for the best, -1 for one that delivers nothing.

    So a score of -0.1 means the same share of the best on a link of 0.2 bit per resource element as on one of 5.
    """
    best = score.amax(dim=1, keepdim=True)
    return (score - best) / best.clamp(min=_LEAST_SCORE)


class _Measured(torch.autograd.Function):
    """Values above 0; 0 for all others, NaN included. One operation in the graph."""

    @staticmethod
    def forward(ctx: Any, report: Tensor) -> Tensor:
        return torch.where(report > 0, report, 0.0)

    @staticmethod
    def symbolic(g: Any, report: Any) -> Any:
        """For `torch.onnx`: a comparison, which is false for NaN; Relu and Max would pass NaN on."""
        return g.op("ThresholdedRelu", report, alpha_f=0.0)


def measured(report: Tensor) -> Tensor:
    """Values above 0; 0 for all others, NaN included; any shape."""
    return cast(Tensor, _Measured.apply(report))  # type: ignore[no-untyped-call]


def mcs_facts(table: int) -> tuple[Float64Array, Float64Array]:
    """SINR and rate of a table's MCS, from the curves of the nominal allocation; both float64 [mcs].

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
