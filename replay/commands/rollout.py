"""The commands of `distila rollout` that work offline: simulate, aa, power, report."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from distila.replay.du_config import DuConfig
from distila.replay.rollouts.kpi_library import KpiLibrary, gaussian_library, record_library
from distila.replay.rollouts.population import Population
from distila.replay.rollouts.results import AaStudy, PowerStudy, SimulationSummary, StudySettings, TransitionTaken
from distila.replay.rollouts.rollout_page import write_rollout_page
from distila.replay.rollouts.simulation import SIMULATION_PLANS, simulate_rollout
from distila.replay.rollouts.studies import aa_study, power_study
from distila.replay.trace import DEFAULT_TRACE, TRACES, ChannelTrace
from distila.xapp.commands.application import application
from distila.xapp.commands.findings import finding_table
from distila.xapp.commands.terminal import print_records, print_table, progress_bar, stdout
from distila.xapp.errors import InputError
from distila.xapp.files import check_writable, write_json
from distila.xapp.policy.bundle import load_bundle
from distila.xapp.rollout.audit import AuditFile, read_log
from distila.xapp.rollout.machine import event_words
from distila.xapp.rollout.open_store import open_store
from distila.xapp.rollout.plan import Plan, load_plan
from distila.xapp.rollout.store import StoreLostError

app = application()

_EFFECT_LABELS = {
    "goodput_down_5_pct": "goodput -5 %",
    "bler_doubled": "twice the BLER",
    "goodput_up_5_pct": "goodput +5 %",
}

_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
_Traces = Annotated[
    list[str] | None,
    typer.Option(
        "--trace",
        help="Channel trace: a file, or the name of one that ships; may be given several times;"
        f" default: {DEFAULT_TRACE}.",
    ),
]
_Period = Annotated[int, typer.Option(min=1, help="Slots between two E2 reports.")]
_Delay = Annotated[int, typer.Option(min=0, help="Slots until decisions take effect.")]
_Interval = Annotated[int, typer.Option(min=1, help="Slots of an evaluation interval.")]
_Seed = Annotated[int, typer.Option(min=0, help="Seed of the random draws.")]
_Kpis = Annotated[
    Literal["replayed", "gaussian"],
    typer.Option(
        help="KPIs as replayed, with tails and autocorrelation; or Gaussian noise of the same mean and spread."
    ),
]
_Units = Annotated[int, typer.Option(min=10, help="UEs at any time.")]
_Stay = Annotated[float, typer.Option(min=2, help="Number of intervals that a UE stays, on average.")]
_Processes = Annotated[int, typer.Option(min=1, help="Processes that share the runs; the result is the same.")]
_StudyPlan = Annotated[str, typer.Option("--plan", help="YAML file of a plan, or the name of one that ships.")]


@app.command()
def simulate(
    plan: Annotated[
        str, typer.Argument(help="YAML file of a plan, or one that ships: healthy, harmful, aa, student, challenger.")
    ],
    trace: Annotated[
        str, typer.Option(help="Channel trace: a file, or the name of one that ships; its DU settings apply.")
    ] = DEFAULT_TRACE,
    out: Annotated[Path, typer.Option(help="Directory for report.html and audit.json.")] = Path("out/rollout"),
    ues: Annotated[int, typer.Option(min=2, max=5000, help="UEs in the cell; those of the trace are repeated.")] = 400,
    period: _Period = 20,
    delay: _Delay = 8,
    interval_slots: _Interval = 500,
    seed: _Seed = 1,
    json: _Json = False,
) -> None:
    """Run a whole rollout on a replayed trace, in seconds, and show how it ends."""
    loaded = load_plan(plan, SIMULATION_PLANS)
    trace_file = TRACES.find(trace)
    channel = ChannelTrace.load(trace_file)
    check_writable(out)
    du = DuConfig(period_slots=period, decision_delay_slots=delay).on_top_of(channel.meta.du)
    with progress_bar("rollout", "intervals") as progress:
        result = simulate_rollout(
            loaded, channel, du, ues=ues, interval_slots=interval_slots, seed=seed, progress=progress
        )
    write_rollout_page(out / "report.html", result.entries)
    write_json(out / "audit.json", AuditFile(entries=result.entries), indent=None)
    status = result.status
    summary = SimulationSummary(
        plan=status.plan,
        status=status.status,
        stage_name=status.stage_name,
        interval=status.interval,
        promoted=status.promoted,
        withdrawn=status.withdrawn,
        reason=status.reason,
        exposure=status.exposure,
        transitions=[
            TransitionTaken(interval=number, what=one.what, stage=one.stage, why=one.why)
            for number, one in result.transitions
        ],
        harmful_decisions_after_rollback=result.after_rollback,
        slots=result.slots,
        simulated_s=round(result.slots * channel.meta.slot_us / 1e6, 2),
        ues=ues,
        trace=str(trace_file),
        shadow=status.shadow,
        noticed=status.noticed,
    )
    if json:
        print(summary.json_text(), end="")
        return
    stdout.print(f"{loaded.name}: {ues} UEs, {summary.simulated_s:g} s of the trace's time", style="bold")
    print_records(
        [
            [f"interval {number}", event_words(one.what), f"stage {one.stage}: {one.why}"]
            for number, one in result.transitions
        ]
    )
    findings = [entry.evaluation.verdict.findings for entry in result.entries if entry.evaluation is not None]
    shown = next((one for one in reversed(findings) if one), [])
    if shown:
        print_table("latest findings: challenger minus control", *finding_table(shown, loaded.metrics))
    stdout.print(f"{event_words(status.status)} in stage {status.stage_name}, interval {status.interval}")
    stdout.print(f"report: {out / 'report.html'}; distila rollout audit --log {out / 'audit.json'}", soft_wrap=True)


@app.command()
def aa(
    runs: Annotated[int, typer.Option(min=1, help="Simulated rollouts.")] = 1000,
    plan: _StudyPlan = "challenger",
    trace: _Traces = None,
    kpis: _Kpis = "replayed",
    units: _Units = 1000,
    stay: _Stay = 60.0,
    period: _Period = 20,
    delay: _Delay = 8,
    interval_slots: _Interval = 500,
    seed: _Seed = 1,
    processes: _Processes = 2,
    json: _Json = False,
) -> None:
    """A/A study: how often does a rollout of the champion against itself raise a false alarm?"""
    loaded, population, settings = _study(plan, trace, kpis, units, stay, period, delay, interval_slots, seed)
    with progress_bar("A/A rollouts", "runs") as progress:
        result = aa_study(loaded, population, runs, seed, processes, progress)
    if json:
        print(AaStudy(**dict(settings), **dict(result)).json_text(), end="")
        return
    low, high = result.ci95
    rows = [
        ["rollouts", str(runs)],
        ["evaluations in them", f"{result.evaluations:,}"],
        ["false alarms", f"{result.false_alarms} ({100 * low:.2f} to {100 * high:.2f} %, exact 95 % interval)"],
        ["allowed", f"{100 * result.allowed_share:g} %"],
        ["rollouts with a sequence ever beyond zero", str(result.sequences_missed)],
    ]
    print_table(f"A/A on {kpis} KPIs, plan {loaded.name}, {units} UEs", ["what", "value"], rows)


@app.command()
def power(
    runs: Annotated[int, typer.Option(min=1, help="Simulated rollouts of each kind.")] = 200,
    plan: _StudyPlan = "challenger",
    trace: _Traces = None,
    kpis: _Kpis = "replayed",
    units: _Units = 1000,
    stay: _Stay = 60.0,
    period: _Period = 20,
    delay: _Delay = 8,
    interval_slots: _Interval = 500,
    seed: _Seed = 1,
    processes: _Processes = 2,
    json: _Json = False,
) -> None:
    """Power study: how often and how soon is a harmful challenger rolled back, and a good one promoted?"""
    loaded, population, settings = _study(plan, trace, kpis, units, stay, period, delay, interval_slots, seed)
    with progress_bar("rollouts", "runs") as progress:
        result = power_study(loaded, population, runs, seed, processes, progress)
    if json:
        print(PowerStudy(**dict(settings), **dict(result)).json_text(), end="")
        return
    rows = []
    for name, one in result.by_effect.items():
        low, high = one.ci95
        rows.append(
            [
                _EFFECT_LABELS[name],
                one.expected_end.replace("_", " "),
                f"{getattr(one, one.expected_end)}/{runs}",
                f"{100 * low:.1f} to {100 * high:.1f} %",
                f"{one.median_exposure_pct:g} %",
            ]
        )
    columns = ["challenger", "expected end", "runs", "exact 95 % interval", "median exposure"]
    print_table(f"power on {kpis} KPIs, plan {loaded.name}, {units} UEs", columns, rows)


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("rollout.html"),
    store: Annotated[str, typer.Option(help="SQLite file, or redis://HOST:PORT/DB.")] = "rollout.sqlite",
    log: Annotated[Path | None, typer.Option(help="JSON file with an audit log; default: the store's log.")] = None,
) -> None:
    """Write an HTML report of the latest rollout from its audit log, with the confidence sequences over time."""
    if log is not None:
        entries = read_log(log)
    else:
        kept = open_store(store, create=False)
        try:
            entries = kept.audit()
        except StoreLostError as error:
            raise InputError(str(error)) from None
        finally:
            kept.close()
    check_writable(out.parent)
    write_rollout_page(out, entries)
    stdout.print(f"report: {out}", soft_wrap=True)


def _study(
    plan: str,
    traces: list[str] | None,
    kpis: Literal["replayed", "gaussian"],
    units: int,
    stay: float,
    period: int,
    delay: int,
    interval_slots: int,
    seed: int,
) -> tuple[Plan, Population, StudySettings]:
    loaded = load_plan(plan, SIMULATION_PLANS)
    champion = load_bundle(loaded.champion.policy)
    du = DuConfig(period_slots=period, decision_delay_slots=delay)
    paths = [TRACES.find(name) for name in traces or [DEFAULT_TRACE]]
    parts = []
    for path in paths:
        channel = ChannelTrace.load(path)
        with progress_bar(f"replay {path.name}", "slots") as progress:
            parts.append(
                record_library(
                    channel,
                    champion,
                    du.on_top_of(channel.meta.du),
                    interval_slots=interval_slots,
                    passes=4,
                    seed=seed,
                    progress=progress,
                )
            )
    library = KpiLibrary.join(parts)
    if kpis == "gaussian":
        library = gaussian_library(library, np.random.default_rng(seed))
    settings = StudySettings(
        plan=loaded.name,
        kpis=kpis,
        traces=[str(path) for path in paths],
        units=units,
        mean_stay_intervals=stay,
        library_ues=library.num_ues,
        library_intervals=len(library.values),
    )
    return loaded, Population(library, units, stay), settings
