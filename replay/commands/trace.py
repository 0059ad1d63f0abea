"""`distila trace`: bring other people's logs into the project's formats, and look at what is in a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from distila.replay import kpi_log, trace
from distila.replay.importers.counts import ImportReport, Progress
from distila.replay.importers.generic import GenericMapping, import_generic
from distila.replay.importers.ranalyzer import import_ranalyzer, import_ranalyzer_kpi_log
from distila.replay.importers.tractor import import_tractor, import_tractor_kpi_log
from distila.replay.kpi_log import KpiLog
from distila.replay.parquet_file import file_format
from distila.replay.trace import NO_CQI, ChannelTrace
from distila.xapp.commands.terminal import print_json, print_table, progress_bar, stdout
from distila.xapp.errors import InputError
from distila.xapp.files import read_yaml
from distila.xapp.nr.bler import SmoothBler

app = typer.Typer(help="Import traces and logs, and look at them.", no_args_is_help=True)
import_app = typer.Typer(help="Import other people's logs.", no_args_is_help=True)
app.add_typer(import_app, name="import")

_Source = Annotated[Path, typer.Argument(help="Directory of log files, or one file; .gz or plain.")]
_Out = Annotated[Path, typer.Option(help="File to write.")]
_As = Annotated[
    Literal["channel", "kpi-log"],
    typer.Option("--as", help="A channel trace for closed-loop replay, or the log itself for open-loop replay."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

Imported = tuple[ChannelTrace | KpiLog, ImportReport]


@import_app.command()
def ranalyzer(source: _Source, out: _Out, kind: _As = "channel", json: _Json = False) -> None:
    """OpenAirInterface gNB logs (RANalyzer data set): MCS and HARQ rounds; the channel is reconstructed."""
    if kind == "channel":
        _import(out, json, lambda progress: import_ranalyzer(source, bler=SmoothBler.load(), progress=progress))
    else:
        _import(out, json, lambda progress: import_ranalyzer_kpi_log(source, progress=progress))


@import_app.command()
def tractor(source: _Source, out: _Out, kind: _As = "channel", json: _Json = False) -> None:
    """srsRAN LTE metric CSVs (TRACTOR data set): the channel follows the CQI."""
    if kind == "channel":
        _import(out, json, lambda progress: import_tractor(source, bler=SmoothBler.load(), progress=progress))
    else:
        _import(out, json, lambda progress: import_tractor_kpi_log(source, progress=progress))


@import_app.command()
def table(
    source: _Source,
    out: _Out,
    mapping: Annotated[Path, typer.Option(help="YAML file that says which column is what; see docs/replay.md.")],
    json: _Json = False,
) -> None:
    """Any CSV or Parquet table, by a column mapping."""
    columns = GenericMapping.parse(read_yaml(mapping), str(mapping))
    _import(out, json, lambda progress: import_generic(source, columns, bler=SmoothBler.load(), progress=progress))


@app.command()
def info(file: Annotated[Path, typer.Argument(help="Channel trace or KPI log.")], json: _Json = False) -> None:
    """Print what a channel trace or KPI log holds."""
    found = file_format(file)
    if found == trace.FORMAT:
        facts = _channel_facts(ChannelTrace.load(file))
    elif found == kpi_log.FORMAT:
        facts = _log_facts(KpiLog.load(file))
    else:
        raise InputError(f"{file}: format {found!r} is of another version of distila")
    facts = {"format": found, **facts}
    if json:
        print_json(facts)
        return
    notes = facts.pop("notes")
    print_table(str(file), ["what", "value"], [[name.replace("_", " "), str(value)] for name, value in facts.items()])
    for note in notes:
        stdout.print(f"- {note}", soft_wrap=True)


def _import(out: Path, json: bool, read: Callable[[Progress], Imported]) -> None:
    with progress_bar("import", "files") as progress:
        imported, report = read(progress)
    imported.save(out)
    if json:
        print_json(
            {
                "out": str(out),
                "files_read": report.files_read,
                "rows_found": report.rows_found,
                "rows_used": report.rows_used,
                "skipped": dict(report.skipped),
                "noted": dict(report.noted),
                "runs": [vars(run) for run in report.runs],
            }
        )
        return
    rows = [
        [
            f"{run.file} {run.ue}",
            str(run.reports),
            str(run.first_tx),
            f"{run.first_fail / run.first_tx:.2%}" if run.first_fail is not None and run.first_tx else "",
        ]
        for run in report.used_runs
    ]
    title = f"runs used, {len(rows)} of {len(report.runs)}"
    print_table(title, ["file and UE", "reports", "first tx", "failed"], rows)
    for line in report.lines():
        stdout.print(line, soft_wrap=True)
    stdout.print(f"wrote {out} ({out.stat().st_size / 1e3:.0f} kB)", soft_wrap=True)


def _channel_facts(channel: ChannelTrace) -> dict[str, Any]:
    sinr_db = channel.sinr_db[~np.isnan(channel.sinr_db)]
    speeds = sorted({ue.speed_kmh for ue in channel.meta.ues if ue.speed_kmh is not None})
    weights = channel.slots[channel.cqi != NO_CQI].sum() / channel.slots.sum()
    return {
        "name": channel.meta.name,
        "source": channel.meta.source,
        "ues": channel.num_ues,
        "slots_longest_ue": int(channel.num_slots.max()),
        "ue_slots": int(channel.num_slots.sum()),
        "slot_us": channel.meta.slot_us,
        "slot_is": channel.meta.slot_is,
        "segments": len(channel.slots),
        "sinr_db_min_median_max": [round(float(x), 1) for x in np.percentile(sinr_db, [0, 50, 100])],
        "share_of_slots_with_cqi": round(float(weights), 3),
        "mcs_tables": sorted({ue.mcs_table for ue in channel.meta.ues}),
        "speeds_kmh": speeds,
        "logged_outcome": channel.logged is not None,
        "notes": channel.meta.notes,
    }


def _log_facts(log: KpiLog) -> dict[str, Any]:
    measured = {name: f"{np.mean(~np.isnan(values)):.1%}" for name, values in log.measured.items()}
    return {
        "name": log.meta.name,
        "source": log.meta.source,
        "ues": len(log.meta.ues),
        "reports": log.num_rows,
        "period_us": log.meta.period_us,
        "mcs_table": log.meta.mcs_table,
        "measured": ", ".join(f"{name} {share}" for name, share in measured.items()),
        "notes": log.meta.notes,
    }
