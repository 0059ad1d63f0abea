"""Distributions as data: what they draw, how they are written, what is refused, when one lies within another."""

import math

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from distila.training.sim.distribution import Count, Distribution, NonNegative, Number, Positive, Share, Whole
from distila.xapp.errors import first_error

REAL = st.floats(-1e6, 1e6, allow_subnormal=False)
POSITIVE = st.floats(1e-3, 1e6)
SCALE = st.floats(0, 1e3)


def of(kind, *values):
    return Distribution(kind=kind, values=values)


def ordered(numbers):
    return st.tuples(numbers, numbers).map(sorted)


CONSTANTS = REAL.map(lambda v: of("constant", v))
UNIFORMS = ordered(REAL).map(lambda v: of("uniform", *v))
LOG_UNIFORMS = ordered(POSITIVE).map(lambda v: of("log_uniform", *v))
NORMALS = st.tuples(REAL, SCALE).map(lambda v: of("normal", *v))
CHOICES = st.lists(REAL, min_size=1, max_size=5).map(lambda v: of("choice", *v))
ANY = st.one_of(CONSTANTS, UNIFORMS, LOG_UNIFORMS, NORMALS, CHOICES)


def rng(seed=0):
    return np.random.default_rng(seed)


def parsed(form, data):
    """What ``data``, as YAML would give it, becomes in a setting of that form; the message where it is refused."""

    class Settings(BaseModel):
        setting: form

    try:
        return Settings.model_validate({"setting": data}).setting
    except ValidationError as error:
        return first_error(error)


# --- drawing ---


@given(st.one_of(CONSTANTS, UNIFORMS, CHOICES), st.integers(0, 100))
def test_draws_lie_within_the_bounds(distribution, seed):
    low, high = distribution.bounds
    drawn = distribution.draw(rng(seed), 20)
    assert drawn.dtype == np.float64
    assert drawn.shape == (20,)
    assert (drawn >= low).all()
    assert (drawn <= high).all()


@given(LOG_UNIFORMS, st.integers(0, 100))
def test_log_uniform_draws_lie_within_the_bounds_but_for_rounding(distribution, seed):
    low, high = distribution.bounds
    drawn = distribution.draw(rng(seed), 20)
    assert (drawn >= low * (1 - 1e-12)).all()
    assert (drawn <= high * (1 + 1e-12)).all()


def test_log_uniform_draws_lie_within_the_bounds_exactly():
    for value in np.linspace(1, 50, 99):
        assert of("log_uniform", value, value).draw_one(rng()) == value


def test_normal_draws_lie_within_the_bounds():
    distribution = of("normal", 1, 0.33)
    low, high = distribution.bounds
    drawn = distribution.draw(rng(), 100_000)
    assert low <= drawn.min()
    assert drawn.max() <= high


@given(ANY, st.integers(0, 100))
def test_same_generator_state_draws_the_same(distribution, seed):
    assert np.array_equal(distribution.draw(rng(seed), 7), distribution.draw(rng(seed), 7))
    assert distribution.draw_one(rng(seed)) == distribution.draw_one(rng(seed))


def test_uniform_is_even_and_log_uniform_even_in_the_logarithm():
    even = of("uniform", 10, 1000).draw(rng(), 100_000)
    assert np.allclose(np.quantile(even, [0.25, 0.5, 0.75]), [257.5, 505, 752.5], rtol=0.02)
    log = of("log_uniform", 10, 1000).draw(rng(), 100_000)
    assert np.allclose(np.quantile(log, [0.25, 0.5, 0.75]), [10**1.5, 100, 10**2.5], rtol=0.03)


def test_normal_is_mean_and_standard_deviation():
    drawn = of("normal", 3, 0.7).draw(rng(), 100_000)
    assert drawn.mean() == pytest.approx(3, abs=0.01)
    assert drawn.std() == pytest.approx(0.7, rel=0.02)


def test_each_of_a_choice_is_as_likely():
    drawn = of("choice", 1, 2, 4).draw(rng(), 90_000)
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [1, 2, 4]
    assert np.allclose(counts, 30_000, rtol=0.03)


def test_constant_is_always_the_same():
    assert (of("constant", 3.5).draw(rng(), 50) == 3.5).all()


@pytest.mark.parametrize("value", [True, 3, 3.5, "chase"])
def test_one_value_keeps_its_own_type(value):
    for kind in ("constant", "choice"):
        drawn = of(kind, value).draw_one(rng())
        assert drawn == value
        assert type(drawn) is type(value)


def test_booleans_count_as_0_and_1():
    assert set(of("choice", False, True).draw(rng(), 50)) == {0.0, 1.0}


def test_text_cannot_be_drawn_as_numbers():
    with pytest.raises(ValueError, match="chase"):
        of("choice", "chase", "ir").draw(rng(), 3)


# --- bounds and sub-ranges ---


def test_bounds():
    assert of("constant", 3).bounds == (3, 3)
    assert of("choice", 4, 1, 2).bounds == (1, 4)
    assert of("uniform", -1, 2).bounds == (-1, 2)
    assert of("log_uniform", 1, 2).bounds == (1, 2)
    assert of("normal", 1, 2).bounds == (-5, 7)


@given(ANY)
def test_everything_lies_within_itself(distribution):
    assert distribution.within(distribution)


@given(ANY, ANY, ANY)
def test_within_is_transitive(a, b, c):
    assert not (a.within(b) and b.within(c)) or a.within(c)


@given(st.one_of(CONSTANTS, UNIFORMS, CHOICES), ANY, st.integers(0, 20))
def test_values_drawn_from_a_sub_range_lie_in_the_larger_range(smaller, larger, seed):
    if smaller.within(larger):
        low, high = larger.bounds
        drawn = smaller.draw(rng(seed), 20)
        assert (drawn >= low).all()
        assert (drawn <= high).all()


@pytest.mark.parametrize(
    ("smaller", "larger", "expected"),
    [
        (of("constant", 2), of("choice", 1, 2), True),
        (of("choice", 1, 3), of("choice", 1, 2), False),
        (of("constant", 2), of("uniform", 1, 2), True),
        (of("choice", 1, 3), of("uniform", 1, 2), False),
        (of("log_uniform", 1, 2), of("uniform", 0, 2), True),
        (of("uniform", 1, 2), of("choice", 1, 2), False),  # 1.5 is no choice
        (of("uniform", 0, 0.7), of("normal", 0, 0.7), True),
        (of("normal", 0, 0.7), of("normal", 0, 1), True),
        (of("normal", 0, 1), of("uniform", -2, 2), False),
        (of("constant", "ir"), of("constant", "ir"), True),
        (of("constant", "ir"), of("constant", "chase"), False),
        (of("constant", "ir"), of("uniform", 0, 1), False),
    ],
)
def test_within(smaller, larger, expected):
    assert smaller.within(larger) is expected


# --- written as YAML ---


@given(ANY)
def test_yaml_round_trip(distribution):
    adapter = TypeAdapter(Number)
    text = yaml.safe_dump(adapter.dump_python(distribution))
    again = adapter.validate_python(yaml.safe_load(text))
    assert again == distribution
    assert [type(v) for v in again.values] == [type(v) for v in distribution.values]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3.5", of("constant", 3.5)),
        ("{uniform: [0, 25]}", of("uniform", 0, 25)),
        ("{log_uniform: [30, 300]}", of("log_uniform", 30, 300)),
        ("{normal: [0, 0.7]}", of("normal", 0, 0.7)),
        ("{choice: [1, 2, 4]}", of("choice", 1, 2, 4)),
    ],
)
def test_forms_of_the_table(text, expected):
    assert parsed(Number, yaml.safe_load(text)) == expected


FORMS = "a number or one of {uniform, log_uniform, normal, choice: [...]}"


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        (Number, "{uniform: [5, 1]}", "setting: uniform [5, 1] is an impossible range: the first is above the second"),
        (Number, "{log_uniform: [5, 1]}", "setting: log_uniform [5, 1] is an impossible range: the first is above"),
        (Number, "{log_uniform: [0, 1]}", "setting: log_uniform [0, 1] must be positive"),
        (Number, "{log_uniform: [-2, -1]}", "setting: log_uniform [-2, -1] must be positive"),
        (Number, "{normal: [0, -1]}", "setting: normal [0, -1] has a negative standard deviation"),
        (Number, "{uniform: [1]}", "setting: uniform [1] must be two numbers"),
        (Number, "{uniform: [1, 2, 3]}", "setting: uniform [1, 2, 3] must be two numbers"),
        (Number, "{normal: []}", "setting: normal [] must be two numbers"),
        (Number, "{uniform: [1, high]}", "setting: uniform [1, 'high'] must be two numbers"),
        (Number, "{uniform: [false, true]}", "setting: uniform [False, True] must be two numbers"),
        (Number, "{choice: []}", "setting: choice is empty; must have at least one value"),
        (Number, "{choice: [1, two]}", "setting: [1, 'two'] must be numbers"),
        (Number, "much", "setting = 'much': ['much'] must be numbers"),
        (Number, "true", "setting = True: [True] must be numbers"),
        (Count, "yes", "setting = True: [True] must be numbers"),
        (Share, "{choice: [0, true]}", "setting: [0, True] must be numbers"),
        (Number, "{choice: [[1], 2]}", "setting: choice [[1], 2] must be single values"),
        (Number, "{choice: [null]}", "setting: choice [None] must be single values"),
        (Number, ".nan", "setting: nan must be finite"),
        (Number, "{uniform: [0, .inf]}", "must be finite"),
        (Number, "{uniform: [.nan, 1]}", "must be finite"),
        (Number, "{triangular: [0, 1]}", f"setting: {{'triangular': [0, 1]}} must be {FORMS}"),
        (Number, "{uniform: 3}", f"setting: {{'uniform': 3}} must be {FORMS}"),
        (Number, "{uniform: [0, 1], choice: [2]}", f"must be {FORMS}"),
        (Number, "{}", f"setting: {{}} must be {FORMS}"),
        (Number, "[1, 2]", f"setting: [1, 2] must be {FORMS}"),
        (Number, "null", f"setting: None must be {FORMS}"),
        (NonNegative, "-3", "setting = -3: -3 is below 0"),
        (NonNegative, "{uniform: [-1, 3]}", "setting: -1 is below 0"),
        (NonNegative, "{normal: [1, 1]}", "setting: -2 is below 0"),
        (Positive, "0", "setting = 0: 0 must be above 0"),
        (Positive, "{choice: [1, 0]}", "setting: 0 must be above 0"),
        (Share, "1.5", "setting = 1.5: 1.5 is above 1"),
        (Share, "-0.5", "setting = -0.5: -0.5 is below 0"),
        (Whole, "1.5", "setting = 1.5: 1.5 must be a whole number or a choice of whole numbers"),
        (Whole, "{uniform: [1, 5]}", "setting: {'uniform': [1, 5]} must be a whole number or a choice of whole"),
        (Whole, "-1", "setting = -1: -1 is below 0"),
        (Count, "0", "setting = 0: 0 is below 1"),
        (Count, "{choice: [0, 1]}", "setting: 0 is below 1"),
    ],
)
def test_bad_forms_are_rejected_in_one_clear_line(form, text, message):
    answer = parsed(form, yaml.safe_load(text))
    assert isinstance(answer, str), f"{text} was taken as {answer!r}"
    assert message in answer
    assert "\n" not in answer


@pytest.mark.parametrize(("form", "text"), [(Whole, "0"), (Whole, "2.0"), (Count, "1"), (Share, "{choice: [0, 1]}")])
def test_edges_are_taken(form, text):
    assert isinstance(parsed(form, yaml.safe_load(text)), Distribution)


def test_a_number_too_large_is_rejected_in_one_line():
    assert "must be finite" in parsed(Number, 10**400)


def test_a_constant_has_one_value():
    with pytest.raises(ValidationError):
        Distribution(kind="constant", values=(1, 2))


def test_is_hashable_and_frozen():
    assert len({of("uniform", 0, 1), of("uniform", 0, 1), of("choice", 0, 1)}) == 2
    with pytest.raises(ValidationError):
        of("constant", 1).kind = "choice"
    assert math.isclose(sum(of("uniform", 0, 1).bounds), 1)
