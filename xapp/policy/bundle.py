"""Policy bundles: raw KPIs in, MCS out. A directory with ``policy.onnx`` and ``manifest.json``.

All feature engineering, normalisation and state update live inside the graph, so that training and serving cannot drift
apart. The graph's contract, version `CONTRACT`:

==================  ==================  ==========================================================================
tensor              shape               meaning
==================  ==================  ==========================================================================
in ``report``       float32 [n, R]      raw units, NaN = not measured; columns named in the manifest
in ``state``        float32 [n, S]      opaque memory of each UE; zeros for a new UE
out ``score``       float32 [n, M]      one value per action
out ``action``      int64 [n]           index of the greedy action
out ``next_state``  float32 [n, S]      to be handed back with the UE's next report
==================  ==================  ==========================================================================

`load_bundle` trusts nothing: digest, contract, tensor names and shapes, and the manifest's golden vectors are all
checked before a policy decides for a UE. Each error is one line: which file, what is wrong.
"""

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnxruntime as ort
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from distila.xapp.errors import InputError, first_error, one_line
from distila.xapp.files import read_model, replacing_directory, write_json
from distila.xapp.kpi.observations import UNITS
from distila.xapp.nr.arrays import Float32Array, IntArray
from distila.xapp.nr.mcs import NUM_MCS
from distila.xapp.policy.benchmark_figures import BenchmarkRun, PolicyBenchmark, is_run
from distila.xapp.policy.columns import Layout
from distila.xapp.shipped import Shipped, package_folder

CONTRACT: Final = "distila-policy/1"
GRAPH_FILE: Final = "policy.onnx"
MANIFEST_FILE: Final = "manifest.json"
DEFAULT_POLICY: Final = "student"
"""The policy that runs by default, of those that ship."""
BUNDLES: Final = Shipped("policy bundle", package_folder("distila.xapp.policy", "bundles"), f"*/{MANIFEST_FILE}")
"""Policy bundles by directory or name: ``BUNDLES.find("student")``."""
MAX_GRAPH_BYTES: Final = 125_000
"""1 Mbit, the memory that arXiv 2511.06563 grants a policy on baseband hardware."""

_TOLERANCE: Final = 1e-4


class Action(BaseModel):
    """What one action of a policy means: ``Action(kind="mcs", value=9)``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["mcs", "mcs_offset", "native"] = Field(
        description="an absolute MCS, an offset to the DU's own MCS, or the DU's own choice"
    )
    value: int = Field(
        default=0, ge=-(NUM_MCS - 1), le=NUM_MCS - 1, description="the MCS index or the offset; 0 for native"
    )

    @model_validator(mode="after")
    def _sane(self) -> "Action":
        if self.kind == "mcs" and self.value < 0:
            raise ValueError(f"an absolute MCS of {self.value}")
        if self.kind == "native" and self.value:
            raise ValueError("an action of kind native takes no value")
        return self


class Golden(BaseModel):
    """Inputs with the outputs that the graph must give, so that a damaged graph or runtime shows at load time."""

    model_config = ConfigDict(extra="forbid")

    report: list[list[float | None]]
    state: list[list[float]]
    score: list[list[float]]
    action: list[int]
    next_state: list[list[float]]


class Manifest(BaseModel):
    """``manifest.json``. Everything a person or a program needs to know about a policy."""

    model_config = ConfigDict(extra="forbid")

    contract: str = CONTRACT
    name: str = Field(min_length=1, max_length=80)
    version: str = Field(min_length=1, max_length=40)
    description: str = ""
    columns: list[str] = Field(min_length=1, description="names of the columns of `report`, in order")
    units: dict[str, str] = Field(description="unit of each column")
    state_size: int = Field(ge=0, le=4096)
    actions: list[Action] = Field(min_length=1)
    mcs_tables: list[Literal[1, 2, 3]] = Field(
        min_length=1, description="MCS tables (TS 38.214) that the policy was made for"
    )
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="sha256 of policy.onnx, in hexadecimal")
    training: dict[str, JsonValue] = Field(description="how it was made: configuration, commit, seed")
    benchmark: PolicyBenchmark = Field(default_factory=dict, description="runs of the benchmark by name")
    other_figures: dict[str, JsonValue] = Field(
        default_factory=dict, description="figures of the author's own, which are only shown"
    )
    latency_us: dict[str, float] = Field(default_factory=dict, description="measured times of one session.run [us]")
    golden: Golden

    @model_validator(mode="before")
    @classmethod
    def _figures_of_any_form(cls, data: Any) -> Any:
        """Keep apart what is no run of the benchmark: bundles of distila 0.1 could have anything there."""
        if not isinstance(data, dict) or not isinstance(data.get("benchmark"), dict):
            return data
        section = data["benchmark"]
        runs = {name: run for name, run in section.items() if is_run(run)}
        others = {name: figure for name, figure in section.items() if name not in runs}
        if not others:
            return data
        return {**data, "benchmark": runs, "other_figures": {**data.get("other_figures", {}), **others}}

    @field_validator("contract")
    @classmethod
    def _known_contract(cls, value: str) -> str:
        if value != CONTRACT:
            raise ValueError(f"contract is {value!r}, this version reads {CONTRACT!r}")
        return value

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, value: list[str]) -> list[str]:
        Layout(value)
        return value


@dataclass(frozen=True)
class Bundle:
    """A policy bundle that was read and checked, ready to run; `load_bundle` makes one.

    Attributes:
        path: the directory that it was read from.
        manifest: columns, actions, state size, provenance.
        session: the graph in ONNX Runtime, on one thread.
        graph_bytes: size of ``policy.onnx`` [byte].
    """

    path: Path
    manifest: Manifest
    session: ort.InferenceSession
    graph_bytes: int

    @property
    def digest(self) -> str:
        """sha256 of the graph, hex: what a decision carries to say who made it."""
        return self.manifest.sha256

    def run(self, report: Float32Array, state: Float32Array) -> tuple[Float32Array, IntArray, Float32Array]:
        """One batch through the graph: score [n, M], action [n], next_state [n, S]."""
        score, action, next_state = self.session.run(
            ["score", "action", "next_state"], {"report": report, "state": state}
        )
        return score, action, next_state


def run_times_us(bundle: Bundle, report: Float32Array, state: Float32Array, runs: int) -> dict[str, float]:
    """Time of one call of the graph on a batch [us]: ``p50`` and ``p99`` over ``runs``, after a warm-up."""
    times = np.empty(runs)
    for run in range(-50, runs):
        start_ns = time.perf_counter_ns()
        bundle.run(report, state)
        if run >= 0:
            times[run] = (time.perf_counter_ns() - start_ns) / 1000
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}


def load_bundle(policy: str | Path) -> Bundle:
    """Read and check a policy bundle.

    Args:
        policy: its directory, or the name of one that ships with distila, such as ``student``.

    Raises:
        InputError: there is no such bundle, or one of its files is wrong; one line that names it and says why.
    """
    path = BUNDLES.find(policy)
    manifest_path, graph_path = path / MANIFEST_FILE, path / GRAPH_FILE
    for needed in (manifest_path, graph_path):
        if not needed.is_file():
            raise InputError(f"{path}: no policy bundle, {needed.name} is missing")
    manifest = read_model(manifest_path, Manifest)
    size = graph_path.stat().st_size
    if size > MAX_GRAPH_BYTES:
        raise InputError(f"{graph_path}: {size} bytes, a policy has at most {MAX_GRAPH_BYTES} (1 Mbit)")
    graph = graph_path.read_bytes()
    digest = hashlib.sha256(graph).hexdigest()
    if digest != manifest.sha256:
        raise InputError(f"{graph_path}: sha256 is {digest[:12]}..., {MANIFEST_FILE} says {manifest.sha256[:12]}...")
    session = _session(graph_path, graph)
    _check_tensors(graph_path, session, manifest)
    bundle = Bundle(path, manifest, session, len(graph))
    _check_golden(bundle)
    return bundle


def write_bundle(
    path: str | Path,
    graph: bytes,
    *,
    name: str,
    version: str,
    columns: list[str],
    state_size: int,
    actions: list[Action],
    mcs_tables: list[Literal[1, 2, 3]],
    training: Mapping[str, JsonValue],
    golden_report: Float32Array,
    golden_state: Float32Array,
    description: str = "",
    benchmark: Mapping[str, BenchmarkRun] | None = None,
    latency_us: dict[str, float] | None = None,
) -> Bundle:
    """Write a bundle and read it back; nothing is left behind unless the whole of it loads.

    Args:
        path: the directory to create; one that exists is replaced.
        graph: the serialised ONNX model; its contract is in the module's docstring.
        name: of the policy.
        version: of the policy.
        columns: of the input ``report``, R names out of `distila.xapp.kpi.observations.UNITS`.
        state_size: S, numbers of memory that the graph keeps for a UE.
        actions: what each of the M outputs of ``score`` means, in order.
        mcs_tables: MCS tables (TS 38.214) that the policy was made for; for a UE with another one the DU decides.
        training: how the policy was made, for the record: configuration, commit, seed.
        golden_report: float32 [g, R], reports to freeze as golden vectors, raw units; include rows with NaN.
        golden_state: float32 [g, S], the states that go with them.
        description: what the policy is, in a sentence.
        benchmark: runs of the benchmark by name.
        latency_us: measured times of one call of the graph by batch [us].

    Returns:
        The bundle, read back from ``path``.

    Raises:
        InputError: the graph does not keep the contract, a field of the manifest is wrong, or the directory cannot be
            written.
    """
    path = Path(path)
    with replacing_directory(path) as partial:
        manifest = _manifest(
            name=name,
            version=version,
            description=description,
            columns=columns,
            units={column: UNITS.get(column, "") for column in columns},
            state_size=state_size,
            actions=actions,
            mcs_tables=mcs_tables,
            sha256=hashlib.sha256(graph).hexdigest(),
            training=dict(training),
            benchmark=dict(benchmark or {}),
            latency_us=latency_us or {},
            golden=Golden(report=[], state=[], score=[], action=[], next_state=[]),
        )
        manifest.golden = _golden(path / GRAPH_FILE, graph, manifest, golden_report, golden_state)
        (partial / GRAPH_FILE).write_bytes(graph)
        write_json(partial / MANIFEST_FILE, manifest.model_dump(mode="json", exclude={"other_figures"}), indent=1)
        load_bundle(partial)
    return load_bundle(path)


def _manifest(**fields: Any) -> Manifest:
    try:
        return Manifest(**fields)
    except ValidationError as error:
        raise InputError(f"{MANIFEST_FILE}: {first_error(error)}") from None


def _golden(graph_path: Path, graph: bytes, manifest: Manifest, report: Float32Array, state: Float32Array) -> Golden:
    """The golden vectors: the given inputs with what the graph makes of them."""
    session = _session(graph_path, graph)
    _check_tensors(graph_path, session, manifest)
    try:
        score, action, next_state = session.run(
            ["score", "action", "next_state"],
            {"report": report.astype(np.float32), "state": state.astype(np.float32)},
        )
    except Exception as error:  # see _session
        raise InputError(f"{graph_path}: fails on the golden reports: {one_line(error)}") from None
    _check_finite(graph_path, score, next_state)
    return Golden(
        report=[[None if math.isnan(x) else x for x in row] for row in report.tolist()],
        state=state.tolist(),
        score=np.asarray(score).tolist(),
        action=np.asarray(action).tolist(),
        next_state=np.asarray(next_state).tolist(),
    )


def _session(graph_path: Path, graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # One thread: a policy of a few thousand weights is faster than the hand-over to a second one.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # errors reach the caller as exceptions
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own that share no base but Exception
        raise InputError(f"{graph_path}: not a graph that ONNX Runtime can run: {one_line(error)}") from None


def _check_tensors(graph_path: Path, session: ort.InferenceSession, manifest: Manifest) -> None:
    columns, state, actions = len(manifest.columns), manifest.state_size, len(manifest.actions)
    expected = {
        "report": ("tensor(float)", columns),
        "state": ("tensor(float)", state),
        "score": ("tensor(float)", actions),
        "action": ("tensor(int64)", None),
        "next_state": ("tensor(float)", state),
    }
    found = {node.name: node for node in [*session.get_inputs(), *session.get_outputs()]}
    if sorted(found) != sorted(expected):
        raise InputError(
            f"{graph_path}: tensors are {', '.join(sorted(found))}; expected {', '.join(sorted(expected))}"
        )
    for name, (dtype, width) in expected.items():
        node = found[name]
        shape = list(node.shape)
        rank = 1 if width is None else 2
        # A dimension that is no number is free, which the batch must be and the width must not.
        if (
            node.type != dtype
            or len(shape) != rank
            or isinstance(shape[0], int)
            or (width is not None and shape[1] != width)
        ):
            expected_shape = "[n]" if width is None else f"[n, {width}]"
            raise InputError(f"{graph_path}: tensor {name!r} is {node.type} {shape}, expected {dtype} {expected_shape}")


def _check_golden(bundle: Bundle) -> None:
    graph_path, golden, manifest = bundle.path / GRAPH_FILE, bundle.manifest.golden, bundle.manifest
    count = len(golden.action)
    if count == 0:
        raise InputError(f"{bundle.path / MANIFEST_FILE}: golden.action is empty, at least one vector is needed")
    report, state = _array(golden.report), _array(golden.state)
    shapes = {
        "report": (report, (count, len(manifest.columns))),
        "state": (state, (count, manifest.state_size)),
        "score": (_array(golden.score), (count, len(manifest.actions))),
        "next_state": (_array(golden.next_state), (count, manifest.state_size)),
    }
    for name, (array, shape) in shapes.items():
        if array.shape != shape:
            raise InputError(
                f"{bundle.path / MANIFEST_FILE}: golden.{name} is {list(array.shape)}, expected {list(shape)}"
            )
    try:
        score, action, next_state = bundle.run(report, state)
    except Exception as error:  # see _session
        raise InputError(f"{graph_path}: fails on the golden vectors: {one_line(error)}") from None
    _check_finite(graph_path, score, next_state)
    if not ((action >= 0) & (action < len(manifest.actions))).all():
        raise InputError(f"{graph_path}: action is {action.min()} to {action.max()}, there are {len(manifest.actions)}")
    if not np.array_equal(action, golden.action):
        row = int(np.flatnonzero(action != golden.action)[0])
        raise InputError(
            f"{graph_path}: action is {action[row]} on golden vector {row}, {MANIFEST_FILE} says {golden.action[row]}"
        )
    for name, found, expected in (("score", score, golden.score), ("next_state", next_state, golden.next_state)):
        difference = np.abs(found - np.array(expected))
        if difference.size and (difference > _TOLERANCE * (1 + np.abs(expected))).any():
            raise InputError(f"{graph_path}: {name} differs from the golden vectors by {difference.max():.2g}")
    if not np.array_equal(np.argmax(score, axis=1), action):
        raise InputError(f"{graph_path}: action is not the argmax of score")


def _check_finite(graph_path: Path, score: Float32Array, next_state: Float32Array) -> None:
    for name, array in (("score", score), ("next_state", next_state)):
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
            raise InputError(f"{graph_path}: {name} is not finite on golden vector {row}")


def _array(rows: list[list[float | None]] | list[list[float]]) -> Float32Array:
    widths = {len(row) for row in rows}
    if len(widths) != 1:
        return np.empty((0, 0), np.float32)
    flat = [math.nan if x is None else x for row in rows for x in row]
    return np.array(flat, np.float32).reshape(len(rows), widths.pop())
