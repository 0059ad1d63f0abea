"""Fading of a batch of links on a device: banks laid out so that one gather reads the effective SINR of a slot."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from distila.training.sim.bank import NODE_FIRST_DB, NODE_STEP_DB, NUM_NODES, FadingBank
from distila.xapp.nr.arrays import IntArray

_PAIRS: Final = NUM_NODES - 1


class LinkFading:
    """The rows of fading banks that links read, each forwards and backwards in turn.

    *Place*: where a link's fading of one rank begins in the first slot of a block; int32 or int64, any shape. Slot
    ``i`` of the block is at ``place + slot_index[i]``.

    Args:
        banks: of the channel configurations.
        which, row: int64 [link], bank and row of each link.
        layers: int64 [link], rank of each link; None: it may change, and all ranks of a row are kept.
        rng: draws in which slot of its fading each link begins.
        block_slots: slots that are read from one place.
        device: device of the tensors.

    Attributes:
        num_ranks: ranks of each link that may be asked for, 1 where the rank is fixed; int64 [link].
        slot_index: int32 or int64 [slot, 1], see place.
    """

    def __init__(
        self,
        banks: Sequence[FadingBank],
        which: IntArray,
        row: IntArray,
        layers: IntArray | None,
        rng: np.random.Generator,
        block_slots: int,
        device: torch.device,
    ) -> None:
        slots = min(bank.num_slots for bank in banks)
        of_rank = np.zeros(len(which), np.int64) if layers is None else layers
        keys, series = np.unique(np.stack([which, row, of_rank], axis=1), axis=0, return_inverse=True)
        # One series of gains for each rank that is kept of a row.
        most = [bank.gain_cdb.shape[1] for bank in banks]
        ranks = np.array([most[bank] if layers is None else 1 for bank, _, _ in keys])
        first = np.cumsum(ranks) - ranks
        period = 2 * slots
        length = period + block_slots  # a block more, so that no read has to wrap
        fading = np.empty((int(ranks.sum()), length, NUM_NODES), np.int16)
        for place, (bank, bank_row, rank) in zip(first, keys, strict=True):
            wanted = range(1, most[bank] + 1) if layers is None else [rank]
            for index, one in enumerate(wanted):
                forth = banks[bank].gain_cdb[bank_row, one - 1, :slots]
                there_and_back = np.concatenate([forth, forth[::-1]])
                fading[place + index] = there_and_back[np.arange(length) % period]
        # Each node is packed with the next one, two int16 in an int32: an interpolation then reads both at once.
        pairs = np.stack([fading[..., :-1], fading[..., 1:]], axis=-1).reshape(-1).view(np.int32)
        self._fading = torch.as_tensor(pairs, device=device)
        self._period = period
        self._rank_stride = length * _PAIRS
        series = series.reshape(-1)
        self.num_ranks = torch.as_tensor(ranks[series], device=device)
        self._series = torch.as_tensor(first[series] * self._rank_stride, device=device)
        self._begin = torch.as_tensor(rng.integers(0, period, len(which)), device=device)
        # Narrow types are faster where their range suffices.
        self._index_type = torch.int32 if self._fading.numel() < 2**31 else torch.int64
        self.slot_index = torch.arange(block_slots, dtype=self._index_type, device=device)[:, None] * _PAIRS

    def place(self, start: int) -> Tensor:
        """The links' places in the block of slots that begins with ``start``, of their lowest rank kept, [link]."""
        return (self._series + (self._begin + start) % self._period * _PAIRS).to(self._index_type)

    def beyond(self, rank: Tensor) -> Tensor:
        """What the place of a rank (1 and up, any shape) is beyond that of rank 1, where the rank may change."""
        return ((rank - 1) * self._rank_stride).to(self._index_type)

    def gain_db(self, place: Tensor, slot_index: Tensor, relative_beta_db: Tensor) -> Tensor:
        """E of `distila.training.sim.eesm` [dB], float32, between the two nearest nodes.

        Args:
            place, slot_index: indices that broadcast to the shape of ``relative_beta_db``.
            relative_beta_db: beta less the mean SNR [dB], float32; overwritten.
        """
        below, above, position = self._nodes(place, slot_index, relative_beta_db)
        return below.lerp_(above, position).mul_(0.01)

    def gain_and_slope(self, place: Tensor, slot_index: Tensor, relative_beta_db: Tensor) -> tuple[Tensor, Tensor]:
        """E [dB] as `gain_db`, and how much it rises per dB of beta; beyond the nodes as between the last two."""
        below, above, position = self._nodes(place, slot_index, relative_beta_db.clone())
        step = above.sub_(below)
        return below.addcmul_(step, position).mul_(0.01), step.mul_(0.01 / NODE_STEP_DB)

    def _nodes(self, place: Tensor, slot_index: Tensor, relative_beta_db: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values [0.01 dB] at the nodes below and above, and the position between them, 0 to 1."""
        position = relative_beta_db.sub_(NODE_FIRST_DB).mul_(1 / NODE_STEP_DB)
        position.clamp_(0, NUM_NODES - 1.001)
        index = position.to(self._index_type)
        position.sub_(index)
        index.add_(place).add_(slot_index)
        pair = torch.index_select(self._fading, 0, index.view(-1)).view(torch.int16).view(*index.shape, 2)
        return pair[..., 0].to(torch.float32), pair[..., 1].to(torch.float32), position
