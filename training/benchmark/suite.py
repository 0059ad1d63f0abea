"""A whole benchmark: which episodes, their figures, the sweep over E2 periods, and the files that come out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

from distila.training.baselines.targets import target_key
from distila.training.benchmark.averages import FIVE, FIVE_GROUP
from distila.training.benchmark.comparison import BOOTSTRAP_SEED, TEXTBOOK_TARGET, Compared
from distila.training.benchmark.episode import Episode, EpisodePlan
from distila.training.benchmark.episode_pool import run_all
from distila.training.benchmark.figures import gain, used_links
from distila.training.benchmark.pages import write_pages
from distila.training.benchmark.png_charts import write_pngs
from distila.training.benchmark.policies import REFERENCE, PolicySpec, parse_policy
from distila.training.benchmark.results import (
    RESULTS_FILE,
    BenchmarkResults,
    BenchmarkSettings,
    E2Sweep,
    SweepPoint,
)
from distila.training.benchmark.sizes import Sizes
from distila.training.sim.distribution import Distribution
from distila.training.sim.scenario import Scenario, families, find_scenario
from distila.training.sim.split import Split
from distila.xapp.errors import InputError
from distila.xapp.files import check_writable, write_json
from distila.xapp.progress import Progress, no_progress

SWEEP_SCENARIO: Final = "slow_e2_10ms"
SWEEP_PERIODS_MS: Final = (0.5, 2.0, 10.0, 20.0, 50.0, 100.0)
QUICK_SWEEP_PERIODS_MS: Final = (0.5, 10.0, 100.0)
QUICK: Final = Sizes(links=96, duration_ms=1500, warmup_ms=200, bank_rows=48, bank_slots=2048)


@dataclass(frozen=True)
class Benchmark:
    """Which policies a benchmark compares, in which scenarios, and how large its runs are.

    `Benchmark.named` makes one from names, as the command line does.

    Attributes:
        policies: what is compared; the reference, OLLA, is added where it is missing.
        scenarios: in which each policy runs.
        sizes: links and simulated time [ms] of a run, and the fading banks.
        seeds: of the random draws; each is a run of every policy in every scenario, with draws common to all policies.
        split: random streams to draw from, validation or test; both are apart from those of training.
        targets: first-transmission BLERs, 0.1 for 10 %, at each of which the policies that take a target run, and are
            compared with OLLA of that target; empty: none.
        globally_tuned: whether to compare with OLLA tuned for goodput, too, whatever BLER that takes, every baseline
            with settings tuned likewise; where there are no targets it is done anyway.
        sweep_periods_ms: E2 periods [ms] at which policies in the xApp are compared; empty: no sweep.
        e2_period_ms: E2 period [ms] of all scenarios, but not of the sweep; None: each scenario's own.
        e2_delay_ms: delay [ms] from a report until its decisions take effect, likewise.
        quick: whether the sizes are small; stands in the results.
        cache: directory of fading banks; None: the default one.
        device: on which networks run, ``cpu`` or ``cuda``.
    """

    policies: tuple[PolicySpec, ...]
    scenarios: tuple[Scenario, ...]
    sizes: Sizes = field(default_factory=Sizes)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    split: Split = Split.TEST
    targets: tuple[float, ...] = (TEXTBOOK_TARGET,)
    globally_tuned: bool = True
    sweep_periods_ms: tuple[float, ...] = SWEEP_PERIODS_MS
    e2_period_ms: float | None = None
    e2_delay_ms: float | None = None
    quick: bool = False
    cache: Path | None = None
    device: str = "cpu"

    @classmethod
    def named(
        cls,
        policies: Sequence[str],
        scenarios: Sequence[str],
        quick: bool = False,
        targets: Sequence[float] = (TEXTBOOK_TARGET,),
    ) -> "Benchmark":
        """What the command line runs for these names.

        Args:
            policies: as `distila benchmark --policies` takes them: baselines, bundles, networks.
            scenarios: families or YAML files; or one group: ``all``, ``seen``, ``unseen``, ``five``.
            quick: few links, one seed, three E2 periods in the sweep; else the full size.
            targets: BLER targets, 0.1 for 10 %. With several there is no sweep over E2 periods.

        Raises:
            InputError: a name is unknown.
        """
        return cls(
            policies=tuple(parse_policy(name) for name in policies),
            scenarios=named_scenarios(scenarios),
            sizes=QUICK if quick else Sizes(),
            seeds=(0,) if quick else (0, 1, 2, 3, 4),
            targets=tuple(targets),
            sweep_periods_ms=() if len(targets) > 1 else QUICK_SWEEP_PERIODS_MS if quick else SWEEP_PERIODS_MS,
            quick=quick,
        )


def named_scenarios(names: Sequence[str]) -> tuple[Scenario, ...]:
    """Scenarios by name or file, or those of one group: ``all``, ``seen``, ``unseen``, ``five``.

    Raises:
        InputError: a name is unknown, or two scenarios have the same name.
    """
    groups = {"all": (False, True), "seen": (False,), "unseen": (True,)}
    if len(names) == 1 and names[0] in groups:
        return tuple(scenario for scenario in families().values() if scenario.unseen in groups[names[0]])
    if list(names) == [FIVE_GROUP]:
        return tuple(families()[name] for name in FIVE)
    found = tuple(find_scenario(name) for name in names)
    if len({scenario.name for scenario in found}) < len(found):
        raise InputError(f"--scenarios {','.join(names)}: two of them have the same name")
    return found


def run_benchmark(
    benchmark: Benchmark,
    out: str | Path,
    jobs: int = 1,
    on_bank: Progress = no_progress,
    on_episode: Progress = no_progress,
) -> BenchmarkResults:
    """Run the benchmark and write ``results.json``, the pages and the charts into ``out``.

    Episodes that ``out`` already holds are not run again.

    Args:
        benchmark: what to run; `Benchmark.named` makes one from names.
        out: directory.
        jobs: number of processes.
        on_bank, on_episode: called with fading banks, and episodes, that are done and all of them.

    Raises:
        InputError: ``out`` cannot be written to; or see `with_e2_timing` and
            `distila.training.benchmark.episode_pool.run_all`.
    """
    out = Path(out)
    check_writable(out)
    scenarios = [with_e2_timing(each, benchmark.e2_period_ms, benchmark.e2_delay_ms) for each in benchmark.scenarios]
    compared = Compared.of(benchmark.policies, benchmark.targets, benchmark.globally_tuned or not benchmark.targets)
    plans = {
        (scenario.name, spec): [_plan(benchmark, scenario, spec, seed) for seed in benchmark.seeds]
        for scenario in scenarios
        for spec in compared.specs
    }
    sweep = _sweep_plans(benchmark, [policy for policy in benchmark.policies if policy.seat == "xapp"])
    every = [plan for group in (*plans.values(), *sweep.values()) for plan in group]
    results = dict(zip(every, run_all(every, out / "episodes", jobs, on_bank, on_episode), strict=True))

    def episodes(group: list[EpisodePlan]) -> list[Episode]:
        return [results[plan] for plan in group]

    at_targets, tuned = compared.results(scenarios, lambda scenario, spec: episodes(plans[scenario.name, spec]))
    summary = BenchmarkResults(
        distila=version("distila"),
        quick=benchmark.quick,
        settings=BenchmarkSettings(
            **benchmark.sizes.model_dump(),
            targets_pct=tuple(round(100 * target, 6) for target in at_targets),
            seeds=benchmark.seeds,
            split="validation" if benchmark.split is Split.VALIDATION else "test",
            reference=REFERENCE,
            device=benchmark.device,
            e2_period_ms=benchmark.e2_period_ms,
            e2_delay_ms=benchmark.e2_delay_ms,
        ),
        targets={target_key(target): comparison for target, comparison in at_targets.items()},
        globally_tuned=tuned,
        e2_sweep=_sweep_figures(benchmark, sweep, episodes),
    )
    write_json(out / RESULTS_FILE, summary)
    write_reports(out, summary)
    return summary


def write_reports(out: Path, results: BenchmarkResults) -> None:
    """Write ``report.html``, ``global.html`` and the charts into ``out``."""
    write_pages(out, results)
    write_pngs(out, results)


def with_e2_timing(scenario: Scenario, period_ms: float | None, delay_ms: float | None) -> Scenario:
    """The scenario with another E2 period and delay [ms], rounded to slots; at least one slot of period.

    Args:
        scenario: what to change; its name stays.
        period_ms, delay_ms: None: the scenario's own.

    Raises:
        InputError: its channels differ in the duration of a slot.
    """
    slots_us = sorted({channel.slot_us for channel in scenario.channels})
    changes = {}
    for name, value_ms, least in (("period_slots", period_ms, 1), ("delay_slots", delay_ms, 0)):
        if value_ms is None:
            continue
        if len(slots_us) > 1:
            durations = " and ".join(f"{slot_us:g}" for slot_us in slots_us)
            raise InputError(
                f"scenario {scenario.name}: with slots of {durations} us no E2 timing in ms fits all links"
            )
        slots = max(least, round(value_ms * 1e3 / slots_us[0]))
        changes[name] = Distribution(kind="constant", values=(slots,))
    return scenario.model_copy(update={"e2": scenario.e2.model_copy(update=changes)})


def _plan(benchmark: Benchmark, scenario: Scenario, policy: PolicySpec, seed: int) -> EpisodePlan:
    return EpisodePlan(scenario, policy, benchmark.split, seed, benchmark.sizes, benchmark.cache, benchmark.device)


def _sweep_plans(benchmark: Benchmark, policies: list[PolicySpec]) -> dict[tuple[str, float], list[EpisodePlan]]:
    if not policies:
        return {}
    base = find_scenario(SWEEP_SCENARIO)
    plans = {}
    for period_ms in benchmark.sweep_periods_ms:
        scenario = with_e2_timing(base, period_ms, None)
        for policy in (parse_policy(REFERENCE), *policies):
            plans[policy.name, period_ms] = [_plan(benchmark, scenario, policy, seed) for seed in benchmark.seeds]
    return plans


def _sweep_figures(
    benchmark: Benchmark,
    plans: dict[tuple[str, float], list[EpisodePlan]],
    episodes: Callable[[list[EpisodePlan]], list[Episode]],
) -> E2Sweep | None:
    if not plans:
        return None
    found: dict[str, list[SweepPoint]] = {}
    for (policy, period_ms), group in plans.items():
        if policy == REFERENCE:
            continue
        reference, ours = episodes(plans[REFERENCE, period_ms]), episodes(group)
        first = ours[0]
        estimate = gain(ours, reference, used_links([ours, reference]), BOOTSTRAP_SEED)
        point = SweepPoint(
            period_ms=period_ms,
            delay_ms=first.delay_slots * first.slot_us / 1e3,
            mean=estimate.mean,
            ci95=estimate.ci95,
        )
        found.setdefault(policy, []).append(point)
    return E2Sweep(scenario=SWEEP_SCENARIO, policies={name: tuple(points) for name, points in found.items()})
