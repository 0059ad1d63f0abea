"""Imports RANalyzer logs (OpenAirInterface 5G NR, no CQI) as a reconstructed channel trace or as a KPI log. ::

    trace, report = import_ranalyzer(Path("data/ranalyzer"), bler=SmoothBler.load())
    log, report = import_ranalyzer_kpi_log(Path("data/ranalyzer"))

Data: wineslab/RANalyzer-Dataset, CC-BY-4.0. Shirkhani, Prasad, Bonati, Melodia, Polese, "RANalyzer: Automated
Continuous RAN Software Evaluation and Regression Analysis", NetSoft 2026.

Every 1.28 s a log holds, per UE (RNTI), cumulative counts of transmissions by HARQ round and the MCS in use
at that moment. Differences between two reports of a UE give the *interval*: first transmissions n (round 0)
and failures among them k (round 1). A *run* becomes one UE of the trace: it is one RNTI of one file, split where
the RNTI re-attaches or the MCS table changes.

Assumptions, also in the notes of what is returned:

- The MCS of an interval is the mean of the MCS printed at its two ends, rounded half up. OAI moves the MCS by
  steps within the interval. The bytes sent per first transmission, also logged, show which choice is nearest:
  over the 120 logs shipped to this project, their logarithm spreads around that of the MCS's spectral
  efficiency by 0.28 for the mean, 0.32 for the MCS at the end, 0.37 for the one at the start (1400 intervals
  of early 2025, where the carrier is full).
- Allocations fill the carrier. Late 2025 logs sent far smaller blocks; taking 40 PRBs instead of 162 moves
  the SINR by at most 0.15 dB.
- One layer; retransmissions are not used.
- Logs without the number of the MCS table: a run that sent more bytes than the 64QAM table allows used the
  256QAM table (2); any other is assumed to use table 1, with which OAI starts every UE.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Literal, cast

import numpy as np

from distila.replay.importers.counts import ImportReport, Run
from distila.replay.importers.ranalyzer_log import FRAME_US, PERIOD_FRAMES, UNKNOWN_TABLE, ParsedLog, parse_log
from distila.replay.importers.reconstruction import censored, fill_censored, sinr_db_from_failures, tbs_bits
from distila.replay.importers.source_file import read_lines, source_files
from distila.replay.kpi_log import KPI_COLUMNS, KpiLog, KpiLogMeta
from distila.replay.trace import NO_CQI, ChannelTrace, LoggedOutcome, TraceMeta, UeMeta
from distila.xapp.errors import InputError
from distila.xapp.nr.arrays import Float64Array, IntArray
from distila.xapp.nr.bler import BlerModel
from distila.xapp.progress import Progress

DEFAULT_PRBS = 162
SLOT_US = 500.0
SOURCE = (
    "wineslab/RANalyzer-Dataset, CC-BY-4.0 (Shirkhani et al., NetSoft 2026): OpenAirInterface gNB logs over"
    " the air, n78, 60 MHz, 30 kHz SCS"
)
BASELINE = "first report of a UE: only the base of its counters"
IDLE = "interval without first transmissions"
LATE_FAILURE = "interval with failures but without first transmissions"
RESTART = "counters went back without a new RNTI"
REATTACH = "RNTI came back with counters from zero (re-attach)"
SWITCH = "MCS table switched in the interval"
JUMP = "more than 2^31 first transmissions in an interval"
CENSORED = "segment with no failure, or nothing but failures: SINR is only bounded"
_NOTES = [
    "No CQI was logged; SINR is reconstructed by inverting the BLER curves at each interval's"
    " first-transmission failure rate.",
    "MCS of an interval: mean of the MCS printed at its two ends, rounded half up; OAI changes it within the interval.",
    "One layer, allocations as wide as the carrier, 14 symbols with 12 DM-RS resource elements per PRB.",
    "A segment is one report interval (nominally 1.28 s), the SINR constant in it; its slots are its first"
    " transmissions, and the time without any is left out.",
]
_FILE_TIME = re.compile(r"(?:^|/)(\d{8}_\d{6})", re.ASCII)


@dataclass(frozen=True)
class Intervals:
    """The intervals of one run in time order, every array [interval]; the first transmissions may be 0."""

    file: str
    name: str
    mcs_table: Literal[1, 2, 3]
    table_assumed: bool
    prbs: int
    end_frame: IntArray  # since the first block of the file
    frames: IntArray
    mean_mcs: Float64Array
    first_tx: IntArray
    first_fail: IntArray  # as counted, may exceed first_tx by failures of the interval before
    errors: IntArray
    dtx: IntArray

    @property
    def clipped_fail(self) -> IntArray:
        """Failures, at most the first transmissions."""
        return np.minimum(self.first_fail, self.first_tx)


def intervals(log: ParsedLog, report: ImportReport, file: str, prbs: int) -> list[Intervals]:
    """Split a log into runs, in the order in which they begin, and difference the counters of each.

    Reports that end no usable interval are counted in ``report``: `BASELINE`, `RESTART`, `REATTACH`,
    `SWITCH`, `JUMP`.
    """
    runs: list[tuple[int, Intervals]] = []
    for ue, rnti in enumerate(log.rntis):
        rows = np.flatnonzero(log.ue == ue)
        report.skip(BASELINE, where=f"{file}: line {log.line[rows[0]]}")
        delta = np.diff(log.counters[rows], axis=0)  # [interval, counter]
        back = (delta < 0).any(axis=1)
        away = np.diff(log.block[rows]) > 1
        reattach = back & away
        switch = (np.diff(log.mcs_table[rows]) != 0) & ~reattach
        reasons = {
            REATTACH: reattach,
            SWITCH: switch,
            RESTART: back & ~away & ~switch,
            JUMP: ~back & ~switch & (delta[:, 0] >= 2**31),
        }
        for reason, mask in reasons.items():
            for i in np.flatnonzero(mask):
                report.skip(reason, where=f"{file}: line {log.line[rows[i + 1]]}")
        unusable = np.logical_or.reduce(list(reasons.values()))
        frames = np.diff(log.frame[rows])
        report.note("interval longer than a period: a report block is missing", int((frames > PERIOD_FRAMES).sum()))
        part_of = np.cumsum(reattach | switch)  # [interval]
        for part in range(int(part_of[-1]) + 1 if len(part_of) else 1):
            keep = np.flatnonzero((part_of == part) & ~unusable)
            start, end = rows[keep], rows[keep + 1]
            table = _mcs_table(log, start, end, prbs)
            first_row = rows[0] if part == 0 else rows[np.flatnonzero(part_of == part)[0] + 1]
            mean_mcs = (log.mcs[start] + log.mcs[end]) / np.float64(2)
            runs.append(
                (
                    int(log.line[first_row]),
                    Intervals(
                        file=file,
                        name=f"{file}/{rnti}" + (f".{part + 1}" if part else ""),
                        mcs_table=cast(Literal[1, 2, 3], table or int(log.mcs_table[first_row]) or 1),
                        table_assumed=bool(log.mcs_table[first_row] == UNKNOWN_TABLE),
                        prbs=prbs,
                        end_frame=log.frame[end],
                        frames=frames[keep],
                        mean_mcs=mean_mcs,
                        first_tx=delta[keep, 0],
                        first_fail=delta[keep, 1],
                        errors=delta[keep, 4],
                        dtx=delta[keep, 5],
                    ),
                )
            )
    return [run for _, run in sorted(runs, key=lambda entry: entry[0])]


def _mcs_table(log: ParsedLog, start: IntArray, end: IntArray, prbs: int) -> int:
    """2 where the log does not name the table and the bytes sent do not fit the 64QAM table; else 0."""
    named = (log.mcs_table[end] != UNKNOWN_TABLE).any()
    if named or (log.mcs[end] > 27).any():
        return 0
    known = (log.total_bytes[start] >= 0) & (log.total_bytes[end] >= 0)
    start, end = start[known], end[known]
    first_tx = log.counters[end, 0] - log.counters[start, 0]
    highest_mcs = np.maximum(log.mcs[start], log.mcs[end])
    most_bytes = first_tx * tbs_bits(1, highest_mcs, np.full(len(highest_mcs), prbs)) / 8
    return 2 if (log.total_bytes[end] - log.total_bytes[start]).sum() > most_bytes.sum() else 0


def import_ranalyzer(
    path: Path,
    *,
    bler: BlerModel,
    prbs: int | None = None,
    min_first_tx: int = 100,
    max_fail_rate: float = 0.5,
    fill_from_neighbours: bool = True,
    progress: Progress | None = None,
) -> tuple[ChannelTrace, ImportReport]:
    """Reconstruct the channel of every run in a log file or a folder of log files (``.log``, ``.log.gz``).

    One segment per interval with first transmissions: ``slots`` and ``logged.first_tx`` are their number, the
    SINR is where the BLER of the interval's MCS equals its failure rate (`sinr_db_from_failures`).

    Args:
        bler: the curves to invert; replay the trace with the same ones.
        prbs: PRBs of every allocation; None takes the carrier size from each log, 162 where a log does not state it.
        min_first_tx: runs with fewer first transmissions are skipped, counted.
        max_fail_rate: runs with a higher first-transmission failure rate (known regressions) are skipped,
            counted.
        fill_from_neighbours: a segment without any failure (or success) bounds the SINR from one side only.
            True: it gets the SINR of its neighbours in time where that respects the bound (`fill_censored`);
            False: the bound.

    Raises:
        InputError: no such path, ``prbs`` out of range, or no run left.
    """
    runs, report = _read(path, prbs, progress)
    runs = _select(runs, report, min_first_tx, max_fail_rate, keep_idle=False)
    if not runs:
        raise InputError(f"{path}: no run that can be used: {report.why_nothing()}")
    pieces = []
    for run in runs:
        busy = run.first_tx > 0
        report.note("failures above the first transmissions (of the interval before): left out",
                    int((run.first_fail - run.clipped_fail)[busy].sum()))  # fmt: skip
        mcs = np.floor(run.mean_mcs[busy] + 0.5).astype(np.int64)
        pieces.append((mcs, run.first_tx[busy], run.clipped_fail[busy], run.end_frame[busy]))
    lengths = [len(piece[0]) for piece in pieces]
    offset = np.r_[0, np.cumsum(lengths)].astype(np.int64)
    mcs, first_tx, first_fail, time = (np.concatenate(column) for column in zip(*pieces, strict=True))
    table = np.repeat([run.mcs_table for run in runs], lengths)
    width = np.repeat([run.prbs for run in runs], lengths)
    sinr_db = np.empty(len(mcs))
    for index in np.unique(table):
        here = table == index
        sinr_db[here] = sinr_db_from_failures(
            bler, int(index), mcs[here], width[here], first_tx[here], first_fail[here]
        )
    if fill_from_neighbours:
        for first, last in pairwise(offset):
            run_of = slice(first, last)
            sinr_db[run_of] = fill_censored(sinr_db[run_of], time[run_of], first_tx[run_of], first_fail[run_of])
    is_censored = censored(first_tx, first_fail)
    report.note(CENSORED, int(is_censored.sum()))
    report.rows_used = len(mcs)
    meta = TraceMeta(
        name="ranalyzer",
        slot_us=SLOT_US,
        slot_is="transmission opportunity",
        source=SOURCE,
        notes=[
            *_NOTES,
            f"{is_censored.sum()} of {len(mcs)} segments"
            f" ({first_tx[is_censored].sum() / first_tx.sum():.1%} of the first transmissions) saw no"
            " failure, or nothing but failures, so their SINR is only bounded: it is set where 0.1 failures"
            " (successes) are expected"
            + (
                ", or beyond that where the neighbouring segments in time are beyond it."
                if fill_from_neighbours
                else "."
            ),
            *_table_notes(runs),
        ],
        ues=[UeMeta(name=run.name, prbs=run.prbs, mcs_table=run.mcs_table) for run in runs],
    )
    logged = LoggedOutcome(mcs.astype(np.int8), first_tx.astype(np.int32), first_fail.astype(np.int32))
    trace = ChannelTrace(
        meta=meta,
        offset=offset,
        slots=first_tx.astype(np.int32),
        sinr_db=sinr_db.astype(np.float32),
        cqi=np.full(len(mcs), NO_CQI, np.int8),
        logged=logged,
    )
    return trace, report


def import_ranalyzer_kpi_log(
    path: Path,
    *,
    mcs_table: Literal[1, 2, 3] | None = None,
    min_first_tx: int = 100,
    max_fail_rate: float = 1.0,
    progress: Progress | None = None,
) -> tuple[KpiLog, ImportReport]:
    """Import the same logs as a KPI log: a row per run and interval, also idle ones, in time order.

    A KPI log has one MCS table, so runs of other tables are skipped, counted. Times are those of the file names
    (``YYYYmmdd_HHMMSS``, taken as UTC) plus the frames since the first report; from 0 where the name has no
    time. ``harq_dtx`` is the growth of ``pucch0_DTX``, at most the failures: OAI counts DTX of
    retransmissions in it too.

    Args:
        mcs_table: None takes the table with the most first transmissions.

    Raises:
        InputError: no such path, or no run left.
    """
    runs, report = _read(path, None, progress)
    selected = _select(runs, report, min_first_tx, max_fail_rate, keep_idle=True)
    if mcs_table is None and selected:
        sent: Counter[Literal[1, 2, 3]] = Counter()
        for run in selected:
            sent[run.mcs_table] += int(run.first_tx.sum())
        mcs_table = sent.most_common(1)[0][0]
    runs = []
    for run in selected:
        if run.mcs_table == mcs_table:
            runs.append(run)
        else:
            reason = f"run of MCS table {run.mcs_table}; the log is for table {mcs_table}"
            report.skip(reason, len(run.first_tx), where=run.name)
            report.runs = [_with_reason(line, reason) if line.ue == run.name else line for line in report.runs]
    if not runs or mcs_table is None:
        raise InputError(f"{path}: no run that can be used: {report.why_nothing()}")
    ue = np.repeat(np.arange(len(runs), dtype=np.int32), [len(run.first_tx) for run in runs])
    timestamp_us = np.concatenate([_file_time_us(run.file) + run.end_frame * FRAME_US for run in runs])
    first_tx, fail, dtx, errors, mcs = (
        np.concatenate([getattr(run, name) for run in runs]).astype(np.float64)
        for name in ("first_tx", "first_fail", "dtx", "errors", "mean_mcs")
    )
    dtx = np.minimum(dtx, fail)
    measured = {name: np.full(len(ue), np.nan) for name in KPI_COLUMNS} | {
        "mcs": np.where(first_tx > 0, mcs, np.nan),
        "harq_ack": np.maximum(first_tx - fail, 0),
        "harq_nack": fail - dtx,
        "harq_dtx": dtx,
        "harq_residual": errors,
    }
    order = np.argsort(timestamp_us, kind="stable")
    report.rows_used = len(ue)
    meta = KpiLogMeta(
        name="ranalyzer",
        source=SOURCE,
        mcs_table=mcs_table,
        period_us=PERIOD_FRAMES * FRAME_US,
        slot_us=SLOT_US,
        notes=["MCS: mean of the MCS printed at the two ends of the period.", *_table_notes(runs)],
        ues=[run.name for run in runs],
    )
    return KpiLog(meta, timestamp_us[order], ue[order], {k: v[order] for k, v in measured.items()}), report


def _read(path: Path, prbs: int | None, progress: Progress | None) -> tuple[list[Intervals], ImportReport]:
    if prbs is not None and not 1 <= prbs <= 275:
        raise InputError(f"prbs is {prbs}; must be 1 to 275")
    report = ImportReport()
    runs: list[Intervals] = []
    files = source_files(path, (".log",), report)
    for done, file in enumerate(files, start=1):
        log = parse_log(read_lines(file.path, report), report, file.name)
        report.files_read += 1
        if len(log.ue) == 0:
            report.note("file without a usable report", where=file.name)
            report.runs.append(Run(file.name, "-", 0, 0, None, "file without a usable report"))
        if prbs is None and log.carrier_prbs is None:
            report.note(f"carrier size not logged: {DEFAULT_PRBS} PRBs assumed", where=file.name)
        runs += intervals(log, report, file.name, prbs or log.carrier_prbs or DEFAULT_PRBS)
        if progress is not None:
            progress(done, len(files))
    return runs, report


def _select(
    runs: Sequence[Intervals], report: ImportReport, min_first_tx: int, max_fail_rate: float, keep_idle: bool
) -> list[Intervals]:
    """The runs to use; the others, and without ``keep_idle`` all intervals that sent nothing, are counted."""
    selected = []
    for run in runs:
        busy = run.first_tx > 0
        usable = len(busy) if keep_idle else int(busy.sum())
        if not keep_idle:
            report.skip(IDLE, int((~busy & (run.first_fail == 0)).sum()), where=run.name)
            report.skip(LATE_FAILURE, int((~busy & (run.first_fail > 0)).sum()), where=run.name)
        sent, failed = int(run.first_tx.sum()), int(run.clipped_fail.sum())
        reason = None
        if sent < max(min_first_tx, 1):
            reason = f"run with fewer than {max(min_first_tx, 1)} first transmissions"
        elif failed > max_fail_rate * sent:
            reason = f"run with a first-transmission failure rate above {max_fail_rate:.0%}"
        if reason is None:
            selected.append(run)
        else:
            report.skip(reason, usable, where=run.name)
        report.runs.append(Run(run.file, run.name, usable, sent, failed, reason))
    return selected


def _with_reason(run: Run, reason: str) -> Run:
    return Run(run.file, run.ue, run.reports, run.first_tx, run.first_fail, reason)


def _table_notes(runs: Sequence[Intervals]) -> list[str]:
    assumed = [run for run in runs if run.table_assumed]
    if not assumed:
        return []
    proven = sum(run.mcs_table == 2 for run in assumed)
    return [
        f"{len(assumed)} runs come from logs that do not name the MCS table: {proven} sent more bytes than"
        f" table 1 allows and are taken as table 2, {len(assumed) - proven} are taken as table 1."
    ]


def _file_time_us(file: str) -> int:
    match = _FILE_TIME.search(file)
    try:
        start = datetime.strptime(match[1], "%Y%m%d_%H%M%S").replace(tzinfo=UTC) if match else None
    except ValueError:
        start = None
    return int(start.timestamp()) * 1_000_000 if start else 0
