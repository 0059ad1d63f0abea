"""A network as a policy bundle, and the proof that the bundle decides as the network does.

The graph is the network's own operations (`torch.onnx`), with ``action`` as the index of the highest score. One thing
is folded: features are a matrix times raw features, and so is the first layer, so the bundle has the product of both.
"""

import io
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from training.network.network import PolicyNetwork
from xapp.e2.report import NUM_MCS
from xapp.policy.bundle import Bundle, run_times_us, write_bundle

FloatArray = npt.NDArray[np.float32]

TIE: Final = 1e-5
"""Scores that differ by less are equal: float32 sums in another order."""

_OPSET: Final = 17  # read by every ONNX Runtime since 1.13
_CHUNK: Final = 8192  # rows compared at once


class Agreement(NamedTuple):
    """How far a bundle and its network agree on the same reports and states."""

    compared: int
    """decisions"""
    differ: int
    """decisions that are not the same, although the network prefers its own by more than `TIE`"""
    ties: int
    """decisions that are not the same between scores within `TIE`"""
    worst_score: float
    """largest difference of a score"""
    worst_state: float
    """largest difference of a next state's entry"""


class _Folded(nn.Module):
    """What is exported: report and state to score, action and next state, features folded into the first layer."""

    def __init__(self, network: PolicyNetwork) -> None:
        super().__init__()
        self.network = network
        first, *rest = network.mlp
        assert isinstance(first, nn.Linear)
        folded = nn.Linear(network.mix.shape[1], first.out_features)
        with torch.no_grad():
            weight, bias = first.weight.double(), first.bias.double()
            folded.weight.copy_(weight @ network.mix.double())
            folded.bias.copy_(bias + weight @ network.offset.double())
        self.mlp = nn.Sequential(folded, *rest)

    def forward(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raw, next_state = self.network.raw_features(report, state)
        score = self.network.rated(self.mlp(raw), report)
        return score, score.argmax(dim=1), next_state


def onnx_graph(network: PolicyNetwork) -> bytes:
    """The serialised graph of a network, contract of `xapp.policy.bundle`; the network must be on the CPU."""
    module = _Folded(network).eval()
    report = torch.zeros(2, len(network.columns))
    state = network.zero_state(2)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch prefers its other exporter, which needs onnxscript
        torch.onnx.export(
            module,
            (report, state),
            cast(Any, buffer),  # it writes to files of any kind, its types do not say so
            input_names=["report", "state"],
            output_names=["score", "action", "next_state"],
            dynamic_axes={name: {0: "n"} for name in ("report", "state", "score", "action", "next_state")},
            opset_version=_OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def sample_inputs(network: PolicyNetwork, count: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Reports [n, R] and states [n, S] that reach every branch; the first row is a new UE with nothing measured.

    Reports are made up: links of random SINR that use random MCS near it, for periods of 1 to 100 slots, with columns
    missing by chance. States come from a few such reports before.
    """
    rng = np.random.default_rng(seed)
    columns = network.columns
    where = {name: index for index, name in enumerate(columns)}
    ack, nack = where["harq_ack_mcs_0"], where["harq_nack_mcs_0"]
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
        for _ in range(2):
            used = np.clip(best + rng.integers(-3, 4, count), 0, NUM_MCS - 1)
            sent = rng.binomial(period, 0.4)
            refused = rng.binomial(sent, 1 / (1 + np.exp(best - used)))
            np.add.at(report, (np.arange(count), nack + used), refused)
            np.add.at(report, (np.arange(count), ack + used), sent - refused)
        report[:, where["harq_ack"]] = report[:, ack : ack + NUM_MCS].sum(axis=1)
        report[:, where["harq_nack"]] = report[:, nack : nack + NUM_MCS].sum(axis=1)
        groups = [["cqi", "cqi_age_slots"], ["ri"], ["prbs"], ["native_mcs"]]
        for names in (*groups, [name for name in columns if name.startswith("harq_")]):
            missing = rng.random((count, 1)) < 0.2
            report[missing & np.isin(columns, names)] = np.nan
        previous = state
        with torch.no_grad():
            _, state = network(torch.from_numpy(report), state)
    states = previous.numpy().copy()
    report[0], states[0] = np.nan, 0
    return report, states


def agreement(network: PolicyNetwork, bundle: Bundle, reports: FloatArray, states: FloatArray) -> Agreement:
    """Compare a bundle's decisions with its network's, row by row, from the same memory.

    Args:
        network: what the bundle was made from, on the CPU.
        bundle: to be judged.
        reports: float32 [n, R].
        states: float32 [n, S].
    """
    differ = ties = 0
    worst_score = worst_state = 0.0
    for start in range(0, len(reports), _CHUNK):
        report, state = reports[start : start + _CHUNK], states[start : start + _CHUNK]
        with torch.no_grad():
            score, next_state = (t.numpy() for t in network(torch.from_numpy(report), torch.from_numpy(state)))
        bundle_score, action, bundle_state = bundle.run(report, state)
        rows = np.arange(len(report))
        chosen = score.argmax(axis=1)
        lost = score[rows, chosen] - score[rows, action]
        tied = lost <= TIE
        differ += int((~tied & (action != chosen)).sum())
        ties += int((tied & (action != chosen)).sum())
        worst_score = max(worst_score, float(np.abs(score - bundle_score).max(initial=0)))
        worst_state = max(worst_state, float(np.abs(next_state - bundle_state).max(initial=0)))
    return Agreement(len(reports), differ, ties, worst_score, worst_state)


def latency_us(bundle: Bundle, reports: FloatArray, states: FloatArray, runs: int = 1000) -> dict[str, float]:
    """Time of one ``session.run`` [us], p50 and p99, for 1 and for 100 UEs."""
    result: dict[str, float] = {}
    for ues in (1, 100):
        pick = np.arange(ues) % len(reports)
        times = run_times_us(bundle, reports[pick], states[pick], runs)
        result |= {f"{ues}_ue_{percentile}": value for percentile, value in times.items()}
    return result


def export_bundle(
    network: PolicyNetwork,
    path: Path,
    name: str,
    version: str,
    training: dict[str, Any],
    benchmark: dict[str, Any] | None = None,
    description: str = "",
) -> Bundle:
    """Write a network, which must be on the CPU, as a bundle; one that exists is replaced.

    Args:
        network: what to export.
        path: the bundle's directory.
        name, version, training, benchmark, description: see `xapp.policy.bundle.Manifest`. The network's
            configuration is added to ``training``.

    Raises:
        InputError: the graph does not keep the contract, for instance because it is too large.
        RuntimeError: the bundle decides otherwise than the network.
    """
    graph = onnx_graph(network)
    golden_report, golden_state = sample_inputs(network, 64)
    facts: dict[str, Any] = {
        "name": name,
        "version": version,
        "description": description,
        "columns": network.columns,
        "state_size": network.state_size,
        "actions": network.actions,
        "mcs_tables": [network.config.mcs_table],
        "training": {**training, "network": network.config.model_dump(mode="json")},
        "benchmark": benchmark,
        "golden_report": golden_report,
        "golden_state": golden_state,
    }
    reports, states = sample_inputs(network, 2000, seed=1)
    # What takes the place of another bundle has been judged before.
    with tempfile.TemporaryDirectory() as folder:
        trial = write_bundle(Path(folder) / "trial", graph, **facts)
        found = agreement(network, trial, reports, states)
        if found.differ:
            raise RuntimeError(f"{name}: {found.differ} of {found.compared} decisions differ between torch and ONNX")
        latency = latency_us(trial, reports, states)
    return write_bundle(path, graph, **facts, latency_us=latency)
