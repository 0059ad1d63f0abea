"""Traffic of the links: full buffer, or files that arrive at random, and the delay of each file.

FTP model 3 of TR 36.889 annex A: a UE's files have one size and arrive as a Poisson process; waiting files are
sent in turn. Bits that HARQ loses return to the buffer where RLC, in acknowledged mode, sends them again; in
unacknowledged mode their file is complete without them. A file is complete when as many bits have arrived or are lost
as it and the files before it have.
"""

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor

from distila.training.sim.scenario import TrafficConfig
from distila.xapp.nr.arrays import Float64Array

_NEVER: Final = torch.iinfo(torch.int64).max


class Traffic:
    """Buffers of a batch of links.

    Args:
        config: settings of the traffic.
        num_links, num_slots, slot_us: size and length of the simulation.
        rng: generator of sizes, rates and arrivals.
        device: device of the tensors.

    Attributes:
        bursty: bool [link], False: full buffer.
        buffer_bits: float32 [link], infinite for a full buffer.
    """

    def __init__(
        self,
        config: TrafficConfig,
        num_links: int,
        num_slots: int,
        slot_us: float,
        rng: np.random.Generator,
        device: torch.device,
    ) -> None:
        bursty = rng.random(num_links) >= config.full_buffer_share.draw(rng, num_links)
        file_bits = np.round(config.file_bytes.draw(rng, num_links)) * 8
        per_slot = config.files_per_s.draw(rng, num_links) * slot_us * 1e-6
        most = float(per_slot.max()) * num_slots
        capacity = math.ceil(most + 6 * math.sqrt(most) + 8)
        arrival = np.floor(np.cumsum(rng.exponential(1 / per_slot[:, None], (num_links, capacity)), axis=1))
        # At most one arrival per slot: a second one is moved to the next slot.
        order = np.arange(capacity)
        arrival = np.maximum.accumulate(arrival - order, axis=1) + order
        arrival[~bursty] = np.inf
        self.bursty = torch.as_tensor(bursty, device=device)
        self._file_bits = torch.as_tensor(file_bits.astype(np.float32), device=device)
        slots = np.where(arrival < num_slots, arrival, float(2**62)).astype(np.int64)
        # One column more, for a file after the last one that never arrives.
        slots = np.concatenate([slots, np.full((num_links, 1), 2**62)], axis=1)
        self._arrival_slot = torch.as_tensor(slots, device=device)
        self._done_slot = torch.full_like(self._arrival_slot, _NEVER)
        self._next = torch.zeros((num_links, 1), dtype=torch.int64, device=device)
        self._settled_bits = torch.zeros(num_links, dtype=torch.float64, device=device)
        self.buffer_bits = torch.where(self.bursty, 0.0, torch.inf)

    def arrive(self, slot: int) -> None:
        """Add the files that arrive in this slot to the buffers."""
        due = torch.gather(self._arrival_slot, 1, self._next) <= slot
        self._next += due
        self.buffer_bits += due[:, 0] * self._file_bits

    def take(self, bits: Tensor) -> Tensor:
        """Take up to ``bits`` [link] out of the buffers; float32 [link], the bits taken."""
        taken = torch.minimum(bits, self.buffer_bits)
        self.buffer_bits -= taken
        return taken

    def give_back(self, links: Tensor, bits: Tensor) -> None:
        """Return lost bits to the buffers.

        Args:
            links: int64 [n], each at most once.
            bits: float32 [n].
        """
        self.buffer_bits[links] += bits

    def deliver(self, slot: int, bits: Tensor, lost_bits: Tensor | None = None) -> None:
        """Count the bits that the UEs received in this slot, and those that are lost for good, float32 [link]."""
        self._settled_bits += bits
        if lost_bits is not None:
            self._settled_bits += lost_bits
        done = (self._settled_bits / self._file_bits).to(torch.int64).clamp_(max=self._done_slot.shape[1] - 1)
        done = torch.where(self.bursty, done, 0)[:, None]
        # File ``done - 1`` is a link's latest complete one; a link without one writes `_NEVER` to column 0.
        at = torch.full_like(done, slot)
        self._done_slot.scatter_reduce_(1, (done - 1).clamp_(min=0), torch.where(done > 0, at, _NEVER), "amin")

    def file_delays_slots(self, from_slot: int, until_slot: int) -> list[Float64Array]:
        """Slots from arrival to the last bit of the files that arrived in the interval, one array per link.

        A file that was not complete when the interval ended counts with its waiting time until then; leaving it out
        would hide the worst delays.
        """
        arrival = self._arrival_slot.cpu().numpy()
        # A file is complete no later than the files after it.
        done = np.minimum.accumulate(self._done_slot.cpu().numpy()[:, ::-1], axis=1)[:, ::-1]
        delay = np.minimum(done + 1.0, until_slot) - arrival
        inside = (arrival >= from_slot) & (arrival < until_slot)
        return [delay[link, inside[link]] for link in range(len(arrival))]
