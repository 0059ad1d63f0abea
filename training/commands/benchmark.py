"""`distila benchmark`: policies against each other over scenario families, paired, with intervals."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from distila.replay.page.verdict import Difference
from distila.training.baselines.targets import read_target
from distila.training.benchmark.averages import distinct
from distila.training.benchmark.episode_pool import known_device
from distila.training.benchmark.pages import PAGE_FILE
from distila.training.benchmark.policies import parse_policy
from distila.training.benchmark.results import RESULTS_FILE, BenchmarkResults, GroupAverages
from distila.training.benchmark.sizes import Sizes
from distila.training.benchmark.suite import (
    QUICK,
    QUICK_SWEEP_PERIODS_MS,
    SWEEP_PERIODS_MS,
    Benchmark,
    named_scenarios,
    run_benchmark,
    write_reports,
)
from distila.training.benchmark.tune import TUNABLE, TUNABLE_AT_TARGETS, TuningRun, tune, tune_at_targets
from distila.training.benchmark.tuned_file import TUNED_FILE
from distila.training.benchmark.verdict import caveats, counts, decided_text, verdicts
from distila.training.benchmark.view import BenchmarkView
from distila.training.sim.split import Split
from distila.xapp.commands import SUMMARIES
from distila.xapp.commands.application import application
from distila.xapp.commands.terminal import print_json, print_table, progress_bar, stderr, stdout
from distila.xapp.errors import InputError
from distila.xapp.policy.benchmark_figures import group_title
from distila.xapp.progress import Progress
from distila.xapp.result_file import Estimate, read_result

app = application(SUMMARIES["benchmark"].text)


@app.callback(invoke_without_command=True)
def benchmark(
    context: typer.Context,
    policies: Annotated[
        str,
        typer.Option(
            help="Comma-separated name[:variant][@seat]: baselines; bundles by name or directory; networks by name,"
            " file or directory of a training. `olla` is the baseline in dB, `bundle:olla` the bundle of that name."
        ),
    ] = "illa,olla,srsran-olla,bler-window,salad,thompson,genie,genie-target,olla@xapp",
    targets: Annotated[
        str,
        typer.Option(
            help="Comma-separated BLER targets [%]: each policy that takes one runs at every target, and is compared"
            " with OLLA of that target. With several, no sweep over E2 periods unless asked for."
        ),
    ] = "10",
    scenarios: Annotated[
        str, typer.Option(help="Comma-separated families or YAML files; `all`, `seen`, `unseen`, `five`.")
    ] = "all",
    out: Annotated[Path, typer.Option(help="Directory for results.json, report.html, charts and episodes.")] = Path(
        "out/benchmark"
    ),
    quick: Annotated[
        bool, typer.Option(help="Run few links for a short time with one seed: minutes instead of hours.")
    ] = False,
    links: Annotated[int | None, typer.Option(min=8, help="Links per scenario and seed.")] = None,
    duration_ms: Annotated[
        float | None,
        typer.Option(
            help=f"Simulated time per run [ms], with the warm-up: more than {Sizes().warmup_ms:g}, with --quick"
            f" more than {QUICK.warmup_ms:g}."
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds.")] = None,
    split: Annotated[
        Literal["test", "validation"], typer.Option(help="Split that the seeds, channels and random draws come from.")
    ] = "test",
    e2_period_ms: Annotated[
        float | None, typer.Option(help="E2 period of all scenarios instead of their own [ms]; at least a slot.")
    ] = None,
    e2_delay_ms: Annotated[
        float | None, typer.Option(help="Delay from E2 report to effect in all scenarios, instead of their own [ms].")
    ] = None,
    tuned: Annotated[
        bool,
        typer.Option(help="Also compare with OLLA tuned for goodput, at whatever BLER: the second page, global.html."),
    ] = True,
    sweep: Annotated[
        bool | None,
        typer.Option(
            help="Measure the gain of the policies in the xApp against the E2 period; default: if one target."
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Number of processes; default: one per core.")] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Device that the simulation runs on.")] = "cpu",
    cache: Annotated[Path | None, typer.Option(help="Directory of fading banks; default: the user's cache.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print results.json instead of a table.")] = False,
) -> None:
    """Run policies over scenario families with common random numbers; an interrupted run continues.

    Every policy meets the same channels, traffic and random draws, so the gains are paired.
    """
    if context.invoked_subcommand is not None:
        return
    sizes = QUICK if quick else Sizes()
    if duration_ms is not None and not sizes.warmup_ms < duration_ms < math.inf:
        raise InputError(
            f"--duration-ms {duration_ms:g}: must be more than {sizes.warmup_ms:g}, because the first"
            f" {sizes.warmup_ms:g} ms are warm-up"
        )
    duration_ms = sizes.duration_ms if duration_ms is None else duration_ms
    sizes = sizes.model_copy(update={"links": links or sizes.links, "duration_ms": duration_ms})
    _check_timing(sizes, {"--e2-period-ms": e2_period_ms, "--e2-delay-ms": e2_delay_ms})
    periods: tuple[float, ...] = QUICK_SWEEP_PERIODS_MS if quick else SWEEP_PERIODS_MS
    blers = tuple(read_target(text, f"--targets {targets}") for text in _names("--targets", targets))
    plan = Benchmark(
        policies=tuple(parse_policy(name) for name in _names("--policies", policies)),
        scenarios=named_scenarios(_names("--scenarios", scenarios)),
        sizes=sizes,
        seeds=tuple(range(seeds or (1 if quick else 5))),
        split=Split[split.upper()],
        targets=blers,
        globally_tuned=tuned,
        sweep_periods_ms=periods if sweep or (sweep is None and len(blers) == 1) else (),
        e2_period_ms=e2_period_ms,
        e2_delay_ms=e2_delay_ms,
        quick=quick,
        cache=cache,
        device=known_device(device),
    )
    with _progress() as (on_bank, on_episode):
        on_episode = _saying_what_is_reused(on_episode, out)
        results = run_benchmark(
            plan, out, jobs or (1 if device == "cuda" else os.cpu_count() or 1), on_bank, on_episode
        )
    _show(results, out, json)


@app.command("report")
def report(
    out: Annotated[Path, typer.Option(help=f"Directory with the {RESULTS_FILE} of a benchmark.")] = Path(
        "out/benchmark"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print results.json instead of a table.")] = False,
) -> None:
    """Write the page and the charts of a benchmark again, from its results.json."""
    results = read_result(BenchmarkResults, out / RESULTS_FILE)
    write_reports(out, results)
    _show(results, out, json)


@app.command("tune")
def tune_baselines(
    policies: Annotated[
        str | None, typer.Option(help="Baselines to tune, comma-separated; default: all that have something to tune.")
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            help="BLER targets [%], comma-separated, such as 1,5,10,20,30: find the settings that hold each of them"
            " instead of those that are best for goodput at any BLER."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for tuned.yaml and episodes.")] = Path("out/tune"),
    links: Annotated[int, typer.Option(min=8, help="Links per scenario.")] = 96,
    duration_ms: Annotated[float, typer.Option(min=300, help="Simulated time per run [ms].")] = 2000,
    jobs: Annotated[int | None, typer.Option(min=1, help="Number of processes; default: one per core.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Directory of fading banks; default: the user's cache.")] = None,
) -> None:
    """Find the baselines' best settings on validation seeds, per seen family and over all of them, or at BLER targets.

    The result is tuned.yaml: the settings in use, with those that were tuned in their place.
    """
    tunable = TUNABLE if targets is None else TUNABLE_AT_TARGETS
    names = list(tunable) if policies is None else _names("--policies", policies)
    for name in names:
        if name not in tunable:
            reason = "has nothing to tune" if targets is None else "has nothing to tune at a BLER target"
            raise InputError(f"--policies {name}: {reason}; there are {', '.join(tunable)}")
    sizes = QUICK.model_copy(update={"links": links, "duration_ms": duration_ms})
    wanted = [] if targets is None else [read_target(text, "--targets") for text in _names("--targets", targets)]
    with _progress() as (on_bank, on_episode):
        run = TuningRun(sizes, out, jobs or os.cpu_count() or 1, cache, on_bank, on_episode)
        found = tune(names, run) if targets is None else tune_at_targets(names, wanted, run)
    if targets is None:
        rows = [[name, str(found.policies[name].overall)] for name in names]
        print_table("best over all seen families", ["policy", "settings"], rows)
    else:
        rows = []
        for name in names:
            at = found.policies[name].targets
            for key, best in at.by_target.items() if at else ():
                rows.append([name, key, f"{100 * best.reached_bler:.1f}", str(best.settings)])
        columns = ["policy", "target [%]", "BLER reached [%]", "settings"]
        print_table("best over all seen families at each target", columns, rows)
    stdout.print(f"written: {out / TUNED_FILE.name}", soft_wrap=True)


def _names(option: str, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{option} {text}: {twice} is named twice")
    if not names:
        raise InputError(f"{option} {text!r}: expected at least one name")
    return names


def _check_timing(sizes: Sizes, given_ms: dict[str, float | None]) -> None:
    counted_ms = sizes.duration_ms - sizes.warmup_ms
    for option, value_ms in given_ms.items():
        if value_ms is None:
            continue
        if not math.isfinite(value_ms) or value_ms < 0:
            raise InputError(f"{option} {value_ms:g}: must be a time, 0 or more")
        if value_ms > counted_ms:
            raise InputError(f"{option} {value_ms:g}: a run lasts only {counted_ms:g} ms after its warm-up")


@contextmanager
def _progress() -> Iterator[tuple[Progress, Progress]]:
    with progress_bar("fading banks", "banks") as on_bank, progress_bar("episodes", "runs") as on_episode:
        yield on_bank, on_episode


def _saying_what_is_reused(on_episode: Progress, out: Path) -> Progress:
    """The same progress; its first call, before any episode runs, says on stderr how many are there already."""
    begun = False

    def update(done: int, total: int) -> None:
        nonlocal begun
        if done and not begun:
            stderr.print(f"{done} of {total} episodes reused from {out / 'episodes'}", soft_wrap=True)
        begun = True
        on_episode(done, total)

    return update


def _show(results: BenchmarkResults, out: Path, json: bool) -> None:
    if json:
        print_json(results.model_dump(mode="json"))
        return
    bench = BenchmarkView.headline(results)
    others = [target for target in results.targets if target != bench.target]
    if others:
        stdout.print(
            f"tables: target {bench.target} %; those of {', '.join(others)} % are in {PAGE_FILE} and {RESULTS_FILE}"
        )
    for name in bench.families:
        _print_family(bench, name)
    at = "" if bench.target is None else " at equal BLER"
    stdout.print(
        f"goodput [bit/s/Hz]; gain over olla{at} with its 95 % interval, ! where it is bought with a higher BLER; BLER:"
        " first-transmission BLER; delay: 95th percentile of block delay; resid.: residual BLER, + where it is"
        " significantly above olla's, - where below; +/!/-: families in which the gain is significant, bought with"
        " BLER, significantly negative"
    )
    for name, group in distinct(bench.averages).items():
        _print_group(bench, name, group)
    for line in verdicts(bench):
        stdout.print(f"{line.label}: {line.text}")
    for sentence in caveats(results, bench):
        stdout.print(sentence)
    stdout.print(f"report: {out / PAGE_FILE}", soft_wrap=True)


def _print_family(bench: BenchmarkView, name: str) -> None:
    family = bench.families[name]
    # Only columns that have figures, so that the table fits a narrow terminal.
    genie = any(figures.genie_share_pct is not None for figures in family.policies.values())
    columns = ["", "goodput", "gain [%]", "BLER [%]", "delay [ms]", "resid.", *(["genie %"] if genie else [])]
    rows = []
    for policy, figures in family.policies.items():
        delay_ms = None if figures.block_delay_ms is None else figures.block_delay_ms.p95
        row = [
            policy,
            _text(figures.goodput, "{:.2f}"),
            "decided nothing" if name in bench.undecided(policy) else _gain(bench, name, policy),
            _percent(figures.first_tx_bler),
            _text(delay_ms, "{:.1f}"),
            _residual(figures.residual_bler, figures.residual_vs_olla),
        ]
        rows.append([*row, *([_text(figures.genie_share_pct, "{:.0f}")] if genie else [])])
    unseen = ", unseen in training" if family.unseen else ""
    timing = f"E2 period {_text(family.e2_period_ms, '{:g}')} ms, delay {_text(family.e2_delay_ms, '{:g}')} ms"
    target = "" if bench.target is None else f", target {bench.target} %"
    print_table(f"{name}{unseen}: {family.links} links, {timing}{target}", columns, rows)


def _print_group(bench: BenchmarkView, name: str, group: GroupAverages) -> None:
    """Means over a group of families: the headline, a line for each policy."""
    at = "" if bench.target is None else f", target {bench.target} %"
    columns = ["", "gain [%]", "+/!/-", "BLER [%]", "delay [ms]", "resid."]
    rows = []
    for policy in bench.policies:
        count, means = counts(bench, policy, group.families), group.figures[policy]
        rows.append(
            [
                policy,
                _interval(bench.mean_gain(group, policy)),
                f"{count['better']}/{count['bought-with-bler']}/{count['worse']}",
                _percent(means.first_tx_bler),
                _text(means.block_delay_p95_ms, "{:.1f}"),
                _text(means.residual_bler, "{:.0e}"),
            ]
        )
    gain = "mean gain" if bench.target is None else "mean gain at equal BLER"
    print_table(f"{gain}, {group_title(name)} ({len(group.families)}){at}", columns, rows)
    for policy, means in group.figures.items():
        if not means.decided_in:
            stdout.print(f"{policy} decided nothing in any of them")
        elif means.decided_in < len(group.families):
            stdout.print(f"means of {policy}: over {decided_text(means.decided_in)}")


def _residual(residual_bler: float | None, difference: Estimate) -> str:
    low, high = difference.ci95
    sign = "+" if low is not None and low > 0 else "-" if high is not None and high < 0 else " "
    return f"{_text(residual_bler, '{:.0e}')}{sign}"


def _gain(bench: BenchmarkView, family: str, policy: str) -> str:
    bought = " !" if bench.kind(family, policy) == "bought-with-bler" else ""
    return f"{_interval(bench.gain(family, policy))}{bought}"


def _interval(gain: Difference) -> str:
    if math.isnan(gain.mean):
        return "-"
    mean = f"{gain.mean:+.1f}"
    return mean if math.isnan(gain.low) or math.isnan(gain.high) else f"{mean} ({gain.low:+.1f}, {gain.high:+.1f})"


def _percent(share: float | None) -> str:
    return _text(None if share is None else 100 * share, "{:.1f}")


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
