"""`distila replay`: yesterday's channel, today's policy."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from distila.replay import kpi_log
from distila.replay.comparison import NATIVE_OLLA, Settings, replay_channel, replay_log
from distila.replay.du import load_du_config
from distila.replay.kpi_log import KpiLog
from distila.replay.parquet_file import file_format
from distila.replay.trace import ChannelTrace
from distila.xapp.commands.terminal import print_json, print_table, progress_bar, stderr, stdout
from distila.xapp.errors import InputError
from distila.xapp.policy.bundle import DEFAULT_POLICY

app = typer.Typer(help="Replay a trace against a policy and the DU's native OLLA; write a report.")


@app.command()
def replay(
    context: typer.Context,
    trace: Annotated[Path, typer.Option(help="Channel trace (closed loop) or KPI log (open loop).")],
    out: Annotated[Path, typer.Option(help="Directory for summary.json and report.html.")],
    policy: Annotated[str, typer.Option(help="A bundle's directory, or the name of a shipped one.")] = DEFAULT_POLICY,
    against: Annotated[str, typer.Option(help="`olla`: the DU's native OLLA; or another bundle.")] = NATIVE_OLLA,
    period: Annotated[int | None, typer.Option(min=1, help="Slots between two E2 reports; default 1.")] = None,
    delay: Annotated[int | None, typer.Option(min=0, help="Slots until decisions take effect; default 0.")] = None,
    transport: Annotated[Literal["inproc", "grpc", "rmr"], typer.Option(help="How the xApp is reached.")] = "inproc",
    speed: Annotated[str, typer.Option(help="`max`, or N times real time.")] = "max",
    slots: Annotated[int | None, typer.Option(min=1, help="Stop after so many slots.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the luck that decides what arrives.")] = 1,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="gRPC endpoint; port 0 takes a free one.")
    ] = "127.0.0.1:0",
    external: Annotated[bool, typer.Option(help="Wait for an xApp started by hand instead of starting one.")] = False,
    du: Annotated[Path | None, typer.Option(help="YAML file with settings of the DU stand-in.")] = None,
    olla_target: Annotated[float | None, typer.Option(help="BLER target of the native OLLA.")] = None,
    olla_step: Annotated[float | None, typer.Option(help="Step of the native OLLA on a NACK, in CQI steps.")] = None,
    config: Annotated[Path | None, typer.Option(help="The xApp's configuration: its guard and loop apply.")] = None,
    bler: Annotated[str, typer.Option(help="BLER model: `smooth`, or `sionna`, which needs [training].")] = "smooth",
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON instead of a table.")] = False,
) -> None:
    """Replay a trace: the policy through the whole xApp, then what it is compared with, on one channel and one luck."""
    if file_format(trace) == kpi_log.FORMAT:
        for option in ("against", "period", "delay", "transport", "speed", "slots", "seed", "listen", "external", "du"):
            if not _is_default(context, option):
                raise InputError(f"--{option} has no meaning for a KPI log, whose outcome is history: {trace}")
        with progress_bar("open loop", "reports") as progress:
            summary = replay_log(trace, KpiLog.load(trace), policy, out, config, progress)
    else:
        if external and transport != "grpc":
            raise InputError("--external needs --transport grpc")
        if external and not _is_default(context, "policy"):
            raise InputError("--external: the xApp brings its own policy, leave out --policy")
        given = {
            "period_slots": period,
            "decision_delay_slots": delay,
            "olla_target_bler": olla_target,
            "olla_step_on_nack": olla_step,
        }
        settings = Settings(
            du=load_du_config(du, {name: value for name, value in given.items() if value is not None}),
            seed=seed,
            max_slots=slots,
            speed=_speed(speed),
            transport=transport,
            listen=listen,
            config=config,
            bler=bler,
            external=(lambda port: _ask_for_xapp(listen, port)) if external else None,
        )
        channel = ChannelTrace.load(trace)
        with _progress_bars() as bars:
            summary = replay_channel(trace, channel, policy, against, settings, out, bars)
    if json:
        print_json(summary)
        return
    _print_closed_loop(summary) if summary["kind"] == "closed-loop" else _print_open_loop(summary)
    _print_counts(summary)
    stdout.print(f"report: {out / 'report.html'}", soft_wrap=True)


def _is_default(context: typer.Context, option: str) -> bool:
    source = context.get_parameter_source(option)
    return source is None or source.name == "DEFAULT"


@contextmanager
def _progress_bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Gives a progress bar for each thing that is run, one after another."""
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


def _print_closed_loop(summary: dict[str, Any]) -> None:
    policy, against, gain, trace = (summary[name] for name in ("policy", "against", "gain_pct", "trace"))
    figures = [
        ("goodput per UE [Mbit/s]", "goodput_mbps", "{:.3f}"),
        ("first-transmission BLER", "first_tx_bler", "{:.4f}"),
        ("residual BLER", "residual_bler", "{:.5f}"),
        ("mean MCS", "mean_mcs", "{:.2f}"),
    ]
    print_table(
        f"{trace['name']}: {trace['ues']} UEs, {trace['slots']} slots",
        ["", f"policy {policy['name']}", str(against["name"])],
        [[label, form.format(policy[key]), form.format(against[key])] for label, key, form in figures],
    )
    low, high = gain["ci95"]
    known = low is not None and high is not None
    interval = f" (95 % interval {low:+.2f} to {high:+.2f} %, paired by {gain['unit']})" if known else ""
    mean = "not defined, nothing arrived" if gain["mean"] is None else f"{gain['mean']:+.2f} % goodput"
    stdout.print(f"gain: {mean}{interval}", soft_wrap=True)


def _print_open_loop(summary: dict[str, Any]) -> None:
    print_table(
        f"{summary['trace']['name']}: decisions beside the log's MCS",
        ["", "value"],
        [[name.replace("_", " "), str(value)] for name, value in summary["agreement"].items()],
    )
    for note in summary["trace"]["notes"]:
        stdout.print(f"note: {note}", soft_wrap=True)


def _print_counts(summary: dict[str, Any]) -> None:
    counts = [f"{summary[name]} {name}" for name in ("indications", "decisions")]
    for group in ("dropped", "guarded", "noticed", "lost"):
        if group not in summary:
            continue
        if summary[group] is None:
            counts.append(f"{group}: see what the xApp printed")
            continue
        found = ", ".join(f"{reason} {count}" for reason, count in summary[group].items())
        counts.append(f"{group}: {found or 'nothing'}")
    stdout.print("; ".join(counts), soft_wrap=True)
    if summary.get("applied_share") is not None:
        refused = ", ".join(f"{r} {n}" for r, n in (summary["outcomes"] or {}).items() if r != "accepted")
        why = f" (refused: {refused})" if refused else ""
        stdout.print(
            f"applied: {summary['applied_share']:.1%} of the UE reports were answered in time{why}", soft_wrap=True
        )
    latency = summary["latency_us"]
    if latency["p50"] is not None:
        figures = f"p50 {latency['p50']}, p99 {latency['p99']}, max {latency['max']}"
        stdout.print(f"latency [us]: {figures} ({latency['what']})", soft_wrap=True)
