"""Algorithm distillation: schedules of beta, what is added to a loss, how far scores are from an algorithm's choice."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from distila.training.learning.algorithm import AlgorithmTerm, BetaSchedule, distance_to_choice

BETAS = st.floats(0, 1e6)
PROGRESS = st.floats(0, 1)
KINDS = st.sampled_from(["fixed", "decreasing", "increasing"])


@given(BETAS, KINDS, PROGRESS)
def test_beta_is_never_beyond_its_highest_value(beta, schedule, progress):
    assert 0 <= BetaSchedule(beta=beta, schedule=schedule).at(progress) <= beta


@given(BETAS, PROGRESS)
def test_fixed_is_the_same_all_along(beta, progress):
    assert BetaSchedule(beta=beta, schedule="fixed").at(progress) == beta


@given(BETAS, PROGRESS, PROGRESS)
def test_the_others_are_linear_and_mirror_each_other(beta, one, other):
    falls, rises = (BetaSchedule(beta=beta, schedule=name) for name in ("decreasing", "increasing"))
    assert (falls.at(0), falls.at(1)) == (beta, 0) == (rises.at(1), rises.at(0))
    low, high = sorted((one, other))
    assert falls.at(low) >= falls.at(high)
    assert rises.at(low) <= rises.at(high)
    assert falls.at(one) + rises.at(one) == pytest.approx(beta)
    assert rises.at((one + other) / 2) == pytest.approx((rises.at(one) + rises.at(other)) / 2)


@pytest.mark.parametrize("progress", [-0.01, 1.01, math.nan, math.inf])
def test_progress_is_a_share(progress):
    with pytest.raises(ValueError, match="must be 0 to 1"):
        BetaSchedule().at(progress)


@pytest.mark.parametrize(
    "wrong", [{"beta": -1}, {"beta": math.inf}, {"beta": math.nan}, {"schedule": "cosine"}, {"x": 1}]
)
def test_senseless_schedules_are_rejected(wrong):
    with pytest.raises(ValidationError):
        BetaSchedule(**wrong)


@given(st.floats(-10, 10), st.floats(0, 10), BETAS, KINDS, PROGRESS)
def test_the_algorithm_is_added_with_its_weight(objective, distance, beta, schedule, progress):
    term = BetaSchedule(beta=beta, schedule=schedule)
    found = term.added(torch.tensor(objective), torch.tensor(distance), progress)
    assert found.shape == ()
    assert float(found) == pytest.approx(objective + term.at(progress) * distance, rel=1e-5, abs=1e-5)


def test_both_parts_are_learnt_from():
    x = torch.tensor(2.0, requires_grad=True)
    AlgorithmTerm(beta=3, schedule="fixed").added(x**2, 5 * x, 0.5).backward()
    assert float(x.grad) == 2 * 2 + 3 * 5


def test_an_algorithm_has_a_name_and_a_schedule():
    assert AlgorithmTerm().algorithm == "genie"
    assert AlgorithmTerm(algorithm="salad", beta=0.5, schedule="increasing").at(0.5) == 0.25


def test_the_distance_by_hand():
    score = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]))
    found = distance_to_choice(score, torch.tensor([0, 2]))
    assert float(found) == pytest.approx(-(math.log(0.7) + math.log(0.5)) / 2)


@given(st.integers(2, 30), st.integers(0, 2**31))
def test_the_distance_falls_to_zero_as_the_choice_is_preferred(actions, seed):
    generator = torch.Generator().manual_seed(seed)
    score = torch.randn((5, actions), generator=generator)
    choice = torch.randint(0, actions, (5,), generator=generator)
    preferred = torch.nn.functional.one_hot(choice, actions)
    distance = [float(distance_to_choice(score + by * preferred, choice)) for by in (0, 1, 5, 60)]
    assert distance == sorted(distance, reverse=True)
    assert distance[-1] == pytest.approx(0, abs=1e-6)
    assert float(distance_to_choice(score + 7, choice)) == pytest.approx(distance[0], abs=1e-5)
