"""What `distila trace info` and `distila trace import` print with `--json`."""

from pathlib import Path

import numpy as np
from pydantic import Field

from distila.replay import kpi_log, trace
from distila.replay.importers.counts import ImportReport
from distila.replay.kpi_log import KpiLog
from distila.replay.trace import NO_CQI, ChannelTrace
from distila.xapp.result_file import ResultModel


class ChannelInfo(ResultModel):
    """What a channel trace holds."""

    format: str = Field(default=trace.FORMAT, description="format of the file and its version")
    name: str
    source: str = Field(description="who recorded or generated it, how, licence")
    ues: int = Field(description="number of UEs")
    slots_longest_ue: int = Field(description="slots of the UE with most of them")
    ue_slots: int = Field(description="slots of all UEs together")
    slot_us: float = Field(description="duration of a slot [us]")
    slot_is: str = Field(description="`slot`, or what the trace counts instead")
    segments: int = Field(description="stretches of constant SINR and CQI")
    sinr_db_min_median_max: list[float] = Field(description="over segments [dB]")
    share_of_slots_with_cqi: float
    mcs_tables: list[int] = Field(description="MCS tables in use, 1 to 3 (TS 38.214)")
    cqi_tables: list[int] = Field(description="CQI tables in use, 1 to 3 (TS 38.214)")
    du_settings: dict[str, int | float | str | None] = Field(
        description="settings of the DU stand-in that a replay takes from the trace, unless it is given others"
    )
    speeds_kmh: list[float] = Field(description="speeds of UEs, where they are known [km/h]")
    logged_outcome: bool = Field(description="whether it holds the MCS and failures of its source")
    notes: list[str] = Field(description="assumptions and limits")

    @classmethod
    def of(cls, channel: ChannelTrace) -> "ChannelInfo":
        """Of a trace."""
        sinr_db = channel.sinr_db[~np.isnan(channel.sinr_db)]
        with_cqi = channel.slots[channel.cqi != NO_CQI].sum() / channel.slots.sum()
        return cls(
            name=channel.meta.name,
            source=channel.meta.source,
            ues=channel.num_ues,
            slots_longest_ue=int(channel.num_slots.max()),
            ue_slots=int(channel.num_slots.sum()),
            slot_us=channel.meta.slot_us,
            slot_is=channel.meta.slot_is,
            segments=len(channel.slots),
            sinr_db_min_median_max=[round(float(x), 1) for x in np.percentile(sinr_db, [0, 50, 100])],
            share_of_slots_with_cqi=round(float(with_cqi), 3),
            mcs_tables=sorted({ue.mcs_table for ue in channel.meta.ues}),
            cqi_tables=sorted({ue.cqi_table for ue in channel.meta.ues}),
            du_settings=channel.meta.du.given(),
            speeds_kmh=sorted({ue.speed_kmh for ue in channel.meta.ues if ue.speed_kmh is not None}),
            logged_outcome=channel.logged is not None,
            notes=channel.meta.notes,
        )


class LogInfo(ResultModel):
    """What a KPI log holds."""

    format: str = Field(default=kpi_log.FORMAT, description="format of the file and its version")
    name: str
    source: str = Field(description="who recorded it, licence")
    ues: int = Field(description="number of UEs")
    reports: int = Field(description="number of rows, one per UE and report")
    period_us: float = Field(description="report period [us]")
    mcs_table: int = Field(description="MCS table of the logged MCS, 1 to 3 (TS 38.214)")
    measured: str = Field(description="columns, each with the share of rows in which it was measured")
    notes: list[str] = Field(description="assumptions and limits")

    @classmethod
    def of(cls, log: KpiLog) -> "LogInfo":
        """Of a log."""
        shares = {name: f"{np.mean(~np.isnan(values)):.1%}" for name, values in log.measured.items()}
        return cls(
            name=log.meta.name,
            source=log.meta.source,
            ues=len(log.meta.ues),
            reports=log.num_rows,
            period_us=log.meta.period_us,
            mcs_table=log.meta.mcs_table,
            measured=", ".join(f"{name} {share}" for name, share in shares.items()),
            notes=log.meta.notes,
        )


class ImportedRun(ResultModel):
    """One UE of one file, or a part of it; see `distila.replay.importers.counts.Run`."""

    file: str
    ue: str
    reports: int
    first_tx: int
    first_fail: int | None
    skipped: str | None


class ImportSummary(ResultModel):
    """What an import read, used and left out."""

    out: str = Field(description="file that was written")
    files_read: int
    rows_found: int = Field(description="rows that look like data")
    rows_used: int
    skipped: dict[str, int] = Field(description="rows that are not in the result, by reason")
    noted: dict[str, int] = Field(description="assumptions and limits that exclude no row, by reason")
    runs: list[ImportedRun]

    @classmethod
    def of(cls, out: Path, report: ImportReport) -> "ImportSummary":
        """Of an import that wrote ``out``."""
        return cls(
            out=str(out),
            files_read=report.files_read,
            rows_found=report.rows_found,
            rows_used=report.rows_used,
            skipped=dict(report.skipped),
            noted=dict(report.noted),
            runs=[ImportedRun(**vars(run)) for run in report.runs],
        )
