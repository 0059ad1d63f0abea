"""`distila replay`: run a policy on a recorded or simulated channel, or beside a KPI log."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from distila.replay import closed_loop_page, kpi_log, open_loop_page
from distila.replay.compared_run import ReplayOptions
from distila.replay.comparison import NATIVE, replay_channel, replay_log
from distila.replay.du_config import load_du_config
from distila.replay.importers.ranalyzer import import_ranalyzer
from distila.replay.importers.source_file import holds_oai_reports
from distila.replay.kpi_log import KpiLog
from distila.replay.page.number_text import number, percent, signed
from distila.replay.parquet_file import file_format, is_parquet
from distila.replay.reason_tables import reason_tables
from distila.replay.replay_sections import decided_text
from distila.replay.run_figures import figure_rows
from distila.replay.summary import ClosedLoopSummary, OpenLoopSummary, ReplaySummary
from distila.replay.trace import TRACES, ChannelTrace
from distila.xapp.commands import SUMMARIES
from distila.xapp.commands.application import application
from distila.xapp.commands.terminal import print_records, print_table, progress_bar, stderr, stdout
from distila.xapp.errors import InputError
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.policy.bundle import DEFAULT_POLICY

app = application(SUMMARIES["replay"].text)


@app.command()
def replay(
    context: typer.Context,
    trace: Annotated[
        str,
        typer.Option(
            help="What to replay: a channel trace (closed loop), by file or by the name of one that ships; the file of"
            " a KPI log (open loop); or the log of an OpenAirInterface gNB, whose channel is reconstructed first."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Directory for summary.json and report.html.")],
    policy: Annotated[str, typer.Option(help="A bundle's directory, or the name of a shipped one.")] = DEFAULT_POLICY,
    against: Annotated[
        str,
        typer.Option(
            help="What the policy is compared with: `native`, the DU's own OLLA without an xApp (`olla` means the same"
            " here), or another bundle by directory or name. The bundle `olla` is OLLA as a policy, in CQI steps."
        ),
    ] = NATIVE,
    period: Annotated[int | None, typer.Option(min=1, help="Slots between two E2 reports; default 1.")] = None,
    delay: Annotated[int | None, typer.Option(min=0, help="Slots until decisions take effect; default 0.")] = None,
    transport: Annotated[
        Literal["inproc", "grpc", "rmr"],
        typer.Option(help="How the xApp is reached: in this process, over gRPC, or over RMR."),
    ] = "inproc",
    speed: Annotated[str, typer.Option(help="`max`: as fast as possible; or a number N: N times real time.")] = "max",
    slots: Annotated[
        int | None, typer.Option(min=1, help="Stop after this number of slots; default: the whole trace.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random draws that decide each transmission.")] = 1,
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", help="Address on which the E2 node listens, for gRPC; port 0 takes a free one."
        ),
    ] = "127.0.0.1:0",
    external: Annotated[bool, typer.Option(help="Wait for an xApp started by hand instead of starting one.")] = False,
    du: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,...|FILE",
            help="Settings of the DU stand-in, such as `max_transmissions=1`, or a YAML file with them; may be given"
            " several times, and the last one counts.",
        ),
    ] = None,
    olla_target: Annotated[
        float | None, typer.Option(help="First-transmission BLER that the native OLLA aims at, 0 to 0.5.")
    ] = None,
    olla_step: Annotated[float | None, typer.Option(help="Step of the native OLLA on a NACK [CQI steps].")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with the xApp's configuration; its guard and loop settings apply.")
    ] = None,
    bler: Annotated[
        str, typer.Option(help="BLER model: `smooth`, or `sionna`, which needs the extra [training].")
    ] = "smooth",
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON instead of a table.")] = False,
) -> None:
    """Replay a trace with a policy, then with what it is compared with: same channel, same random draws."""
    summary: ReplaySummary
    path = TRACES.find(trace)
    is_oai_log = not is_parquet(path) and holds_oai_reports(path)
    if not is_oai_log and file_format(path) == kpi_log.FORMAT:
        for option in ("against", "period", "delay", "transport", "speed", "slots", "seed", "listen", "external", "du"):
            if not _is_default(context, option):
                raise InputError(f"--{option} has no meaning for a KPI log, whose transmissions are over: {path}")
        with progress_bar("open loop", "reports") as progress:
            summary = replay_log(path, KpiLog.load(path), policy, out, config, progress)
    else:
        if external and transport != "grpc":
            raise InputError("--external needs --transport grpc")
        if external and not _is_default(context, "policy"):
            raise InputError("--external: the xApp has its own policy; leave out --policy")
        given = {
            "period_slots": period,
            "decision_delay_slots": delay,
            "olla_target_bler": olla_target,
            "olla_step_on_nack": olla_step,
        }
        settings = ReplayOptions(
            du=load_du_config(du or (), {name: value for name, value in given.items() if value is not None}),
            seed=seed,
            max_slots=slots,
            speed=_speed(speed),
            transport=transport,
            listen=listen,
            config=config,
            bler=bler,
            external=(lambda port: _ask_for_xapp(listen, port)) if external else None,
        )
        channel = _imported(path) if is_oai_log else ChannelTrace.load(path)
        with _progress_bars() as bars:
            summary = replay_channel(path, channel, policy, against, settings, out, bars)
    if isinstance(summary, ClosedLoopSummary):
        decided_little = closed_loop_page.decided_little(summary)
    else:
        decided_little = open_loop_page.decided_little(summary)
    if json:
        print(summary.json_text(), end="")
    else:
        for sentence in decided_little:
            stdout.print(f"{sentence}\n", style="bold")
        if isinstance(summary, ClosedLoopSummary):
            _print_closed_loop(summary)
        else:
            _print_open_loop(summary)
        _print_counts(summary)
        stdout.print(f"report: {out / 'report.html'}", soft_wrap=True)
    for sentence in decided_little:
        stderr.print(f"warning: {sentence}", soft_wrap=True)


def _imported(path: Path) -> ChannelTrace:
    """The channel that the log of an OpenAirInterface gNB allows to reconstruct; says so on stderr."""
    channel, report = import_ranalyzer(path, bler=SmoothBler.load())
    stderr.print(f"{path}: log of an OpenAirInterface gNB, imported as by `distila trace import ranalyzer`:")
    for line in report.lines():
        stderr.print(f"  {line}", soft_wrap=True)
    return channel


def _is_default(context: typer.Context, option: str) -> bool:
    source = context.get_parameter_source(option)
    return source is None or source.name == "DEFAULT"


@contextmanager
def _progress_bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Yields a function that starts a progress bar for each run, one after another."""
    with ExitStack() as stack:

        def bar(title: str) -> Callable[[int, int], None]:
            stack.close()
            return stack.enter_context(progress_bar(title, "slots"))

        yield bar


def _ask_for_xapp(listen: str, port: int) -> None:
    host = listen.rsplit(":", 1)[0]
    stderr.print(f"waiting for an xApp: distila run --e2 {host}:{port} --exit-on-end", soft_wrap=True)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"--speed {text}: expected `max` or a positive number")
    return value


def _print_closed_loop(summary: ClosedLoopSummary) -> None:
    ours, theirs, trace = summary.policy, summary.against, summary.trace
    print_table(
        f"{trace.name}: {trace.ues} UEs, {trace.slots} slots",
        ["", f"policy {ours.name}", theirs.name, "difference"],
        [
            [f"{row.label} {row.unit}".strip(), row.policy, row.against, row.difference]
            for row in figure_rows(ours, theirs)
        ],
    )
    if summary.decided:
        stdout.print(closed_loop_page.gain_verdict(summary).text)
    if summary.settings.du_from_trace:
        stdout.print(closed_loop_page.settings_of_trace(summary))


def _print_open_loop(summary: OpenLoopSummary) -> None:
    agreement = summary.agreement
    print_table(
        f"{summary.trace.name}: decisions beside the log's MCS",
        ["", "value"],
        [
            ["reports with a logged and a decided MCS", number(agreement.rows_compared)],
            ["share of them with the same MCS", percent(agreement.same_mcs_share)],
            ["mean of decided minus logged MCS", signed(agreement.mean_difference, 2)],
        ],
    )
    for note in summary.trace.notes:
        print_records([["note:", note]])


def _print_counts(summary: ClosedLoopSummary | OpenLoopSummary) -> None:
    """Decisions and counts by reason in the words of the report."""
    stdout.print(decided_text(summary))
    for group in reason_tables(summary):
        if group.table is None:
            stdout.print(group.when_empty)
        else:
            stdout.print(f"{group.heading}:")
            rows = [[cell if isinstance(cell, str) else cell.text for cell in row] for row in group.rows]
            print_records([[f"  {count}", f"{reason}: {meaning}"] for reason, count, _, meaning in rows])
    if isinstance(summary, ClosedLoopSummary):
        share = percent(summary.answered_share)
        stdout.print(f"{share} of the UE reports got an answer that the DU accepted, also if it left the UE to the DU.")
        if not summary.few:
            stdout.print(closed_loop_page.who_decided(summary, summary))
    elif not summary.few:
        stdout.print(open_loop_page.who_decided(summary))
