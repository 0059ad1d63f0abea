"""The network whose memory is learnt: raw report and a GRU's hidden state in, scores and the next hidden state out.

Unlike `distila.training.network.filters`, it has no built-in radio knowledge: it learns what to remember of SINR, CQI
and feedback, and for how long. It also learns what feedback at an MCS means, from counts for each MCS (it learns more
slowly from the mean MCS, which the other network reads). Only the scaling of columns to the order of 1 is fixed: it
takes their square roots, because counts, periods of 1 to 200 slots and ages differ by ratios. A value that is not
measured becomes 0.

There are few operations, because ONNX Runtime spends about half a microsecond on each: a projection layer, one GRU, and
the layers on top.
"""

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor, nn

from distila.training.network import filters
from distila.training.network.config import NetworkConfig
from distila.training.network.network import MOST, Network, measured
from distila.xapp.nr.mcs import NUM_MCS

COLUMNS: Final = [
    *(name for name in filters.COLUMNS if name != "harq_mcs_mean"),
    *(f"harq_ack_mcs_{mcs}" for mcs in range(NUM_MCS)),
    *(f"harq_nack_mcs_{mcs}" for mcs in range(NUM_MCS)),
]
"""Report columns that the network reads, raw units (`distila.xapp.policy.columns`)."""

CHUNK: Final = 80
"""Number of reports that gradients are propagated through; earlier memory is treated as constant."""

# Of square roots.
_SCALE: Final = {
    "cqi": 0.5,
    "cqi_age_slots": 0.1,
    "ri": 0.7,
    "prbs": 0.1,
    "native_mcs": 0.4,
    "retx_mcs_mean": 0.4,
    "period_slots": 0.3,
    "combining": 1.0,
}
_COUNT_SCALE: Final = 0.7
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
        self.projection = nn.Linear(len(COLUMNS), config.projection)
        self.gru = nn.GRU(config.projection, config.gru_width)
        self.mlp = self._layers(config.gru_width)
        self._remember()

    def _remember(self) -> None:
        """Initialise memories of 1 to `_LONGEST_MEMORY` reports; if all were short, long ones would develop slowly.

        After Tallec and Ollivier, "Can recurrent neural networks warp time?" (ICLR 2018).
        """
        width = self.config.gru_width
        gate = slice(width, 2 * width)  # how much is kept
        _, _, bias_of_input, bias_of_memory = self.gru.parameters()
        with torch.no_grad():
            bias_of_memory[gate] = 0
            bias_of_input[gate] = torch.linspace(0, 1, width) * torch.tensor(_LONGEST_MEMORY).log()

    def forward(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See `Network.forward`."""
        _, memory = self.gru(self._projected(self.inputs(report))[None], state[None])
        return self.rated(self.mlp(memory[0]), report), memory[0]

    def inputs(self, report: Tensor) -> Tensor:
        """Reports scaled to the order of 1; both float32 [..., R]."""
        return self.raw_inputs(report) * self.scale

    def raw_inputs(self, report: Tensor) -> Tensor:
        """`inputs` before they are scaled, float32 [..., R]."""
        return torch.sqrt(measured(report).clamp(max=MOST))

    def _projected(self, x: Tensor) -> Tensor:
        """Input of the GRU, float32 [..., P]."""
        return torch.relu(self.projection(x))

    def batches(
        self, rows: Tensor, steps: Tensor, size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Network.batches`: groups of links along `CHUNK` reports, through which memory is learnt.

        Each group starts with the memory at the time of the first batch, and has at least one link.
        """
        links = rows.shape[1]
        chunks = torch.split(rows, CHUNK)
        inputs, memories, memory = [], [], self.zero_state(links)[None]
        with torch.no_grad():
            for chunk in chunks:
                inputs.append(self.inputs(chunk))
                memories.append(memory)
                _, memory = self.gru(self._projected(inputs[-1]), memory)
        groups: list[tuple[int, Tensor, Tensor]] = []
        for index in range(len(chunks)):
            labelled = torch.nonzero(steps // CHUNK == index)[:, 0]
            if len(labelled):
                order = torch.randperm(links, generator=generator)
                parts = torch.split(order, max(1, size // len(labelled)))
                groups += [(index, labelled, part) for part in parts]
        for place in torch.randperm(len(groups), generator=generator).tolist():
            index, labelled, part = groups[place]
            at = steps[labelled] % CHUNK
            x = inputs[index][: int(at.max()) + 1, part]
            memory, _ = self.gru(self._projected(x), memories[index][:, part])
            yield (labelled[:, None] * links + part).flatten(), self.mlp(memory[at].flatten(0, 1))

    def zero_state(self, num_ues: int) -> Tensor:
        """Memory of new UEs, float32 [n, S]."""
        return self.scale.new_zeros((num_ues, self.state_size))


class RecurrentGraph(nn.Module):
    """The exported module: report and state to score, action and next state.

    The GRU is written out: ONNX Runtime's own node takes as long for one UE, and about 20 us longer for 100.
    """

    def __init__(self, network: RecurrentNetwork) -> None:
        super().__init__()
        self.network = network
        inputs, width = network.config.projection, network.config.gru_width
        self.gates = nn.Linear(inputs + width, 2 * width)  # of input and memory: first reset, then keep
        self.of_input, self.of_memory = nn.Linear(inputs, width), nn.Linear(width, width)
        parts = [2 * width, width]
        with torch.no_grad():
            (
                (gate_input, new_input),
                (gate_memory, new_memory),
                (gate_bias, new_bias),
                (gate_bias_2, new_bias_2),
            ) = (torch.split_with_sizes(parameter, parts) for parameter in network.gru.parameters())
            self.gates.weight.copy_(torch.cat([gate_input, gate_memory], dim=1))
            self.gates.bias.copy_(gate_bias + gate_bias_2)
            self.of_input.weight.copy_(new_input)
            self.of_input.bias.copy_(new_bias)
            self.of_memory.weight.copy_(new_memory)
            self.of_memory.bias.copy_(new_bias_2)

    def forward(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Float32 [n, R] and [n, S] to float32 [n, M], int64 [n] and float32 [n, S]."""
        network, projection = self.network, self.network.projection
        # Both factors are constants: they are multiplied when the graph is loaded.
        x = nn.functional.linear(network.raw_inputs(report), projection.weight * network.scale, projection.bias)
        x = torch.relu(x)
        gates = torch.sigmoid(self.gates(torch.cat([x, state], dim=1)))
        reset, keep = torch.split(gates, network.state_size, dim=1)
        new = torch.tanh(self.of_input(x) + reset * self.of_memory(state))
        next_state = new + keep * (state - new)
        score = network.rated(network.mlp(next_state), report)
        return score, score.argmax(dim=1), next_state
