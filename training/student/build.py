"""Builds the student that ships: teacher, student, benchmark, gates, bundle. An interrupted build continues."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, JsonValue

from distila.replay.policy_shape import whole_shape
from distila.training.benchmark.averages import FIVE
from distila.training.benchmark.policies import PolicySpec, parse_policy
from distila.training.benchmark.results import BenchmarkResults, PolicyFigures
from distila.training.benchmark.suite import Benchmark, run_benchmark
from distila.training.distill.distill import DistillConfig, Teachers, distilled, load_distill
from distila.training.learning import trainer
from distila.training.learning.trainings import Bar
from distila.training.network.export import export_bundle, onnx_graph
from distila.training.network.network import Network
from distila.training.network.store import NETWORK_FILE, save_network
from distila.training.sim.scenario import Scenario, families, find_scenario
from distila.training.student.card import CARD_FILE, write_card
from distila.training.student.gates import failures
from distila.training.student.recipe import Evaluation, Recipe
from distila.training.teachers.privileged import PrivilegedConfig, PrivilegedObjective, load_privileged
from distila.xapp.errors import InputError
from distila.xapp.policy.benchmark_figures import BenchmarkRun, FamilyFigures, run_name, timing_title
from distila.xapp.policy.bundle import MANIFEST_FILE, Bundle, load_bundle
from distila.xapp.result_file import Estimate, ResultFile

STUDENT: Final = "student"
TEACHER: Final = "teacher"
BUNDLE: Final = "bundle"


@dataclass(frozen=True)
class Built:
    """The result of a build."""

    bundle: Bundle
    teacher: Path
    """file of the teacher's network"""
    benchmarks: dict[str, BenchmarkResults]
    """results by name of the run, see `distila.xapp.policy.benchmark_figures.run_name`"""
    failures: list[str]
    """gates that the student does not pass; empty: it may ship"""


class BuildSummary(ResultFile):
    """What ``distila student build --json`` prints."""

    kind: Literal["student-build"] = "student-build"
    version: Literal[1] = 1
    bundle: str = Field(description="directory of the bundle")
    failures: tuple[str, ...] = Field(description="gates that the student does not pass, a line each")
    installed: bool = Field(description="whether bundle and teacher were copied to where distila ships them")
    benchmark: dict[str, BenchmarkRun] = Field(description="runs of the benchmark by name, as in the manifest")


def build(recipe: Recipe, out: Path, bar: Bar, workers: int = 1, jobs: int = 1, cache: Path | None = None) -> Built:
    """Follow a recipe.

    Args:
        recipe: what to do.
        out: directory; steps of the same recipe that it already holds are not repeated.
        bar: for the progress of each step.
        workers: number of workers that collect training episodes (`distila.training.learning.fan_out`).
        jobs: number of processes of the benchmark.
        cache: directory of fading banks; None: the user's.

    Raises:
        InputError: see `distila.training.learning.trainer.train` and `distila.training.benchmark.suite.run_benchmark`.
    """
    # Before the training, so that an unknown name does not cost its time.
    names = families() if recipe.benchmark.scenarios == "all" else recipe.benchmark.scenarios
    scenarios = tuple(find_scenario(name) for name in names)
    peers = [parse_policy(peer) for peer in recipe.benchmark.peers]
    teacher_config, student_config = load_privileged(recipe.teacher), load_distill(recipe.student)
    teacher = _teacher(teacher_config, out / TEACHER, bar, workers, cache)
    network, training = _student(student_config, out / STUDENT, teacher, bar, workers, cache)
    training |= {"recipe": recipe.model_dump(mode="json")}
    graph = onnx_graph(network)
    # The benchmark runs the very graph that ships; the manifest gets the figures afterwards.
    trial = _trial(network, graph, out / "trial", recipe, training)
    benchmarks = _benchmarks(
        recipe.benchmark,
        scenarios,
        [_named(STUDENT, str(trial.path)), _named(TEACHER, str(teacher)), *peers],
        out,
        bar,
        jobs,
        cache,
    )
    failed = failures(recipe.gates, len(graph), benchmarks.values(), STUDENT)
    figures = {run: summary(results) for run, results in benchmarks.items()}
    bundle = _bundle(network, graph, out / BUNDLE, recipe, training, figures)
    write_card(out / BUNDLE / CARD_FILE, recipe, bundle, benchmarks.values(), failed, whole_shape(bundle))
    return Built(bundle, teacher, benchmarks, failed)


def summary(results: BenchmarkResults) -> BenchmarkRun:
    """The part of a benchmark that goes into the student's manifest: its figures in each family, and its averages."""
    settings, compared = results.settings, results.against_tuned
    return BenchmarkRun(
        links=settings.links,
        duration_ms=settings.duration_ms,
        seeds=settings.seeds,
        split=settings.split,
        e2_period_ms=settings.e2_period_ms,
        e2_delay_ms=settings.e2_delay_ms,
        averages={group: average.policies[STUDENT] for group, average in compared.averages.items()},
        families={name: _family_figures(family.policies[STUDENT]) for name, family in compared.families.items()},
    )


def _family_figures(figures: PolicyFigures) -> FamilyFigures:
    equal = figures.equal_bler_gain
    return FamilyFigures(
        gain_vs_olla_pct=figures.gain_vs_olla_pct,
        first_tx_bler=figures.first_tx_bler,
        residual_bler=figures.residual_bler,
        equal_bler_gain_pct=None if equal is None else Estimate(mean=equal.mean, ci95=equal.ci95),
        bought_with_bler=None if equal is None else equal.kind == "bought_with_bler",
    )


def _teacher(config: PrivilegedConfig, out: Path, bar: Bar, workers: int, cache: Path | None) -> Path:
    with bar("teacher: fading banks", "banks") as on_bank, bar("teacher", "slots") as on_slot:
        objective = PrivilegedObjective(config)
        network = trainer.train(
            config, objective, out, resume=True, workers=workers, progress=on_slot, cache=cache, on_bank=on_bank
        )
    path = out / NETWORK_FILE
    save_network(network, path, {"kind": "privileged teacher", "config": config.model_dump(mode="json")})
    return path


def _student(
    config: DistillConfig, out: Path, teacher: Path, bar: Bar, workers: int, cache: Path | None
) -> tuple[Network, dict[str, JsonValue]]:
    teachers = Teachers({"": teacher}, config)
    network = distilled(STUDENT, config, teachers, out, bar, workers, cache)
    training: dict[str, JsonValue] = {
        "kind": "distilled student",
        "teachers": teachers.identity,
        "config": config.model_dump(mode="json"),
    }
    save_network(network, out / NETWORK_FILE, training)
    return network, training


def _trial(network: Network, graph: bytes, path: Path, recipe: Recipe, training: Mapping[str, JsonValue]) -> Bundle:
    """The bundle without figures; one with the same graph is kept, because the results belong to it."""
    if (path / MANIFEST_FILE).is_file():
        found = load_bundle(path)
        if found.digest == hashlib.sha256(graph).hexdigest():
            return found
    return _bundle(network, graph, path, recipe, training)


def _bundle(
    network: Network,
    graph: bytes,
    path: Path,
    recipe: Recipe,
    training: Mapping[str, JsonValue],
    benchmark: Mapping[str, BenchmarkRun] | None = None,
) -> Bundle:
    return export_bundle(
        network,
        path,
        name=recipe.name,
        version=recipe.version,
        training=training,
        benchmark=benchmark,
        description=recipe.description,
        graph=graph,
    )


def _benchmarks(
    evaluation: Evaluation,
    scenarios: tuple[Scenario, ...],
    policies: Sequence[PolicySpec],
    out: Path,
    bar: Bar,
    jobs: int,
    cache: Path | None,
) -> dict[str, BenchmarkResults]:
    everything = Benchmark(
        policies=tuple(policies),
        scenarios=scenarios,
        sizes=evaluation.of_a_run,
        seeds=tuple(range(evaluation.seeds)),
        cache=cache,
    )
    runs = [everything]
    five = tuple(scenario for scenario in everything.scenarios if scenario.name in FIVE)
    for period_ms in evaluation.near_rt_periods_ms if five else ():
        at_period = replace(
            everything,
            policies=tuple(policies[:2]),
            scenarios=five,
            sweep_periods_ms=(),
            e2_period_ms=period_ms,
            e2_delay_ms=evaluation.near_rt_delay_ms,
        )
        runs.append(at_period)
    found = {}
    for benchmark in runs:
        name = run_name(benchmark.e2_period_ms)
        title = timing_title(benchmark.e2_period_ms, None)
        with bar(f"{title}: fading banks", "banks") as on_bank, bar(f"benchmark, {title}", "runs") as on_episode:
            found[name] = run_benchmark(benchmark, out / "benchmark" / name, jobs, on_bank, on_episode)
    return found


def _named(name: str, path: str) -> PolicySpec:
    """A policy under the name that tables and files show."""
    try:
        return replace(parse_policy(path), name=name)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
