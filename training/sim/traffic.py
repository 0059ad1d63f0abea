"""Who has something to send: full buffer, or files that arrive by chance, and how long each file took.

FTP model 3 of TR 36.889 annex A: a UE's files have one size and arrive as a Poisson process; those that wait are sent
in turn. Blocks that HARQ loses go back into the buffer, as RLC in acknowledged mode would send them again. A file is
done when as many bits have arrived as it and those before it have.
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
        config: what to draw from.
        num_links, num_slots, slot_us: size and length of the simulation.
        rng: draws sizes, rates and arrivals.
        device: where the tensors live.

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
        # One arrival per slot: a second one in the same slot is moved on.
        order = np.arange(capacity)
        arrival = np.maximum.accumulate(arrival - order, axis=1) + order
        arrival[~bursty] = np.inf
        self.bursty = torch.as_tensor(bursty, device=device)
        self._file_bits = torch.as_tensor(file_bits.astype(np.float32), device=device)
        slots = np.where(arrival < num_slots, arrival, float(2**62)).astype(np.int64)
        # A column more, so that the file after the last one exists and never comes.
        slots = np.concatenate([slots, np.full((num_links, 1), 2**62)], axis=1)
        self._arrival_slot = torch.as_tensor(slots, device=device)
        self._done_slot = torch.full_like(self._arrival_slot, _NEVER)
        self._next = torch.zeros((num_links, 1), dtype=torch.int64, device=device)
        self._delivered_bits = torch.zeros(num_links, dtype=torch.float64, device=device)
        self.buffer_bits = torch.where(self.bursty, 0.0, torch.inf)

    def arrive(self, slot: int) -> None:
        """Put what arrives in this slot into the buffers."""
        due = torch.gather(self._arrival_slot, 1, self._next) <= slot
        self._next += due
        self.buffer_bits += due[:, 0] * self._file_bits

    def take(self, bits: Tensor) -> Tensor:
        """Take up to ``bits`` [link] out of the buffers; float32 [link], what was taken."""
        taken = torch.minimum(bits, self.buffer_bits)
        self.buffer_bits -= taken
        return taken

    def give_back(self, bits: Tensor) -> None:
        """Return the blocks that HARQ lost, float32 [link]."""
        self.buffer_bits += bits

    def deliver(self, slot: int, bits: Tensor) -> None:
        """Count what arrived at the UEs in this slot, float32 [link]."""
        self._delivered_bits += bits
        done = (self._delivered_bits / self._file_bits).to(torch.int64).clamp_(max=self._done_slot.shape[1] - 1)
        done = torch.where(self.bursty, done, 0)[:, None]
        # Where file ``done - 1`` was the latest to be finished; column 0 of the shifted table takes the rest.
        at = torch.full_like(done, slot)
        self._done_slot.scatter_reduce_(1, (done - 1).clamp_(min=0), torch.where(done > 0, at, _NEVER), "amin")

    def file_delays_slots(self, from_slot: int, until_slot: int) -> list[Float64Array]:
        """Slots from arrival to the last bit of the files that arrived in the interval, one array per link.

        A file that was not done when the interval ended counts with the time that it had waited by then: to leave it
        out would make the worst delays vanish.
        """
        arrival = self._arrival_slot.cpu().numpy()
        # A file is done no later than those that came after it.
        done = np.minimum.accumulate(self._done_slot.cpu().numpy()[:, ::-1], axis=1)[:, ::-1]
        delay = np.minimum(done + 1.0, until_slot) - arrival
        inside = (arrival >= from_slot) & (arrival < until_slot)
        return [delay[link, inside[link]] for link in range(len(arrival))]
