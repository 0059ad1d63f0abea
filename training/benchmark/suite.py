"""A whole benchmark: which episodes, their figures, the sweep over E2 periods, and the files that come out."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from replay.atomic_file import check_writable, replacing
from training.benchmark.episode import Episode, EpisodePlan, Sizes
from training.benchmark.policies import REFERENCE, PolicySpec, parse_policy
from training.benchmark.report import write_pngs, write_report
from training.benchmark.results import add_genie_share, benchmark_results, gain, policy_figures, used_links
from training.benchmark.runner import Progress, run_all
from training.sim.distribution import Distribution
from training.sim.scenario import Scenario, find_scenario
from training.sim.split import Split

SWEEP_SCENARIO: Final = "slow_e2_10ms"
SWEEP_PERIODS_MS: Final = (0.5, 2.0, 10.0, 20.0, 50.0, 100.0)
QUICK_SWEEP_PERIODS_MS: Final = (0.5, 10.0, 100.0)
QUICK: Final = Sizes(links=96, duration_ms=1500, warmup_ms=200, bank_rows=48, bank_slots=2048)

_BOOTSTRAP_SEED: Final = 20251


@dataclass(frozen=True)
class Benchmark:
    """What to run."""

    policies: tuple[PolicySpec, ...]
    scenarios: tuple[Scenario, ...]
    sizes: Sizes = field(default_factory=Sizes)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    split: Split = Split.TEST
    sweep_periods_ms: tuple[float, ...] = SWEEP_PERIODS_MS
    """E2 periods at which policies in the xApp are compared; empty: no sweep"""
    quick: bool = False
    cache: Path | None = None
    device: str = "cpu"


def run_benchmark(
    benchmark: Benchmark, out: Path, jobs: int, on_bank: Progress, on_episode: Progress
) -> dict[str, Any]:
    """Run it, or what is missing of it, and write ``results.json``, ``report.html`` and the charts into ``out``.

    Raises:
        InputError: ``out`` cannot be written to; or see `training.benchmark.runner.run_all`.
    """
    check_writable(out)
    policies = benchmark.policies
    if all(policy.name != REFERENCE for policy in policies):
        policies = (parse_policy(REFERENCE), *policies)
    plans = {
        (scenario.name, policy.name): [_plan(benchmark, scenario, policy, seed) for seed in benchmark.seeds]
        for scenario in benchmark.scenarios
        for policy in policies
    }
    sweep = _sweep_plans(benchmark, [policy for policy in policies if policy.seat == "xapp"])
    every = [plan for group in (*plans.values(), *sweep.values()) for plan in group]
    results = dict(zip(every, run_all(every, out / "episodes", jobs, on_bank, on_episode), strict=True))

    def episodes(group: list[EpisodePlan]) -> list[Episode]:
        return [results[plan] for plan in group]

    families = {}
    for scenario in benchmark.scenarios:
        reference = episodes(plans[scenario.name, REFERENCE])
        used = used_links(episodes(plans[scenario.name, policy.name]) for policy in policies)
        figures = {
            policy.name: {
                "base": policy.base,
                "seat": policy.seat,
                "settings": policy.settings(scenario.name),
                **policy_figures(episodes(plans[scenario.name, policy.name]), reference, used, _BOOTSTRAP_SEED),
            }
            for policy in policies
        }
        add_genie_share(figures)
        families[scenario.name] = {**_facts(scenario, reference), "policies": figures}
    summary = benchmark_results(
        benchmark.quick,
        {
            **asdict(benchmark.sizes),
            "seeds": list(benchmark.seeds),
            "split": benchmark.split.name.lower(),
            "reference": REFERENCE,
            "device": benchmark.device,
        },
        families,
        _sweep_figures(benchmark, sweep, episodes),
    )
    with replacing(out / "results.json") as partial:
        partial.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    write_report(out / "report.html", summary)
    write_pngs(out, summary)
    return summary


def _plan(benchmark: Benchmark, scenario: Scenario, policy: PolicySpec, seed: int) -> EpisodePlan:
    return EpisodePlan(scenario, policy, benchmark.split, seed, benchmark.sizes, benchmark.cache, benchmark.device)


def _facts(scenario: Scenario, reference: list[Episode]) -> dict[str, Any]:
    return {
        "description": scenario.description,
        "unseen": scenario.unseen,
        "slot_us": _same([episode.slot_us for episode in reference]),
        "e2_period_ms": _same([episode.period_slots * episode.slot_us / 1e3 for episode in reference]),
        "e2_delay_ms": _same([episode.delay_slots * episode.slot_us / 1e3 for episode in reference]),
        "links": sum(len(episode.bits) for episode in reference),
        "bursty_share": round(sum(episode.bursty_share for episode in reference) / len(reference), 3),
    }


def _same(values: list[float]) -> float | None:
    """What all have in common; None where a scenario draws it and the seeds drew differently."""
    return values[0] if len(set(values)) == 1 else None


def _sweep_plans(benchmark: Benchmark, policies: list[PolicySpec]) -> dict[tuple[str, float], list[EpisodePlan]]:
    if not policies:
        return {}
    base = find_scenario(SWEEP_SCENARIO)
    plans = {}
    for period_ms in benchmark.sweep_periods_ms:
        slots = max(1, round(period_ms * 1e3 / base.channels[0].slot_us))
        e2 = base.e2.model_copy(update={"period_slots": Distribution(kind="constant", values=(slots,))})
        scenario = base.model_copy(update={"e2": e2})
        for policy in (parse_policy(REFERENCE), *policies):
            plans[policy.name, period_ms] = [_plan(benchmark, scenario, policy, seed) for seed in benchmark.seeds]
    return plans


def _sweep_figures(
    benchmark: Benchmark,
    plans: dict[tuple[str, float], list[EpisodePlan]],
    episodes: Callable[[list[EpisodePlan]], list[Episode]],
) -> dict[str, Any] | None:
    if not plans:
        return None
    found: dict[str, list[dict[str, Any]]] = {}
    for (policy, period_ms), group in plans.items():
        if policy == REFERENCE:
            continue
        reference, ours = episodes(plans[REFERENCE, period_ms]), episodes(group)
        first = ours[0]
        figures = gain(ours, reference, used_links([ours, reference]), _BOOTSTRAP_SEED)
        delay_ms = first.delay_slots * first.slot_us / 1e3
        found.setdefault(policy, []).append({"period_ms": period_ms, "delay_ms": delay_ms, **figures})
    return {"scenario": SWEEP_SCENARIO, "policies": found}
