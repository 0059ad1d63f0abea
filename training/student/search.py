"""The search for a student's size: the most goodput among sizes that are small and fast enough.

Every candidate is distilled from the same teacher by the same configuration except for its hidden layers, exported,
timed in ONNX Runtime on this machine, and evaluated on validation seeds; test seeds are for the student that ships.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, JsonValue

from distila.training.benchmark.policies import parse_policy
from distila.training.benchmark.results import BenchmarkResults
from distila.training.benchmark.suite import Benchmark, run_benchmark
from distila.training.distill.distill import DistillConfig, Teachers, distilled
from distila.training.learning.trainings import Bar
from distila.training.network.export import export_bundle
from distila.training.sim.scenario import DOMAINS, find_scenario
from distila.training.sim.split import Split
from distila.training.student.recipe import Evaluation
from distila.xapp.errors import InputError
from distila.xapp.files import check_writable, write_json
from distila.xapp.result_file import ResultFile, ResultModel

SEARCH_FILE: Final = "search.json"


class Limits(ResultModel):
    """Largest size and latency of a student."""

    graph_bytes: int = Field(default=20_000, description="size of the graph [bytes]")
    one_ue_us: float = Field(default=100.0, description="p50 of session.run for 1 UE [us]")
    hundred_ues_us: float = Field(default=30.0, description="p50 of session.run for 100 UEs [us]")


class Candidate(ResultModel):
    """A size that was tried."""

    hidden: tuple[int, ...] = Field(description="widths of the hidden layers")
    graph_bytes: int = Field(description="size of the graph [bytes]")
    one_ue_us: float = Field(description="p50 of session.run for 1 UE [us]")
    hundred_ues_us: float = Field(description="p50 of session.run for 100 UEs [us]")
    gain_pct: float = Field(description="gain in goodput over tuned OLLA, mean over families, validation seeds [%]")
    fits: bool = Field(description="whether it is within the limits")


class SearchResults(ResultFile):
    """The content of ``search.json``."""

    kind: Literal["search"] = "search"
    version: Literal[1] = 1
    limits: Limits
    candidates: tuple[Candidate, ...] = Field(description="the best one within the limits first")


def parse_sizes(text: str) -> list[tuple[int, ...]]:
    """Sizes as ``16,32x32,48x48``.

    Raises:
        InputError: a part is not a size, or a size occurs twice.
    """
    sizes = []
    for part in text.split(","):
        widths = part.strip().split("x")
        if not all(width.isdecimal() and int(width) > 0 for width in widths):
            raise InputError(f"--sizes {text!r}: {part.strip()!r} is not a size; expected widths such as 32x32")
        sizes.append(tuple(int(width) for width in widths))
    if len(set(sizes)) < len(sizes):
        raise InputError(f"--sizes {text!r}: a size occurs twice")
    return sizes


def search(
    config: DistillConfig,
    teacher: Path,
    sizes: Sequence[tuple[int, ...]],
    limits: Limits,
    evaluation: Evaluation,
    out: Path,
    bar: Bar,
    jobs: int = 1,
    cache: Path | None = None,
) -> SearchResults:
    """Distil, time and evaluate every size, and write ``search.json`` into ``out``.

    Args:
        config: configuration of the distillation; its hidden layers are replaced.
        teacher: file of the teacher's network.
        sizes: hidden layers to try.
        limits: largest size and latency.
        evaluation: families, links, duration, seeds and banks of the evaluation.
        out: directory; an interrupted search continues.
        bar: for the progress of each step.
        jobs: number of processes of the benchmark.
        cache: directory of fading banks; None: the user's.

    Raises:
        InputError: see `distila.training.learning.trainer.train` and `distila.training.benchmark.suite.run_benchmark`.
    """
    # Before the training, so that an unknown family does not cost its time.
    names = config.scenarios if evaluation.scenarios == "all" else evaluation.scenarios
    scenarios = tuple(find_scenario(name) for name in dict.fromkeys(names) if name not in DOMAINS)
    check_writable(out)
    bundles = {}
    for hidden in sizes:
        sized = config.model_copy(update={"network": config.network.model_copy(update={"hidden": hidden})})
        teachers = Teachers({"": teacher}, sized)
        network = distilled(_name(hidden), sized, teachers, out / "runs" / _name(hidden), bar, cache=cache)
        path = out / "bundles" / _name(hidden)
        about: dict[str, JsonValue] = {"kind": "candidate of a search", "config": config.model_dump(mode="json")}
        bundles[hidden] = export_bundle(network, path, name=_name(hidden), version="0", training=about)
    benchmark = Benchmark(
        policies=tuple(parse_policy(str(bundle.path)) for bundle in bundles.values()),
        scenarios=scenarios,
        sizes=evaluation.of_a_run,
        seeds=tuple(range(evaluation.seeds)),
        split=Split.VALIDATION,
        targets=(),
        sweep_periods_ms=(),
        cache=cache,
    )
    with bar("validation: fading banks", "banks") as on_bank, bar("validation", "runs") as on_episode:
        benchmarked = run_benchmark(benchmark, out / "benchmark", jobs, on_bank, on_episode)
    found = []
    for hidden, bundle in bundles.items():
        latency = bundle.manifest.latency_us
        one, hundred = latency["1_ue_p50"], latency["100_ue_p50"]
        fits = bundle.graph_bytes <= limits.graph_bytes and one <= limits.one_ue_us and hundred <= limits.hundred_ues_us
        gain = _mean_gain(benchmarked, str(bundle.path))
        found.append(
            Candidate(
                hidden=hidden,
                graph_bytes=bundle.graph_bytes,
                one_ue_us=one,
                hundred_ues_us=hundred,
                gain_pct=gain,
                fits=fits,
            )
        )
    found.sort(key=lambda each: (not each.fits, -each.gain_pct))
    results = SearchResults(limits=limits, candidates=tuple(found))
    write_json(out / SEARCH_FILE, results)
    return results


def _name(hidden: tuple[int, ...]) -> str:
    return "x".join(map(str, hidden))


def _mean_gain(results: BenchmarkResults, policy: str) -> float:
    gains = [family.policies[policy].gain_vs_olla_pct.mean for family in results.against_tuned.families.values()]
    known = [gain for gain in gains if gain is not None]
    if len(known) < len(gains):
        raise InputError(f"{policy}: nothing was sent in some family; use more --links or a longer --duration-ms")
    return round(sum(known) / len(known), 3)
