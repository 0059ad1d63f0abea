"""Students: shapes, symmetries, ONNX."""

import numpy as np
import onnxruntime
import pytest
import torch

from distila.training.resource.algorithms.wmmse import all_ones, random_starts
from distila.training.resource.export import export_onnx
from distila.training.resource.problems import Channels, rayleigh, sum_rate
from distila.training.resource.students import (
    MessageGnnConfig,
    MlpConfig,
    UnrolledGnnConfig,
    allocate,
    as_used,
    make_student,
)
from distila.xapp.errors import InputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


GRAPHS = [
    MessageGnnConfig(),
    MessageGnnConfig(batch_norm=True),
    UnrolledGnnConfig(),
    UnrolledGnnConfig(rounds=2, hidden=8, memory=0, saturated=False),
    UnrolledGnnConfig(weighted=True),
]


def ready(config):
    return make_student(config).eval()


def some(links, count=4, seed=0):
    drawn = rayleigh(count, links, 10.0, generator(seed))
    return Channels(drawn.snr, torch.rand(count, links, generator=generator(seed + 1)) + 0.5)


@pytest.mark.parametrize("config", GRAPHS)
def test_the_order_of_links_does_not_matter_to_a_graph_network(config):
    given, student = some(7), ready(config)
    start = random_starts(given, 3, generator(2))
    order = torch.randperm(7, generator=generator(3))
    with torch.no_grad():
        power = allocate(student, given, start)
        permuted = allocate(
            student, Channels(given.snr[:, order][:, :, order], given.weight[:, order]), start[:, :, order]
        )
    assert torch.allclose(power[:, :, order], permuted, atol=1e-5)


@pytest.mark.parametrize("config", GRAPHS)
@pytest.mark.parametrize("links", [1, 2, 23])
def test_a_graph_network_takes_any_number_of_links(config, links):
    given = some(links)
    with torch.no_grad():
        power = allocate(ready(config), given, all_ones(given))
    assert power.shape == (4, 1, links)
    assert bool(((power >= 0) & (power <= 1)).all())


@pytest.mark.parametrize("config", GRAPHS)
def test_what_transmitter_and_receiver_are_is_not_mixed_up(config):
    """The other way round is another problem, and a student must see that."""
    given, student = some(6), ready(config)
    back = Channels(given.snr.transpose(1, 2).contiguous(), given.weight)
    with torch.no_grad():
        assert (allocate(student, given, all_ones(given)) - allocate(student, back, all_ones(back))).abs().max() > 1e-4


def test_candidates_do_not_disturb_each_other():
    given, student = some(5), ready(UnrolledGnnConfig())
    start = random_starts(given, 4, generator(1))
    with torch.no_grad():
        together = student(given.snr, start)
        for place in range(4):
            alone = student(given.snr, start[:, place : place + 1])
            assert torch.allclose(together[:, place : place + 1], alone, atol=1e-5)


def test_a_student_that_sees_weights_heeds_them():
    given, student = some(5), ready(UnrolledGnnConfig(weighted=True))
    other = Channels(given.snr, given.weight.flip(1))
    with torch.no_grad():
        assert (
            allocate(student, given, all_ones(given)) - allocate(student, other, all_ones(given))
        ).abs().max() > 1e-4


def test_steps_end_with_the_students_answer():
    given, student = some(5), ready(UnrolledGnnConfig(rounds=3))
    with torch.no_grad():
        steps = student.steps(given.snr, all_ones(given))
        assert len(steps) == 3
        assert torch.equal(steps[-1], student(given.snr, all_ones(given)))


@pytest.mark.parametrize(
    "config", [MlpConfig(links=6, hidden=(8,)), MlpConfig(links=6, hidden=(8, 8), batch_norm=True)]
)
def test_a_perceptron_gives_powers(config):
    given = some(6)
    with torch.no_grad():
        power = allocate(ready(config), given, all_ones(given))
    assert power.shape == (4, 1, 6)
    assert bool(((power >= 0) & (power <= 1)).all())


def test_amplitudes_are_scaled_by_what_is_met_in_training():
    given, student = some(6, count=500), make_student(MlpConfig(links=6, hidden=(8,)))
    student.amplitudes.fit(given)
    scaled = student.amplitudes(given.snr)
    assert scaled.mean().item() == pytest.approx(0, abs=1e-4)
    assert scaled.std().item() == pytest.approx(1, abs=1e-3)


def test_a_perceptron_as_it_is_used_gives_the_same():
    """Batch norm and scaling have moved into the weights."""
    given, student = some(6, count=300), make_student(MlpConfig(links=6, hidden=(8, 8), batch_norm=True))
    student.amplitudes.fit(given)
    for _ in range(5):
        student(given.snr)  # batch norm takes its statistics
    student.eval()
    with torch.no_grad():
        assert torch.allclose(as_used(student)(given.snr), student(given.snr), atol=1e-5)
    assert as_used(ready(GRAPHS[0])).config == GRAPHS[0]


# --- ONNX ---


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("config", [GRAPHS[0], GRAPHS[1]])
def test_a_message_network_is_the_same_in_onnx(config, tmp_path):
    student = ready(config)
    export_onnx(student, tmp_path / "student.onnx")
    runtime = session(tmp_path / "student.onnx")
    for count, links in ((1, 2), (4, 10), (7, 23), (2, 50)):
        given = some(links, count)
        (power,) = runtime.run(None, {"snr": given.snr.numpy()})
        with torch.no_grad():
            assert np.allclose(power, student(given.snr).squeeze(1).numpy(), atol=1e-5)


@pytest.mark.parametrize("config", [GRAPHS[2], GRAPHS[3]])
def test_an_unrolled_network_in_onnx_gives_its_best_candidate(config, tmp_path):
    student = ready(config)
    export_onnx(student, tmp_path / "student.onnx")
    runtime = session(tmp_path / "student.onnx")
    for count, links, starts in ((1, 2, 1), (4, 10, 3), (7, 23, 8), (2, 50, 2)):
        given = some(links, count)
        given = Channels(given.snr, torch.ones_like(given.weight))
        start = random_starts(given, starts, generator(5))
        (power,) = runtime.run(None, {"snr": given.snr.numpy(), "start": start.numpy()})
        with torch.no_grad():
            candidates = student(given.snr, start)
        found = sum_rate(given, torch.from_numpy(power).unsqueeze(1)).squeeze(1)
        assert torch.allclose(found, sum_rate(given, candidates).amax(1), atol=1e-3)
        nearest = (candidates - torch.from_numpy(power).unsqueeze(1)).abs().amax(-1).amin(1)
        assert bool((nearest < 1e-4).all())


def test_a_perceptron_is_the_same_in_onnx(tmp_path):
    student = ready(MlpConfig(links=6, hidden=(8,), batch_norm=True))
    export_onnx(student, tmp_path / "student.onnx")
    for count in (1, 9):
        given = some(6, count)
        (power,) = session(tmp_path / "student.onnx").run(None, {"snr": given.snr.numpy()})
        with torch.no_grad():
            assert np.allclose(power, student(given.snr).squeeze(1).numpy(), atol=1e-6)


def test_a_student_that_uses_weights_of_links_cannot_be_exported(tmp_path):
    with pytest.raises(InputError, match="cannot be exported"):
        export_onnx(ready(UnrolledGnnConfig(weighted=True)), tmp_path / "student.onnx")


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"student.onnx: cannot be written"):
        export_onnx(ready(MessageGnnConfig()), tmp_path / "file" / "student.onnx")
