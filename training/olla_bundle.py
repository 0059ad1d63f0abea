"""OLLA as a policy bundle: the decisions of `distila.xapp.policy.olla.CqiOlla`, as an ONNX graph.

So the baseline takes the same path as a learned policy, and an A/A replay of the two OLLA implementations tests that
whole path. The graph's state per UE is [offset, latest CQI, whether a CQI was ever reported].

    python -m distila.training.olla_bundle --out xapp/policy/bundles/olla
"""

import argparse
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from distila.xapp.nr.arrays import Float32Array
from distila.xapp.nr.mcs import NUM_MCS
from distila.xapp.policy.bundle import Action, Bundle, write_bundle
from distila.xapp.policy.olla import MAX_CQI, OllaConfig, cqi_to_mcs_table

_TOP_MCS: Final = cqi_to_mcs_table()[:, :, MAX_CQI]  # [mcs_table - 1, cqi_table - 1]
HIGH_MCS: Final = range(int(_TOP_MCS.min()), NUM_MCS)
"""MCS at or above the top MCS of some pair of tables, where acknowledgements do not raise the offset."""

COLUMNS: Final = [
    "cqi",
    "mcs_table",
    "cqi_table",
    "harq_ack",
    "harq_nack",
    *(f"harq_ack_mcs_{mcs}" for mcs in HIGH_MCS),
    "harq_nack_mcs_0",
]
MCS_TABLES: Final[list[Literal[1, 2, 3]]] = [1, 2, 3]


class _Graph:
    """Collects the nodes and constants of a graph; every method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, value: npt.ArrayLike, dtype: type = np.float32) -> str:
        array: npt.NDArray[np.generic] = np.asarray(value, dtype)
        for known, tensor in self.constants.items():
            stored = numpy_helper.to_array(tensor)
            if stored.dtype == array.dtype and np.array_equal(stored, array):
                return known
        name = f"constant_{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: object) -> str:
        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def split(self, tensor: str, *widths: int) -> list[str]:
        names = [f"{tensor}_part_{len(self.nodes)}_{i}" for i in range(len(widths))]
        self.nodes.append(helper.make_node("Split", [tensor, self.constant(widths, np.int64)], names, axis=1))
        return names

    def model(self, state_size: int) -> bytes:
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "olla",
            [
                value("report", TensorProto.FLOAT, ["n", len(COLUMNS)]),
                value("state", TensorProto.FLOAT, ["n", state_size]),
            ],
            [
                value("score", TensorProto.FLOAT, ["n", NUM_MCS]),
                value("action", TensorProto.INT64, ["n"]),
                value("next_state", TensorProto.FLOAT, ["n", state_size]),
            ],
            initializer=list(self.constants.values()),
        )
        # IR 9 and opset 17 are read by every ONNX Runtime since 1.17.
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())


def olla_graph(config: OllaConfig) -> bytes:
    """The serialised ONNX graph of `CqiOlla` with these settings: float32, in the same order of operations."""
    g = _Graph()
    zero, one, max_cqi = g.constant(0.0), g.constant(1.0), g.constant(float(MAX_CQI))
    cqi, tables, counts, saturated = g.split("report", 1, 2, 2, len(HIGH_MCS) + 1)
    offset, last_cqi, seen = g.split("state", 1, 1, 1)

    # By pair of tables and CQI: its MCS, and how much higher the next CQI's MCS is. The rows of a pair are adjacent.
    mcs_of_cqi = cqi_to_mcs_table().reshape(-1, MAX_CQI + 1)
    above = np.diff(mcs_of_cqi, append=mcs_of_cqi[:, -1:])
    mcs_and_above = g.constant(np.stack([mcs_of_cqi, above], axis=2).reshape(-1, 2))
    first_row = g.op(
        "Add",
        g.op("MatMul", tables, g.constant([[3.0 * (MAX_CQI + 1)], [MAX_CQI + 1.0]])),
        g.constant(-4.0 * (MAX_CQI + 1)),
    )

    def look_up(table: str, cqi_index: str) -> str:
        row = g.op("Cast", g.op("Add", first_row, cqi_index), to=TensorProto.INT64)
        return g.op("Gather", table, g.op("Reshape", row, g.constant([-1], np.int64)))

    # Not counted: ACKs at or above the top MCS of the UE's pair of tables, and NACKs at MCS 0.
    from_top = mcs_of_cqi[:, -1:] <= np.array(HIGH_MCS)
    does_not_count = np.concatenate([from_top, np.ones((len(from_top), 1), bool)], axis=1)
    mask = look_up(g.constant(np.repeat(does_not_count, MAX_CQI + 1, axis=0)), zero)
    excluded = g.op("MatMul", g.op("Mul", saturated, mask), g.constant([[1.0, 0.0]] * len(HIGH_MCS) + [[0.0, 1.0]]))
    steps = g.op("Mul", g.op("Sub", counts, excluded), g.constant([[config.step_on_ack, -config.step_on_nack]]))
    step = g.op("ReduceSum", steps, g.constant([1], np.int64), keepdims=1)
    moved = g.op("Add", offset, g.op("Where", g.op("IsNaN", step), zero, step))

    absent = g.op("IsNaN", cqi)
    next_cqi = g.op("Where", absent, last_cqi, cqi)
    next_seen = g.op("Where", absent, seen, one)
    is_seen = g.op("Greater", next_seen, zero)
    limit = g.op("Where", is_seen, g.constant(config.max_offset), max_cqi)
    next_offset = g.op("Min", g.op("Max", moved, g.op("Neg", limit)), limit)

    base = g.op("Where", is_seen, next_cqi, g.constant(float(config.initial_cqi)))
    effective = g.op("Clip", g.op("Add", base, next_offset), one, max_cqi)
    floor = g.op("Floor", effective)
    low, rise = g.split(look_up(mcs_and_above, floor), 1, 1)
    between = g.op("Add", low, g.op("Mul", rise, g.op("Sub", effective, floor)))
    in_range = g.op("Where", g.op("Equal", base, zero), zero, between)
    # Truncation rounds down here, because an MCS is never negative.
    action = g.op("Reshape", g.op("Cast", in_range, to=TensorProto.INT64), g.constant([-1], np.int64), output="action")
    g.op("OneHot", action, g.constant(NUM_MCS, np.int64), g.constant([0.0, 1.0]), output="score", axis=-1)
    g.op("Concat", next_offset, next_cqi, next_seen, axis=1, output="next_state")
    return g.model(state_size=3)


def golden_vectors(rng: np.random.Generator, count: int = 64) -> tuple[Float32Array, Float32Array]:
    """Reports [count, R] and states [count, 3] that reach every branch; in the first row nothing is measured."""
    report = np.zeros((count, len(COLUMNS)), np.float32)
    report[:, 0] = rng.integers(0, MAX_CQI + 1, count)
    report[:, 1:3] = rng.integers(1, 4, (count, 2))
    report[:, 3:] = rng.poisson(0.5, (count, len(COLUMNS) - 3))
    report[:, 3] += report[:, 5:-1].sum(axis=1)
    report[:, 4] += report[:, -1]
    report[rng.random(count) < 0.3, 0] = np.nan
    report[rng.random(count) < 0.2, 3:] = np.nan
    report[0, 0], report[0, 3:] = np.nan, np.nan
    seen = rng.random(count) < 0.7
    state = np.stack([rng.uniform(-4, 4, count), seen * rng.integers(0, MAX_CQI + 1, count), seen], axis=1)
    state[0] = 0
    return report, state.astype(np.float32)


def export_olla(config: OllaConfig, path: Path) -> Bundle:
    """Write OLLA with these settings as a bundle."""
    report, state = golden_vectors(np.random.default_rng(0))
    return write_bundle(
        path,
        olla_graph(config),
        name="olla",
        version="1",
        description="Outer-loop link adaptation in the CQI domain, after srsRAN Project; the baseline.",
        columns=COLUMNS,
        state_size=3,
        actions=[Action(kind="mcs", value=mcs) for mcs in range(NUM_MCS)],
        mcs_tables=MCS_TABLES,
        training={
            "kind": "classical algorithm, not trained",
            "target_bler": config.target_bler,
            "step_on_nack": config.step_on_nack,
            "max_offset": config.max_offset,
            "initial_cqi": config.initial_cqi,
        },
        golden_report=report,
        golden_state=state,
    )


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="directory of the bundle")
    for name, default in vars(OllaConfig()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    arguments = vars(parser.parse_args())
    bundle = export_olla(OllaConfig(**{k: v for k, v in arguments.items() if k != "out"}), arguments["out"])
    print(f"{arguments['out']}: {bundle.graph_bytes} bytes, sha256 {bundle.digest}")


if __name__ == "__main__":
    main()
