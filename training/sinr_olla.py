"""OLLA in the SINR domain, as in Sionna's ``OuterLoopLinkAdaptation``: the usual baseline in simulations.

The offset is added to a reported effective SINR [dB]; the MCS is the highest whose BLER there stays below the target.
Settings are those of `distila.xapp.policy.olla`, in dB. It computes in float32 so that its decisions can be compared
one by one with those of other implementations.

No command uses it: it is the independent reference by which tests check the simulator and `distila.xapp.policy.olla`.
"""

from typing import Protocol

import numpy as np

from distila.xapp.nr.arrays import Float32Array, IntArray
from distila.xapp.nr.bler import BlerModel, tbler
from distila.xapp.policy.olla import OllaConfig


class InnerLoop(Protocol):
    """Maps an effective SINR to an MCS."""

    def __call__(self, sinr_db: Float32Array) -> IntArray:
        """MCS of every UE, [ue], at the effective SINR [ue] in dB."""
        ...


class SinrInnerLoop:
    """Highest MCS whose transport block error rate does not exceed the target; the lowest usable one if none does.

    Args:
        bler: the BLER model; an MCS that it has no curve for has BLER 1 at every SINR.
        mcs_table: 1..3.
        tbs_bits: [ue, mcs], transport block size of each MCS.
        target_bler: target of the transport block error rate.
        lowest_mcs: MCS to use where no MCS meets the target.
    """

    def __init__(
        self, bler: BlerModel, mcs_table: int, tbs_bits: IntArray, target_bler: float, lowest_mcs: int = 0
    ) -> None:
        self._bler = bler
        self._mcs_table = mcs_table
        self._tbs_bits = tbs_bits
        self._target_bler = target_bler
        self._lowest_mcs = lowest_mcs

    def __call__(self, sinr_db: Float32Array) -> IntArray:
        """MCS of every UE, [ue], at the effective SINR [ue] in dB."""
        mcs = np.arange(self._tbs_bits.shape[1])
        rate = tbler(self._bler, self._mcs_table, mcs[None, :], self._tbs_bits, sinr_db[:, None])
        good = rate <= self._target_bler
        highest = self._tbs_bits.shape[1] - 1 - np.argmax(good[:, ::-1], axis=1)
        return np.where(good.any(axis=1), highest, self._lowest_mcs).astype(np.int64)


class SinrOlla:
    """OLLA in the SINR domain, for a set of UEs: Sionna's ``OuterLoopLinkAdaptation`` with the opposite sign of the
    offset.

    Args:
        config: steps, target, bounds [dB]; ``initial_cqi`` is not used.
        inner: maps effective SINR [ue] to MCS [ue].
        num_ues: number of UEs.
    """

    def __init__(self, config: OllaConfig, inner: InnerLoop, num_ues: int) -> None:
        self.config = config
        self._inner = inner
        self.offset_db: Float32Array = np.zeros(num_ues, np.float32)

    def update(self, ack: Float32Array, nack: Float32Array) -> None:
        """Move the offsets by the counts of ACK and NACK of first transmissions, [ue]."""
        step = np.float32(self.config.step_on_ack) * ack - np.float32(self.config.step_on_nack) * nack
        self.offset_db = np.clip(
            self.offset_db + step.astype(np.float32), -self.config.max_offset, self.config.max_offset
        ).astype(np.float32)

    def mcs(self, sinr_db: Float32Array) -> IntArray:
        """The MCS of every UE, [ue], for its reported effective SINR [ue] in dB."""
        return self._inner(sinr_db + self.offset_db)
