"""Kinds of E2 node by which a policy's shape is tested: how they report, and how often a block is sent.

The channels are windows of the trace that ships (`distila.replay.trace.bundled_trace`), which covers UEs at 0.5 to 120
km/h with a mean SINR of about 0 to 25 dB. The CQI is computed anew, for the UE's CQI table and with the kind's errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.random import default_rng

from distila.replay.du_config import DuConfig
from distila.replay.trace import NO_CQI, ChannelTrace, TraceMeta, UeMeta, bundled_trace
from distila.xapp.nr.arrays import Float32Array, Float64Array, IntArray
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.nr.cqi import TARGET_BLER, cqi_for_sinr_db, cqi_thresholds_db
from distila.xapp.policy.guard import GuardConfig


@dataclass(frozen=True)
class NodeKind:
    """One kind of node.

    Attributes:
        name: of the recording, and in results.
        du: settings of the DU stand-in.
        cqi: whether its UEs report CQI.
        cqi_error_db: standard deviation of a UE's constant error, and of the error of each CQI [dB].
    """

    name: str
    du: DuConfig
    cqi: bool = True
    cqi_error_db: tuple[float, float] = (0.7, 0.5)


KINDS: Final = (
    NodeKind("usual", DuConfig(olla_target_bler=0.1, cqi_period_slots=40, cqi_delay_slots=8)),
    NodeKind(
        "fresh_cqi",
        DuConfig(olla_target_bler=0.1, cqi_period_slots=1, cqi_delay_slots=2, max_transmissions=1, harq_rtt_slots=4),
        cqi_error_db=(0.0, 0.0),
    ),
    NodeKind(
        "two_transmissions",
        DuConfig(
            period_slots=10,
            decision_delay_slots=4,
            olla_target_bler=0.05,
            cqi_period_slots=20,
            cqi_delay_slots=4,
            max_transmissions=2,
        ),
    ),
    # Logs exist of a node whose decoder combined next to nothing: 97 % of its retransmissions failed too.
    NodeKind(
        "poor_combining",
        DuConfig(
            olla_target_bler=0.1,
            cqi_period_slots=20,
            cqi_delay_slots=4,
            harq_rtt_slots=12,
            processes=8,
            combining_efficiency=0.05,
        ),
    ),
    NodeKind("no_cqi", DuConfig(olla_target_bler=0.2, olla_step_on_nack=0.1), cqi=False),
    NodeKind(
        "slow_e2",
        DuConfig(
            period_slots=40, decision_delay_slots=10, olla_target_bler=0.3, cqi_period_slots=80, harq_rtt_slots=16
        ),
        cqi_error_db=(2.0, 1.0),
    ),
)
"""All kinds; in the first, CQI is neither fresh nor absent."""


UNBROKEN: Final = GuardConfig(deadline_us=None, breaker_failure_rate=1.0)
"""A guard without deadline, which a busy machine would miss, and whose breaker never trips: it would leave a policy
that fails too often to the DU, and so hide what is to be measured."""


def ues_on(mcs_tables: Sequence[int], ues: int) -> IntArray:
    """The MCS table of each of some UEs, [ue]: these tables in turn."""
    return np.array([mcs_tables[ue % len(mcs_tables)] for ue in range(ues)])


def channels(kind: NodeKind, mcs_tables: IntArray, num_slots: int, seed: int, copies: int = 1) -> ChannelTrace:
    """A trace for a node of this kind.

    Args:
        kind: of node.
        mcs_tables: [ue], the MCS table of each UE, 1..3; its CQI table is the one that belongs to it. UEs take the
            channels of the bundled trace in turn.
        num_slots: length; the bundled trace begins again where it ends.
        seed: of the CQI's errors.
        copies: how often the UEs are repeated, with the same channels and CQI, all of them one after another.
    """
    source, prbs = _bundled()
    source = source[np.arange(num_slots) % len(source)]
    sinr_db = np.ascontiguousarray(source[:, np.arange(len(mcs_tables)) % source.shape[1]].T)  # [ue, slot]
    rng = default_rng(seed)
    constant_db, each_db = kind.cqi_error_db
    measured_db = sinr_db + constant_db * rng.standard_normal((len(sinr_db), 1))
    measured_db += each_db * rng.standard_normal(sinr_db.shape)
    cqi = np.full(sinr_db.shape, NO_CQI, np.int8)
    for table in np.unique(mcs_tables) if kind.cqi else ():
        rows = mcs_tables == table
        cqi[rows] = cqi_for_sinr_db(measured_db[rows], _thresholds_db(int(table)))
    sinr_db, cqi, mcs_tables = np.tile(sinr_db, (copies, 1)), np.tile(cqi, (copies, 1)), np.tile(mcs_tables, copies)
    ues = [
        UeMeta.model_validate({"name": f"ue{ue}", "prbs": prbs, "mcs_table": table, "cqi_table": table})
        for ue, table in enumerate(mcs_tables.tolist())
    ]
    meta = TraceMeta(name=kind.name, slot_us=500.0, source="channels of the bundled trace, CQI computed anew", ues=ues)
    return ChannelTrace(
        meta=meta,
        offset=np.arange(len(ues) + 1) * num_slots,
        slots=np.ones(sinr_db.size, np.int32),
        sinr_db=sinr_db.ravel(),
        cqi=cqi.ravel(),
    )


@cache
def _bundled() -> tuple[Float32Array, int]:
    """Effective SINR of the bundled trace's UEs that are always there, [slot, ue], and the PRBs of each."""
    trace = ChannelTrace.load(bundled_trace())
    sinr_db, _, _ = trace.window(0, int(trace.num_slots.max()))
    return sinr_db[:, ~np.isnan(sinr_db).any(axis=0)], trace.meta.ues[0].prbs


@cache
def _thresholds_db(cqi_table: int) -> Float64Array:
    return cqi_thresholds_db(cqi_table, SmoothBler.load(), target=TARGET_BLER[cqi_table])
