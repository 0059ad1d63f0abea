"""Policy bundles: written, read back, and refused in one line; the report matrix that their graphs are fed."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kpi_reports import kpi_report

from distila.xapp.errors import InputError
from distila.xapp.kpi.observations import MEASURED, UNITS
from distila.xapp.kpi.report import KpiReport
from distila.xapp.policy.benchmark_figures import OWN_TIMING, BenchmarkRun
from distila.xapp.policy.bundle import (
    BUNDLES,
    GRAPH_FILE,
    MANIFEST_FILE,
    MAX_GRAPH_BYTES,
    Action,
    Bundle,
    load_bundle,
    write_bundle,
)
from distila.xapp.policy.columns import Layout
from distila.xapp.result_file import Estimate

onnx = pytest.importorskip("onnx", reason="builds ONNX graphs")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402  # after importorskip

NAN = float("nan")
COLUMNS = ["cqi", "harq_nack"]
GAIN = {"mean": 12.1, "ci95": [11.3, 12.9]}
FIGURES = {"gain_vs_olla_pct": GAIN, "first_tx_bler": 0.55, "residual_bler": 0.0004}
RUN = BenchmarkRun.model_validate(
    {"links": 192, "duration_ms": 2500.0, "seeds": [0, 1], "split": "test", "families": {"embb": FIGURES}}
)


def graph(
    *,
    columns: int = 2,
    state: int = 1,
    actions: int = 3,
    batch: str | int = "n",
    dtype: int = TensorProto.FLOAT,
    outputs: Sequence[str] = ("score", "action", "next_state"),
    weight: float = 1.0,
    argmax: str = "ArgMax",
    padding: int = 0,
) -> bytes:
    """A policy: score = (report, NaN as 0) x weights, action = its argmax, next state = state + 1."""
    rng = np.random.default_rng(0)
    weights = (weight * rng.normal(size=(columns, actions))).astype(np.float32)
    constants = {"weights": weights, "zero": np.float32(0), "one": np.float32(1)}
    constants["padding"] = rng.integers(0, 256, padding, np.uint8)
    node = helper.make_node
    nodes = [
        node("Cast", ["report"], ["numbers"], to=TensorProto.FLOAT),
        node("IsNaN", ["numbers"], ["absent"]),
        node("Where", ["absent", "zero", "numbers"], ["known"]),
        node("MatMul", ["known", "weights"], ["score"]),
        node(argmax, ["score"], ["action"], axis=1, keepdims=0),
        node("Add", ["state", "one"], ["next_state"]),
    ]
    value = helper.make_tensor_value_info
    known = {
        "score": value("score", TensorProto.FLOAT, [batch, actions]),
        "action": value("action", TensorProto.INT64, [batch]),
        "next_state": value("next_state", TensorProto.FLOAT, [batch, state]),
    }
    made = helper.make_graph(
        nodes,
        "policy",
        [value("report", dtype, [batch, columns]), value("state", TensorProto.FLOAT, [batch, state])],
        [known[name] for name in outputs],
        initializer=[numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(made, opset_imports=opset, ir_version=9).SerializeToString())


def write(path: Path, made: bytes | None = None, **changes: Any) -> Bundle:
    settings = {
        "name": "toy",
        "version": "3",
        "columns": COLUMNS,
        "state_size": 1,
        "actions": [Action(kind="native"), Action(kind="mcs", value=9), Action(kind="mcs_offset", value=-2)],
        "mcs_tables": [1, 3],
        "training": {"seed": 4},
        "golden_report": np.array([[7, 0], [NAN, 2], [15, NAN]], np.float32),
        "golden_state": np.array([[0], [1], [2]], np.float32),
    }
    return write_bundle(path, graph() if made is None else made, **{**settings, **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "toy").path


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = path / MANIFEST_FILE
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def swap_graph(path: Path, made: bytes) -> None:
    """Another graph, its digest in the manifest: only the checks behind the digest can find it out."""
    (path / GRAPH_FILE).write_bytes(made)
    edit(path, lambda m: m.update(sha256=hashlib.sha256(made).hexdigest()))


def error_line(path: Path) -> str:
    with pytest.raises(InputError) as error:
        load_bundle(path)
    line = str(error.value)
    assert "\n" not in line
    assert str(path) in line
    return line


# ---------------------------------------------------------------- round trip


def test_a_written_file_is_read_back(tmp_path: Path) -> None:
    made = graph()
    written = write(
        tmp_path / "deep" / "toy", made, description="d", benchmark={OWN_TIMING: RUN}, latency_us={"p50": 4.0}
    )
    read = load_bundle(tmp_path / "deep" / "toy")
    assert read.manifest == written.manifest
    assert read.digest == hashlib.sha256(made).hexdigest()
    assert read.graph_bytes == len(made) == len((read.path / GRAPH_FILE).read_bytes())
    assert read.manifest.columns == COLUMNS
    assert read.manifest.units == {name: UNITS[name] for name in COLUMNS}
    assert [(a.kind, a.value) for a in read.manifest.actions] == [("native", 0), ("mcs", 9), ("mcs_offset", -2)]
    assert read.manifest.golden.report[1] == [None, 2.0], "NaN, not measured, is null"
    assert (read.manifest.training, read.manifest.benchmark) == ({"seed": 4}, {OWN_TIMING: RUN})
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["toy"], "no partial directory"


def test_a_benchmark_section_with_display_texts_as_keys_is_read(path: Path) -> None:
    sizes = {"links": 192, "duration_ms": 2500.0, "seeds": [0, 1], "split": "test"}
    families = {"embb": {"gain [%]": GAIN, "BLER": 0.55, "given up": 0.0004}}
    averages = {"mean gain [%], five": GAIN, "mean gain [%], seen real-time": GAIN}
    old = {
        "own E2 timing": {**sizes, **averages, "families": families},
        "E2 period 2.5 ms": {**sizes, "families": families},
    }
    edit(path, lambda manifest: manifest.update(benchmark=old))
    own, slow = load_bundle(path).manifest.benchmark.items()
    groups = {"five": Estimate.model_validate(GAIN), "seen_real_time": Estimate.model_validate(GAIN)}
    assert own == (OWN_TIMING, RUN.model_copy(update={"averages": groups}))
    assert slow == ("e2_period_2.5_ms", RUN.model_copy(update={"e2_period_ms": 2.5}))


def test_figures_of_the_authors_own_are_kept(path: Path) -> None:
    edit(path, lambda manifest: manifest.update(benchmark={"gain": 1.5, OWN_TIMING: RUN.model_dump(mode="json")}))
    manifest = load_bundle(path).manifest
    assert manifest.benchmark == {OWN_TIMING: RUN}
    assert manifest.other_figures == {"gain": 1.5}


def test_a_benchmark_run_that_lacks_a_figure_is_one_line(path: Path) -> None:
    edit(path, lambda manifest: manifest.update(benchmark={OWN_TIMING: {"families": {}, "links": 0}}))
    assert f"benchmark.{OWN_TIMING}.links = 0" in error_line(path)


def test_the_shipped_student_says_how_it_did() -> None:
    runs = load_bundle("student").manifest.benchmark
    assert list(runs) == [OWN_TIMING, "e2_period_10_ms", "e2_period_20_ms", "e2_period_100_ms"]
    assert [(run.e2_period_ms, run.e2_delay_ms) for run in runs.values()] == [(None, None), (10, 5), (20, 5), (100, 5)]
    assert runs[OWN_TIMING].averages["five"].mean == 12.07
    assert runs["e2_period_100_ms"].families["embb"].residual_bler == pytest.approx(0.00048, abs=1e-5)


def test_a_bundle_runs_any_batch_and_hands_the_state_on(path: Path) -> None:
    bundle = load_bundle(path)
    for n in (1, 5):
        report, state = np.full((n, 2), NAN, np.float32), np.arange(n, dtype=np.float32)[:, None]
        score, action, next_state = bundle.run(report, state)
        assert (score.dtype, score.shape) == (np.float32, (n, 3))
        assert (action.dtype, action.shape) == (np.int64, (n,))
        assert next_state.tolist() == (state + 1).tolist()


def test_a_policy_without_memory(tmp_path: Path) -> None:
    write(tmp_path / "toy", graph(state=0), state_size=0, golden_state=np.zeros((3, 0), np.float32))
    assert load_bundle(tmp_path / "toy").manifest.state_size == 0


def test_writing_replaces_a_bundle_whole(path: Path) -> None:
    (path / "left-over").touch()
    assert write(path, version="4").manifest.version == "4"
    assert not (path / "left-over").exists()


@pytest.mark.parametrize("made", [b"no graph", graph(padding=MAX_GRAPH_BYTES), graph(weight=NAN), graph(batch=3)])
def test_a_write_that_fails_leaves_everything_as_it_was(path: Path, made: bytes) -> None:
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(InputError):
        write(path, made)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    with pytest.raises(InputError):
        write(path.parent / "new", made)
    assert [entry.name for entry in path.parent.iterdir()] == ["toy"]


@pytest.mark.parametrize(
    "changes",
    [
        {"made": graph(outputs=("score", "action"))},
        {"made": graph(columns=5)},
        {"made": graph(dtype=TensorProto.DOUBLE)},
        {"columns": ["cqi", "moon_phase"]},
    ],
)
def test_a_bundle_that_cannot_be_written_is_an_input_error_of_one_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        write(tmp_path / "toy", **changes)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("file", [MANIFEST_FILE, GRAPH_FILE])
def test_a_missing_file_is_named(path: Path, file: str) -> None:
    (path / file).unlink()
    assert f"{file} is missing" in error_line(path)


def test_a_flipped_byte_is_noticed(path: Path) -> None:
    damaged = bytearray((path / GRAPH_FILE).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (path / GRAPH_FILE).write_bytes(damaged)
    assert f"{GRAPH_FILE}: sha256" in error_line(path)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"contract": "distila-policy/9"}, ["contract", "'distila-policy/9'", "'distila-policy/1'"]),
        ({"colour": "red"}, ["colour"]),
        ({"columns": ["cqi", "moon_phase"]}, ["columns", "'moon_phase'"]),
        ({"columns": ["cqi", "cqi"]}, ["columns", "twice"]),
        ({"mcs_tables": [4]}, ["mcs_tables.0"]),
        ({"sha256": "xyz"}, ["sha256"]),
        ({"actions": [{"kind": "mcs", "value": 29}]}, ["actions.0.value"]),
        ({"state_size": "many"}, ["state_size"]),
        ({"golden": {}}, ["golden.report"]),
    ],
)
def test_a_wrong_field_of_the_manifest_is_named(path: Path, change: dict[str, Any], names: list[str]) -> None:
    edit(path, lambda m: m.update(change))
    line = error_line(path)
    assert all(name in line for name in [MANIFEST_FILE, *names]), line


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_manifest_that_is_no_json_object(path: Path, content: bytes) -> None:
    (path / MANIFEST_FILE).write_bytes(content)
    assert MANIFEST_FILE in error_line(path)


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (graph(columns=3), ["'report'", "expected tensor(float) [n, 2]"]),
        (graph(state=2), ["'state'", "expected tensor(float) [n, 1]"]),
        (graph(actions=4), ["'score'", "expected tensor(float) [n, 3]"]),
        (graph(batch=3), ["'report'", "expected tensor(float) [n, 2]"]),
        (graph(dtype=TensorProto.DOUBLE), ["'report'", "tensor(double)", "expected tensor(float)"]),
        (graph(outputs=("score", "action")), ["tensors are", "next_state"]),
        (graph(padding=MAX_GRAPH_BYTES), [str(MAX_GRAPH_BYTES), "bytes"]),
        (b"no graph", ["not a graph"]),
        (b"", ["not a graph"]),
        (graph(weight=NAN), ["score is not finite on golden vector 0"]),
        (graph(weight=-1), ["action is", "on golden vector", "manifest.json says"]),
        (graph(weight=1.01), ["score differs from the golden vectors"]),
        (graph(argmax="ArgMin"), ["action is", "on golden vector"]),
    ],
)
def test_a_graph_other_than_the_manifest_says_is_rejected(path: Path, made: bytes, names: list[str]) -> None:
    swap_graph(path, made)
    line = error_line(path)
    assert all(name in line for name in [GRAPH_FILE, *names]), line


def test_an_action_that_is_not_the_argmax(path: Path) -> None:
    swap_graph(path, graph(argmax="ArgMin"))
    edit(path, lambda m: m["golden"].update(action=np.argmin(m["golden"]["score"], axis=1).tolist()))
    assert "not the argmax of score" in error_line(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("report", [[1, 2]]),
        ("report", [[1], [2], [3]]),
        ("report", [[1, 2], [1], [1, 2]]),
        ("report", []),
        ("score", [[1, 2], [1, 2], [1, 2]]),
        ("score", [[1, 2, 3]]),
        ("state", [[0, 0], [0, 0], [0, 0]]),
        ("state", [[0], [0]]),
        ("state", [[0, 1, 2]]),
        ("action", []),
        ("action", [0, 1]),
    ],
)
def test_golden_vectors_of_a_wrong_shape(path: Path, field: str, value: list) -> None:
    edit(path, lambda m: m["golden"].update({field: value}))
    assert f"{MANIFEST_FILE}: golden." in error_line(path)


# ---------------------------------------------------------------- by name, and the one that ships


def test_a_policy_is_given_by_directory_or_by_name(path: Path) -> None:
    assert load_bundle(str(path)).manifest.name == "toy"
    assert load_bundle("olla").path == BUNDLES.find("olla")


def test_an_unknown_name_lists_what_ships() -> None:
    with pytest.raises(InputError, match=r"nonsense.*\bolla\b"):
        load_bundle("nonsense")


def test_the_shipped_olla_is_what_the_exporter_writes(tmp_path: Path) -> None:
    from distila.training.olla_bundle import export_olla
    from distila.xapp.policy.olla import OllaConfig

    export_olla(OllaConfig(), tmp_path / "olla")
    for file in (GRAPH_FILE, MANIFEST_FILE):
        assert (tmp_path / "olla" / file).read_bytes() == (BUNDLES.find("olla") / file).read_bytes(), file


# ---------------------------------------------------------------- the matrix of a report


def two_ues() -> KpiReport:
    """UE 0 has all figures and HARQ at MCS 3 and 9; UE 1 has neither CQI nor HARQ."""
    return kpi_report(
        rnti=(1, 2), period_slots=20, cqi_table=[2, 1], mcs_table=[3, 1], total_first_tx=[30, NAN],
        harq=[(0, 3, 4, 1, 2, 5), (0, 9, 6, 3, 0, 0)],
        **{name: [number, NAN] for number, name in enumerate(MEASURED, start=1)},
    )  # fmt: skip


def test_the_matrix_holds_raw_units_and_nan_where_nothing_was_measured() -> None:
    matrix = Layout(list(UNITS)).matrix(two_ues())
    assert (matrix.dtype, matrix.shape) == (np.float32, (2, len(UNITS)))
    first, second = (dict(zip(UNITS, row, strict=True)) for row in matrix.tolist())
    expected = {name: float(i + 1) for i, name in enumerate(MEASURED)}
    retx = (expected.pop("retx_mcs_sum"), expected["retx_ack"] + expected["retx_nack"])
    expected["retx_mcs_mean"] = float(np.float32(retx[0] / retx[1]))
    expected |= {"cqi_table": 2, "mcs_table": 3, "period_slots": 20}
    expected |= {"harq_ack": 10, "harq_nack": 4, "harq_dtx": 2, "harq_residual": 5}
    expected |= {"harq_mcs_mean": float(np.float32((3 * 5 + 9 * 9) / 14))}
    per_mcs = {"harq_ack_mcs_3": 4, "harq_ack_mcs_9": 6, "harq_nack_mcs_3": 1, "harq_nack_mcs_9": 3}
    assert {name: value for name, value in first.items() if value} == expected | per_mcs
    known = {name: value for name, value in second.items() if not np.isnan(value)}
    assert known == {"cqi_table": 1, "mcs_table": 1, "period_slots": 20}, "HARQ is NaN, not zero, where not measured"


@settings(max_examples=60, deadline=None)
@given(
    columns=st.lists(st.sampled_from(list(UNITS)), min_size=1, unique=True), random=st.randoms(use_true_random=False)
)
def test_columns_come_in_the_order_of_the_manifest(columns: list[str], random: Any) -> None:
    shuffled = random.sample(columns, len(columns))
    matrix = Layout(columns).matrix(two_ues())
    picked = matrix[:, [columns.index(name) for name in shuffled]]
    np.testing.assert_array_equal(Layout(shuffled).matrix(two_ues()), picked)
    every = Layout(list(UNITS)).matrix(two_ues())
    np.testing.assert_array_equal(matrix, every[:, [list(UNITS).index(name) for name in columns]])
