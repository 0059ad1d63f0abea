"""The ablation study: every variant under several seeds, judged by one benchmark on test seeds."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel, ConfigDict, Field

from distila.replay.atomic_file import check_writable, replacing
from distila.training.ablation.variants import REFERENCE, TEACHER, VARIANTS, Variant
from distila.training.benchmark.episode import Sizes
from distila.training.benchmark.policies import parse_policy
from distila.training.benchmark.suite import Benchmark, run_benchmark
from distila.training.distill.distill import DistillationObjective, DistillConfig, Teachers
from distila.training.learning import trainer
from distila.training.learning.config_file import load_config
from distila.training.learning.fan_out import fan_out
from distila.training.learning.interval import interval
from distila.training.learning.trainer import Progress
from distila.training.network.network import Network
from distila.training.network.store import NETWORK_FILE, save_network
from distila.training.sim.scenario import find_scenario
from distila.training.teachers.privileged import PrivilegedConfig, PrivilegedObjective
from distila.xapp.errors import InputError

Bar = Callable[[str, str], AbstractContextManager[Progress]]

RESULTS_FILE: Final = "ablation.json"


class StudyConfig(BaseModel):
    """How much of everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seeds: int = Field(default=5, ge=2, description="trainings of each variant")
    scenarios: tuple[str, ...] = Field(min_length=1, description="trained on, and judged on")
    unseen: tuple[str, ...] = Field(default=(), description="judged on besides")
    loop: dict[str, Any] = Field(default_factory=dict, description="settings of every training")
    network: dict[str, Any] = Field(default_factory=dict, description="of every student")
    teacher: dict[str, Any] = Field(default_factory=dict, description="settings of the generalist teacher")
    specialist: dict[str, Any] = Field(default_factory=dict, description="settings of the specialists")
    dqn: dict[str, Any] = Field(default_factory=dict, description="settings of reinforcement learning")
    residual_price: float = Field(default=20.0, ge=0)
    benchmark_links: int = Field(default=128, ge=8)
    benchmark_duration_ms: float = Field(default=1500, gt=250)
    benchmark_seeds: int = Field(default=1, ge=1)
    bank_slots: int = Field(default=2048, ge=1)
    variants: tuple[str, ...] | None = Field(default=None, description="some of them only")


def load_study(name: str) -> StudyConfig:
    """A study from a YAML file, or one that ships with distila by its name.

    Raises:
        InputError: one line naming file, setting and value.
    """
    study = load_config(StudyConfig, name, "distila.training.ablation")
    known = [variant.name for variant in VARIANTS]
    for variant in study.variants or ():
        if variant not in known:
            raise InputError(f"{name}: variants: {variant!r} is none of {', '.join(known)}")
    return study


@dataclass(frozen=True)
class _Task:
    """A training; picklable."""

    variant: Variant
    seed: int
    study: StudyConfig
    out: Path
    teachers: dict[str, Path]
    cache: Path | None

    @property
    def path(self) -> Path:
        """File of the network that comes out."""
        return self.out / "runs" / self.variant.name / str(self.seed) / NETWORK_FILE


def run_study(study: StudyConfig, out: Path, bar: Bar, workers: int, jobs: int, cache: Path | None) -> dict[str, Any]:
    """Train and judge what is missing, and write ``ablation.json`` into ``out``.

    Args:
        study: how much.
        out: directory; an interrupted study goes on where it was.
        bar: for the progress of each step.
        workers: trainings at once (`distila.training.learning.fan_out`).
        jobs: processes of the benchmark.
        cache: directory of fading banks; None: the user's.

    Raises:
        InputError: see `distila.training.learning.trainer.train` and `distila.training.benchmark.suite.run_benchmark`.
    """
    check_writable(out)
    chosen = [variant for variant in VARIANTS if study.variants is None or variant.name in study.variants]
    if all(variant.name != REFERENCE for variant in chosen):
        chosen = [VARIANTS[0], *chosen]
    _in_turn(bar, "teachers", _teach, _teachers(study, out, chosen), workers, partial(_teacher_path, out), cache, study)
    teachers = {name: _teacher_path(out, name) for name in ("", *study.scenarios)}
    tasks = [
        _Task(variant, seed, study, out, teachers, cache)
        for variant in chosen
        if variant.kind != "teacher"
        for seed in range(study.seeds)
    ]
    missing = [task for task in tasks if not task.path.is_file()]
    with bar("students", "trainings") as progress:
        progress(len(tasks) - len(missing), len(tasks))
        for done, _ in enumerate(fan_out(_train, missing, workers), start=len(tasks) - len(missing) + 1):
            progress(done, len(tasks))
    results = _judge(study, out, chosen, tasks, teachers[""], bar, jobs, cache)
    summary = {"kind": "ablation", "study": study.model_dump(mode="json"), "variants": _table(study, chosen, results)}
    with replacing(out / RESULTS_FILE) as partial_file:
        partial_file.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    return summary


def _teachers(study: StudyConfig, out: Path, chosen: list[Variant]) -> list[str]:
    needed = [""]
    if any(variant.specialists for variant in chosen):
        needed += study.scenarios
    return [name for name in needed if not _teacher_path(out, name).is_file()]


def _teacher_path(out: Path, scenario: str) -> Path:
    return out / "teachers" / (scenario or "generalist") / NETWORK_FILE


def _in_turn(
    bar: Bar,
    title: str,
    work: Callable[[tuple[str, StudyConfig, Path, Path | None]], None],
    names: list[str],
    workers: int,
    path: Callable[[str], Path],
    cache: Path | None,
    study: StudyConfig,
) -> None:
    with bar(title, "trainings") as progress:
        progress(0, len(names))
        for done, _ in enumerate(fan_out(work, [(name, study, path(name), cache) for name in names], workers), 1):
            progress(done, len(names))


def _teach(task: tuple[str, StudyConfig, Path, Path | None]) -> None:
    """Train the generalist, or a scenario's specialist."""
    name, study, path, cache = task
    settings = {**study.loop, **(study.specialist if name else study.teacher)}
    network = {**study.network, **settings.pop("network", {}), "head": "value", "residual_price": study.residual_price}
    scenarios = [name] if name else list(study.scenarios)
    config = PrivilegedConfig.model_validate({**settings, "scenarios": scenarios, "network": network})
    save_network(
        trainer.train(config, PrivilegedObjective(config), path.parent, resume=True, cache=cache),
        path,
        {"config": config.model_dump(mode="json")},
    )


def _train(task: _Task) -> None:
    torch.set_num_threads(1)
    change = dict(task.variant.change)
    network = {**task.study.network, **change.pop("network", {})}
    settings = {**task.study.loop, **change, "scenarios": list(task.study.scenarios), "seed": task.seed}
    network_of = {"distilled": _distilled, "privileged": _privileged, "dqn": _dqn}[task.variant.kind]
    trained = network_of(task, settings, network)
    save_network(trained, task.path, {"variant": task.variant.name, "seed": task.seed})


def _distilled(task: _Task, settings: dict[str, Any], network: dict[str, Any]) -> Network:
    config = DistillConfig.model_validate({**settings, "network": network})
    given = task.teachers
    paths = {name: given[name] for name in task.study.scenarios} if task.variant.specialists else {"": given[""]}
    teachers = Teachers(paths, config)
    objective = DistillationObjective(config, teachers)
    identity = {"teachers": teachers.identity}
    return trainer.train(config, objective, task.path.parent, identity=identity, resume=True, cache=task.cache)


def _privileged(task: _Task, settings: dict[str, Any], network: dict[str, Any]) -> Network:
    network = {**network, "head": "value", "residual_price": task.study.residual_price}
    config = PrivilegedConfig.model_validate({**settings, "network": network})
    return trainer.train(config, PrivilegedObjective(config), task.path.parent, resume=True, cache=task.cache)


def _dqn(task: _Task, settings: dict[str, Any], network: dict[str, Any]) -> Network:
    from distila.training.teachers.dqn import DqnConfig, train_dqn  # TorchRL takes seconds to import

    config = DqnConfig.model_validate({**settings, **task.study.dqn, "network": network})
    return train_dqn(config, task.path.parent, resume=True, cache=task.cache)


def _judge(
    study: StudyConfig,
    out: Path,
    chosen: list[Variant],
    tasks: list[_Task],
    teacher: Path,
    bar: Bar,
    jobs: int,
    cache: Path | None,
) -> dict[str, Any]:
    """The benchmark's results.json; the policies are named ``variant/seed``."""
    policies = [replace(parse_policy(str(task.path)), name=f"{task.variant.name}/{task.seed}") for task in tasks]
    if any(variant.name == TEACHER for variant in chosen):
        policies.append(replace(parse_policy(str(teacher)), name=f"{TEACHER}/0"))
    benchmark = Benchmark(
        policies=tuple(policies),
        scenarios=tuple(find_scenario(name) for name in (*study.scenarios, *study.unseen)),
        sizes=Sizes(study.benchmark_links, study.benchmark_duration_ms, bank_rows=48, bank_slots=study.bank_slots),
        seeds=tuple(range(study.benchmark_seeds)),
        sweep_periods_ms=(),
        cache=cache,
    )
    with bar("test: fading banks", "banks") as on_bank, bar("test", "runs") as on_episode:
        return run_benchmark(benchmark, out / "benchmark", jobs, on_bank, on_episode)


def _table(study: StudyConfig, chosen: list[Variant], results: Mapping[str, Any]) -> list[dict[str, Any]]:
    families = results["families"]

    def gains(variant: Variant, names: tuple[str, ...]) -> list[float]:
        """Mean gain over families [%] of each seed."""
        seeds = [0] if variant.kind == "teacher" else range(study.seeds)
        return [
            sum(families[name]["policies"][f"{variant.name}/{seed}"]["gain_vs_olla_pct"]["mean"] for name in names)
            / len(names)
            for seed in seeds
        ]

    reference = gains(VARIANTS[0], study.scenarios)
    found = []
    for variant in chosen:
        ours = gains(variant, study.scenarios)
        entry: dict[str, Any] = {
            "name": variant.name,
            "question": variant.question,
            "what": variant.what,
            "seen": interval(ours),
            "unseen": interval(gains(variant, study.unseen)) if study.unseen else None,
            "against_student": None,
        }
        if len(ours) == len(reference) and variant.name != REFERENCE:
            entry["against_student"] = interval([a - b for a, b in zip(ours, reference, strict=True)])
        found.append(entry)
    return found
