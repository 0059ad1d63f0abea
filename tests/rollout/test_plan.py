"""Plans: what is wrong is refused by field, what is not said has a default."""

import pytest
import yaml

from distila.replay.rollouts.simulation import SIMULATION_PLANS
from distila.xapp.errors import InputError
from distila.xapp.rollout.controller import check_policies
from distila.xapp.rollout.plan import PLANS, load_plan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": [{"name": "a", "share_pct": {"new": 60}}]}, "challengers and control add up to 120 %, at most 100"),
        ({"stages": [{"name": "a", "share_pct": {"new": 160}}]}, "share_pct of new is 160, expected 0 to 100"),
        ({"stages": [{"name": "a", "share_pct": {"old": 5}}]}, "arm 'old' is unknown, there are new"),
        (
            {"stages": [{"name": "a", "share_pct": {"new": 9}}, {"name": "b", "share_pct": {"new": 5}}]},
            "share of new falls from 9 to 5 %, a ramp only adds units",
        ),
        (
            {"stages": [{"name": "a", "share_pct": {"new": 9}}, {"name": "b", "shadow": True}]},
            "a shadow stage cannot follow a live one",
        ),
        ({"stages": [{"name": "a"}]}, "give shadow or share_pct"),
        ({"stages": []}, "stages"),
        ({"challengers": [{"name": "control", "policy": "olla"}]}, "the name 'control' is used twice"),
        ({"challengers": [{"name": "a b", "policy": "olla"}]}, "challengers.0.name = 'a b'"),
        ({"metrics": []}, "metrics"),
        (
            {"metrics": [{"name": "joy", "better": "higher", "scale": "absolute", "margin": 1, "effect": 1}]},
            "metrics.0",
        ),
        ({"alpha": 0.9}, "alpha = 0.9"),
        ({"intervall_s": 3}, "intervall_s: no such field"),
        ({"switchback_intervals": 4}, "switchback_intervals: needs unit: cell"),
        ({"interval_s": float("nan")}, "interval_s"),
    ],
)
def test_a_wrong_plan_is_rejected_in_one_line_that_names_the_field(make_plan, changes, message):
    with pytest.raises(InputError) as error:
        make_plan(**changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_control_is_as_large_as_the_largest_challenger_by_default(make_plan):
    arms = [{"name": "new", "policy": "olla"}, {"name": "other", "policy": "native"}]
    plan = make_plan(challengers=arms, stages=[{"name": "a", "share_pct": {"new": 5, "other": 8}}])
    assert plan.stages[0].control_share_pct == 8
    assert plan.arm_names() == ["champion", "control", "new", "other"]
    assert plan.policy_of("control") == "olla"


def test_a_plan_comes_back_from_yaml_and_its_digest_tells_it_from_others(make_plan, tmp_path):
    plan = make_plan()
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(plan.model_dump(mode="json")))
    assert load_plan(str(path)) == plan
    assert load_plan(str(path)).digest == plan.digest != make_plan(alpha=0.01).digest


def test_plans_that_ship_are_good_and_so_are_their_policies():
    for name in [*PLANS.names(), "healthy", "harmful", "aa"]:
        plan = load_plan(name, SIMULATION_PLANS)
        assert check_policies(plan).keys() == {arm.policy for arm in (plan.champion, *plan.challengers)}


def test_a_policy_may_lie_beside_the_plan(make_plan, tmp_path, bundle_copy):
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(make_plan(challengers=[{"name": "new", "policy": "mine"}]).model_dump(mode="json")))
    assert load_plan(str(path)).challengers[0].policy == str(bundle_copy)


def test_an_unknown_bundle_and_an_unknown_plan_are_named(make_plan):
    plan = make_plan(challengers=[{"name": "new", "policy": "nowhere"}])
    with pytest.raises(InputError, match="nowhere: no such policy bundle"):
        check_policies(plan)
    with pytest.raises(InputError, match="nothing: no such rollout plan"):
        load_plan("nothing")
