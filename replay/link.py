"""The link between DU and UE: decides, from MCS and effective SINR, whether a transport block is decoded.

`Link` tabulates any BLER model over SINR for the given UEs, so that a slot costs two look-ups. Random draws are
common: the draw of UE ``u`` in slot ``t`` depends on the seed, ``u`` and ``t`` only, so two policies that choose the
same MCS in the same slot get the same outcome, and differences between policies are due to the policies.
"""

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Final

import numpy as np
import numpy.typing as npt

from distila.replay.trace import UeMeta
from distila.xapp.errors import InputError
from distila.xapp.nr.arrays import Float32Array, IntArray
from distila.xapp.nr.bler import BlerModel, tbler
from distila.xapp.nr.mcs import MCS_TABLES, NUM_MCS
from distila.xapp.nr.tbs import num_re, transport_block_size_bits
from distila.xapp.shipped import did_you_mean

_LOW_DB: Final = -30.0
_HIGH_DB: Final = 60.0
# Wide allocations have many code blocks, hence steep curves: with this step interpolation stays within 0.006 of them.
_STEP_DB: Final = 0.02


def load_bler(name: str) -> BlerModel:
    """Load a BLER model by name from the entry points ``distila.bler``: ``smooth`` ships, ``sionna`` needs [training].

    Raises:
        InputError: no such model, or its packages are not installed.
    """
    models = {entry.name: entry for entry in entry_points(group="distila.bler")}
    if name not in models:
        names = sorted(models)
        raise InputError(f"{name}: no such BLER model: there are {', '.join(names)}{did_you_mean(name, names)}")
    try:
        model: BlerModel = models[name].load()()
    except ModuleNotFoundError as error:
        install = "pip install 'distila[training]'"
        raise InputError(f"BLER model {name!r} needs the package {error.name!r}: {install}") from None
    return model


class Link:
    """Transport block sizes and error rates of a set of UEs.

    Attributes:
        row_tbs_bits: [row], transport block size; a row is a kind and an MCS, see `row`; 0 beyond the MCS table.
        tbs_bits: [ue, mcs], the same for each UE.
        max_mcs: [ue], highest MCS of the UE's table.
    """

    def __init__(self, ues: Sequence[UeMeta], bler: BlerModel) -> None:
        kinds = sorted({(ue.mcs_table, ue.prbs, ue.layers) for ue in ues})
        self._kind = np.array([kinds.index((ue.mcs_table, ue.prbs, ue.layers)) for ue in ues])
        sinr_db = np.arange(_LOW_DB, _HIGH_DB + _STEP_DB / 2, _STEP_DB)
        self._steps = len(sinr_db)
        tbs_bits = np.zeros((len(kinds), NUM_MCS), np.int64)
        # One extra step at the end, so that the upper neighbour always exists.
        table = np.ones((len(kinds), NUM_MCS, self._steps + 1), np.float32)
        for index, (mcs_table, prbs, layers) in enumerate(kinds):
            mcs = MCS_TABLES[mcs_table]
            count = mcs.num_mcs
            tbs_bits[index, :count] = transport_block_size_bits(
                num_re(prbs), mcs.code_rate, mcs.modulation_order, layers
            )
            rates = tbler(bler, mcs_table, np.arange(count)[:, None], tbs_bits[index, :count, None], sinr_db[None, :])
            table[index, :count, :-1] = rates
            table[index, :count, -1] = rates[:, -1]
        self._table = table.reshape(-1)
        self._base = self._kind * NUM_MCS
        self._table_of_kind = np.array([mcs_table for mcs_table, _, _ in kinds])
        self.row_tbs_bits = tbs_bits.reshape(-1)
        self.tbs_bits = tbs_bits[self._kind]
        self.max_mcs = np.array([MCS_TABLES[ue.mcs_table].num_mcs - 1 for ue in ues])

    def row(self, ues: IntArray, mcs: IntArray) -> IntArray:
        """Row of these UEs, by number, at an MCS, [n] each."""
        return np.asarray(self._base[ues] + mcs)

    def rows_of(self, mcs_table: int) -> IntArray:
        """Rows of an MCS table that have a block, [row]."""
        of_table = np.repeat(self._table_of_kind == mcs_table, NUM_MCS)
        return np.flatnonzero(of_table & (self.row_tbs_bits > 0))

    def tbler(self, mcs: IntArray, sinr_db: npt.NDArray[np.floating]) -> Float32Array:
        """Transport block error rate of one transmission per UE, [ue]; clamped to -30..60 dB, NaN to an edge."""
        position = (sinr_db - _LOW_DB) * (1 / _STEP_DB)
        position = np.fmin(np.fmax(position, 0.0), self._steps - 1)
        lower = position.astype(np.int64)
        index = (self._base + mcs) * (self._steps + 1) + lower
        low = self._table[index]
        rate: Float32Array = low + (self._table[index + 1] - low) * (position - lower).astype(np.float32)
        return rate


class RandomDraws:
    """Uniform random draws for every UE and slot, which do not depend on what is transmitted.

    Args:
        seed: replays with the same seed have the same random draws.
        num_ues: number of UEs.
        copies: the UEs are this many copies of some UEs, one after another; the copies have the same random draws.
    """

    BLOCK_SLOTS: Final = 256

    def __init__(self, seed: int, num_ues: int, copies: int = 1) -> None:
        self._seed = seed
        self._num_ues = num_ues // copies
        self._copies = copies
        self._block_index = -1
        self._block: Float32Array = np.empty((0, 0), np.float32)

    def draw(self, slot: int) -> Float32Array:
        """Uniform [0, 1) of every UE in this slot, [ue]."""
        index = slot // self.BLOCK_SLOTS
        if index != self._block_index:
            rng = np.random.default_rng([self._seed, index])
            # UE by UE, so that a UE's draws do not depend on the number of UEs.
            block = rng.random((self._num_ues, self.BLOCK_SLOTS), np.float32)
            self._block = np.ascontiguousarray(np.tile(block.T, self._copies))
            self._block_index = index
        row: Float32Array = self._block[slot % self.BLOCK_SLOTS]
        return row
