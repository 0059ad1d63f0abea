"""The ablation study: every variant is trained under several seeds, and one benchmark on test seeds evaluates all."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from distila.training.ablation.variants import REFERENCE, TEACHER, VARIANTS, Variant
from distila.training.benchmark.policies import parse_policy
from distila.training.benchmark.results import BenchmarkResults
from distila.training.benchmark.sizes import SeededSizes
from distila.training.benchmark.suite import Benchmark, run_benchmark
from distila.training.distill.distill import DistillationObjective, DistillConfig, Teachers
from distila.training.learning import trainer
from distila.training.learning.interval import SeedInterval, interval
from distila.training.learning.trainings import Bar, run_missing
from distila.training.network.network import Network
from distila.training.network.store import NETWORK_FILE, save_network
from distila.training.sim.scenario import find_scenario
from distila.training.teachers.privileged import PrivilegedConfig, PrivilegedObjective
from distila.xapp.errors import InputError
from distila.xapp.files import check_writable, read_model, write_json
from distila.xapp.result_file import ResultFile, ResultModel
from distila.xapp.shipped import Shipped, package_folder

RESULTS_FILE: Final = "ablation.json"
_FLAT_KEYS: Final = {
    "benchmark_links": "links",
    "benchmark_duration_ms": "duration_ms",
    "benchmark_seeds": "seeds",
    "bank_slots": "bank_slots",
}


class StudyBenchmark(SeededSizes):
    """The benchmark that all variants go through, on test seeds."""

    links: int = Field(default=128, ge=8, description="links per family and seed")
    duration_ms: float = Field(default=1500, gt=250, description="simulated time [ms], warm-up included")
    seeds: int = Field(default=1, ge=1, description="number of test seeds")
    bank_rows: int = Field(default=48, ge=1, description="UEs of a fading bank")
    bank_slots: int = Field(default=2048, ge=1, description="length of a fading bank [slots]")


class StudyConfig(BaseModel):
    """Size of the study, and settings of its trainings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seeds: int = Field(default=5, ge=2, description="trainings of each variant")
    scenarios: tuple[str, ...] = Field(min_length=1, description="families to train on, and to evaluate on")
    unseen: tuple[str, ...] = Field(default=(), description="families to evaluate on that no training contains")
    loop: dict[str, JsonValue] = Field(default_factory=dict, description="settings of every training")
    network: dict[str, JsonValue] = Field(default_factory=dict, description="settings of every student's network")
    teacher: dict[str, JsonValue] = Field(default_factory=dict, description="settings of the generalist teacher")
    specialist: dict[str, JsonValue] = Field(default_factory=dict, description="settings of the specialists")
    dqn: dict[str, JsonValue] = Field(default_factory=dict, description="settings of reinforcement learning")
    residual_price: float = Field(
        default=20.0, ge=0, description="blocks that a block lost after its last transmission costs in the return"
    )
    benchmark: StudyBenchmark = Field(default=StudyBenchmark(), description="how the variants are evaluated")
    variants: tuple[str, ...] | None = Field(default=None, description="names of the variants to run; null: all")

    @model_validator(mode="before")
    @classmethod
    def _with_benchmark_section(cls, settings: Any) -> Any:
        """Moves the flat keys of distila 0.1, such as ``benchmark_links``, into their section."""
        if not isinstance(settings, dict):
            return settings
        flat = {key: settings[key] for key in _FLAT_KEYS if key in settings}
        if not flat:
            return settings
        rest = {key: value for key, value in settings.items() if key not in flat}
        section = {_FLAT_KEYS[key]: value for key, value in flat.items()}
        return {**rest, "benchmark": {**section, **rest.get("benchmark", {})}}


STUDIES: Final = Shipped("study", package_folder("distila.training.ablation", "configs"))


def load_study(name: str) -> StudyConfig:
    """A study from a YAML file, or one that ships with distila by its name.

    Raises:
        InputError: one line naming file, setting and value.
    """
    study = read_model(STUDIES.find(name), StudyConfig)
    known = [variant.name for variant in VARIANTS]
    for variant in study.variants or ():
        if variant not in known:
            raise InputError(f"{name}: variants: no variant {variant!r}; there are {', '.join(known)}")
    return study


class VariantResult(ResultModel):
    """Gains of one variant over tuned OLLA, each the mean over families."""

    name: str = Field(description="name of the variant")
    question: str = Field(description="heading that it is shown under")
    what: str = Field(description="the variant in words")
    seen: SeedInterval = Field(description="gain in goodput on the families trained on [%], over seeds of training")
    unseen: SeedInterval | None = Field(description="the same on the unseen families [%]; null without any")
    against_student: SeedInterval | None = Field(
        description="gain on the families trained on minus the student's, paired by seed [points]; null for the student"
    )


class AblationResults(ResultFile):
    """The content of ``ablation.json``."""

    kind: Literal["ablation"] = "ablation"
    version: Literal[1] = 1
    study: StudyConfig = Field(description="size of the study, and settings of its trainings")
    variants: tuple[VariantResult, ...] = Field(description="one entry for each variant")


@dataclass(frozen=True)
class _TeacherTraining:
    """The training of the generalist, or of a scenario's specialist; picklable."""

    scenario: str
    """of the specialist; empty: the generalist"""
    study: StudyConfig
    out: Path
    cache: Path | None

    @property
    def path(self) -> Path:
        """File of the network."""
        return _teacher_path(self.out, self.scenario)


@dataclass(frozen=True)
class _VariantTraining:
    """The training of one variant under one seed; picklable."""

    variant: Variant
    seed: int
    study: StudyConfig
    out: Path
    teachers: dict[str, Path]
    cache: Path | None

    @property
    def path(self) -> Path:
        """File of the network."""
        return self.out / "runs" / self.variant.name / str(self.seed) / NETWORK_FILE


def run_study(study: StudyConfig, out: Path, bar: Bar, workers: int, jobs: int, cache: Path | None) -> AblationResults:
    """Train and evaluate what is missing, and write ``ablation.json`` into ``out``.

    Args:
        study: size of the study, and settings of its trainings.
        out: directory; an interrupted study continues.
        bar: for the progress of each step.
        workers: number of trainings at once (`distila.training.learning.fan_out`).
        jobs: number of processes of the benchmark.
        cache: directory of fading banks; None: the user's.

    Raises:
        InputError: see `distila.training.learning.trainer.train` and `distila.training.benchmark.suite.run_benchmark`.
    """
    check_writable(out)
    chosen = [variant for variant in VARIANTS if study.variants is None or variant.name in study.variants]
    if all(variant.name != REFERENCE for variant in chosen):
        chosen = [VARIANTS[0], *chosen]
    specialists = study.scenarios if any(variant.specialists for variant in chosen) else ()
    teachings = [_TeacherTraining(name, study, out, cache) for name in ("", *specialists)]
    run_missing("teachers", _teach, teachings, bar, workers)
    teachers = {name: _teacher_path(out, name) for name in ("", *study.scenarios)}
    trainings = [
        _VariantTraining(variant, seed, study, out, teachers, cache)
        for variant in chosen
        if variant.kind != "teacher"
        for seed in range(study.seeds)
    ]
    run_missing("students", _train, trainings, bar, workers)
    benchmarked = _evaluate(study, out, chosen, trainings, teachers[""], bar, jobs, cache)
    results = AblationResults(study=study, variants=_table(study, chosen, benchmarked))
    write_json(out / RESULTS_FILE, results)
    return results


def _teacher_path(out: Path, scenario: str) -> Path:
    return out / "teachers" / (scenario or "generalist") / NETWORK_FILE


def _with_network(study: StudyConfig, settings: Mapping[str, JsonValue], **more: JsonValue) -> dict[str, JsonValue]:
    """Settings of a training whose section ``network`` lies on top of the study's, and ``more`` on top of that."""
    network = settings.get("network", {})
    if not isinstance(network, dict):
        raise InputError(f"network = {network!r}: expected settings of a network, by name")
    return {**settings, "network": {**study.network, **network, **more}}


def _privileged_config(study: StudyConfig, settings: Mapping[str, JsonValue]) -> PrivilegedConfig:
    return PrivilegedConfig.model_validate(
        _with_network(study, settings, head="value", residual_price=study.residual_price)
    )


def _teach(task: _TeacherTraining) -> None:
    study = task.study
    settings: dict[str, JsonValue] = {**study.loop, **(study.specialist if task.scenario else study.teacher)}
    settings["scenarios"] = [task.scenario] if task.scenario else [*study.scenarios]
    config = _privileged_config(study, settings)
    save_network(
        trainer.train(config, PrivilegedObjective(config), task.path.parent, resume=True, cache=task.cache),
        task.path,
        {"config": config.model_dump(mode="json")},
    )


def _train(task: _VariantTraining) -> None:
    torch.set_num_threads(1)
    study = task.study
    settings: dict[str, JsonValue] = {
        **study.loop,
        **task.variant.change,
        "scenarios": [*study.scenarios],
        "seed": task.seed,
    }
    network_of = {"distilled": _distilled, "privileged": _privileged, "dqn": _dqn}[task.variant.kind]
    trained = network_of(task, settings)
    save_network(trained, task.path, {"variant": task.variant.name, "seed": task.seed})


def _distilled(task: _VariantTraining, settings: Mapping[str, JsonValue]) -> Network:
    config = DistillConfig.model_validate(_with_network(task.study, settings))
    given = task.teachers
    paths = {name: given[name] for name in task.study.scenarios} if task.variant.specialists else {"": given[""]}
    teachers = Teachers(paths, config)
    objective = DistillationObjective(config, teachers)
    identity = {"teachers": teachers.identity}
    return trainer.train(config, objective, task.path.parent, identity=identity, resume=True, cache=task.cache)


def _privileged(task: _VariantTraining, settings: Mapping[str, JsonValue]) -> Network:
    config = _privileged_config(task.study, settings)
    return trainer.train(config, PrivilegedObjective(config), task.path.parent, resume=True, cache=task.cache)


def _dqn(task: _VariantTraining, settings: Mapping[str, JsonValue]) -> Network:
    from distila.training.teachers.dqn import train_dqn  # TorchRL takes seconds to import
    from distila.training.teachers.dqn_config import DqnConfig

    config = DqnConfig.model_validate(_with_network(task.study, {**settings, **task.study.dqn}))
    return train_dqn(config, task.path.parent, resume=True, cache=task.cache)


def _evaluate(
    study: StudyConfig,
    out: Path,
    chosen: list[Variant],
    trainings: list[_VariantTraining],
    teacher: Path,
    bar: Bar,
    jobs: int,
    cache: Path | None,
) -> BenchmarkResults:
    """One benchmark of all networks; the policies are named ``variant/seed``."""
    policies = [replace(parse_policy(str(task.path)), name=f"{task.variant.name}/{task.seed}") for task in trainings]
    if any(variant.name == TEACHER for variant in chosen):
        policies.append(replace(parse_policy(str(teacher)), name=f"{TEACHER}/0"))
    benchmark = Benchmark(
        policies=tuple(policies),
        scenarios=tuple(find_scenario(name) for name in (*study.scenarios, *study.unseen)),
        sizes=study.benchmark.of_a_run,
        seeds=tuple(range(study.benchmark.seeds)),
        targets=(),
        sweep_periods_ms=(),
        cache=cache,
    )
    with bar("test: fading banks", "banks") as on_bank, bar("test", "runs") as on_episode:
        return run_benchmark(benchmark, out / "benchmark", jobs, on_bank, on_episode)


def _table(study: StudyConfig, chosen: list[Variant], results: BenchmarkResults) -> tuple[VariantResult, ...]:
    def gain(policy: str, family: str) -> float:
        mean = results.against_tuned.families[family].policies[policy].gain_vs_olla_pct.mean
        if mean is None:
            raise InputError(
                f"{policy}: nothing was sent in {family}; use more benchmark.links or a longer duration_ms"
            )
        return mean

    def gains(variant: Variant, names: tuple[str, ...]) -> list[float]:
        """Mean gain over families [%] of each seed."""
        seeds = [0] if variant.kind == "teacher" else range(study.seeds)
        return [sum(gain(f"{variant.name}/{seed}", name) for name in names) / len(names) for seed in seeds]

    reference = gains(VARIANTS[0], study.scenarios)
    found = []
    for variant in chosen:
        ours = gains(variant, study.scenarios)
        paired = len(ours) == len(reference) and variant.name != REFERENCE
        result = VariantResult(
            name=variant.name,
            question=variant.question,
            what=variant.what,
            seen=interval(ours),
            unseen=interval(gains(variant, study.unseen)) if study.unseen else None,
            against_student=interval([a - b for a, b in zip(ours, reference, strict=True)]) if paired else None,
        )
        found.append(result)
    return tuple(found)
