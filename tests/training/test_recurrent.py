"""The network whose memory is a GRU: nothing senseless gets in, gradients go through time, the bundle decides alike."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from pydantic import ValidationError

from distila.training.distill.distill import DistillationObjective, DistillConfig, Teachers
from distila.training.distill.losses import LossConfig, distillation_loss
from distila.training.learning.log import read_log
from distila.training.network import recurrent
from distila.training.network.config import NetworkConfig
from distila.training.network.export import agreement, export_bundle, sample_inputs, stored
from distila.training.network.filters import PolicyNetwork
from distila.training.network.make import make_network
from distila.training.network.recurrent import RecurrentNetwork
from distila.training.network.store import load_network, save_network
from distila.xapp.errors import InputError, first_error
from distila.xapp.kpi.observations import UNITS
from distila.xapp.policy.bundle import GRAPH_FILE, load_bundle

SMALL = {"memory": "gru", "projection": 8, "gru_width": 10, "hidden": (12,)}


def a_network(seed=0, **config):
    torch.manual_seed(seed)
    network = make_network(NetworkConfig(**{**SMALL, **config}))
    assert isinstance(network, RecurrentNetwork)
    return network


def a_sequence(network, reports, links, seed=0):
    """Made-up reports [t, n, R], NaN among them; each row is of another link, which is no matter here."""
    return torch.from_numpy(sample_inputs(network, reports * links, seed)[0].reshape(reports, links, -1))


def generator(seed=0):
    generator = torch.Generator()
    generator.manual_seed(seed)
    return generator


def one_by_one(network, rows):
    """Scores [t, n, A] of a sequence, report by report."""
    state, scores = network.zero_state(rows.shape[1]), []
    with torch.no_grad():
        for row in rows:
            score, state = network(row, state)
            scores.append(score)
    return torch.stack(scores)


# --- what it is built from ---


def test_the_configuration_says_which_kind_it_is():
    assert isinstance(make_network(NetworkConfig()), PolicyNetwork)
    network = a_network(actions="both")
    assert set(network.columns) <= set(UNITS)
    assert network.state_size == 10
    score, state = network(torch.zeros(3, len(network.columns)), network.zero_state(3))
    assert score.shape == (3, len(network.actions)) == (3, 38)
    assert state.shape == (3, 10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"memory": "lstm"}, "memory"),
        ({"gru_width": 0}, "gru_width"),
        ({"projection": 0}, "projection"),
        ({"gru_width": 1000}, "gru_width"),
    ],
)
def test_senseless_settings_are_rejected_in_one_line(wrong, message):
    with pytest.raises(ValidationError) as error:
        NetworkConfig(**{**SMALL, **wrong})
    assert message in first_error(error.value)
    assert "\n" not in first_error(error.value)


def test_some_memory_is_long_and_some_short_from_the_start():
    network = a_network(gru_width=16)
    with torch.no_grad():
        _, state = network(torch.zeros(1, len(network.columns)), torch.ones(1, 16))
    assert float(state.max()) > 0.95
    assert float(state.min()) < 0.8


# --- what is missing, and memory ---


def test_not_measured_is_0_and_nothing_more():
    network = a_network()
    nothing = torch.full((1, len(network.columns)), torch.nan)
    assert torch.equal(network.inputs(nothing), torch.zeros(1, len(network.columns)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, -5.0])
def test_nothing_unmeasured_or_senseless_gets_out(value):
    network = a_network(head="value", actions="both")
    report, state = (torch.from_numpy(array) for array in sample_inputs(network, 40))
    for column in range(len(network.columns)):
        senseless = report.clone()
        senseless[:, column] = value
        memory = state
        with torch.no_grad():
            for _ in range(3):
                score, memory = network(senseless, memory)
        assert torch.isfinite(score).all()
        assert float(memory.abs().max()) <= 1


def test_inputs_are_of_the_order_of_1_for_periods_of_1_to_200_slots():
    network = a_network()
    x = network.inputs(torch.from_numpy(sample_inputs(network, 500)[0]))
    assert float(x.max()) < 8
    assert float(x.amax(dim=0).min()) > 0.5


def test_ues_do_not_touch_each_other_and_any_number_will_do():
    network = a_network()
    report, state = (torch.from_numpy(array) for array in sample_inputs(network, 20))
    both = network(report, state)
    alone = network(report[7:8], state[7:8])
    for one, other in zip(both, alone, strict=True):
        torch.testing.assert_close(one[7:8], other)


# --- learning ---


@pytest.mark.parametrize("size", [1, 40, 10_000])
def test_batches_equal_the_networks_outputs_report_by_report(size, monkeypatch):
    """Across the ends of chunks, each label once, whatever the size."""
    monkeypatch.setattr(recurrent, "CHUNK", 7)
    network = a_network()
    rows, steps = a_sequence(network, 20, 5), torch.tensor([0, 3, 6, 7, 8, 19])
    expected = one_by_one(network, rows)[steps].flatten(0, 1)
    seen = []
    for picked, output in network.batches(rows, steps, size, generator()):
        assert output.requires_grad
        torch.testing.assert_close(output.detach(), expected[picked], atol=1e-5, rtol=1e-5)
        assert len(picked) <= max(size, 5)
        seen.append(picked)
    assert sorted(torch.cat(seen).tolist()) == list(range(len(expected)))


def test_batches_come_in_random_order():
    network = a_network()
    rows, steps = a_sequence(network, 20, 5), torch.arange(20)
    first, same, other = ([p.tolist() for p, _ in network.batches(rows, steps, 30, generator(s))] for s in (0, 0, 1))
    assert first == same != other


def test_nothing_labelled_is_no_batch():
    network = a_network()
    assert not list(network.batches(a_sequence(network, 4, 2), torch.empty(0, dtype=torch.int64), 10, generator()))


def test_gradients_go_back_in_time_within_a_chunk_and_not_to_other_links(monkeypatch):
    monkeypatch.setattr(recurrent, "CHUNK", 4)
    network = a_network()
    rows, inputs, chunks = a_sequence(network, 8, 3), network.inputs, []

    def watched(report):
        chunks.append(inputs(report).requires_grad_())
        return chunks[-1]

    monkeypatch.setattr(network, "inputs", watched)
    [(picked, output)] = network.batches(rows, torch.tensor([6]), 1000, generator())
    output[picked == 1].sum().backward()
    before, after = chunks
    assert before.grad is None
    reached = after.grad.abs().sum(dim=2) > 0
    assert reached.tolist() == [[False, True, False]] * 3 + [[False] * 3]


def test_it_learns_what_only_memory_contains():
    """A CQI that was told once, three reports ago; a short distillation makes most of the loss go."""
    network = a_network(gru_width=16)
    good = torch.rand(64, generator=generator(3)) < 0.5
    rows = torch.zeros(4, 64, len(network.columns))
    rows[0, :, 0] = torch.where(good, 12.0, 3.0)
    best = torch.where(good, 20, 4)
    teacher = 3 - 0.1 * (torch.arange(29.0) - best[:, None]).abs()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    losses = []
    for epoch in range(160):
        for picked, output in network.batches(rows, torch.tensor([3]), 64, generator(epoch)):
            loss = distillation_loss(LossConfig(), output, teacher[picked])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.usefixtures("no_fading")
@pytest.mark.parametrize("driver", ["student", "teacher"])
def test_it_is_distilled_from_a_teacher_that_reads_other_columns(workplace, train, same_weights, driver):
    pytest.importorskip("sionna")
    torch.manual_seed(0)
    save_network(make_network(NetworkConfig(hidden=(8,))), Path("teacher.pt"), {})
    settings = {"scenarios": ["steady.yaml"], "links": 16, "slots": 40, "episodes": 4, "bank_rows": 2, "bank_slots": 64}
    config = DistillConfig.model_validate({**settings, "network": SMALL, "driver": driver, "lr": 0.02})
    objective = DistillationObjective(config, Teachers({"": Path("teacher.pt")}, config))
    student = train(config, "a", objective)
    assert isinstance(student, RecurrentNetwork)
    losses = [line["loss"] for line in read_log(Path("a"))]
    assert losses[-1] < losses[0]
    assert same_weights(student, train(config, "b", objective))


# --- in files ---


@pytest.mark.parametrize("config", [{}, {"actions": "both"}, {"mcs_table": 2, "hidden": ()}, {"head": "value"}])
def test_a_bundle_decides_as_its_network(tmp_path, config):
    network = a_network(seed=3, **config)
    bundle = export_bundle(network, tmp_path / "b", "b", "1", {})
    assert agreement(network, bundle, *sample_inputs(network, 3000, seed=9))[:2] == (3000, 0)
    manifest = load_bundle(tmp_path / "b").manifest
    assert (manifest.columns, manifest.state_size) == (network.columns, network.state_size)
    assert NetworkConfig(**manifest.training["network"]) == network.config


def test_memory_of_the_bundle_and_of_the_network_stay_together(tmp_path):
    network = a_network(seed=4)
    bundle = export_bundle(network, tmp_path / "b", "b", "1", {})
    rows = a_sequence(network, 60, 7)
    expected = one_by_one(stored(network), rows).numpy()
    state = np.zeros((7, network.state_size), np.float32)
    for row, score in zip(rows.numpy(), expected, strict=True):
        found, action, state = bundle.run(row, state)
        np.testing.assert_allclose(found, score, atol=1e-4)
        assert action.shape == (7,)


def test_the_graph_is_small_and_of_few_operations(tmp_path):
    network = a_network(projection=16, gru_width=24, hidden=(24,), actions="both")
    bundle = export_bundle(network, tmp_path / "b", "b", "1", {})
    assert bundle.graph_bytes < 20_000
    graph = onnx.load(bundle.path / GRAPH_FILE).graph
    # Casts, and the one Mul by scales, are of constants: gone once it is loaded.
    assert sum(node.op_type not in ("Constant", "Cast") for node in graph.node) <= 24


def test_a_file_brings_it_back(tmp_path):
    network = a_network(seed=5)
    save_network(network, tmp_path / "network.pt", {"seed": 5})
    back, training = load_network(tmp_path / "network.pt")
    assert training == {"seed": 5}
    assert isinstance(back, RecurrentNetwork)
    report, state = (torch.from_numpy(array) for array in sample_inputs(network, 30))
    for one, other in zip(network(report, state), back(report, state), strict=True):
        assert torch.equal(one, other)


def test_weights_of_the_other_kind_are_rejected(tmp_path):
    network = a_network()
    network.config = NetworkConfig()
    save_network(network, tmp_path / "network.pt", {})
    with pytest.raises(InputError, match="of another architecture"):
        load_network(tmp_path / "network.pt")
