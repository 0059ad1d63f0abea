"""`distila bench`: measure the speeds that the documentation states, on this machine."""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Annotated, Any, Final, Literal

import typer

from distila.replay.bench_load import indications
from distila.replay.bench_results import (
    CombiningErrors,
    E2apLoopBench,
    EdgericBench,
    HarqBench,
    LoopBench,
    LoopBenchSettings,
    ReplayBench,
    RmrFigures,
    RmrLoopBench,
    RolloutBench,
    SimBench,
)
from distila.replay.loop_bench import bench_e2ap, bench_in_process, bench_over_grpc, bench_replay, bench_rollout
from distila.replay.rollouts.simulation import GREEDY
from distila.replay.trace import DEFAULT_TRACE, TRACES, ChannelTrace, bundled_trace
from distila.xapp.commands import SUMMARIES
from distila.xapp.commands.application import application
from distila.xapp.commands.terminal import print_json, print_table, progress_bar
from distila.xapp.errors import InputError
from distila.xapp.policy.bundle import DEFAULT_POLICY, load_bundle
from distila.xapp.result_file import ResultFile
from distila.xapp.stats import Percentiles

app = application(SUMMARIES["bench"].text, no_args_is_help=True)

_INSTALL: Final = "pip install 'distila[training]'"


@app.command()
def loop(
    ues: Annotated[int, typer.Option(min=1, max=2000, help="UEs in each indication.")] = 100,
    reports: Annotated[int, typer.Option(min=1000, help="Indications to time.")] = 10_000,
    policy: Annotated[str, typer.Option(help="A bundle's directory, or the name of a shipped one.")] = DEFAULT_POLICY,
    transport: Annotated[
        Literal["inproc", "grpc", "rmr"],
        typer.Option(help="How the xApp is reached: in process, over gRPC, or over RMR."),
    ] = "inproc",
    e2ap: Annotated[bool, typer.Option("--e2ap", help="Put E2AP around the service model; in process only.")] = False,
    trace: Annotated[
        str, typer.Option(help="Channel trace that the reports come from: a file, or the name of one that ships.")
    ] = DEFAULT_TRACE,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time the decision loop from indication bytes to control bytes."""
    bundle = load_bundle(policy)
    if e2ap and transport != "inproc":
        raise InputError("--e2ap needs --transport inproc: there is no E2AP over gRPC, and always E2AP over RMR")
    encoded = indications(ChannelTrace.load(TRACES.find(trace)), ues, reports)
    settings = LoopBenchSettings(ues=ues, reports=reports, policy=bundle.manifest.name, transport=transport, e2ap=e2ap)
    result: LoopBench | E2apLoopBench | RmrLoopBench
    with progress_bar("decisions", "indications") as progress:
        if transport == "rmr":
            result = RmrLoopBench(**dict(settings), **dict(_over_rmr(policy, encoded, progress)))
        elif e2ap:
            result = E2apLoopBench(**dict(settings), **dict(bench_e2ap(bundle, encoded, progress)))
        elif transport == "grpc":
            result = LoopBench(**dict(settings), **dict(bench_over_grpc(policy, encoded, progress)))
        else:
            result = LoopBench(**dict(settings), **dict(bench_in_process(bundle, encoded, progress)))
    if json:
        _print_json(result)
        return
    rows = [_times(stage.replace("_", " "), times) for stage, times in result.stages_us.items()]
    whole = Percentiles(p50=result.p50_us, p99=result.p99_us, max=result.max_us)
    rows.append(_times("bytes to bytes" if transport == "inproc" else "round trip", whole))
    if isinstance(result, E2apLoopBench):
        rows.append(_times("decoding by pycrate, for comparison", result.pycrate_decode_us))
    if isinstance(result, RmrLoopBench):
        rows.append(_times("RMR health check, for comparison", result.rmr_health_check_us))
        rows.append(_times("round trip every 10 ms", result.paced))
        rows.append(_times("the same, while policies are swapped", result.hot_swap))
    title = f"{ues} UEs, {reports} indications, policy {bundle.manifest.name}, {transport}{' with E2AP' * e2ap}"
    print_table(title, ["stage [us]", "p50", "p99", "max"], rows)
    if isinstance(result, RmrLoopBench):
        burst = result.burst
        dropped = ", ".join(f"{reason} {count}" for reason, count in result.dropped.items()) or "nothing"
        print(
            f"burst of {burst.sent} at {burst.sent_per_s}/s: {burst.answered} answered, the newest"
            f" {burst.newest_answered_after_us} us after the last was sent; dropped: {dropped}"
        )
    print(f"{result.ue_decisions_per_s} UE decisions/s")


def _print_json(result: ResultFile) -> None:
    print(result.json_text(), end="")


def _times(label: str, times: Percentiles) -> list[str]:
    """A row of a table; empty cells where nothing was timed."""
    return [label, *("" if value is None else f"{value:.1f}" for value in (times.p50, times.p99, times.max))]


def _over_rmr(policy: str, encoded: list[tuple[bytes, bytes]], progress: Callable[[int, int], None]) -> RmrFigures:
    try:
        from distila.replay.ric.rmr_bench import bench_over_rmr
    except ModuleNotFoundError as error:
        raise InputError(f"--transport rmr needs the package {error.name!r}: pip install 'distila[ric]'") from None
    return bench_over_rmr(policy, encoded, progress)


@app.command()
def replay(
    ues: Annotated[int, typer.Option(min=1, max=2000, help="UEs in the cell.")] = 100,
    slots: Annotated[int, typer.Option(min=100, help="Slots to replay.")] = 3000,
    policy: Annotated[str, typer.Option(help="A bundle's directory, or the name of a shipped one.")] = DEFAULT_POLICY,
    trace: Annotated[str, typer.Option(help="Channel trace: a file, or the name of one that ships.")] = DEFAULT_TRACE,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time a closed-loop replay in process with a decision every slot."""
    bundle = load_bundle(policy)
    channel = ChannelTrace.load(TRACES.find(trace))
    with progress_bar("replay", "slots") as progress:
        with_xapp, du_alone = bench_replay(bundle, channel, ues, slots, progress)
    if json:
        name = bundle.manifest.name
        _print_json(ReplayBench(ues=ues, slots=slots, policy_name=name, policy=with_xapp, du_alone=du_alone))
        return
    rows = [
        [name, f"{speed.ue_slots_per_s:,}", f"{speed.elapsed_s:.2f}"]
        for name, speed in (("with the xApp in process", with_xapp), ("DU alone", du_alone))
    ]
    print_table(f"{ues} UEs, {slots} slots, a decision every slot", ["replay", "UE-slots/s", "seconds"], rows)


@app.command()
def edgeric(
    ues: Annotated[int, typer.Option(min=1, max=500, help="UEs in the cell.")] = 16,
    count: Annotated[int, typer.Option("--ttis", min=1000, help="TTIs to time.")] = 5000,
    tti_us: Annotated[int, typer.Option(min=125, help="Length of a TTI, for the run over sockets.")] = 1000,
    policy: Annotated[str, typer.Option(help="A bundle's directory, or the name of a shipped one.")] = DEFAULT_POLICY,
    trace: Annotated[str, typer.Option(help="Channel trace: a file, or the name of one that ships.")] = DEFAULT_TRACE,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time EdgeRIC's adapter from telemetry to MCS overrides, in process, and over sockets in real time."""
    try:
        from distila.replay.edgeric_bench import bench_in_process, bench_over_sockets, ttis
    except ModuleNotFoundError as error:
        raise InputError(f"bench edgeric needs the package {error.name!r}: pip install 'distila[edgeric]'") from None
    bundle = load_bundle(policy)
    encoded = ttis(ChannelTrace.load(TRACES.find(trace)), ues, count)
    with progress_bar("stages", "TTIs") as progress:
        stages = bench_in_process(bundle, encoded, progress)
    with progress_bar("over sockets", "TTIs") as progress:
        sockets = bench_over_sockets(policy, encoded, tti_us, progress)
    if json:
        name = bundle.manifest.name
        _print_json(EdgericBench(ues=ues, ttis=count, tti_us=tti_us, policy=name, stages_us=stages, sockets=sockets))
        return
    rows = [_times(stage.replace("_", " "), times) for stage, times in stages.items()]
    rows.append(_times("round trip, another process", sockets.round_trip_us))
    print_table(f"EdgeRIC, {ues} UEs, policy {bundle.manifest.name}", ["stage [us]", "p50", "p99", "max"], rows)
    print(
        f"overrides at a TTI of {tti_us} us: in time {sockets.in_time:.2%}, too late {sockets.too_late:.2%},"
        f" unanswered {sockets.unanswered:.2%}"
    )


@app.command()
def rollout(
    ues: Annotated[int, typer.Option(min=1, max=2000, help="UEs in each indication.")] = 100,
    reports: Annotated[int, typer.Option(min=1000, help="Indications to time.")] = 5000,
    policy: Annotated[str, typer.Option(help="A bundle's directory, or the name of a shipped one.")] = DEFAULT_POLICY,
    challenger: Annotated[
        str | None,
        typer.Option(help="Policy of the challenger; default: OLLA with a target of 40 % first-transmission BLER."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time how much an A/B rollout slows the decision loop down: loops with and without one decide alternately."""
    other = load_bundle(challenger) if challenger else load_bundle(GREEDY)
    encoded = indications(ChannelTrace.load(bundled_trace()), ues, reports)
    with progress_bar("decisions", "indications") as progress:
        result = bench_rollout(load_bundle(policy), other, encoded, progress)
    if json:
        _print_json(RolloutBench(ues=ues, reports=reports, **dict(result)))
        return
    rows = [
        [
            name.replace("_", " "),
            *("" if value is None else f"{value:.1f}" for value in (cost.p50_us, cost.p99_us, cost.account_us)),
            *(f"{value:+.1f} %" for value in (cost.p50_over_plain_pct, cost.with_account_pct)),
        ]
        for name, cost in result
    ]
    columns = ["rollout", "p50 [us]", "p99", "account", "p50 over plain", "with account"]
    print_table(f"{ues} UEs, {reports} indications, run alternately", columns, rows)


@app.command()
def sim(
    links: Annotated[int, typer.Option(min=1, help="Links simulated at once.")] = 10_000,
    slots: Annotated[int, typer.Option(min=1, help="Slots in each round.")] = 640,
    seconds: Annotated[float, typer.Option(min=0, help="Shortest total duration [s].")] = 30,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Device to compute on.")] = "cpu",
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time the training simulator and Sionna's own OLLA loop, run alternately. Needs the extra `training`."""
    result: SimBench = _benchmark("sim")(links, slots, seconds, device, progress_bar)
    if json:
        print_json(result.model_dump(mode="json"))
        return
    rates = [
        (f"OLLA in the DU, a report each {result.report_period_slots} slots", result.ue_slots_per_s),
        ("the same, a report and an MCS each slot", result.every_slot_ue_slots_per_s),
        ("the link alone, an MCS held for 20 slots", result.bare_link_ue_slots_per_s),
        ("Sionna: OuterLoopLinkAdaptation and PHYAbstraction", result.sionna_ue_slots_per_s),
    ]
    if result.cuda is not None:
        rates.append((f"first row, on {result.cuda.name}", result.cuda.ue_slots_per_s))
    rows = [[what, f"{rate / 1e6:.2f}"] for what, rate in rates]
    title = f"{links} links on {device}, {result.threads} threads, {result.rounds} rounds"
    print_table(title, ["simulation", "million UE-slots/s"], rows)
    print(f"{result.ratio} times as fast as Sionna ({result.ratio_min} to {result.ratio_max} over the rounds)")


@app.command()
def harq(json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """Compare two rules of HARQ combining with measurements of a real LDPC decoder. Needs the extra `training`."""
    result: HarqBench = _benchmark("harq")()
    if json:
        print_json(result.model_dump(mode="json"))
        return
    groups: list[tuple[str, CombiningErrors]] = [
        ("all", result),
        *((f"{number} transmissions", errors) for number, errors in result.by_transmissions.items()),
        *result.by_group.items(),
    ]
    rows = [
        [
            name,
            str(errors.settings),
            *(f"{value:.2f}" for value in (errors.p95_error_db, errors.worst_error_db)),
            *(f"{value:.2f}" for value in (errors.ideal_p95_error_db, errors.ideal_worst_error_db)),
        ]
        for name, errors in groups
    ]
    columns = ["", "settings", "rule: p95 error", "worst", "ideal rule: p95 error", "worst"]
    print_table(
        f"SINR at 10 % block errors [dB]; rule fitted to {result.fitted_settings} other settings", columns, rows
    )


def _benchmark(name: str) -> Callable[..., Any]:
    """A benchmark of the offline tools, from the entry points ``distila.bench``.

    Raises:
        InputError: its packages are not installed.
    """
    found = entry_points(group="distila.bench", name=name)
    if not found:
        raise InputError(f"bench {name} is not part of this installation: {_INSTALL}")
    try:
        benchmark: Callable[..., Any] = next(iter(found)).load()
    except ModuleNotFoundError as error:
        raise InputError(f"bench {name} needs the package {error.name!r}: {_INSTALL}") from None
    return benchmark
