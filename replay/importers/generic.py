"""Imports any CSV or Parquet table, by a column mapping, as a channel trace or a KPI log. ::

    mapping = GenericMapping.parse({
        "kind": "channel", "time_unit": "ms",
        "columns": {"time": "t", "ue": "imsi", "sinr": "snr", "duration": "len"},
        "slot_us": 500, "prbs": 106,
    })
    trace, report = import_generic(Path("drive_test.csv"), mapping)
    log, report = import_generic(Path("kpis.parquet"), kpi_mapping)

An empty cell (also ``nan``, ``null``, ``none``, ``na``) means "not measured". A row with a cell that is not a
number, or is out of range, is skipped, and counted by reason with the first such row. Rows of several UEs may be mixed,
but the time of each UE must increase.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distila.replay.importers.counts import ImportReport, Run
from distila.replay.importers.generic_table import Table, read_table_file
from distila.replay.importers.reconstruction import sinr_db_for_mean_cqi
from distila.replay.importers.source_file import source_files
from distila.replay.kpi_log import KPI_COLUMNS, KpiLog, KpiLogMeta
from distila.replay.trace import NO_CQI, NO_MCS, ChannelTrace, LoggedOutcome, TraceMeta, UeMeta
from distila.xapp.errors import InputError, first_error
from distila.xapp.files import boolean_for_a_number
from distila.xapp.kpi.observations import COLUMNS, HARQ_COLUMNS
from distila.xapp.nr.arrays import Float64Array
from distila.xapp.nr.bler import BlerModel
from distila.xapp.nr.mcs import MCS_TABLES, NUM_MCS
from distila.xapp.progress import Progress

NOT_FORWARD = "time does not go forward"
NOT_MEASURED = "neither SINR nor a usable CQI"
NO_TIME = "time is empty"
RESTART = "counters went back"
BASELINE = "first row of a UE: only the base of its counters"
HALF_HARQ = "HARQ counts half measured"
FAIL_ABOVE_TX = "more failures than first transmissions"

_ENDINGS = (".csv", ".parquet")
_MICROSECONDS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
_LOGGED = ("logged_mcs", "logged_first_tx", "logged_first_fail")
_COUNTERS = (*HARQ_COLUMNS, "logged_first_tx", "logged_first_fail")
_CHANNEL_FIELDS = ("time", "ue", "sinr", "cqi", "slots", "duration", *_LOGGED)
_KPI_FIELDS = ("time", "ue", "sinr", "cqi", *(name for name in KPI_COLUMNS if name not in ("cqi", "sinr_db")))
_UNITS = {"sinr": " dB", "time": " us", "duration": " us"}
# Inclusive limits after conversion to our units; a row with a value outside is skipped.
_LIMITS: dict[str, tuple[float, float]] = {
    "time": (0, 9e18),
    "sinr": (COLUMNS["sinr_db"].low, COLUMNS["sinr_db"].high),
    "cqi": (COLUMNS["cqi"].low, COLUMNS["cqi"].high),
    "mcs": (0, NUM_MCS - 1),  # at most; each MCS table has its own
    "ri": (0, COLUMNS["ri"].high),
    "logged_mcs": (0, NUM_MCS - 1),
    "slots": (1, 2**31 - 1),
    "duration": (0, 9e18),
    "dl_buffer_bytes": (0, 1e15),
    "prbs": (COLUMNS["prbs"].low, COLUMNS["prbs"].high),
} | dict.fromkeys(_COUNTERS, (0.0, 2.0**31 - 1))


class Columns(BaseModel):
    """Name of the source's column for each of our fields; a field without one is not measured."""

    model_config = ConfigDict(extra="forbid")

    time: str | None = Field(default=None, description="kpi: end of the row's period; channel: its start")
    ue: str | None = None
    sinr: str | None = Field(default=None, description="effective SINR, in sinr_unit")
    cqi: str | None = None
    slots: str | None = Field(default=None, description="channel: length of the row in slots")
    duration: str | None = Field(default=None, description="channel: length of the row in time_unit")
    logged_mcs: str | None = None
    logged_first_tx: str | None = None
    logged_first_fail: str | None = None
    ri: str | None = None
    mcs: str | None = None
    harq_ack: str | None = None
    harq_nack: str | None = None
    harq_dtx: str | None = None
    harq_residual: str | None = None
    dl_buffer_bytes: str | None = None
    prbs: str | None = None


class GenericMapping(BaseModel):
    """How to read a table; can be stored as JSON or YAML."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["channel", "kpi"]
    columns: Columns
    name: str = "generic"
    source: str = Field(default="not stated", description="who recorded it, licence")
    time_unit: Literal["s", "ms", "us", "ns"] = "us"
    sinr_unit: Literal["dB", "linear"] = "dB"
    cumulative: bool = Field(default=False, description="HARQ and first-transmission counts are running totals")
    ue: str = Field(default="ue", min_length=1, description="name of the UE where there is no column")
    prbs: int = Field(default=52, ge=1, le=275, description="channel: PRBs of each allocation")
    layers: int = Field(default=1, ge=1, le=4)
    mcs_table: Literal[1, 2, 3] = 1
    cqi_table: Literal[1, 2, 3] = 1
    slot_us: float = Field(default=500.0, gt=0, allow_inf_nan=False)
    slot_is: Literal["slot", "transmission opportunity"] = "slot"
    period_us: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="kpi: report period; None: median of the times"
    )

    @classmethod
    def parse(cls, data: Any, where: str = "mapping") -> "GenericMapping":
        """Check a mapping that was read from YAML or JSON.

        Raises:
            InputError: one line naming the first wrong key, its value and what would be right.
        """
        try:
            mapping = cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "mapping"
            if first["type"] == "extra_forbidden":
                model: type[BaseModel] = Columns if first["loc"][0] == "columns" else cls
                known = ", ".join(model.model_fields)
                raise InputError(f"{where}: unknown key {key!r}; known are {known}") from None
            raise InputError(f"{where}: {first_error(error)}") from None
        wrong = boolean_for_a_number(data, mapping)
        if wrong is not None:
            raise InputError(f"{where}: {wrong}")
        mapping.check(where)
        return mapping

    def check(self, where: str = "mapping") -> None:
        """Raise InputError where the columns do not suffice for ``kind``, or do not belong to it."""
        given = self.given()
        allowed = _CHANNEL_FIELDS if self.kind == "channel" else _KPI_FIELDS
        odd = [name for name in given if name not in allowed]
        if odd:
            known = ", ".join(allowed)
            raise InputError(f"{where}: columns.{odd[0]} is not a column of kind {self.kind!r}; known are {known}")
        if self.kind == "kpi":
            if "time" not in given:
                raise InputError(f"{where}: columns.time is missing; kind 'kpi' needs it")
            if 0 < sum(name in given for name in HARQ_COLUMNS) < 2 or ("harq_ack" in given) != ("harq_nack" in given):
                raise InputError(f"{where}: columns.harq_ack and columns.harq_nack need each other")
            return
        if "sinr" not in given and "cqi" not in given:
            raise InputError(f"{where}: columns has neither sinr nor cqi; kind 'channel' needs one of them")
        if "slots" in given and "duration" in given:
            raise InputError(f"{where}: columns has both slots and duration; give one of them")
        if 0 < sum(name in given for name in _LOGGED) < len(_LOGGED):
            raise InputError(f"{where}: columns {', '.join(_LOGGED)} need each other: give all of them, or none")

    def given(self) -> dict[str, str]:
        """Our field -> the source's column, for those that are mapped."""
        return {name: column for name, column in self.columns.model_dump().items() if column is not None}


def import_generic(
    path: Path,
    mapping: GenericMapping,
    *,
    bler: BlerModel | None = None,
    progress: Progress | None = None,
) -> tuple[ChannelTrace | KpiLog, ImportReport]:
    """Import a CSV or Parquet file (CSV also as ``.gz``), or all files of a folder, as the kind in ``mapping.kind``.

    In a folder, UEs are named ``file/ue``. See `import_generic_channel` and `import_generic_kpi_log`.

    Raises:
        InputError: no such path, a column missing (names those that exist), or no row left.
    """
    if mapping.kind == "channel":
        return import_generic_channel(path, mapping, bler=bler, progress=progress)
    return import_generic_kpi_log(path, mapping, progress=progress)


def import_generic_channel(
    path: Path,
    mapping: GenericMapping,
    *,
    bler: BlerModel | None = None,
    progress: Progress | None = None,
) -> tuple[ChannelTrace, ImportReport]:
    """Import a channel trace, one segment per row.

    Without a SINR column, SINR is derived from CQI (`sinr_db_for_mean_cqi`). ``slots`` of a row come from its slots
    column, or its duration, or the time to the UE's next row (the last row repeats the one before), or else are 1.

    Args:
        bler: needed where SINR comes from CQI.

    Raises:
        InputError: as `import_generic`; SINR has to come from CQI and ``bler`` is missing.
    """
    _check_kind(mapping, "channel")
    needs_bler = mapping.columns.sinr is None
    if needs_bler and bler is None:
        raise InputError("mapping: columns.sinr is missing, so SINR comes from CQI, which needs a BLER model")
    groups, report = _read(path, mapping, progress)
    ues: list[UeMeta] = []
    pieces: list[list[Float64Array]] = []
    for name, table in groups:
        cqi = table.values.get("cqi", np.full(table.rows, np.nan))
        if needs_bler:
            table = table.drop(~(cqi >= 1), NOT_MEASURED, report)
            cqi = table.values["cqi"]
        if table.rows == 0:
            continue
        if needs_bler and bler is not None:
            sinr_db = sinr_db_for_mean_cqi(cqi, bler, mapping.cqi_table, mapping.prbs)
        else:
            sinr_db = table.values["sinr"]
        reported = np.where(np.isnan(cqi), NO_CQI, np.minimum(np.floor(np.nan_to_num(cqi) + 0.5), 15))
        fills = dict(zip(_LOGGED, (NO_MCS, 0, 0), strict=True))
        logged = [
            np.where(np.isnan(table.values[key]), fill, np.round(table.values[key]))
            for key, fill in fills.items()
            if key in table.values
        ]
        slots = _slots(table, mapping)
        pieces.append([slots, sinr_db, reported, *logged])
        ues.append(
            UeMeta(
                name=name,
                prbs=mapping.prbs,
                layers=mapping.layers,
                mcs_table=mapping.mcs_table,
                cqi_table=mapping.cqi_table,
            )
        )
        sent = int(logged[1].sum()) if logged else 0
        report.runs.append(Run(table.file, name, table.rows, sent, int(logged[2].sum()) if logged else None))
    if not ues:
        raise InputError(f"{path}: no row that can be used: {report.why_nothing()}")
    lengths = [len(piece[0]) for piece in pieces]
    report.rows_used = sum(lengths)
    slots, sinr_db, reported, *logged = (np.concatenate(column) for column in zip(*pieces, strict=True))
    outcome = None
    if logged:
        outcome = LoggedOutcome(logged[0].astype(np.int8), logged[1].astype(np.int32), logged[2].astype(np.int32))
    notes = ["SINR is the middle of the range that the CQI allows; UE thresholds are not known."] if needs_bler else []
    if not any(key in mapping.given() for key in ("slots", "duration", "time")):
        notes.append("The table has no durations: each row is one slot.")
    trace = ChannelTrace(
        meta=TraceMeta(
            name=mapping.name,
            slot_us=mapping.slot_us,
            slot_is=mapping.slot_is,
            source=mapping.source,
            notes=notes,
            ues=ues,
        ),
        offset=np.r_[0, np.cumsum(lengths)].astype(np.int64),
        slots=slots.astype(np.int32),
        sinr_db=sinr_db.astype(np.float32),
        cqi=reported.astype(np.int8),
        logged=outcome,
    )
    return trace, report


def import_generic_kpi_log(
    path: Path, mapping: GenericMapping, *, progress: Progress | None = None
) -> tuple[KpiLog, ImportReport]:
    """Import a KPI log, one report per row.

    Where ACK and NACK are mapped but DTX or residual failures are not, these are 0 and a note says so.

    Raises:
        InputError: as `import_generic`.
    """
    _check_kind(mapping, "kpi")
    groups, report = _read(path, mapping, progress)
    groups = [(name, table.drop(np.isnan(table.values["time"]), NO_TIME, report)) for name, table in groups]
    harq = [name for name in HARQ_COLUMNS if name in mapping.given()]
    if harq:
        checked = []
        for name, table in groups:
            absent = np.sum([np.isnan(table.values[key]) for key in harq], axis=0)
            half = np.isin(absent, (0, len(harq)), invert=True)
            checked.append((name, table.drop(half, HALF_HARQ, report)))
        groups = checked
    groups = [(name, table) for name, table in groups if table.rows]
    if not groups:
        raise InputError(f"{path}: no row that can be used: {report.why_nothing()}")
    measured = {}
    for field in KPI_COLUMNS:
        key = "sinr" if field == "sinr_db" else field
        empty = "harq_ack" if harq and field in HARQ_COLUMNS else ""  # DTX 0 wherever ACK was measured
        measured[field] = np.concatenate(
            [
                table.values[key]
                if key in table.values
                else np.where(np.isnan(table.values[empty]), np.nan, 0.0)
                if empty
                else np.full(table.rows, np.nan)
                for _, table in groups
            ]
        )
    time_us = np.concatenate([np.round(table.values["time"]) for _, table in groups]).astype(np.int64)
    ue = np.repeat(np.arange(len(groups), dtype=np.int32), [table.rows for _, table in groups])
    for name, table in groups:
        sent = sum(np.nansum(table.values[key]) for key in harq if key != "harq_residual")
        failed = sum(np.nansum(table.values[key]) for key in harq if key in ("harq_nack", "harq_dtx"))
        report.runs.append(Run(table.file, name, table.rows, int(sent), int(failed) if harq else None))
    steps = np.concatenate([np.diff(table.values["time"]) for _, table in groups])
    period_us = mapping.period_us or (float(np.median(steps)) if len(steps) else mapping.slot_us)
    notes = [] if mapping.period_us else ["period_us is the median step of the times."]
    zero = [name for name in HARQ_COLUMNS if harq and name not in harq]
    if zero:
        notes.append(f"{', '.join(zero)} were not in the table and are 0.")
    order = np.argsort(time_us, kind="stable")
    report.rows_used = len(ue)
    meta = KpiLogMeta(
        name=mapping.name,
        source=mapping.source,
        mcs_table=mapping.mcs_table,
        cqi_table=mapping.cqi_table,
        period_us=max(period_us, 1e-3),
        slot_us=mapping.slot_us,
        notes=notes,
        ues=[name for name, _ in groups],
    )
    return KpiLog(meta, time_us[order], ue[order], {key: column[order] for key, column in measured.items()}), report


def _check_kind(mapping: GenericMapping, kind: str) -> None:
    if mapping.kind != kind:
        raise InputError(f"mapping: kind is {mapping.kind!r}; this import makes {kind!r}")
    mapping.check()


def _read(
    path: Path, mapping: GenericMapping, progress: Progress | None
) -> tuple[list[tuple[str, Table]], ImportReport]:
    """One table per UE, in our units and checked, with increasing time and differenced counters."""
    report = ImportReport()
    files = source_files(path, _ENDINGS, report)
    groups: list[tuple[str, Table]] = []
    for done, file in enumerate(files, start=1):
        table = read_table_file(file.path, mapping.given(), report)
        report.files_read += 1
        for key, values in table.values.items():
            if key in ("time", "duration"):
                values *= _MICROSECONDS[mapping.time_unit]
            if key == "sinr" and mapping.sinr_unit == "linear":
                with np.errstate(divide="ignore", invalid="ignore"):
                    values[:] = np.where(values > 0, 10 * np.log10(values), np.where(np.isnan(values), np.nan, -np.inf))
        for key in list(table.values):
            low, high = _LIMITS[key]
            unit = _UNITS.get(key, "")
            if key in ("mcs", "logged_mcs"):
                high, unit = MCS_TABLES[mapping.mcs_table].num_mcs - 1, f" of MCS table {mapping.mcs_table}"
            bad = (table.values[key] < low) | (table.values[key] > high)
            table = table.drop(bad, f"{key} is outside {low:g}..{high:g}{unit}", report, key)
        for name, rows in table.by_ue(mapping.ue):
            part = _forward(rows, report)
            if mapping.cumulative:
                part = _difference(part, report)
            if "logged_first_tx" in part.values:
                too_many = part.values["logged_first_fail"] > part.values["logged_first_tx"]
                part = part.drop(too_many, FAIL_ABOVE_TX, report)
            if part.rows:
                groups.append((f"{file.name}/{name}" if path.is_dir() else name, part))
        if progress is not None:
            progress(done, len(files))
    return groups, report


def _forward(table: Table, report: ImportReport) -> Table:
    time = table.values.get("time")
    if time is None or table.rows == 0:
        return table
    newest = np.maximum.accumulate(np.where(np.isnan(time), -np.inf, time))
    return table.drop(np.r_[False, time[1:] <= newest[:-1]], NOT_FORWARD, report)


def _difference(table: Table, report: ImportReport) -> Table:
    """Running totals to counts per row: the first row of a UE and those after a jump back cannot be used."""
    counters = [key for key in _COUNTERS if key in table.values]
    if not counters or table.rows == 0:
        return table
    back = np.zeros(table.rows, bool)
    for key in counters:
        table.values[key] = np.r_[0, np.diff(table.values[key])]
        back |= table.values[key] < 0  # an empty total gives NaN, which is not a jump back
    table = table.drop(np.arange(table.rows) == 0, BASELINE, report)
    return table.drop(back[1:], RESTART, report)


def _slots(table: Table, mapping: GenericMapping) -> Float64Array:
    if "slots" in table.values:
        slots = table.values["slots"]
        return np.where(np.isnan(slots), 1.0, np.round(slots))
    if "duration" in table.values:
        duration_us = table.values["duration"]
    elif "time" in table.values and table.rows > 1:
        steps = np.diff(table.values["time"])
        duration_us = np.r_[steps, steps[-1]]
    else:
        return np.ones(table.rows)
    slots = np.clip(np.round(duration_us / mapping.slot_us), 1, 2**31 - 1)
    return np.where(np.isnan(slots), 1.0, slots)
