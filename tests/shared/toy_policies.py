"""Policies made by hand as real ONNX bundles, each with a choice that can be worked out on paper."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from distila.xapp.policy.bundle import Action, Bundle, write_bundle

DOUBLE = tuple(min(2 * cqi, 27) for cqi in range(16))
"""MCS of each CQI of a policy that rises by 2 with each step."""

COLUMNS = ["cqi", "prbs", "harq_ack", "harq_nack"]


def toy_policy(
    path: Path,
    of_cqi: Sequence[int] = DOUBLE,
    *,
    per_nack: float = -1,
    prbs_unknown: float = 0,
    one_report_late: bool = False,
    memory: bool = True,
    columns: Sequence[str] = COLUMNS,
    kind: Literal["mcs", "mcs_offset", "native"] = "mcs",
    mcs_tables: Sequence[Literal[1, 2, 3]] = (1, 2, 3),
) -> Bundle:
    """Write a policy: ``MCS = of_cqi[CQI] + per_nack * NACKs + (prbs_unknown where PRBs are unknown)``, 0 to 27.

    Its memory is the latest CQI, which also stands for an unknown one; with ``one_report_late`` it decides by that
    alone, and without ``memory`` CQI 7 stands for an unknown one. With kind ``mcs_offset`` the MCS less 14 is the
    offset to the DU's own choice; with ``native`` all actions leave the UE to the DU.
    """
    nodes: list[object] = []
    constants: dict[str, np.ndarray] = {}

    def constant(name: str, value: object, dtype: type = np.float32) -> str:
        constants[name] = np.asarray(value, dtype)
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    zero = constant("zero", 0)

    def column(name: str) -> str:
        place = constant(f"place_of_{name}", [columns.index(name)], np.int64)
        return node("Gather", ["report", place], f"column_{name}", axis=1)

    latest, size = ("state", 1) if memory else (constant("assumed", 7), 0)
    if "cqi" in columns:
        cqi = column("cqi")
        present = node("Where", [node("IsNaN", [cqi], "no_cqi"), latest, cqi], "present_cqi")
    else:
        present = latest
    node("Identity", [present if memory else "state"], "next_state")
    by = latest if one_report_late else present
    index = node("Cast", [by], "index", to=TensorProto.INT64)
    mcs = node("Gather", [constant("of_cqi", of_cqi), index], "mcs")
    if "harq_nack" in columns:
        nacks = column("harq_nack")
        known = node("Where", [node("IsNaN", [nacks], "no_harq"), zero, nacks], "known_nacks")
        mcs = node("Add", [mcs, node("Mul", [known, constant("per_nack", per_nack)], "by_nacks")], "mcs_and_nacks")
    if "prbs" in columns:
        unknown = node("IsNaN", [column("prbs")], "no_prbs")
        add = node("Where", [unknown, constant("prbs_unknown", prbs_unknown), zero], "by_prbs")
        mcs = node("Add", [mcs, add], "mcs_and_prbs")
    clipped = node("Clip", [mcs, zero, constant("top", 27)], "clipped")
    flat = node("Reshape", [clipped, constant("flat", [-1], np.int64)], "flat_mcs")
    node("Cast", [flat], "action", to=TensorProto.INT64)
    node("OneHot", ["action", constant("depth", 28, np.int64), constant("values", [0, 1])], "score", axis=-1)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "policy",
        [
            value("report", TensorProto.FLOAT, ["n", len(columns)]),
            value("state", TensorProto.FLOAT, ["n", size]),
        ],
        [
            value("score", TensorProto.FLOAT, ["n", 28]),
            value("action", TensorProto.INT64, ["n"]),
            value("next_state", TensorProto.FLOAT, ["n", size]),
        ],
        initializer=[numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    report = np.array([[7] * len(columns), [np.nan] * len(columns)], np.float32)
    less = 14 if kind == "mcs_offset" else 0
    return write_bundle(
        path,
        bytes(model.SerializeToString()),
        name="toy",
        version="1",
        columns=list(columns),
        state_size=size,
        actions=[Action(kind=kind, value=0 if kind == "native" else mcs - less) for mcs in range(28)],
        mcs_tables=list(mcs_tables),
        training={"kind": "made by hand"},
        golden_report=report,
        golden_state=np.zeros((2, size), np.float32),
    )
