"""The radio link as look-up tables on a device: transport block sizes, error rates, EESM, HARQ combining.

*Allocation*: a pair of PRBs and layers. One transport block per slot on one codeword over all layers; its size is
`distila.xapp.nr.tbs`, its error rate that of its code blocks (`distila.xapp.nr.bler.tbler`) at the effective SINR.

*HARQ combining* happens on the effective SINR g_i (linear) of the transmissions i of a block (Caire and Tuninetti, "The
throughput of hybrid-ARQ protocols for the Gaussian collision channel", IEEE Trans. Inf. Theory 47(5), 2001):

* ``chase``: each transmission repeats the same bits, combined by maximum ratio: ``g = sum g_i``.
* ``ir``: each transmission sends new parity bits, mutual information adds up: ``log2(1 + g) = sum log2(1 + g_i)``. An
  upper bound for high code rates, where bits of a mother code of rate 1/3 run out last; for low ones it equals
  ``chase``.

The combined SINR is looked up on the curve of the first transmission's MCS.
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
from distila.xapp.nr.tbs import num_re, transport_block_size_bits

_FIRST_DB: Final = -20.0
_LAST_DB: Final = 45.0
# Wide allocations have many code blocks, hence steep curves: with this step interpolation stays within 0.01 of them.
_STEP_DB: Final = 0.02
_COARSE: Final = 5


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
    """Soft combining over the transmissions of a block; see the module docstring for the two kinds."""

    def __init__(self, kind: str) -> None:
        if kind not in ("chase", "ir", "ideal"):
            raise ValueError(f"combining is {kind!r}; must be chase, ir or ideal")
        self.kind = kind

    def received(self, sinr_db: Tensor) -> Tensor:
        """What one transmission adds to the decoder's store."""
        linear = torch.exp2(sinr_db * (np.log2(10) / 10))
        return linear if self.kind == "chase" else linear.log1p_()

    def sinr_db(self, store: Tensor) -> Tensor:
        """Effective SINR [dB] of a store; -60 where nothing was received."""
        linear = store if self.kind == "chase" else torch.expm1(store)
        return torch.log10(linear.clamp(min=1e-6)).mul_(10)
