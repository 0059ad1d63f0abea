"""`distila trace`: convert logs into channel traces and KPI logs, and print what a file holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from distila.replay import kpi_log, trace
from distila.replay.importers.counts import ImportReport
from distila.replay.importers.generic import GenericMapping, import_generic
from distila.replay.importers.ranalyzer import import_ranalyzer, import_ranalyzer_kpi_log
from distila.replay.importers.tractor import import_tractor, import_tractor_kpi_log
from distila.replay.kpi_log import KpiLog
from distila.replay.page.number_text import setting
from distila.replay.parquet_file import file_format
from distila.replay.trace import TRACES, ChannelTrace
from distila.replay.trace_info import ChannelInfo, ImportSummary, LogInfo
from distila.xapp.commands import SUMMARIES
from distila.xapp.commands.application import application
from distila.xapp.commands.terminal import print_json, print_records, print_table, progress_bar, stdout
from distila.xapp.errors import InputError
from distila.xapp.files import read_yaml
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.progress import Progress

app = application(SUMMARIES["trace"].text, no_args_is_help=True)
import_app = application("Import the logs of a RAN or of a data set.", no_args_is_help=True)
app.add_typer(import_app, name="import")

_Source = Annotated[Path, typer.Argument(help="Directory of log files, or one file; plain or .gz.")]
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
    mapping: Annotated[Path, typer.Option(help="YAML file that maps columns to fields; see docs/replay.md.")],
    json: _Json = False,
) -> None:
    """Any CSV or Parquet table, by a column mapping."""
    columns = GenericMapping.parse(read_yaml(mapping), str(mapping))
    _import(out, json, lambda progress: import_generic(source, columns, bler=SmoothBler.load(), progress=progress))


@app.command()
def info(
    file: Annotated[str, typer.Argument(help="Channel trace or KPI log: a file, or the name of a trace that ships.")],
    json: _Json = False,
) -> None:
    """Print what a channel trace or KPI log holds."""
    path = TRACES.find(file)
    found = file_format(path)
    facts: ChannelInfo | LogInfo
    if found == trace.FORMAT:
        facts = ChannelInfo.of(ChannelTrace.load(path))
    elif found == kpi_log.FORMAT:
        facts = LogInfo.of(KpiLog.load(path))
    else:
        raise InputError(f"{path}: format {found!r} is of another version of distila")
    if json:
        print_json(facts.model_dump(mode="json"))
        return
    rows = [[name.replace("_", " "), setting(value)] for name, value in facts if name != "notes"]
    print_table(str(path), ["what", "value"], rows)
    print_records([["-", note] for note in facts.notes])


def _import(out: Path, json: bool, read: Callable[[Progress], Imported]) -> None:
    with progress_bar("import", "files") as progress:
        imported, report = read(progress)
    imported.save(out)
    if json:
        print_json(ImportSummary.of(out, report).model_dump(mode="json"))
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
        stdout.print(line)
    stdout.print(f"wrote {out} ({out.stat().st_size / 1e3:.0f} kB)", soft_wrap=True)
