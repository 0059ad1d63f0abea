"""Imports TRACTOR metrics (srsRAN LTE on Colosseum, no HARQ) as a channel trace from CQI or as a KPI log. ::

    trace, report = import_tractor(Path("data/tractor"), bler=SmoothBler.load())
    log, report = import_tractor_kpi_log(Path("data/tractor"))

Data: genesys-neu/TRACTOR, MIT. Groen et al., "TRACTOR: Traffic Analysis and Classification Tool for Open
RAN", ICC 2024. CSV, one file per UE, one row every 250 ms: means over the ``dl_n_samples`` transport blocks of
the row.

Properties of the data:

- ``dl_cqi`` is exactly 0.1 in the rows around each attach (always when the RNTI changes) and never 0: the
  placeholder for "no report in this row". A mean between 0.1 and 1 includes CQI 0, "out of range", which has
  no SINR. Both are skipped.
- ``dl_mcs`` has the same 0.1 in place of 0.
- ``tx_errors downlink (%)`` and ``dl_ri`` are always 0: not measured.
- Three recordings (Trial2 multi8, multi9, multi10 of IMSI ...002) begin with the same 5342 rows of an older
  recording. Rows that several files of the same IMSI have in common are used once, in the file with the most
  rows.

Assumptions, also in the notes of what is returned: the CQI table of LTE is table 1 of NR (TS 38.214 5.2.2.1-2
has the rows of TS 36.213 7.2.3-1), the UE reports by this project's 10 % thresholds, and CQI k means the
middle of its SINR range. LTE MCS indices are not those of NR, so the channel trace holds no logged MCS.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distila.replay.importers.counts import ImportReport, Run
from distila.replay.importers.reconstruction import sinr_db_for_mean_cqi
from distila.replay.importers.source_file import read_lines, source_files
from distila.replay.kpi_log import KPI_COLUMNS, KpiLog, KpiLogMeta
from distila.replay.trace import ChannelTrace, TraceMeta, UeMeta
from distila.xapp.errors import InputError
from distila.xapp.nr.arrays import BoolArray, Float64Array, IntArray
from distila.xapp.nr.bler import BlerModel
from distila.xapp.progress import Progress

PERIOD_MS = 250
LTE_TTI_US = 1000.0
CQI_PLACEHOLDER = 0.1
SOURCE = "genesys-neu/TRACTOR, MIT (Groen et al., ICC 2024): srsRAN LTE on the Colosseum RF emulator"

IDLE = "row without a transport block"
NO_CQI_YET = "dl_cqi is 0 or 0.1: no report in the row"
CQI_OUT_OF_RANGE = "dl_cqi between 0 and 1: mixed with CQI 0, out of range"
REPEATED = "row repeated in another file of the same UE"
NOT_FORWARD = "time does not go forward"
CUT_LINE = "row cut short"
NOT_A_NUMBER = "a needed cell is not a number"
BAD_VALUE = "a value is out of range"
GAP = "gap in time of more than two periods"
BLOCKS_LEFT_OUT = "transport block beyond those that one row contributes"

_CQI_NOTES = [
    "CQI table of LTE taken as NR CQI table 1: same rows (TS 36.213 7.2.3-1, TS 38.214 5.2.2.1-2).",
    "CQI k is taken as the middle between the 10 % BLER thresholds of k and k + 1; fractional means are"
    " interpolated. The modem's own thresholds are not known.",
    "cqi is the mean, rounded: what a UE at that SINR would report.",
    "Slots are transport blocks sent, at most 50 a row; the time without any is left out.",
    "A UE is a stretch of 600 busy rows of one recording.",
    "No HARQ outcome was logged, and LTE MCS indices are not NR's: the trace holds no logged behaviour.",
]
_COLUMNS = (
    "Timestamp",
    "IMSI",
    "dl_mcs",
    "dl_n_samples",
    "dl_buffer [bytes]",
    "dl_cqi",
    "sum_granted_prbs",
)


@dataclass(frozen=True)
class Metrics:
    """Rows of one file in time order, every array [row]; ``imsi`` is that of the first row."""

    file: str
    imsi: str
    text: list[str]
    timestamp_ms: IntArray
    mcs: Float64Array
    blocks: IntArray
    buffer_bytes: Float64Array
    cqi: Float64Array
    granted_prbs: Float64Array

    def keep(self, mask: BoolArray) -> "Metrics":
        """The rows where ``mask`` holds."""
        index = np.flatnonzero(mask)
        return Metrics(
            self.file,
            self.imsi,
            [self.text[i] for i in index],
            *(getattr(self, name)[index] for name in _ARRAYS),
        )


_ARRAYS = ("timestamp_ms", "mcs", "blocks", "buffer_bytes", "cqi", "granted_prbs")


def parse_metrics(lines: Sequence[str], report: ImportReport, file: str = "metrics") -> Metrics:
    r"""Read the rows of one file; unusable ones are counted in ``report``.

    Args:
        lines: the header first; with their ``\n``: a row without one may be cut short.
        report: gets every line after the header in ``rows_found``.
        file: name for ``report`` and errors.

    Raises:
        InputError: a column is missing; names it and those that exist.
    """
    header = [name.strip() for name in lines[0].split(",")] if lines else []
    missing = [name for name in _COLUMNS if name not in header]
    if missing and lines:
        there = ", ".join(name for name in header if name)[:300]
        raise InputError(f"{file}: line 1: column {missing[0]!r} is missing, has: {there}")
    index = [header.index(name) for name in _COLUMNS if header]
    texts: list[str] = []
    rows: list[tuple[float, ...]] = []
    imsi = ""
    newest = -1.0
    for number, line in enumerate(lines[1:], start=2):
        report.rows_found += 1
        where = f"{file}: line {number}"
        cells = line.rstrip("\r\n").split(",")
        if len(cells) < len(header) or not line.endswith("\n"):
            report.skip(CUT_LINE, where=where)
            continue
        try:
            values = tuple(float(cells[i]) for i in index)
        except ValueError:
            report.skip(NOT_A_NUMBER, where=where)
            continue
        if not _in_range(values):
            report.skip(BAD_VALUE, where=where)
            continue
        if values[0] <= newest:
            report.skip(NOT_FORWARD, where=where)
            continue
        if newest >= 0 and values[0] - newest > 2 * PERIOD_MS:
            report.note(GAP, where=where)
        newest = values[0]
        imsi = imsi or cells[index[1]].strip()
        texts.append(line.rstrip("\r\n"))
        rows.append(values)
    table = np.array(rows, np.float64).reshape(len(rows), len(_COLUMNS))
    return Metrics(
        file=file,
        imsi=imsi,
        text=texts,
        timestamp_ms=table[:, 0].astype(np.int64),
        # Written as 0.1 for a mean of exactly 0, as dl_cqi is.
        mcs=np.where(table[:, 2] == CQI_PLACEHOLDER, 0.0, table[:, 2]),
        blocks=table[:, 3].astype(np.int64),
        buffer_bytes=table[:, 4],
        cqi=table[:, 5],
        granted_prbs=table[:, 6],
    )


def _in_range(values: tuple[float, ...]) -> bool:
    timestamp, _, mcs, blocks, buffer_bytes, cqi, prbs = values
    return (
        0 <= timestamp < 1e15
        and 0 <= mcs <= 28
        and 0 <= blocks < 2**31
        and 0 <= buffer_bytes < 1e15
        and 0 <= cqi <= 15
        and 0 <= prbs < 1e12
    )


def import_tractor(
    path: Path,
    *,
    bler: BlerModel,
    min_blocks: int = 100,
    max_blocks_per_row: int = 50,
    rows_per_ue: int = 600,
    progress: Progress | None = None,
) -> tuple[ChannelTrace, ImportReport]:
    """Import a channel trace from the CQI of a metrics file or a folder of them (``.csv``, ``.csv.gz``).

    One segment per row that sent transport blocks and has a CQI; ``slots`` is the number of blocks. A recording is
    cut into stretches, each of which becomes a UE of the trace, because a replay runs UEs in parallel.
    ``prbs`` of a UE is the median over its rows of granted PRBs per block.

    Args:
        bler: the curves behind the CQI thresholds; replay the trace with the same ones.
        min_blocks: files with fewer transport blocks are skipped, counted.
        max_blocks_per_row: further blocks are skipped, counted, since the channel does not change within a row.
        rows_per_ue: length of a stretch; 600 busy rows are two and a half minutes.

    Raises:
        InputError: no such path, a missing column, or no file left.
    """
    files, report = _read(path, progress)
    ues, sinr_db, cqi, slots = [], [], [], []
    for metrics in files:
        busy = metrics.blocks > 0
        no_cqi = busy & ((metrics.cqi == 0) | (metrics.cqi == CQI_PLACEHOLDER))
        low_cqi = busy & ~no_cqi & (metrics.cqi < 1)
        report.skip(IDLE, int((~busy).sum()), metrics.file)
        report.skip(NO_CQI_YET, int(no_cqi.sum()), metrics.file)
        report.skip(CQI_OUT_OF_RANGE, int(low_cqi.sum()), metrics.file)
        used = metrics.keep(busy & ~no_cqi & ~low_cqi)
        reason = _too_few(used, min_blocks)
        report.runs.append(_run(used, reason))
        if reason is not None:
            report.skip(reason, len(used.text), metrics.file)
            continue
        report.note(BLOCKS_LEFT_OUT, int(np.maximum(used.blocks - max_blocks_per_row, 0).sum()), metrics.file)
        for start in range(0, len(used.text), rows_per_ue):
            rows = slice(start, start + rows_per_ue)
            blocks, mean_cqi = used.blocks[rows], used.cqi[rows]
            prbs = int(np.clip(np.round(np.median(used.granted_prbs[rows] / blocks)), 1, 275))
            ues.append(UeMeta(name=f"{metrics.file}.{start // rows_per_ue + 1}", prbs=prbs))
            sinr_db.append(sinr_db_for_mean_cqi(mean_cqi, bler, 1, prbs))
            cqi.append(np.minimum(np.floor(mean_cqi + 0.5), 15))
            slots.append(np.minimum(blocks, max_blocks_per_row))
    if not ues:
        raise InputError(f"{path}: no file that can be used: {report.why_nothing()}")
    report.rows_used = sum(len(rows) for rows in slots)
    trace = ChannelTrace(
        meta=TraceMeta(
            name="tractor",
            slot_us=LTE_TTI_US,
            slot_is="transmission opportunity",
            source=SOURCE,
            notes=_CQI_NOTES,
            ues=ues,
        ),
        offset=np.r_[0, np.cumsum([len(rows) for rows in slots])].astype(np.int64),
        slots=np.concatenate(slots).astype(np.int32),
        sinr_db=np.concatenate(sinr_db).astype(np.float32),
        cqi=np.concatenate(cqi).astype(np.int8),
    )
    return trace, report


def import_tractor_kpi_log(
    path: Path, *, min_blocks: int = 100, progress: Progress | None = None
) -> tuple[KpiLog, ImportReport]:
    """Import the same files as a KPI log: a row per UE and 250 ms, also idle ones, in time order.

    ``mcs`` is LTE's index as logged, null in idle rows; HARQ, SINR and rank are not measured.

    Raises:
        InputError: no such path, a missing column, or no file left.
    """
    files, report = _read(path, progress)
    used = []
    for metrics in files:
        reason = _too_few(metrics, min_blocks)
        report.runs.append(_run(metrics, reason))
        if reason is None:
            used.append(metrics)
        else:
            report.skip(reason, len(metrics.text), metrics.file)
    if not used:
        raise InputError(f"{path}: no file that can be used: {report.why_nothing()}")
    ue = np.repeat(np.arange(len(used), dtype=np.int32), [len(metrics.text) for metrics in used])
    timestamp_ms, mcs, blocks, buffer_bytes, cqi, granted = (
        np.concatenate([getattr(metrics, name) for metrics in used]) for name in _ARRAYS
    )
    busy = blocks > 0
    measured = {name: np.full(len(ue), np.nan) for name in KPI_COLUMNS} | {
        "cqi": np.where(cqi > CQI_PLACEHOLDER, cqi, np.nan),
        "mcs": np.where(busy, mcs, np.nan),
        "dl_buffer_bytes": buffer_bytes,
        "prbs": np.where(busy, granted / np.maximum(blocks, 1), np.nan),
    }
    order = np.argsort(timestamp_ms, kind="stable")
    report.rows_used = len(ue)
    meta = KpiLogMeta(
        name="tractor",
        source=SOURCE,
        period_us=PERIOD_MS * 1000.0,
        slot_us=LTE_TTI_US,
        notes=[
            "mcs is the LTE index (TS 36.213 table 7.1.7.1-1), which is not NR's of the same number.",
            _CQI_NOTES[0],
            "dl_cqi of 0 or 0.1 is a placeholder and left out; HARQ and rank were not measured.",
        ],
        ues=[metrics.file for metrics in used],
    )
    return KpiLog(meta, timestamp_ms[order] * 1000, ue[order], {k: v[order] for k, v in measured.items()}), report


def _read(path: Path, progress: Progress | None) -> tuple[list[Metrics], ImportReport]:
    report = ImportReport()
    parsed = []
    files = source_files(path, (".csv",), report)
    for done, file in enumerate(files, start=1):
        metrics = parse_metrics(read_lines(file.path, report), report, file.name)
        report.files_read += 1
        if not metrics.text:
            report.note("file without a usable row", where=file.name)
        parsed.append(metrics)
        if progress is not None:
            progress(done, len(files))
    seen: set[tuple[str, str]] = set()
    first_holder: dict[str, Metrics] = {}
    # The longest recording keeps its rows.
    for metrics in sorted(parsed, key=lambda metrics: -len(metrics.text)):
        new = np.array([(metrics.imsi, text) not in seen for text in metrics.text], bool)
        seen.update((metrics.imsi, text) for text in metrics.text)
        report.skip(REPEATED, int((~new).sum()), metrics.file)
        first_holder[metrics.file] = metrics.keep(new)
    return [first_holder[metrics.file] for metrics in parsed], report


def _too_few(metrics: Metrics, min_blocks: int) -> str | None:
    if metrics.blocks.sum() >= max(min_blocks, 1):
        return None
    return f"recording with fewer than {max(min_blocks, 1)} transport blocks"


def _run(metrics: Metrics, reason: str | None) -> Run:
    return Run(metrics.file, metrics.imsi, len(metrics.text), int(metrics.blocks.sum()), None, reason)
