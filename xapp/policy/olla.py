"""Outer-loop link adaptation, the baseline that every RAN has: an offset, moved by ACK and NACK, on an inner loop.

On a NACK the offset falls by a step, on an ACK it rises by ``step * target / (1 - target)``, so that it settles where
the first-transmission BLER equals the target (Pedersen et al., VTC 2007; Sampath et al., VTC 1997). Here the offset is
added to the CQI and the sum mapped to an MCS, as srsRAN Project's scheduler does. A DU runs this, and
`distila.training.olla_bundle` exports it as an ONNX bundle that takes the same decisions. (`distila.training.sinr_olla`
has the form that works on a SINR in dB.)

All arithmetic is float32, because the exported graph's is: a decision on the edge falls the same way in both.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from distila.xapp.errors import InputError
from distila.xapp.nr.arrays import Float32Array, IntArray
from distila.xapp.nr.cqi import mcs_for_cqi

MAX_CQI: Final = 15


@dataclass(frozen=True)
class OllaConfig:
    """Settings of the outer loop. Steps and bounds are in the unit of the inner loop: CQI steps or dB.

    srsRAN's defaults are target 0.01, ``step_on_ack`` 0.001 and ``max_offset`` 4 CQI steps.
    """

    target_bler: float = 0.15
    """First-transmission BLER at which the offset settles."""
    step_on_nack: float = 0.02
    """How far the offset falls on a NACK."""
    max_offset: float = 4.0
    """The offset stays within plus and minus this."""
    initial_cqi: int = 7
    """CQI assumed for a UE that has never reported one; its offset may then span the whole CQI range."""

    def __post_init__(self) -> None:
        if not 0 < self.target_bler < 0.5:
            raise InputError(f"OLLA: target_bler = {self.target_bler} is outside (0, 0.5)")
        if self.step_on_nack <= 0 or self.max_offset <= 0:
            raise InputError("OLLA: step_on_nack and max_offset must be positive")
        if not 1 <= self.initial_cqi <= MAX_CQI:
            raise InputError(f"OLLA: initial_cqi = {self.initial_cqi} is outside 1..{MAX_CQI}")

    @property
    def step_on_ack(self) -> float:
        """How far the offset rises on an ACK."""
        return self.step_on_nack * self.target_bler / (1 - self.target_bler)


def cqi_to_mcs_table() -> Float32Array:
    """MCS of every CQI, [mcs_table - 1, cqi_table - 1, cqi]: `mcs_for_cqi` for all nine pairs of tables."""
    return np.array(
        [[mcs_for_cqi(cqi_table, mcs_table) for cqi_table in (1, 2, 3)] for mcs_table in (1, 2, 3)], np.float32
    )


class CqiOlla:
    """OLLA in the CQI domain, for a set of UEs, after srsRAN Project.

    The MCS between two CQI is interpolated linearly and rounded down. At the highest MCS of the CQI table an ACK does
    not raise the offset, and at MCS 0 a NACK does not lower it: there it would run away without effect. A UE that has
    never reported a CQI starts at ``initial_cqi`` and follows HARQ feedback alone. CQI 0 (out of range) means MCS 0.

    Args:
        config: steps, target, bounds.
        mcs_table: [ue], 1..3.
        cqi_table: [ue], 1..3.
    """

    def __init__(self, config: OllaConfig, mcs_table: IntArray, cqi_table: IntArray) -> None:
        if config.max_offset > MAX_CQI:
            raise InputError(f"OLLA: max_offset = {config.max_offset} CQI steps, there are only {MAX_CQI}")
        self.config = config
        self._mcs_of_cqi = cqi_to_mcs_table()[mcs_table - 1, cqi_table - 1]  # [ue, cqi]
        self.max_mcs = self._mcs_of_cqi[:, MAX_CQI].astype(np.int64)  # [ue]
        self._row = np.arange(len(mcs_table))
        self._step_on_ack = np.float32(config.step_on_ack)
        self._step_on_nack = np.float32(config.step_on_nack)
        self.offset: Float32Array = np.zeros(len(mcs_table), np.float32)
        self.last_cqi: Float32Array = np.full(len(mcs_table), np.nan, np.float32)

    def update(self, mcs: IntArray, ack: Float32Array, nack: Float32Array) -> None:
        """Move the offsets.

        Args:
            mcs: [ue], the MCS that the feedback is for.
            ack: [ue], number of first transmissions with an ACK.
            nack: [ue], number of first transmissions with a NACK.
        """
        rise = self._step_on_ack * (ack * (mcs < self.max_mcs))
        fall = self._step_on_nack * (nack * (mcs > 0))
        self.offset = self.offset + (rise.astype(np.float32) - fall.astype(np.float32))
        self._bound()

    def observe_cqi(self, cqi: Float32Array) -> None:
        """Take over the CQI of those UEs that report one, [ue], NaN = none."""
        measured = ~np.isnan(cqi)
        if measured.any():
            self.last_cqi = np.where(measured, cqi, self.last_cqi)
            self._bound()

    def _bound(self) -> None:
        limit = np.where(np.isnan(self.last_cqi), np.float32(MAX_CQI), np.float32(self.config.max_offset))
        self.offset = np.minimum(np.maximum(self.offset, -limit), limit)

    def mcs(self) -> IntArray:
        """The MCS of every UE, [ue]."""
        base = np.where(np.isnan(self.last_cqi), np.float32(self.config.initial_cqi), self.last_cqi)
        effective = np.minimum(np.maximum(base + self.offset, np.float32(1)), np.float32(MAX_CQI))
        floor = np.floor(effective)
        low = self._mcs_of_cqi[self._row, floor.astype(np.int64)]
        high = self._mcs_of_cqi[self._row, np.minimum(floor + 1, MAX_CQI).astype(np.int64)]
        mcs = np.floor(low + (high - low) * (effective - floor)).astype(np.int64)
        return np.where(base == 0, 0, mcs)
