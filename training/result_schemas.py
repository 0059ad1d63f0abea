"""Writes the JSON schemas of all result files into docs/schemas, from the models that write and read the files.

    python -m distila.training.result_schemas

A new kind of result file gets its line in `MODELS`.
"""

import json
from pathlib import Path
from typing import Final

from pydantic import BaseModel, JsonValue

from distila.replay import bench_results
from distila.replay.rollouts.results import AaStudy, PowerStudy, SimulationSummary
from distila.replay.summary import ClosedLoopSummary, OpenLoopSummary
from distila.training.ablation.study import AblationResults
from distila.training.benchmark.results import BenchmarkResults
from distila.training.resource.contest import ContestResults
from distila.training.resource.study import FigureResults
from distila.training.student.build import BuildSummary
from distila.training.student.search import SearchResults
from distila.xapp.files import write_text
from distila.xapp.policy.check import PolicyCheck
from distila.xapp.rollout.audit import AuditFile, Entry
from distila.xapp.rollout.verdict import Evaluation

MODELS: Final[dict[str, type[BaseModel]]] = {
    "replay-closed-loop": ClosedLoopSummary,
    "replay-open-loop": OpenLoopSummary,
    "policy-check": PolicyCheck,
    "rollout-audit": AuditFile,
    "rollout-audit-entry": Entry,
    "rollout-evaluation": Evaluation,
    "rollout-simulation": SimulationSummary,
    "rollout-aa": AaStudy,
    "rollout-power": PowerStudy,
    "bench-loop": bench_results.LoopBench,
    "bench-loop-e2ap": bench_results.E2apLoopBench,
    "bench-loop-rmr": bench_results.RmrLoopBench,
    "bench-replay": bench_results.ReplayBench,
    "bench-edgeric": bench_results.EdgericBench,
    "bench-rollout": bench_results.RolloutBench,
    "bench-sim": bench_results.SimBench,
    "bench-harq": bench_results.HarqBench,
    "benchmark": BenchmarkResults,
    "student-build": BuildSummary,
    "student-search": SearchResults,
    "ablation": AblationResults,
    "resource-bench": ContestResults,
    "resource-figure": FigureResults,
}
"""Name of the schema's file, and the model."""

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "schemas"
_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema(name: str) -> dict[str, JsonValue]:
    """The JSON schema of one kind of result file, as the file is written."""
    return {"$schema": _DRAFT, **MODELS[name].model_json_schema(mode="serialization")}


def path(name: str) -> Path:
    """The file of a schema."""
    return FOLDER / f"{name}.schema.json"


def text(name: str) -> str:
    """The content of that file."""
    return json.dumps(schema(name), indent=2) + "\n"


def main() -> None:
    """Write all of them."""
    for name in MODELS:
        write_text(path(name), text(name))
        print(path(name).relative_to(FOLDER.parents[1]))


if __name__ == "__main__":
    main()
