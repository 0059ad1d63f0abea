"""A whole benchmark: which episodes, their figures, the sweep over E2 periods, and the files that come out."""

import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from distila.replay.atomic_file import check_writable, replacing
from distila.training.benchmark.averages import Resamples, average_gains
from distila.training.benchmark.episode import Episode, EpisodePlan, Sizes
from distila.training.benchmark.policies import REFERENCE, PolicySpec, parse_policy
from distila.training.benchmark.report import write_pngs, write_report
from distila.training.benchmark.results import (
    add_genie_share,
    benchmark_results,
    gain,
    gain_resamples,
    policy_figures,
    used_links,
)
from distila.training.benchmark.runner import Progress, run_all
from distila.training.benchmark.view import BenchmarkView
from distila.training.sim.distribution import Distribution
from distila.training.sim.scenario import Scenario, find_scenario
from distila.training.sim.split import Split
from distila.xapp.errors import InputError

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
    e2_period_ms: float | None = None
    """of all scenarios instead of their own, but not of the sweep"""
    e2_delay_ms: float | None = None
    """the same"""
    quick: bool = False
    cache: Path | None = None
    device: str = "cpu"


def run_benchmark(
    benchmark: Benchmark, out: Path, jobs: int, on_bank: Progress, on_episode: Progress
) -> dict[str, Any]:
    """Run it, or what is missing of it, and write ``results.json``, ``report.html`` and the charts into ``out``.

    Raises:
        InputError: ``out`` cannot be written to; or see `with_e2_timing` and
            `distila.training.benchmark.runner.run_all`.
    """
    check_writable(out)
    scenarios = [with_e2_timing(each, benchmark.e2_period_ms, benchmark.e2_delay_ms) for each in benchmark.scenarios]
    policies = benchmark.policies
    if all(policy.name != REFERENCE for policy in policies):
        policies = (parse_policy(REFERENCE), *policies)
    plans = {
        (scenario.name, policy.name): [_plan(benchmark, scenario, policy, seed) for seed in benchmark.seeds]
        for scenario in scenarios
        for policy in policies
    }
    sweep = _sweep_plans(benchmark, [policy for policy in policies if policy.seat == "xapp"])
    every = [plan for group in (*plans.values(), *sweep.values()) for plan in group]
    results = dict(zip(every, run_all(every, out / "episodes", jobs, on_bank, on_episode), strict=True))

    def episodes(group: list[EpisodePlan]) -> list[Episode]:
        return [results[plan] for plan in group]

    families: dict[str, Any] = {}
    resamples: dict[str, Resamples] = {}
    for scenario in scenarios:
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
        # Other numbers for every family: the same ones would tie their resamples to each other.
        seed = (_BOOTSTRAP_SEED, zlib.crc32(scenario.name.encode()))
        resamples[scenario.name] = {
            policy.name: gain_resamples(episodes(plans[scenario.name, policy.name]), reference, used, seed)
            for policy in policies
        }
    settings = {
        **asdict(benchmark.sizes),
        "seeds": list(benchmark.seeds),
        "split": benchmark.split.name.lower(),
        "reference": REFERENCE,
        "device": benchmark.device,
    }
    timing = {"e2_period_ms": benchmark.e2_period_ms, "e2_delay_ms": benchmark.e2_delay_ms}
    settings |= {name: value for name, value in timing.items() if value is not None}
    summary = benchmark_results(
        benchmark.quick,
        settings,
        families,
        average_gains(BenchmarkView({"settings": settings, "families": families}), resamples),
        _sweep_figures(benchmark, sweep, episodes),
    )
    with replacing(out / "results.json") as partial:
        partial.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    write_report(out / "report.html", summary)
    write_pngs(out, summary)
    return summary


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
        scenario = with_e2_timing(base, period_ms, None)
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
