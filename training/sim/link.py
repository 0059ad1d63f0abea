"""The radio link as look-up tables on a device: transport block sizes, error rates, EESM, HARQ combining.

*Allocation*: a pair of PRBs and layers. One transport block per slot on one codeword over all layers; its size is
`distila.xapp.nr.tbs`, its error rate that of its code blocks (`distila.xapp.nr.bler.tbler`) at the effective SINR.

*HARQ combining* follows `distila.xapp.nr.soft_combining`, whose twin on a device is `Combining`: what the decoder holds
of a block gives an effective SINR, which is looked up on the curve of the first transmission's MCS.
"""

import functools
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from distila.training.sim.eesm import eesm_beta
from distila.training.sim.report import Curves
from distila.xapp.nr.bler import BlerModel, tbler
from distila.xapp.nr.cqi import TARGET_BLER, cqi_thresholds_db
from distila.xapp.nr.mcs import NUM_MCS
from distila.xapp.nr.mcs import mcs_table as table_of
from distila.xapp.nr.soft_combining import (
    FIRST_DB,
    LAST_DB,
    NOTHING_DB,
    NUM_NODES,
    NUM_VERSIONS,
    STEP_DB,
    Carrier,
    CombiningKind,
    SoftCombining,
)
from distila.xapp.nr.tbs import num_re, transport_block_size_bits

_FIRST_DB: Final = -20.0
_LAST_DB: Final = 45.0
# Wide allocations have many code blocks, hence steep curves: with this step interpolation stays within 0.01 of them.
_STEP_DB: Final = 0.02
_COARSE: Final = 5
_TINY: Final = 1e-12
"""Linear SINR of what was not received."""


class LinkTables:
    """Tables of one MCS table and a set of allocations.

    Attributes:
        allocations: (PRBs, layers); an allocation's number is its index here.
        tbs_bits: float32 [allocation * NUM_MCS], 0 beyond the MCS table.
        prbs: float32 [allocation * NUM_MCS].
        centre_db: float32 [allocation * NUM_MCS], SINR at which the TBLER is 0.5.
        beta_db: float32 [NUM_MCS], EESM parameter.
        max_mcs: highest MCS index.

    A pair of allocation and MCS is given as one number, ``row = allocation * NUM_MCS + mcs``.
    """

    def __init__(
        self,
        mcs_table: int,
        cqi_table: int,
        allocations: Sequence[tuple[int, int]],
        bler: BlerModel,
        beta: np.ndarray,
        device: torch.device,
    ) -> None:
        table = table_of(mcs_table)
        self.mcs_table, self.cqi_table = mcs_table, cqi_table
        self.allocations = list(allocations)
        self.max_mcs = table.num_mcs - 1
        sinr_db = np.arange(_FIRST_DB, _LAST_DB, _STEP_DB)
        self.num_steps = len(sinr_db)
        tbs_bits = np.zeros((len(allocations), NUM_MCS))
        rates = np.ones((len(allocations), NUM_MCS, self.num_steps), np.float32)
        for index, (prbs, layers) in enumerate(allocations):
            size = transport_block_size_bits(num_re(prbs), table.code_rate, table.modulation_order, layers)
            mcs = np.arange(table.num_mcs)[:, None]
            tbs_bits[index, : table.num_mcs] = size
            rates[index, : table.num_mcs] = tbler(bler, mcs_table, mcs, size[:, None], sinr_db[None, :])
        centre = sinr_db[np.clip((rates > 0.5).sum(axis=2), 0, self.num_steps - 1)]
        beta_db = np.zeros(NUM_MCS)
        beta_db[: table.num_mcs] = 10 * np.log10(beta)

        def to_device(array: np.ndarray) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(array, np.float32), device=device).reshape(-1)

        prbs_of_row = np.repeat([float(prbs) for prbs, _ in allocations], NUM_MCS)
        self.prbs = to_device(prbs_of_row)
        self.tbs_bits, self.centre_db, self.beta_db = to_device(tbs_bits), to_device(centre), to_device(beta_db)
        # Each step is packed with the next one, two float16 in an int32: an interpolation then reads both at once.
        pairs = np.stack([rates[..., :-1], rates[..., 1:]], axis=-1).astype(np.float16).reshape(-1).view(np.int32)
        self._tbler = torch.as_tensor(pairs, device=device)
        self._position = torch.tensor(-_FIRST_DB / _STEP_DB, device=device)
        prbs, _ = self.allocations[0]
        nominal_bits = transport_block_size_bits(num_re(prbs), table.code_rate, table.modulation_order)
        nominal = tbler(
            bler, mcs_table, np.arange(table.num_mcs)[:, None], nominal_bits[:, None], sinr_db[None, ::_COARSE]
        )
        thresholds = cqi_thresholds_db(cqi_table, bler, target=TARGET_BLER[cqi_table])
        # CQI 0 says "below CQI 1", and policies want a number.
        thresholds[0] = 2 * thresholds[1] - thresholds[2]
        self.curves = Curves(
            first_db=_FIRST_DB,
            step_db=_STEP_DB * _COARSE,
            tbler=torch.as_tensor(nominal.astype(np.float32), device=device),
            rate=torch.as_tensor((nominal_bits / num_re(prbs)).astype(np.float32), device=device),
            cqi_threshold_db=torch.as_tensor(thresholds.astype(np.float32), device=device),
        )

    def tbler(self, row: Tensor, sinr_db: Tensor) -> Tensor:
        """TBLER of ``row`` (int64) at an effective SINR [dB], float32 of their shape; constant beyond -20..45 dB."""
        position = torch.add(self._position, sinr_db, alpha=1 / _STEP_DB).clamp_(0, self.num_steps - 1.01)
        index = position.to(torch.int64)
        position.sub_(index)
        index.add_(row, alpha=self.num_steps - 1)
        pair = torch.index_select(self._tbler, 0, index.view(-1)).view(torch.float16).view(*index.shape, 2)
        return torch.lerp(pair[..., 0].to(torch.float32), pair[..., 1].to(torch.float32), position)


@functools.lru_cache(maxsize=16)
def link_tables(
    mcs_table: int, cqi_table: int, allocations: tuple[tuple[int, int], ...], bler: BlerModel, device: torch.device
) -> LinkTables:
    """Tables with Sionna's EESM parameters. They take a while to make, so the same arguments give the same object."""
    return LinkTables(mcs_table, cqi_table, allocations, bler, eesm_beta(mcs_table), device)


def steeper(sinr_db: Tensor, centre_db: Tensor, slope: Tensor, shift_db: Tensor) -> Tensor:
    """SINR at which the nominal curve has the value of one ``slope`` times as steep and ``shift_db`` further right."""
    return centre_db + (sinr_db - shift_db - centre_db) * slope


class Combining:
    """Soft combining over the transmissions of a block: `SoftCombining` on a device, for many blocks at once.

    A *store* is what the decoder holds of a block, float32 [block, 4]: the linear SINR of RV 0, 2, 3 and 1 (of
    ``ideal`` the sum of ``ln(1 + SINR)``, in the first). Only blocks that are sent again need one.

    Args:
        rule: of the link's tables, one row for each of theirs.
        device: of the tensors.

    Attributes:
        kind: ``ir``, ``chase`` or ``ideal``.
        unrepeated: transmissions until a redundancy version is sent again.
    """

    def __init__(self, rule: SoftCombining, device: torch.device) -> None:
        self.kind: CombiningKind = rule.kind
        self.unrepeated = NUM_VERSIONS if rule.kind == "ir" else 1
        self._row_class = torch.as_tensor(rule.row_class, device=device)
        self._repeat_db = torch.as_tensor(rule.repeat_db, device=device)
        decoded_alone = np.ones((len(rule.decoded_alone), NUM_VERSIONS), np.bool_)
        decoded_alone[:, 1::2] = rule.decoded_alone
        self._decoded_alone = torch.as_tensor(decoded_alone, device=device)
        gain_db = rule.gain_db.reshape(-1)
        # Each node is packed with the next one of the last axis: an interpolation then reads both at once.
        pairs = np.stack([gain_db, np.roll(gain_db, -1)], axis=1).reshape(-1).view(np.float64)
        self._gain_db = torch.as_tensor(pairs, device=device)

    def first(self, sinr_db: Tensor) -> Tensor:
        """Stores after first transmissions, float32 [block, 4].

        Args:
            sinr_db: effective SINR [dB], float32 [block]; -inf: the grant was missed.
        """
        store = torch.zeros((*sinr_db.shape, NUM_VERSIONS), device=sinr_db.device)
        store[..., 0] = self._received(sinr_db)
        return store

    def add(
        self, store: Tensor, transmission: Tensor | int, sinr_db: Tensor, efficiency: Tensor | None = None
    ) -> Tensor:
        """Stores after a retransmission was received, float32 [block, 4].

        Args:
            store: float32 [block, 4].
            transmission: int64 [block] or one for all; 2 is the first retransmission.
            sinr_db: effective SINR of this transmission alone [dB], float32 [block].
            efficiency: share of the store that the UE still has, float32 [block]; None: all of it.
        """
        received = self._received(sinr_db)
        kept = store.clone() if efficiency is None else store * efficiency[..., None]
        if self.kind != "ir":
            kept[..., 0] += received
        elif isinstance(transmission, int):
            kept[..., (transmission - 1) % NUM_VERSIONS] += received
        else:
            plane = (transmission - 1) % NUM_VERSIONS
            kept.scatter_add_(-1, plane[..., None], received[..., None])
        return kept

    def effective_sinr_db(
        self, row: Tensor, store: Tensor, transmission: Tensor | int, efficiency: Tensor | None = None
    ) -> Tensor:
        """SINR at which one transmission alone would fail as often [dB], float32 [block]; see `SoftCombining`.

        Args:
            row: int64 [block], of the link's tables.
            store: float32 [block, 4].
            transmission: int64 [block] or one for all, transmissions so far.
            efficiency: with which repeated versions count, float32 [block]; None: 1.
        """
        if self.kind == "ideal":
            return _decibel(store[..., 0].expm1()).clamp_(min=NOTHING_DB)
        of_class = _look_up(self._row_class, row)
        loss_db: Tensor | float = 0.0
        if not isinstance(transmission, int) or transmission > self.unrepeated:
            repeats = torch.as_tensor(transmission - self.unrepeated).clamp(min=0)
            loss_db = repeats * _look_up(self._repeat_db, of_class)
            if efficiency is not None:
                loss_db = loss_db * efficiency
        if self.kind == "chase":
            return (_decibel(store[..., 0]) - loss_db).clamp_(min=NOTHING_DB)
        received_db = _decibel(store)
        first_db = torch.maximum(received_db[..., 0], received_db.amax(dim=-1) - LAST_DB)
        effective_db = first_db + self._gain(of_class, received_db[..., 1:] - first_db[..., None]) - loss_db
        # RV 2 and RV 1 alone hold too few of the block's own bits, unless the code rate is low.
        decodable = ((store > _TINY) & self._decoded_alone[of_class]).any(dim=-1)
        return effective_db.clamp_(min=NOTHING_DB).masked_fill_(~decodable, NOTHING_DB)

    def _received(self, sinr_db: Tensor) -> Tensor:
        linear = torch.exp2(sinr_db * (np.log2(10) / 10))
        return linear.log1p_() if self.kind == "ideal" else linear

    def _gain(self, of_class: Tensor, difference_db: Tensor) -> Tensor:
        """Gain [dB] at the SINRs of RVs 2, 3 and 1 less that of RV 0, [..., 3]; linear between nodes."""
        position = difference_db.sub_(FIRST_DB).mul_(1 / STEP_DB).clamp_(0, NUM_NODES - 1)
        node = position.to(torch.int64).clamp_(max=NUM_NODES - 2)
        weight = position.sub_(node)
        corner = ((of_class * NUM_NODES + node[..., 0]) * NUM_NODES + node[..., 1]) * NUM_NODES + node[..., 2]

        def along_last(start: Tensor) -> Tensor:
            pair = _look_up(self._gain_db, start).view(torch.float32).view(*start.shape, 2)
            return torch.lerp(pair[..., 0], pair[..., 1], weight[..., 2])

        def along_middle(start: Tensor) -> Tensor:
            return torch.lerp(along_last(start), along_last(start + NUM_NODES), weight[..., 1])

        return torch.lerp(along_middle(corner), along_middle(corner + NUM_NODES**2), weight[..., 0])


@functools.lru_cache(maxsize=16)
def link_combining(kind: CombiningKind, tables: LinkTables, carrier: Carrier) -> Combining:
    """Combining of the blocks of the tables; the same arguments give the same object."""
    mcs = np.tile(np.arange(NUM_MCS), len(tables.allocations))
    tbs_bits = tables.tbs_bits.cpu().numpy().astype(np.int64)
    rule = SoftCombining.for_blocks(kind, tables.mcs_table, mcs, tbs_bits, carrier)
    return Combining(rule, tables.tbs_bits.device)


def _decibel(linear: Tensor) -> Tensor:
    return linear.clamp(min=_TINY).log10_().mul_(10)


def _look_up(table: Tensor, index: Tensor) -> Tensor:
    return torch.index_select(table, 0, index.reshape(-1)).view(index.shape)
