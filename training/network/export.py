"""Exports a network as a policy bundle, and checks that the bundle makes the same decisions as the network.

The graph has the network's own operations (`torch.onnx`), with ``action`` as the index of the highest score, except
that

* matrices are stored as float16 and cast back to float32, and names are short. So a bundle decides like the network
  with rounded weights, see `stored`;
* the matrix that makes features of raw features and the matrix of the first layer are multiplied into one.

Casts and that product involve constants only: ONNX Runtime computes them once, when it loads the graph.
"""

import copy
import io
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from pydantic import JsonValue
from torch import Tensor, nn

from distila.training.network.filters import PolicyNetwork
from distila.training.network.network import Network
from distila.training.network.recurrent import RecurrentGraph, RecurrentNetwork
from distila.xapp.nr.arrays import Float32Array
from distila.xapp.nr.mcs import NUM_MCS
from distila.xapp.policy.benchmark_figures import BenchmarkRun
from distila.xapp.policy.bundle import Bundle, run_times_us, write_bundle

TIE: Final = 1e-5
"""Scores that differ by less are equal: float32 sums in another order."""

_OPSET: Final = 17  # read by every ONNX Runtime since 1.13
_CHUNK: Final = 8192  # rows compared at once


class Agreement(NamedTuple):
    """How far a bundle and its network agree on the same reports and states."""

    compared: int
    """decisions compared"""
    differ: int
    """decisions that differ although the network scores its own higher by more than `TIE`"""
    equal_scores: int
    """decisions that differ between actions whose scores are within `TIE`"""
    worst_score: float
    """largest difference of a score"""
    worst_state: float
    """largest difference of an entry of the next state"""


def stored(network: Network) -> Network:
    """A copy of a network with its trained matrices as a bundle stores them: rounded to float16."""
    rounded = copy.deepcopy(network)
    with torch.no_grad():
        for weight in rounded.parameters():
            if weight.ndim == 2:
                weight.copy_(weight.half())
    return rounded


class _Folded(nn.Module):
    """The exported module: report and state to score, action and next state; the first layer includes the features."""

    def __init__(self, network: PolicyNetwork) -> None:
        super().__init__()
        self.network = network
        first, *rest = network.mlp
        assert isinstance(first, nn.Linear)
        self.first, self.rest = first.weight, nn.Sequential(*rest)
        with torch.no_grad():
            self.bias = nn.Parameter((first.bias.double() + first.weight.double() @ network.offset.double()).float())

    def forward(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raw, next_state = self.network.raw_features(report, state)
        x = nn.functional.linear(raw, self.first @ self.network.mix, self.bias)
        score = self.network.rated(self.rest(x), report)
        return score, score.argmax(dim=1), next_state


def _graph_module(network: Network) -> nn.Module:
    if isinstance(network, RecurrentNetwork):
        return RecurrentGraph(network)
    assert isinstance(network, PolicyNetwork)
    return _Folded(network)


def onnx_graph(network: Network) -> bytes:
    """The serialised graph of a network as `stored`, by the contract of `distila.xapp.policy.bundle`. It must be
    on the CPU."""
    module = _graph_module(stored(network)).eval()
    report = torch.zeros(2, len(network.columns))
    state = network.zero_state(2)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch prefers its other exporter, which needs onnxscript
        torch.onnx.export(
            module,
            (report, state),
            cast(Any, buffer),  # it accepts any file object, though its types do not say so
            input_names=["report", "state"],
            output_names=["score", "action", "next_state"],
            dynamic_axes={name: {0: "n"} for name in ("report", "state", "score", "action", "next_state")},
            opset_version=_OPSET,
            do_constant_folding=False,  # products of float16 are not float16
            dynamo=False,
        )
    graph: bytes = _compact(onnx.load_from_string(buffer.getvalue())).SerializeToString()
    return graph


def _compact(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in few bytes: float16 matrices, short names, no descriptions."""
    graph = model.graph
    tensors = [*graph.input, *graph.output]
    short = {tensor.name: tensor.name for tensor in tensors}

    def rename(names: Any) -> None:
        names[:] = [name and short.setdefault(name, f"{len(short):x}") for name in names]

    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def keep(name: str, constant: onnx.TensorProto) -> None:
        value = numpy_helper.to_array(constant)
        if value.ndim == 2:
            half = value.astype(np.float16)
            if not np.array_equal(half, value):
                raise AssertionError(f"{constant.name}: a matrix that is not rounded to float16")
            value, whole, name = half, name, f"{name}_"
            nodes.append(helper.make_node("Cast", [name], [whole], to=onnx.TensorProto.FLOAT))
        constants.append(numpy_helper.from_array(value, name))

    for constant in graph.initializer:
        rename(names := [constant.name])
        keep(names[0], constant)
    for node in graph.node:
        rename(node.input)
        rename(node.output)
        if node.op_type == "Constant":
            keep(node.output[0], node.attribute[0].t)
            continue
        nodes.append(helper.make_node(node.op_type, node.input, node.output))
        nodes[-1].attribute.extend(node.attribute)
    for tensor in tensors:
        tensor.ClearField("doc_string")
    return helper.make_model(
        helper.make_graph(nodes, "policy", graph.input, graph.output, constants),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )


def sample_inputs(network: Network, count: int, seed: int = 0) -> tuple[Float32Array, Float32Array]:
    """Reports [n, R] and states [n, S] that reach every branch; the first row is a new UE with nothing measured.

    Reports are synthetic: links of random SINR that use random MCS near it, for periods of 1 to 100 slots, with columns
    missing at random. States come from a few such reports before.
    """
    rng = np.random.default_rng(seed)
    columns = network.columns
    where = {name: index for index, name in enumerate(columns)}
    best = rng.integers(0, NUM_MCS, count)  # the link's true MCS
    state = network.zero_state(count)
    report = np.zeros((count, len(columns)), np.float32)
    for _ in range(4):
        report[:] = 0
        report[:, where["cqi"]] = np.clip(best // 2 + rng.integers(-1, 2, count), 0, 15)
        report[:, where["cqi_age_slots"]] = rng.integers(0, 200, count)
        report[:, where["ri"]] = rng.integers(1, 5, count)
        report[:, where["prbs"]] = rng.integers(1, 274, count)
        report[:, where["native_mcs"]] = np.clip(best + rng.integers(-4, 5, count), 0, NUM_MCS - 1)
        period = rng.choice([1, 2, 10, 20, 100], count)
        report[:, where["period_slots"]] = period
        acks, nacks, mcs = np.zeros((3, count))
        per_mcs = np.zeros((2, count, NUM_MCS))
        for _ in range(2):
            used = np.clip(best + rng.integers(-3, 4, count), 0, NUM_MCS - 1)
            sent = rng.binomial(period, 0.4)
            nacked = rng.binomial(sent, 1 / (1 + np.exp(best - used)))
            acks, nacks, mcs = acks + sent - nacked, nacks + nacked, mcs + sent * used
            per_mcs[:, np.arange(count), used] += sent - nacked, nacked
        report[:, where["harq_ack"]], report[:, where["harq_nack"]] = acks, nacks
        mean_mcs = mcs / np.maximum(acks + nacks, 1)
        if "harq_mcs_mean" in where:
            report[:, where["harq_mcs_mean"]] = mean_mcs
        sent = rng.binomial(nacks.astype(np.int64), 0.9)
        decoded = rng.binomial(sent, 0.7)
        report[:, where["retx_ack"]], report[:, where["retx_nack"]] = decoded, sent - decoded
        report[:, where["retx_mcs_mean"]] = np.where(sent > 0, mean_mcs, 0)
        report[:, where["combining"]] = rng.integers(1, 3, count)
        for name in ("harq_ack_mcs_0", "harq_nack_mcs_0"):
            if name in where:  # and then the other MCS follow
                report[:, where[name] : where[name] + NUM_MCS] = per_mcs[int("nack" in name)]
        groups = [
            ["cqi", "cqi_age_slots"],
            ["ri"],
            ["prbs"],
            ["native_mcs"],
            ["retx_ack", "retx_nack", "retx_mcs_mean"],
            ["combining"],
        ]
        for names in (*groups, [name for name in columns if name.startswith("harq_")]):
            missing = rng.random((count, 1)) < 0.2
            report[missing & np.isin(columns, names)] = np.nan
        previous = state
        with torch.no_grad():
            _, state = network(torch.from_numpy(report), state)
    states = previous.numpy().copy()
    report[0], states[0] = np.nan, 0
    return report, states


def agreement(network: Network, bundle: Bundle, reports: Float32Array, states: Float32Array) -> Agreement:
    """Compare a bundle's decisions with its network's as `stored`, row by row, from the same memory.

    Args:
        network: the network that the bundle was made from, on the CPU.
        bundle: the bundle to check.
        reports: float32 [n, R].
        states: float32 [n, S].
    """
    network = stored(network)
    differ = equal_scores = 0
    worst_score = worst_state = 0.0
    for start in range(0, len(reports), _CHUNK):
        report, state = reports[start : start + _CHUNK], states[start : start + _CHUNK]
        with torch.no_grad():
            score, next_state = (t.numpy() for t in network(torch.from_numpy(report), torch.from_numpy(state)))
        bundle_score, action, bundle_state = bundle.run(report, state)
        rows = np.arange(len(report))
        chosen = score.argmax(axis=1)
        lost = score[rows, chosen] - score[rows, action]
        equal = lost <= TIE
        differ += int((~equal & (action != chosen)).sum())
        equal_scores += int((equal & (action != chosen)).sum())
        worst_score = max(worst_score, float(np.abs(score - bundle_score).max(initial=0)))
        worst_state = max(worst_state, float(np.abs(next_state - bundle_state).max(initial=0)))
    return Agreement(len(reports), differ, equal_scores, worst_score, worst_state)


def latency_us(bundle: Bundle, reports: Float32Array, states: Float32Array, runs: int = 1000) -> dict[str, float]:
    """Time of one ``session.run`` [us], p50 and p99, for 1 and for 100 UEs."""
    result: dict[str, float] = {}
    for ues in (1, 100):
        pick = np.arange(ues) % len(reports)
        times = run_times_us(bundle, reports[pick], states[pick], runs)
        result |= {f"{ues}_ue_{percentile}": value for percentile, value in times.items()}
    return result


def export_bundle(
    network: Network,
    path: Path,
    name: str,
    version: str,
    training: Mapping[str, JsonValue],
    benchmark: Mapping[str, BenchmarkRun] | None = None,
    description: str = "",
    graph: bytes | None = None,
) -> Bundle:
    """Write a network as a bundle, replacing an existing one. The network must be on the CPU.

    Args:
        network: what to export.
        path: the bundle's directory.
        name, version, training, benchmark, description: see `distila.xapp.policy.bundle.Manifest`. The network's
            configuration is added to ``training``.
        graph: `onnx_graph` of the network where the caller has it already; None: it is exported here.

    Raises:
        InputError: the graph violates the contract, for instance because it is too large.
        RuntimeError: decisions of bundle and network differ.
    """
    graph = graph or onnx_graph(network)
    golden_report, golden_state = sample_inputs(network, 64)

    def write(directory: Path, latency: dict[str, float] | None = None) -> Bundle:
        return write_bundle(
            directory,
            graph,
            name=name,
            version=version,
            description=description,
            columns=network.columns,
            state_size=network.state_size,
            actions=network.actions,
            mcs_tables=[network.config.mcs_table],
            training={**training, "network": network.config.model_dump(mode="json")},
            benchmark=benchmark,
            golden_report=golden_report,
            golden_state=golden_state,
            latency_us=latency,
        )

    reports, states = sample_inputs(network, 2000, seed=1)
    # The new bundle is checked before it replaces another one.
    with tempfile.TemporaryDirectory() as folder:
        trial = write(Path(folder) / "trial")
        found = agreement(network, trial, reports, states)
        if found.differ:
            raise RuntimeError(f"{name}: {found.differ} of {found.compared} decisions differ between torch and ONNX")
        latency = latency_us(trial, reports, states)
    return write(path, latency)
