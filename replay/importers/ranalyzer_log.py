"""Text of an OpenAirInterface gNB log to arrays: `parse_log`. Knows the lines, not what is made of them.

Lines that count (ANSI colour codes are stripped; anything may stand before them, other threads write there)::

    [NR_MAC]   Frame.Slot 896.0
    UE c610: dlsch_rounds 20/2/0/0, dlsch_errors 0, pucch0_DTX 1, BLER 0.06871 MCS 9
    UE c610: dlsch_rounds 20/2/0/0, dlsch_errors 0, pucch0_DTX 1, BLER 0.06871 MCS (1) 9 CCE fail 14
    UE c610: dlsch_total_bytes 9173158                              (or)
    UE c610: MAC:    TX       31198738 RX        2125317 bytes
    ... DLBW 162, ...

A line must match to its end: what another thread's output cut in half is counted, never guessed at.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from distila.replay.importers.counts import ImportReport
from distila.xapp.nr.arrays import IntArray
from distila.xapp.nr.mcs import MCS_TABLES

PERIOD_FRAMES = 128
FRAME_US = 10_000
UNKNOWN_TABLE = 0
CUT_LINE = "report line cut short or mixed with another"
NO_LINE_END = "last line of the file has no line end: may be cut short"
BAD_MCS = "MCS or MCS table that TS 38.214 does not have"

_FRAMES = 1024
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_FRAME = re.compile(r"Frame\.Slot ([0-9]{1,4})\.[0-9]{1,3}\s*$")
# At most 15 digits, so that every counter and every difference fits an int64.
_N = r"([0-9]{1,15})"
_REPORT = re.compile(
    rf"UE ([0-9a-f]{{4}}): dlsch_rounds {_N}/{_N}/{_N}/{_N}, dlsch_errors {_N}, pucch0_DTX {_N},"
    r" BLER [0-9.]+ MCS (?:\(([0-9])\) )?([0-9]{1,2})(?: CCE fail [0-9]+)?\s*$"
)
_REPORT_START = re.compile(r"UE [0-9a-f]{4}: (d[a-z_]*)\s*$")
_BYTES = re.compile(rf"UE ([0-9a-f]{{4}}): (?:dlsch_total_bytes {_N}\s*$|MAC: +TX +{_N} RX +[0-9]+ bytes)")
_CARRIER = re.compile(r"DLBW ([0-9]{1,3}),")


@dataclass(frozen=True)
class ParsedLog:
    """The reports of one log, in the order of its lines; every array is [report].

    Attributes:
        rntis: the RNTIs, hexadecimal as logged; ``ue`` points into them.
        line: line number, from 1.
        block: number of the report block; consecutive blocks differ by 1.
        frame: radio frames since the first block, not wrapped.
        counters: int64 [report, 6], cumulative: HARQ rounds 0 to 3, errors, DTX.
        mcs_table: 1 to 3, or `UNKNOWN_TABLE` where the log does not say.
        total_bytes: cumulative transport block bytes, -1 where not logged.
        carrier_prbs: carrier size, None where not logged.
    """

    rntis: list[str]
    ue: IntArray
    line: IntArray
    block: IntArray
    frame: IntArray
    counters: IntArray
    mcs_table: IntArray
    mcs: IntArray
    total_bytes: IntArray
    carrier_prbs: int | None


def parse_log(lines: Iterable[str], report: ImportReport, file: str = "log") -> ParsedLog:
    r"""Read the reports of one log.

    Frame numbers wrap at 1024; only their differences count, so a hole of a whole number of 10.24 s is not
    seen. Where a block's frame line is missing, the block is taken to be one period after the one before it.

    Args:
        lines: with their ``\n``; a report in a line without one is counted as possibly cut short.
        report: gets every line that looks like a report in ``rows_found``, and those that cannot be used by
            reason.
        file: name for ``report``.
    """
    rntis: dict[str, int] = {}
    rows: list[tuple[int, ...]] = []
    last_row: dict[str, int] = {}  # RNTI -> its newest row, which a byte count belongs to
    total_bytes: list[int] = []
    seen: set[str] = set()  # RNTIs of this block
    carrier_prbs: int | None = None
    block, frame, wrapped = -1, 0, -1

    for number, text in enumerate(lines, start=1):
        if "UE " not in text and "Frame.Slot" not in text and "DLBW" not in text:
            continue
        line = _ANSI.sub("", text)
        if "dlsch_rounds" in line or _looks_like_a_report(line):
            report.rows_found += 1
            where = f"{file}: line {number}"
            match = _REPORT.search(line)
            if match is None or not text.endswith("\n"):
                report.skip(NO_LINE_END if match else CUT_LINE, where=where)
                continue
            rnti, table, mcs = match[1], match[8], int(match[9])
            mcs_table = UNKNOWN_TABLE if table is None else int(table) + 1
            if not _has_mcs(mcs_table, mcs):
                report.skip(BAD_MCS, where=f"{where}: MCS {'' if table is None else f'({table}) '}{mcs}")
                continue
            # A second report of a UE in one block: the frame line between them is missing.
            if rnti in seen or block < 0:
                report.note("report block without its frame line", where=where)
                block, frame, seen = block + 1, frame + PERIOD_FRAMES, set()
                wrapped = (wrapped + PERIOD_FRAMES) % _FRAMES if wrapped >= 0 else wrapped
            seen.add(rnti)
            last_row[rnti] = len(rows)
            ue = rntis.setdefault(rnti, len(rntis))
            rows.append((ue, number, block, frame, mcs_table, mcs, *(int(match[i]) for i in range(2, 8))))
            total_bytes.append(-1)
        elif "Frame.Slot" in line:
            header = _FRAME.search(line)
            if header is None or int(header[1]) >= _FRAMES:
                report.note("frame line cut short or mixed with another", where=f"{file}: line {number}")
                continue
            now = int(header[1])
            frame += (now - wrapped) % _FRAMES if wrapped >= 0 else 0
            block, wrapped, seen = block + 1, now, set()
        elif (sent := _BYTES.search(line)) and sent[1] in last_row and sent[1] in seen:
            total_bytes[last_row[sent[1]]] = int(sent[2] or sent[3])
        elif (size := _CARRIER.search(line)) and 1 <= int(size[1]) <= 275:
            carrier_prbs = int(size[1])

    table_of_rows = np.array(rows, np.int64).reshape(len(rows), 12)
    return ParsedLog(
        rntis=list(rntis),
        ue=table_of_rows[:, 0],
        line=table_of_rows[:, 1],
        block=table_of_rows[:, 2],
        frame=table_of_rows[:, 3],
        counters=table_of_rows[:, 6:],
        mcs_table=table_of_rows[:, 4],
        mcs=table_of_rows[:, 5],
        total_bytes=np.array(total_bytes, np.int64),
        carrier_prbs=carrier_prbs,
    )


def _looks_like_a_report(line: str) -> bool:
    start = _REPORT_START.search(line)
    return start is not None and "dlsch_rounds".startswith(start[1])


def _has_mcs(mcs_table: int, mcs: int) -> bool:
    if mcs_table == UNKNOWN_TABLE:
        return mcs <= 28
    return mcs_table in MCS_TABLES and mcs < MCS_TABLES[mcs_table].num_mcs
