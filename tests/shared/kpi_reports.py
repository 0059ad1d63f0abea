"""The report builder of all tests. pytest has this folder on its path (``pythonpath`` in pyproject.toml)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from distila.xapp.kpi.observations import MEASURED
from distila.xapp.kpi.report import ACK, NACK, NO_UE_ID, KpiReport


def kpi_report(
    sequence: int = 1,
    rnti: Sequence[int] | np.ndarray = (0x4601,),
    *,
    cell: str = "cell",
    timestamp_us: int | None = None,
    period_slots: int = 1,
    ue_id: ArrayLike = NO_UE_ID,
    cqi_table: ArrayLike = 1,
    mcs_table: ArrayLike = 1,
    total_first_tx: ArrayLike = np.nan,
    ack: ArrayLike = 0,
    nack: ArrayLike = 0,
    mcs: ArrayLike = 10,
    harq: Sequence[tuple[int, int, int, int, int, int]] | None = None,
    **measured: ArrayLike,
) -> KpiReport:
    """A report of the UEs ``rnti``. Every figure is one value for all UEs, or one for each; NaN: not measured.

    Args:
        timestamp_us: None: 1000 times the sequence number.
        ack, nack, mcs: feedback of first transmissions, all of a UE's at one MCS. A UE without any has no entry.
        harq: in place of these three, entries (row of the UE, MCS, ACK, NACK, DTX, residual losses).
        measured: columns of `MEASURED`; a column that is not named was not measured.
    """
    ues = len(rnti)

    def each(values: ArrayLike, dtype: type) -> np.ndarray:
        return np.broadcast_to(np.asarray(values, dtype), ues).copy()

    columns = np.full((ues, len(MEASURED)), np.nan)
    for name, values in measured.items():
        columns[:, MEASURED.index(name)] = values
    if harq is None:
        counts = np.zeros((ues, 4))
        counts[:, ACK], counts[:, NACK] = ack, nack
        rows = np.flatnonzero(counts.any(axis=1))
        entries = np.column_stack([rows, each(mcs, np.int64)[rows], counts[rows].astype(np.int64)])
    else:
        entries = np.array(sorted(harq), np.int64).reshape(-1, 6)
    return KpiReport(
        cell_id=cell,
        sequence=sequence,
        sfn=sequence % 1024,
        slot=sequence % 20,
        timestamp_us=1000 * sequence if timestamp_us is None else timestamp_us,
        period_slots=period_slots,
        rnti=np.array(rnti, np.int64),
        ue_id=each(ue_id, np.int64),
        cqi_table=each(cqi_table, np.int64),
        mcs_table=each(mcs_table, np.int64),
        measured=columns,
        total_first_tx=each(total_first_tx, np.float64),
        harq_ue=entries[:, 0],
        harq_mcs=entries[:, 1],
        harq_counts=entries[:, 2:].astype(np.float64),
    )
