"""`distila bench`: measure on this machine what the documentation claims."""

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from distila.replay.bench import bench_in_process, bench_over_grpc, bench_replay, bench_rollout, indications
from distila.replay.rollouts.simulation import GREEDY
from distila.replay.trace import ChannelTrace, bundled_trace
from distila.xapp.commands.terminal import print_json, print_table, progress_bar
from distila.xapp.errors import InputError
from distila.xapp.policy.bundle import DEFAULT_POLICY, load_bundle, resolve_bundle

app = typer.Typer(help="Measure on this machine: the decision loop, replay, and simulation.", no_args_is_help=True)

_INSTALL: Final = "pip install 'distila[training]'"


@app.command()
def loop(
    ues: Annotated[int, typer.Option(min=1, max=2000, help="UEs in each indication.")] = 100,
    reports: Annotated[int, typer.Option(min=1000, help="Indications to time.")] = 10_000,
    policy: Annotated[str, typer.Option(help="A bundle's directory, or the name of a shipped one.")] = DEFAULT_POLICY,
    transport: Annotated[
        Literal["inproc", "grpc", "rmr"], typer.Option(help="In process, or round trip over gRPC or RMR.")
    ] = "inproc",
    e2ap: Annotated[bool, typer.Option("--e2ap", help="With E2AP around the service model, in process.")] = False,
    trace: Annotated[
        Path | None, typer.Option(help="Channel trace to take reports from; default: the bundled one.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time the decision loop from indication bytes to control bytes."""
    bundle = resolve_bundle(policy)
    if e2ap and transport != "inproc":
        raise InputError("--e2ap is for --transport inproc: over gRPC there is none, over RMR there always is")
    encoded = indications(ChannelTrace.load(trace or bundled_trace()), ues, reports)
    with progress_bar("decisions", "indications") as progress:
        if transport == "inproc":
            result = bench_in_process(bundle, encoded, progress, e2ap)
        elif transport == "grpc":
            result = bench_over_grpc(policy, encoded, progress)
        else:
            result = _over_rmr(policy, encoded, progress)
    facts = {"ues": ues, "reports": reports, "policy": bundle.manifest.name, "transport": transport, "e2ap": e2ap}
    result = {**facts, **result}
    if json:
        print_json(result)
        return
    rows = [
        [stage, *(f"{times[key]:.1f}" if times[key] is not None else "" for key in ("p50", "p99", "max"))]
        for stage, times in result["stages_us"].items()
    ]
    rows.append(["bytes to bytes" if transport == "inproc" else "round trip"])
    rows[-1] += [f"{result[key]:.1f}" for key in ("p50_us", "p99_us", "max_us")]
    for label, key in (
        ("pycrate alone would decode in", "pycrate_decode_us"),
        ("an RMR health check takes", "rmr_health_check_us"),
        ("round trip every 10 ms", "paced"),
        ("the same, while policies are swapped", "hot_swap"),
    ):
        if key in result:
            rows.append([label, *(f"{result[key][figure]:.1f}" for figure in ("p50", "p99", "max"))])
    title = f"{ues} UEs, {reports} indications, policy {bundle.manifest.name}, {transport}{' with E2AP' * e2ap}"
    print_table(title, ["stage [us]", "p50", "p99", "max"], rows)
    if "burst" in result:
        burst = result["burst"]
        print(
            f"burst of {burst['sent']} at {burst['sent_per_s']}/s: {burst['answered']} answered, the newest"
            f" {burst['newest_answered_after_us']} us after the last was sent; dropped: {result['dropped']}"
        )
    print(f"{result['ue_decisions_per_s']} UE decisions/s")


def _over_rmr(policy: str, encoded: list[tuple[bytes, bytes]], progress: Callable[[int, int], None]) -> dict[str, Any]:
    try:
        from distila.replay.ric.bench import bench_over_rmr
    except ModuleNotFoundError as error:
        raise InputError(f"--transport rmr needs the package {error.name!r}: pip install 'distila[ric]'") from None
    return bench_over_rmr(policy, encoded, progress)


@app.command()
def replay(
    ues: Annotated[int, typer.Option(min=1, max=2000, help="UEs in the cell.")] = 100,
    slots: Annotated[int, typer.Option(min=100, help="Slots to replay.")] = 3000,
    policy: Annotated[str, typer.Option(help="A bundle's directory, or the name of a shipped one.")] = DEFAULT_POLICY,
    trace: Annotated[Path | None, typer.Option(help="Channel trace; default: the bundled one.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time a closed-loop replay in process with a decision every slot."""
    bundle = resolve_bundle(policy)
    channel = ChannelTrace.load(trace or bundled_trace())
    with progress_bar("replay", "slots") as progress:
        result = bench_replay(bundle, channel, ues, slots, progress)
    if json:
        print_json({"ues": ues, "slots": slots, "policy": bundle.manifest.name, **result})
        return
    rows = [
        [name, str(result[key]["ue_slots_per_s"]), f"{result[key]['elapsed_s']:.2f}"]
        for name, key in (("with the xApp in process", "policy"), ("DU alone", "du_alone"))
    ]
    print_table(f"{ues} UEs, {slots} slots, a decision every slot", ["replay", "UE-slots/s", "seconds"], rows)


@app.command()
def edgeric(
    ues: Annotated[int, typer.Option(min=1, max=500, help="UEs in the cell.")] = 16,
    count: Annotated[int, typer.Option("--ttis", min=1000, help="TTIs to time.")] = 5000,
    tti_us: Annotated[int, typer.Option(min=125, help="Length of a TTI, for the run over sockets.")] = 1000,
    policy: Annotated[str, typer.Option(help="A bundle's directory, or the name of a shipped one.")] = DEFAULT_POLICY,
    trace: Annotated[Path | None, typer.Option(help="Channel trace; default: the bundled one.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time the way from EdgeRIC's telemetry to its MCS overrides, and keep up with a gNB's TTIs over sockets."""
    try:
        from distila.replay.edgeric_bench import bench_in_process, bench_over_sockets, ttis
    except ModuleNotFoundError as error:
        raise InputError(f"bench edgeric needs the package {error.name!r}: pip install 'distila[edgeric]'") from None
    bundle = resolve_bundle(policy)
    encoded = ttis(ChannelTrace.load(trace or bundled_trace()), ues, count)
    with progress_bar("stages", "TTIs") as progress:
        stages = bench_in_process(bundle, encoded, progress)
    with progress_bar("over sockets", "TTIs") as progress:
        sockets = bench_over_sockets(policy, encoded, tti_us, progress)
    if json:
        facts = {"ues": ues, "ttis": count, "tti_us": tti_us, "policy": bundle.manifest.name}
        print_json({**facts, "stages_us": stages, "sockets": sockets})
        return
    rows = [
        [stage, *(f"{times[key]:.1f}" if times[key] is not None else "" for key in ("p50", "p99", "max"))]
        for stage, times in {**stages, "round trip, another process": sockets["round_trip_us"]}.items()
    ]
    print_table(f"EdgeRIC, {ues} UEs, policy {bundle.manifest.name}", ["stage [us]", "p50", "p99", "max"], rows)
    shares = ", ".join(
        f"{name.replace('_', ' ')} {sockets[name]:.2%}" for name in ("in_time", "too_late", "unanswered")
    )
    print(f"overrides at a TTI of {tti_us} us: {shares}")


@app.command()
def rollout(
    ues: Annotated[int, typer.Option(min=1, max=2000, help="UEs in each indication.")] = 100,
    reports: Annotated[int, typer.Option(min=1000, help="Indications to time.")] = 5000,
    policy: Annotated[str, typer.Option(help="A bundle's directory, or the name of a shipped one.")] = DEFAULT_POLICY,
    challenger: Annotated[str | None, typer.Option(help="Another bundle; default: a greedy OLLA.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time what an A/B rollout adds to the decision loop, in turns with the loop without one."""
    other = resolve_bundle(challenger) if challenger else load_bundle(GREEDY)
    encoded = indications(ChannelTrace.load(bundled_trace()), ues, reports)
    with progress_bar("decisions", "indications") as progress:
        result = bench_rollout(resolve_bundle(policy), other, encoded, progress)
    if json:
        print_json({"ues": ues, "reports": reports, **result})
        return
    rows = [
        [
            name.replace("_", " "),
            *(f"{figures[key]:.1f}" for key in ("p50_us", "p99_us", "account_us")),
            *(f"{figures[key]:+.1f} %" for key in ("p50_over_plain_pct", "with_account_pct")),
        ]
        for name, figures in result.items()
    ]
    columns = ["rollout", "p50 [us]", "p99", "account", "p50 over plain", "with account"]
    print_table(f"{ues} UEs, {reports} indications, in turns", columns, rows)


@app.command()
def sim(
    links: Annotated[int, typer.Option(min=1, help="Links simulated at once.")] = 10_000,
    slots: Annotated[int, typer.Option(min=1, help="Slots in each round.")] = 640,
    seconds: Annotated[float, typer.Option(min=0, help="How long rounds go on; there are at least three.")] = 30,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to compute.")] = "cpu",
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time the training simulator and Sionna's own OLLA loop, in turns. Needs the extra `training`."""
    result = _benchmark("sim")(links, slots, seconds, device, progress_bar)
    if json:
        print_json(result)
        return
    rows = [
        [what, f"{result[f'{key}ue_slots_per_s'] / 1e6:.2f}"]
        for what, key in (
            (f"OLLA in the DU, a report each {result['report_period_slots']} slots", ""),
            ("the same, a report and an MCS each slot", "every_slot_"),
            ("the link alone, an MCS held for 20 slots", "bare_link_"),
            ("Sionna: OuterLoopLinkAdaptation and PHYAbstraction", "sionna_"),
        )
    ]
    if result["cuda"] is not None:
        rows.append([f"first row, on {result['cuda']['name']}", f"{result['cuda']['ue_slots_per_s'] / 1e6:.2f}"])
    title = f"{links} links on {device}, {result['threads']} threads, {result['rounds']} rounds"
    print_table(title, ["simulation", "million UE-slots/s"], rows)
    print(f"{result['ratio']} times as fast as Sionna ({result['ratio_min']} to {result['ratio_max']} over the rounds)")


def _benchmark(name: str) -> Callable[..., dict[str, Any]]:
    """A benchmark of the offline workshop, out of the entry points ``distila.bench``.

    Raises:
        InputError: its packages are not installed.
    """
    found = entry_points(group="distila.bench", name=name)
    if not found:
        raise InputError(f"bench {name} is not part of this installation: {_INSTALL}")
    try:
        benchmark: Callable[..., dict[str, Any]] = next(iter(found)).load()
    except ModuleNotFoundError as error:
        raise InputError(f"bench {name} needs the package {error.name!r}: {_INSTALL}") from None
    return benchmark
