"""Open-loop replay: a KPI log goes through the decision loop, and its decisions are written beside what was done.

The decisions are never scored as if they had been applied: the log knows only what happened with the MCS that was used.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from distila.replay.closed_loop import InProcess
from distila.replay.du import FIRST_RNTI
from distila.replay.kpi_log import KpiLog
from distila.xapp.kpi.observations import HARQ_COLUMNS, MEASURED
from distila.xapp.kpi.report import ACK, DTX, MCS, MCS_OFFSET, NACK, NO_UE_ID, KpiReport, measured_columns
from distila.xapp.loop import DecisionLoop
from distila.xapp.nr.arrays import Float64Array, IntArray
from distila.xapp.nr.mcs import MCS_TABLES, NUM_MCS
from distila.xapp.stats import LatencyRecorder

_PROGRESS_ROWS = 1024


def run(
    log: KpiLog, loop: DecisionLoop, progress: Callable[[int, int], None] | None = None
) -> tuple[Float64Array, LatencyRecorder]:
    """Put every report of the log through the loop, in order; rows with one timestamp go in one indication.

    Returns:
        The MCS decided in answer to each row, [row], NaN where the UE was left to the DU; and how long each took.
    """
    decided = np.full(log.num_rows, np.nan)
    xapp = InProcess(loop)
    total_first_tx, latest_mcs = np.zeros(len(log.meta.ues)), np.full(len(log.meta.ues), np.nan)
    for sequence, rows in enumerate(_indications(log), start=1):
        report = _report(log, rows, sequence, total_first_tx, latest_mcs, loop.stats.noticed)
        for decisions in xapp.exchange(report):
            logged = np.round(log.measured["mcs"][rows])
            moved = np.clip(logged + decisions.value, 0, MCS_TABLES[log.meta.mcs_table].num_mcs - 1)
            offset = np.where(decisions.kind == MCS_OFFSET, moved, np.nan)
            decided[rows] = np.where(decisions.kind == MCS, decisions.value, offset)
        if progress is not None and sequence % _PROGRESS_ROWS == 0:
            progress(int(rows[-1]) + 1, log.num_rows)
    return decided, xapp.latency


def _indications(log: KpiLog) -> Iterator[IntArray]:
    """The rows of each indication: those of one timestamp, a UE at most once."""
    starts = np.flatnonzero(np.r_[True, np.diff(log.timestamp_us) > 0])
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), log.num_rows], strict=True):
        rows = np.arange(start, stop)
        while len(rows):
            _, first = np.unique(log.ue[rows], return_index=True)
            yield rows[np.sort(first)]
            rows = np.delete(rows, first)


def _report(
    log: KpiLog,
    rows: IntArray,
    sequence: int,
    total_first_tx: Float64Array,
    latest_mcs: Float64Array,
    noticed: Counter[str],
) -> KpiReport:
    """One indication from rows of the log; ``total_first_tx`` and ``latest_mcs``, [ue], run on from one to the next."""
    ue = log.ue[rows].astype(np.int64)
    columns = {name: log.measured[name][rows] for name in MEASURED if name in log.measured}
    for name in columns.keys() - {"sinr_db", "dl_buffer_bytes"}:
        # The mean CQI or rank of a period becomes the nearest index: that is what a report carries.
        columns[name] = np.round(columns[name])
    columns["native_mcs"] = np.round(log.measured["mcs"][rows])
    counts = np.stack([log.measured[name][rows] for name in HARQ_COLUMNS], axis=1)
    known = ~np.isnan(counts[:, ACK])
    counted = known & (counts.sum(axis=1) > 0)
    # The log gives a mean MCS per period: the counts go to the nearest one. Feedback can outlast the transmissions it
    # is for; where a period has counts but no MCS, they belong to the latest one known.
    mcs = np.round(log.measured["mcs"][rows])
    mcs = np.where(np.isnan(mcs), latest_mcs[ue], mcs)
    latest_mcs[ue] = mcs
    placed = counted & ~np.isnan(mcs)
    first_tx = counts[:, [ACK, NACK, DTX]].sum(axis=1)
    total_first_tx[ue[placed]] += first_tx[placed]
    if (counted & ~placed).any():
        noticed["harq_without_mcs"] += int(first_tx[counted & ~placed].sum())
    entry = np.flatnonzero(placed)
    tables = len(rows)
    return KpiReport(
        cell_id=log.meta.name,
        sequence=sequence,
        sfn=int(log.timestamp_us[rows[0]] // 10_000 % 1024),
        slot=0,
        timestamp_us=int(log.timestamp_us[rows[0]]),
        period_slots=max(1, round(log.meta.period_us / log.meta.slot_us)),
        rnti=FIRST_RNTI + ue,
        ue_id=np.full(len(rows), NO_UE_ID),
        cqi_table=np.full(tables, log.meta.cqi_table),
        mcs_table=np.full(tables, log.meta.mcs_table),
        measured=measured_columns(len(rows), columns),
        total_first_tx=np.where(known, total_first_tx[ue], np.nan),
        harq_ue=entry,
        harq_mcs=np.clip(mcs[entry], 0, NUM_MCS - 1).astype(np.int64),
        harq_counts=counts[entry],
    )
