"""The network whose memory is learnt: raw report and a GRU's hidden state in, scores and the next hidden state out.

Nothing of radio is built in, as there is in `training.network.network`: what to remember of SINR, CQI and feedback, and
for how long, comes from training alone. Fixed is only how columns are brought to the order of 1:

* Logarithms of all columns, since counts and periods of 1 to 200 slots, ages and PRBs are told apart by their ratio.
  What is not measured, infinite or negative has a value of its own below that of 0.
* The first columns (CQI, rank, the DU's own choice among them) as they are too, since each step of these counts alike.

Few operations, as ONNX Runtime spends about half a microsecond on each: a layer that projects, one GRU, the layers on
top, which see both.
"""

from collections.abc import Iterator
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from training.network.network import Network, NetworkConfig
from xapp.e2.report import NUM_MCS

COLUMNS: Final = [
    "cqi",
    "cqi_age_slots",
    "ri",
    "prbs",
    "native_mcs",
    "period_slots",
    "harq_ack",
    "harq_nack",
    *(f"harq_ack_mcs_{mcs}" for mcs in range(NUM_MCS)),
    *(f"harq_nack_mcs_{mcs}" for mcs in range(NUM_MCS)),
]
"""Report columns that the network reads, raw units (`xapp.policy.columns`)."""

CHUNK: Final = 80
"""Reports that gradients are followed through; memory from before is taken as it is."""

_SCALE: Final = {"cqi": 0.5, "cqi_age_slots": 0.1, "ri": 0.7, "prbs": 0.1, "native_mcs": 0.4, "period_slots": 0.3}
_COUNT_SCALE: Final = 0.7
_MOST: Final = 300.0  # no column has more to say: an older CQI or a longer period is just old or long
_LONGEST_MEMORY: Final = 200.0  # reports


class RecurrentNetwork(Network):
    """The network; see the module's docstring. Its state is the GRU's hidden state."""

    scale: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.columns = list(COLUMNS)
        self.state_size = config.gru_width
        scale = torch.tensor([_SCALE.get(name, _COUNT_SCALE) for name in COLUMNS])
        self.register_buffer("scale", scale, persistent=False)
        self.projection = nn.Linear(len(scale), config.projection)
        self.gru = nn.GRU(config.projection, config.gru_width)
        self.mlp = self._layers(config.gru_width)
        self._remember()

    def _remember(self) -> None:
        """Let memories of 1 to `_LONGEST_MEMORY` reports be there from the start, or none would ever be found useful.

        After Tallec and Ollivier, "Can recurrent neural networks warp time?" (2018).
        """
        width = self.config.gru_width
        length = torch.logspace(0, float(np.log10(_LONGEST_MEMORY)), width)
        with torch.no_grad():
            self.gru.bias_hh_l0[width : 2 * width] = 0
            self.gru.bias_ih_l0[width : 2 * width] = torch.log(length)

    def forward(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See `Network.forward`."""
        _, memory = self.gru(self._projected(self.inputs(report))[None], state[None])
        memory = memory.squeeze(0)
        return self.rated(self.mlp(memory), report), memory

    def inputs(self, report: Tensor) -> Tensor:
        """What there is to learn from, float32 [..., R], of the order of 1, from reports, float32 [..., R]."""
        return self.raw_inputs(report) * self.scale

    def raw_inputs(self, report: Tensor) -> Tensor:
        """`inputs` before they are scaled, float32 [..., R]."""
        return torch.sqrt(_positive(report).clamp(max=_MOST))

    def _projected(self, x: Tensor) -> Tensor:
        return torch.relu(self.projection(x))

    def batches(self, rows: Tensor, steps: Tensor, size: int, luck: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Network.batches`: groups of links through `CHUNK` reports, as memory is learnt through time.

        Each group begins with the memory that it had there when the first batch was asked for.
        """
        links = rows.shape[1]
        chunks = [(start, min(start + CHUNK, len(rows))) for start in range(0, len(rows), CHUNK)]
        inputs, memories, memory = [], [], self.zero_state(links)[None]
        with torch.no_grad():
            for start, end in chunks:
                inputs.append(self.inputs(rows[start:end]))
                memories.append(memory)
                _, memory = self.gru(self._projected(inputs[-1]), memory)
        groups: list[tuple[int, Tensor, Tensor]] = []
        for index, (start, end) in enumerate(chunks):
            labelled = torch.nonzero((steps >= start) & (steps < end))[:, 0]
            if len(labelled):
                group = max(1, size // len(labelled))
                groups += [
                    (index, labelled, part) for part in torch.split(torch.randperm(links, generator=luck), group)
                ]
        for place in torch.randperm(len(groups), generator=luck).tolist():
            index, labelled, part = groups[place]
            at = steps[labelled] - chunks[index][0]
            x = inputs[index][: int(at.max()) + 1, part]
            memory, _ = self.gru(self._projected(x), memories[index][:, part])
            picked = labelled[:, None] * links + part
            yield picked.flatten(), self.mlp(memory[at].flatten(0, 1))

    def zero_state(self, num_ues: int) -> Tensor:
        """Memory of new UEs, float32 [n, S]."""
        return self.rate.new_zeros((num_ues, self.state_size))


class RecurrentGraph(nn.Module):
    """What is exported: report and state to score, action and next state, scales folded into the first layer."""

    def __init__(self, network: RecurrentNetwork) -> None:
        super().__init__()
        self.network = network
        learnt = network.projection
        self.projection = nn.Linear(learnt.in_features, learnt.out_features)
        with torch.no_grad():
            weight, bias = learnt.weight.double(), learnt.bias.double()
            self.projection.weight.copy_(weight * network.scale.double())
            self.projection.bias.copy_(bias)

    def forward(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Float32 [n, R] and [n, S] to float32 [n, M], int64 [n] and float32 [n, S]."""
        x = torch.relu(self.projection(self.network.raw_inputs(report)))
        _, memory = self.network.gru(x[None], state[None])
        memory = memory.squeeze(0)
        score = self.network.rated(self.network.mlp(memory), report)
        return score, score.argmax(dim=1), memory


class _Positive(torch.autograd.Function):
    """What is above 0, and 0 for the rest, NaN included; one operation in the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.0)

    @staticmethod
    def symbolic(g: Any, x: Any) -> Any:
        """For `torch.onnx`. ONNX defines it by the comparison, which is false for NaN; its Relu and Max let NaN pass."""
        return g.op("ThresholdedRelu", x, alpha_f=0.0)


def _positive(x: Tensor) -> Tensor:
    return cast(Tensor, _Positive.apply(x))  # type: ignore[no-untyped-call]
