"""The search for a student's size: the most goodput among those that are small and fast enough.

Every candidate is distilled from one teacher by one configuration but for its hidden layers, exported, timed in ONNX
Runtime on this machine, and judged on validation seeds; test seeds are for the student that ships.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from distila.replay.atomic_file import check_writable, replacing
from distila.training.benchmark.policies import parse_policy
from distila.training.benchmark.suite import Benchmark, run_benchmark
from distila.training.distill.distill import DistillConfig, Teachers
from distila.training.network.export import export_bundle
from distila.training.sim.scenario import find_scenario
from distila.training.sim.split import Split
from distila.training.student.build import Bar, distilled
from distila.training.student.recipe import BenchmarkSizes
from distila.xapp.errors import InputError

SEARCH_FILE: Final = "search.json"


@dataclass(frozen=True)
class Limits:
    """What a student may take."""

    graph_bytes: int = 20_000
    one_ue_us: float = 100.0
    """p50 of ``session.run`` for one UE"""
    hundred_ues_us: float = 30.0
    """and for 100"""


@dataclass(frozen=True)
class Candidate:
    """A size, and what came of it."""

    hidden: tuple[int, ...]
    graph_bytes: int
    one_ue_us: float
    hundred_ues_us: float
    gain_pct: float
    """in goodput over tuned OLLA, mean over the families, validation seeds"""
    fits: bool


def parse_sizes(text: str) -> list[tuple[int, ...]]:
    """Sizes as ``16,32x32,48x48``.

    Raises:
        InputError: a size that is none, or one twice.
    """
    sizes = []
    for part in text.split(","):
        widths = part.strip().split("x")
        if not all(width.isdecimal() and int(width) > 0 for width in widths):
            raise InputError(f"--sizes {text!r}: {part.strip()!r} is no size; expected widths as 32x32")
        sizes.append(tuple(int(width) for width in widths))
    if len(set(sizes)) < len(sizes):
        raise InputError(f"--sizes {text!r}: a size is there twice")
    return sizes


def search(
    config: DistillConfig,
    teacher: Path,
    sizes: Sequence[tuple[int, ...]],
    limits: Limits,
    judged: BenchmarkSizes,
    out: Path,
    bar: Bar,
    jobs: int = 1,
    cache: Path | None = None,
) -> list[Candidate]:
    """Distil, time and judge every size, and write ``search.json`` into ``out``; the best that fits comes first.

    Args:
        config: of the distillation; its hidden layers are replaced.
        teacher: file of the teacher's network.
        sizes: hidden layers to try.
        limits: that the one chosen must keep.
        judged: families, links, duration and banks of the judgement.
        out: directory; an interrupted search goes on where it was.
        bar: for the progress of each step.
        jobs: processes of the benchmark.
        cache: directory of fading banks; None: the user's.

    Raises:
        InputError: see `distila.training.learning.trainer.train` and `distila.training.benchmark.suite.run_benchmark`.
    """
    check_writable(out)
    bundles = {}
    for hidden in sizes:
        sized = config.model_copy(update={"network": config.network.model_copy(update={"hidden": hidden})})
        teachers = Teachers({"": teacher}, sized)
        network = distilled(_name(hidden), sized, teachers, out / "runs" / _name(hidden), bar, cache=cache)
        path = out / "bundles" / _name(hidden)
        about = {"kind": "candidate of a search", "config": config.model_dump(mode="json")}
        bundles[hidden] = export_bundle(network, path, name=_name(hidden), version="0", training=about)
    names = config.scenarios if judged.scenarios == "all" else judged.scenarios
    benchmark = Benchmark(
        policies=tuple(parse_policy(str(bundle.path)) for bundle in bundles.values()),
        scenarios=tuple(find_scenario(name) for name in dict.fromkeys(names) if name != "domain"),
        sizes=judged.of_a_run,
        seeds=tuple(range(judged.seeds)),
        split=Split.VALIDATION,
        sweep_periods_ms=(),
        cache=cache,
    )
    with bar("validation: fading banks", "banks") as on_bank, bar("validation", "runs") as on_episode:
        results = run_benchmark(benchmark, out / "benchmark", jobs, on_bank, on_episode)
    found = []
    for hidden, bundle in bundles.items():
        latency = bundle.manifest.latency_us
        one, hundred = latency["1_ue_p50"], latency["100_ue_p50"]
        fits = bundle.graph_bytes <= limits.graph_bytes and one <= limits.one_ue_us and hundred <= limits.hundred_ues_us
        gain = _mean_gain(results, str(bundle.path))
        found.append(Candidate(hidden, bundle.graph_bytes, one, hundred, gain, fits))
    found.sort(key=lambda each: (not each.fits, -each.gain_pct))
    summary = {"kind": "search", "limits": asdict(limits), "candidates": [asdict(each) for each in found]}
    with replacing(out / SEARCH_FILE) as partial:
        partial.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    return found


def _name(hidden: tuple[int, ...]) -> str:
    return "x".join(map(str, hidden))


def _mean_gain(results: dict[str, Any], policy: str) -> float:
    gains = [family["policies"][policy]["gain_vs_olla_pct"]["mean"] for family in results["families"].values()]
    if any(gain is None or not math.isfinite(gain) for gain in gains):
        raise InputError(f"{policy}: a family without anything to send; take more links or a longer --duration-ms")
    return round(float(sum(gains)) / len(gains), 3)
