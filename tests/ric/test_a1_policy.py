"""The A1 policy type: what it lets through, what each field does to the guard, and the schema that is given out."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from distila import schemas
from distila.xapp.errors import first_error
from distila.xapp.policy.guard import GuardConfig
from distila.xapp.ric.a1_policy import A1Policy, limits_under, policy_type

GUARD = GuardConfig()


def policy(**fields):
    return A1Policy.model_validate_json(json.dumps(fields))


def test_the_schema_that_is_given_out_is_that_of_the_model():
    """Made by `python -m distila.xapp.ric.a1_policy > schemas/a1_policy_type.json`."""
    path = Path(schemas.__path__[0]) / "a1_policy_type.json"
    assert json.loads(path.read_text()) == policy_type(20130)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"max_mcs": "six"}, "max_mcs = 'six'"),
        ({"max_mcs": 29}, "max_mcs = 29"),
        ({"min_mcs": -1}, "min_mcs = -1"),
        ({"max_mcs": 6.5}, "max_mcs = 6.5"),
        ({"enabled": 1}, "enabled = 1"),
        ({"cells": "cell-1"}, "cells = 'cell-1'"),
        ({"cells": [7]}, "cells.0 = 7"),
        ({"target_bler": 0}, "target_bler = 0"),
        ({"target_bler": "0.1"}, "target_bler = '0.1'"),
        ({"policy": "../../etc"}, "policy = '../../etc'"),
        ({"colour": "blue"}, "colour: no such field"),
        ({"min_mcs": 9, "max_mcs": 3}, "min_mcs = 9 exceeds max_mcs = 3"),
        ({"policy": "student", "cells": ["a"]}, "leave out cells or policy"),
    ],
)
def test_wrong_fields_are_rejected_by_name(fields, names):
    with pytest.raises(ValidationError) as error:
        policy(**fields)
    assert names in first_error(error.value)


def test_a_policy_changes_what_it_names_and_nothing_else():
    config, cells = limits_under(GUARD, [policy(max_mcs=9)])
    assert config == GUARD.model_copy(update={"max_mcs": 9})
    assert cells == {}
    assert limits_under(GUARD, [policy()]) == (GUARD, {})


def test_a_policy_about_cells_holds_there_over_one_about_all():
    config, cells = limits_under(GUARD, [policy(cells=["a"], max_mcs=20), policy(max_mcs=9, min_mcs=2)])
    assert config == GUARD.model_copy(update={"min_mcs": 2, "max_mcs": 9})
    assert cells == {"a": GUARD.model_copy(update={"min_mcs": 2, "max_mcs": 20})}


def test_of_two_the_later_holds():
    off, on = policy(cells=["a"], enabled=False), policy(cells=["a"], enabled=True)
    config, cells = limits_under(GUARD, [policy(max_mcs=9), off, policy(max_mcs=12), on])
    assert config.max_mcs == 12
    assert cells["a"].enabled


def test_a_policy_that_does_not_go_with_the_configuration_is_rejected():
    with pytest.raises(ValueError, match="min_mcs = 20 exceeds max_mcs = 15"):
        limits_under(GuardConfig(max_mcs=15), [policy(min_mcs=20)])


@pytest.mark.parametrize("target", [0.3, 0.1, 0.01])
def test_a_bler_target_is_a_ceiling_that_chance_does_not_trip(target):
    """Ten failures are to be expected before it may trip, and the memory is longer than that."""
    config, _ = limits_under(GUARD, [policy(target_bler=target)])
    assert config.breaker_failure_rate == target
    assert config.breaker_retx_failure_rate == 0, "of first transmissions, whatever retransmissions make of them"
    assert config.breaker_min_tx * target >= 10 * (1 - 1e-9)
    assert config.breaker_window_tx > config.breaker_min_tx


mcs = st.none() | st.integers(0, 28)
policies = st.builds(
    dict,
    cells=st.lists(st.sampled_from("abc"), max_size=2),
    enabled=st.none() | st.booleans(),
    min_mcs=mcs,
    max_mcs=mcs,
    target_bler=st.none() | st.floats(0.001, 0.99),
)


@given(st.lists(policies, max_size=5))
def test_policies_in_any_number_give_limits_that_are_valid_or_a_reason(given):
    try:
        config, cells = limits_under(GUARD, [policy(**fields) for fields in given])
    except ValueError:
        return
    for one in (config, *cells.values()):
        assert GuardConfig.model_validate(one.model_dump()) == one
    assert set(cells) == {cell for fields in given for cell in fields["cells"]}
