"""From nothing to a bundle: teacher, student, benchmark, judgement. Each step goes on where it was interrupted."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from distila.training.benchmark.averages import FIVE
from distila.training.benchmark.policies import PolicySpec, parse_policy
from distila.training.benchmark.suite import Benchmark, run_benchmark
from distila.training.distill.distill import DistillationObjective, DistillConfig, Teachers, load_distill
from distila.training.learning import trainer
from distila.training.learning.trainer import Progress
from distila.training.network.export import export_bundle, onnx_graph
from distila.training.network.network import Network
from distila.training.network.store import NETWORK_FILE, save_network
from distila.training.sim.scenario import families, find_scenario
from distila.training.student.card import write_card
from distila.training.student.gates import failures
from distila.training.student.recipe import Recipe
from distila.training.teachers.privileged import PrivilegedObjective, load_privileged
from distila.xapp.errors import InputError
from distila.xapp.policy.bundle import MANIFEST_FILE, Bundle, load_bundle

STUDENT: Final = "student"
TEACHER: Final = "teacher"
BUNDLE: Final = "bundle"
REAL_TIME: Final = "own E2 timing"
"""Name of the benchmark in which every family has the E2 timing that its file says."""

Bar = Callable[[str, str], AbstractContextManager[Progress]]
"""A progress bar: what is done, in which units."""


@dataclass(frozen=True)
class Built:
    """What came out."""

    bundle: Bundle
    teacher: Path
    """file of its network"""
    benchmarks: dict[str, dict[str, Any]]
    """contents of results.json"""
    failures: list[str]
    """why it must not ship; empty: it may"""


def build(recipe: Recipe, out: Path, bar: Bar, workers: int = 1, jobs: int = 1, cache: Path | None = None) -> Built:
    """Follow a recipe.

    Args:
        recipe: what to do.
        out: directory; what is there already of the same recipe is not done again.
        bar: for the progress of each step.
        workers: that episodes of training are collected on (`distila.training.learning.fan_out`).
        jobs: processes of the benchmark.
        cache: directory of fading banks; None: the user's.

    Raises:
        InputError: see `distila.training.learning.trainer.train` and `distila.training.benchmark.suite.run_benchmark`.
    """
    teacher = _teacher(recipe, out / TEACHER, bar, workers, cache)
    network, training = _student(recipe, out / STUDENT, teacher, bar, workers, cache)
    training |= {"recipe": recipe.model_dump(mode="json")}
    about: dict[str, Any] = {"name": recipe.name, "version": recipe.version, "description": recipe.description}
    # The very weights that are judged; figures are added once there are any.
    trial = _trial(network, out / "trial", {**about, "training": training})
    benchmarks = _benchmarks(recipe, out, trial, teacher, bar, jobs, cache)
    failed = failures(recipe.gates, len(onnx_graph(network)), benchmarks, STUDENT)
    figures = {run: summary(results) for run, results in benchmarks.items()}
    bundle = export_bundle(network, out / BUNDLE, training=training, benchmark=figures, **about)
    write_card(out / BUNDLE / "card.md", recipe, bundle, benchmarks, failed)
    return Built(bundle, teacher, benchmarks, failed)


def summary(results: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of a benchmark: the student's figures in each family, and its averages."""
    found = {}
    for family, figures in results["families"].items():
        ours = figures["policies"][STUDENT]
        found[family] = {
            "gain [%]": ours["gain_vs_olla_pct"],
            "BLER": ours["first_tx_bler"],
            "given up": ours["residual_bler"],
        }
    settings = {name: results["settings"][name] for name in ("links", "duration_ms", "seeds", "split")}
    averages = {f"mean gain [%], {group}": entry["policies"][STUDENT] for group, entry in results["averages"].items()}
    return {**settings, **averages, "families": found}


def _teacher(recipe: Recipe, out: Path, bar: Bar, workers: int, cache: Path | None) -> Path:
    config = load_privileged(recipe.teacher)
    with bar("teacher: fading banks", "banks") as on_bank, bar("teacher", "slots") as on_slot:
        objective = PrivilegedObjective(config)
        network = trainer.train(
            config, objective, out, resume=True, workers=workers, progress=on_slot, cache=cache, on_bank=on_bank
        )
    path = out / NETWORK_FILE
    save_network(network, path, {"kind": "privileged teacher", "config": config.model_dump(mode="json")})
    return path


def _student(
    recipe: Recipe, out: Path, teacher: Path, bar: Bar, workers: int, cache: Path | None
) -> tuple[Network, dict[str, Any]]:
    config = load_distill(recipe.student)
    teachers = Teachers({"": teacher}, config)
    network = distilled(STUDENT, config, teachers, out, bar, workers, cache)
    training: dict[str, Any] = {
        "kind": "distilled student",
        "teachers": teachers.identity,
        "config": config.model_dump(mode="json"),
    }
    save_network(network, out / NETWORK_FILE, training)
    return network, training


def distilled(
    name: str,
    config: DistillConfig,
    teachers: Teachers,
    out: Path,
    bar: Bar,
    workers: int = 1,
    cache: Path | None = None,
) -> Network:
    """A student of these teachers, which its progress bar calls by name; an interrupted training goes on."""
    with bar(f"{name}: fading banks", "banks") as on_bank, bar(name, "slots") as on_slot:
        return trainer.train(
            config,
            DistillationObjective(config, teachers),
            out,
            identity={"teachers": teachers.identity},
            resume=True,
            workers=workers,
            progress=on_slot,
            cache=cache,
            on_bank=on_bank,
        )


def _trial(network: Network, path: Path, about: dict[str, Any]) -> Bundle:
    """The bundle without figures; one of the same weights is kept, as results belong to it, its latency included."""
    if (path / MANIFEST_FILE).is_file():
        found = load_bundle(path)
        if found.digest == hashlib.sha256(onnx_graph(network)).hexdigest():
            return found
    return export_bundle(network, path, **about)


def _benchmarks(
    recipe: Recipe, out: Path, student: Bundle, teacher: Path, bar: Bar, jobs: int, cache: Path | None
) -> dict[str, dict[str, Any]]:
    sizes = recipe.benchmark
    names = list(families()) if sizes.scenarios == "all" else list(sizes.scenarios)
    policies = [_named(STUDENT, str(student.path)), _named(TEACHER, str(teacher))]
    policies += [parse_policy(peer) for peer in sizes.peers]
    everything = Benchmark(
        policies=tuple(policies),
        scenarios=tuple(find_scenario(name) for name in names),
        sizes=sizes.of_a_run,
        seeds=tuple(range(sizes.seeds)),
        cache=cache,
    )
    runs = {REAL_TIME: everything}
    five = tuple(scenario for scenario in everything.scenarios if scenario.name in FIVE)
    for period_ms in sizes.near_rt_periods_ms if five else ():
        runs[f"E2 period {period_ms:g} ms"] = replace(
            everything,
            policies=tuple(policies[:2]),
            scenarios=five,
            sweep_periods_ms=(),
            e2_period_ms=period_ms,
            e2_delay_ms=sizes.near_rt_delay_ms,
        )
    found = {}
    for name, benchmark in runs.items():
        folder = out / "benchmark" / name.replace(" ", "-")
        with bar(f"{name}: fading banks", "banks") as on_bank, bar(f"benchmark, {name}", "runs") as on_episode:
            found[name] = run_benchmark(benchmark, folder, jobs, on_bank, on_episode)
    return found


def _named(name: str, path: str) -> PolicySpec:
    """A policy under the name that tables and files show."""
    try:
        return replace(parse_policy(path), name=name)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
