"""The network whose memory is learnt: raw report and a GRU's hidden state in, scores and the next hidden state out.

Nothing of radio is built in, as there is in `distila.training.network.network`: what to remember of SINR, CQI and
feedback, and for how long, comes from training alone, and so does what feedback at an MCS means, of which it is told
MCS by MCS: told the mean MCS, as the other network is, it learns more slowly. Fixed is only how columns come to the
order of 1: their square roots, since counts, periods of 1 to 200 slots and ages are told apart by their ratio. Not
measured is 0.

Few operations, as ONNX Runtime spends about half a microsecond on each: a layer that projects, one GRU, the layers on
top.
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
"""Reports that gradients are followed through; memory from before is taken as it is."""

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
        """Let there be memories of 1 to `_LONGEST_MEMORY` reports from the start; short ones alone grow long slowly.

        After Tallec and Ollivier, "Can recurrent neural networks warp time?" (ICLR 2018).
        """
        width = self.config.gru_width
        gate = slice(width, 2 * width)  # how much is kept
        _, _, bias_of_told, bias_of_memory = self.gru.parameters()
        with torch.no_grad():
            bias_of_memory[gate] = 0
            bias_of_told[gate] = torch.linspace(0, 1, width) * torch.tensor(_LONGEST_MEMORY).log()

    def forward(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See `Network.forward`."""
        _, memory = self.gru(self._told(self.inputs(report))[None], state[None])
        return self.rated(self.mlp(memory[0]), report), memory[0]

    def inputs(self, report: Tensor) -> Tensor:
        """What there is to learn from, of the order of 1, from reports; both float32 [..., R]."""
        return self.raw_inputs(report) * self.scale

    def raw_inputs(self, report: Tensor) -> Tensor:
        """`inputs` before they are scaled, float32 [..., R]."""
        return torch.sqrt(measured(report).clamp(max=MOST))

    def _told(self, x: Tensor) -> Tensor:
        """What the GRU is told, float32 [..., P]."""
        return torch.relu(self.projection(x))

    def batches(
        self, rows: Tensor, steps: Tensor, size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Network.batches`: groups of links along `CHUNK` reports, through which memory is learnt.

        Each begins with what was remembered there when the first batch was asked for. A group has one link at least.
        """
        links = rows.shape[1]
        chunks = torch.split(rows, CHUNK)
        inputs, memories, memory = [], [], self.zero_state(links)[None]
        with torch.no_grad():
            for chunk in chunks:
                inputs.append(self.inputs(chunk))
                memories.append(memory)
                _, memory = self.gru(self._told(inputs[-1]), memory)
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
            memory, _ = self.gru(self._told(x), memories[index][:, part])
            yield (labelled[:, None] * links + part).flatten(), self.mlp(memory[at].flatten(0, 1))

    def zero_state(self, num_ues: int) -> Tensor:
        """Memory of new UEs, float32 [n, S]."""
        return self.scale.new_zeros((num_ues, self.state_size))


class RecurrentGraph(nn.Module):
    """What is exported: report and state to score, action and next state.

    The GRU is written out: ONNX Runtime's node for it takes as long for one UE, and for 100 about 20 us longer.
    """

    def __init__(self, network: RecurrentNetwork) -> None:
        super().__init__()
        self.network = network
        told, width = network.config.projection, network.config.gru_width
        self.gates = nn.Linear(told + width, 2 * width)  # of what is told and remembered: first reset, then keep
        self.told, self.remembered = nn.Linear(told, width), nn.Linear(width, width)
        parts = [2 * width, width]
        with torch.no_grad():
            (
                (gate_told, new_told),
                (gate_remembered, new_remembered),
                (gate_bias, new_bias),
                (gate_bias_2, new_bias_2),
            ) = (torch.split_with_sizes(parameter, parts) for parameter in network.gru.parameters())
            self.gates.weight.copy_(torch.cat([gate_told, gate_remembered], dim=1))
            self.gates.bias.copy_(gate_bias + gate_bias_2)
            self.told.weight.copy_(new_told)
            self.told.bias.copy_(new_bias)
            self.remembered.weight.copy_(new_remembered)
            self.remembered.bias.copy_(new_bias_2)

    def forward(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Float32 [n, R] and [n, S] to float32 [n, M], int64 [n] and float32 [n, S]."""
        network, projection = self.network, self.network.projection
        # Scales are multiplied into the first layer when the graph is loaded, as both are constants.
        x = nn.functional.linear(network.raw_inputs(report), projection.weight * network.scale, projection.bias)
        x = torch.relu(x)
        gates = torch.sigmoid(self.gates(torch.cat([x, state], dim=1)))
        reset, keep = torch.split(gates, network.state_size, dim=1)
        new = torch.tanh(self.told(x) + reset * self.remembered(state))
        next_state = new + keep * (state - new)
        score = network.rated(network.mlp(next_state), report)
        return score, score.argmax(dim=1), next_state
