"""The whole xApp in a process of its own, on a near-RT RIC of stand-ins over RMR; and what happens when parts fail."""

import json
import signal
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("fastapi", reason="needs [ric]")
pytest.importorskip("ricsdl", reason="the platform's SDL")
from distila.replay.bench_load import indications
from distila.replay.commands.ric_demo import app as demo_app
from distila.replay.ric.demo import has_rmr, ric_demo
from distila.replay.ric.ric import MEID, Ric
from distila.replay.trace import ChannelTrace, bundled_trace
from distila.xapp.kpi.report import MCS, NATIVE

needs_librmr = pytest.mark.skipif(not has_rmr(), reason="librmr_si.so or ricxappframe is not installed")
PATIENCE_S = 20.0
GRACE_S = 15.0
"""What the chart gives the pod to end."""
TYPE = 20130


class Running:
    """A RIC with an xApp on it."""

    def __init__(self, folder, ready=True, **sections):
        self.ric = Ric(folder)
        self.url = f"http://127.0.0.1:{self.ric.xapp_http_port}/ric/v1"
        self._log = (folder / "log").open("w")
        self.log = folder / "log"
        self._start(sections)
        self._reports = iter(indications(ChannelTrace.load(bundled_trace()), 5, 2000))
        if ready:
            self.wait(lambda: self.ready() == [])

    def _start(self, sections):
        command = [sys.executable, "-m", "distila.xapp.cli", "run", "--json", "--no-deadline", "--config"]
        config = self.ric.write_config(**sections)
        self.process = subprocess.Popen(
            [*command, str(config)], env=self.ric.environment(), stdout=subprocess.PIPE, stderr=self._log, text=True
        )

    def wait(self, condition, patience_s=PATIENCE_S):
        end = time.monotonic() + patience_s
        while not condition():
            assert time.monotonic() < end, f"it did not happen; {self.log.read_text()[-2000:]}"
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            time.sleep(0.02)

    def ready(self):
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=2).json()["missing"]
        except httpx.HTTPError:
            return ["no answer"]

    def alive(self):
        return httpx.get(f"{self.url}/health/alive", timeout=PATIENCE_S).status_code == 200

    def ask(self):
        """Send an indication; the decisions on it."""
        self.ric.e2term.publish(*next(self._reports))
        answer = self.ric.e2term.receive(PATIENCE_S)
        assert answer is not None, self.log.read_text()[-2000:]
        answer.accept()
        return answer.decisions

    def end(self):
        """SIGTERM; the counters. It has the time that Kubernetes gives a pod."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=GRACE_S)
        return json.loads(out)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.ric.stop()
        self._log.close()


@pytest.fixture
def start(tmp_path):
    started = []

    def begin(**settings):
        started.append(Running(tmp_path, **settings))
        return started[-1]

    yield begin
    for one in started:
        one.kill()


@needs_librmr
@pytest.mark.slow
def test_the_demonstration_over_rmr_has_no_step_that_went_wrong(tmp_path):
    steps = {step.name: step for step in ric_demo(tmp_path, rmr=True)}
    assert [step for step in steps.values() if step.ok is not True] == []
    assert {"registered", "subscribed", "acknowledged", "A1: max_mcs 6", "hot swap", "SIGTERM"} <= set(steps)


@pytest.mark.slow
def test_the_demonstration_over_grpc_says_what_needs_rmr(tmp_path):
    result = CliRunner().invoke(demo_app, ["--transport", "grpc", "--json", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["transport"] == "grpc"
    assert {step["name"] for step in printed["steps"] if step["ok"] is None} == {"subscribed", "A1 policies"}
    assert all(step["ok"] is not False for step in printed["steps"])


# ---------------------------------------------------------------- A1


@needs_librmr
def test_a1_policies_are_asked_for_at_the_start_enforced_and_answered_with_a_number(start):
    here = start()
    a1 = here.ric.a1
    here.wait(lambda: a1.queries == [TYPE])

    def answered(status):
        here.wait(lambda: a1.status.get((TYPE, "one")) == status)
        a1.status.clear()

    a1.put(TYPE, "one", '{"max_mcs": 4}')
    answered("OK")
    decisions = here.ask()
    assert (decisions.kind == MCS).all()
    assert decisions.value.max() <= 4
    for wrong in ('{"max_mcs": "four"}', "not json", "[]", '{"colour": 1}', '{"policy": "nonesuch"}'):
        a1.put(TYPE, "one", wrong)
        answered("ERROR")
    assert here.ask().value.max() <= 4, "what was refused leaves what was in force"
    a1.put(TYPE, "one", '{"enabled": false}')
    answered("OK")
    assert (here.ask().kind == NATIVE).all()
    a1.delete(TYPE, "one")
    answered("DELETED")
    assert (here.ask().kind == MCS).all()
    a1.send("CREATE", 9999, "one", "{}")
    here.wait(lambda: a1.status.get((9999, "one")) == "ERROR")
    for nonsense in (b"\xff\xfe", b"[]", b'{"operation": "BURN"}', b'{"operation":"CREATE","policy_type_id":"x"}'):
        a1.send_bytes(nonsense, TYPE)
    a1.put(TYPE, "two", "{}")
    here.wait(lambda: a1.status.get((TYPE, "two")) == "OK")
    assert a1.fatal == [], "the real mediator would have ended"
    stats = here.end()
    assert stats.platform["a1"]["malformed"] == 4
    assert stats.platform["a1"]["error"] == 6


@needs_librmr
def test_policies_from_before_a_restart_are_in_force_from_the_start(start):
    here = start(ready=False)
    here.ric.a1.instances[TYPE, "kept"] = '{"max_mcs": 3}'
    here.wait(lambda: here.ric.a1.status.get((TYPE, "kept")) == "OK")
    here.wait(lambda: here.ready() == [])
    assert here.ask().value.max() <= 3


# ---------------------------------------------------------------- faults


@needs_librmr
def test_an_absent_platform_makes_it_not_ready_but_neither_dead_nor_slow_to_end(start):
    nowhere = "http://127.0.0.1:9"
    ric = {"host": "127.0.0.1", "appmgr": nowhere, "submgr": nowhere, "e2mgr": nowhere, "alarm_manager": nowhere}
    here = start(ready=False, ric=ric)
    here.wait(lambda: "not registered at the application manager" in here.ready())
    here.wait(lambda: any("E2 manager" in missing for missing in here.ready()))
    assert here.alive()
    here.ric.e2term.instance_id = 1
    assert here.ric.e2term.health_check(PATIENCE_S) is not None
    assert here.ric.e2term.health.startswith(b"ERROR not registered"), "RMR is told the same"
    here.end()


@needs_librmr
@pytest.mark.slow
def test_a_restart_of_the_e2_termination_is_survived_by_subscribing_anew(start):
    """It forgets its subscriptions: the manager still believes in them, indications stay away."""
    here = start()
    here.ask()
    here.ric.e2term.subscribe(None)
    here.wait(lambda: here.ric.e2term.instance_id == 2)
    here.wait(lambda: here.ready() == [])
    here.ask()
    stats = here.end()
    assert stats.platform["subscription"]["silent"] == 1
    assert stats.dropped == {}


@needs_librmr
@pytest.mark.slow
def test_silence_raises_an_alarm_that_is_cleared_when_telemetry_is_back(start):
    here = start()
    alarm = (20133, "e2")
    here.ric.submgr.fail_with = 503
    here.ric.e2mgr.disconnected = {MEID}
    here.wait(lambda: alarm in here.ric.alarms.active)
    assert here.ready() != []
    assert here.alive()
    here.ric.submgr.fail_with = None
    here.ric.e2mgr.disconnected = set()
    here.wait(lambda: here.ready() == [])
    here.wait(lambda: alarm not in here.ric.alarms.active)
    here.ask()


@needs_librmr
def test_a_node_whose_clock_jumps_is_served_on(start):
    """Back and forth by an hour: sequence numbers are the better witness; what is odd is counted."""
    from distila.xapp.e2.codec import decode_indication_header

    here = start()
    for jump_s in (0, -3600, 3600, -7200):
        header, message = next(here._reports)
        moved = decode_indication_header(header)
        moved.timestamp_us = max(0, moved.timestamp_us + 10**10 + jump_s * 1_000_000)
        here.ric.e2term.publish(moved.SerializeToString(), message)
        answer = here.ric.e2term.receive(PATIENCE_S)
        assert answer is not None
        answer.accept()
    stats = here.end()
    assert stats.indications == 4
    assert stats.dropped == {}
    assert stats.noticed["time_backwards"] == 2


@needs_librmr
def test_at_the_end_it_unsubscribes_deregisters_and_leaves_nothing(start):
    here = start()
    for _ in range(20):
        here.ask()
    assert list(here.ric.appmgr.registered) == ["distila-ric-0"]
    assert here.ric.redis.client.get("{distila},subscription:" + MEID) == b"subscription-1"
    stats = here.end()
    assert here.process.returncode == 0
    assert here.ric.appmgr.registered == {}
    assert here.ric.submgr.subscriptions == {}
    assert here.ric.redis.keys() == []
    assert (stats.indications, stats.dropped, stats.lost) == (20, {}, {})
    assert stats.outcomes == {"accepted": 100}
    lines = [json.loads(line) for line in here.log.read_text().splitlines() if line.startswith("{")]
    assert {line["id"] for line in lines} == {"distila-ric-0"}


@needs_librmr
@pytest.mark.slow
def test_nothing_is_lost_while_configuration_and_policy_change(start, tmp_path, relabelled):
    """200 indications, every one answered, while the file and the bundle change every 20."""
    first, second = (relabelled(tmp_path / name, name) for name in ("first", "second"))
    link = tmp_path / "policy"
    link.symlink_to("first")
    here = start(policy=str(link))
    digests, limits = set(), set()
    for index in range(200):
        if index % 40 == 0:
            fresh = tmp_path / "fresh"
            fresh.symlink_to(("second", "first")[index // 40 % 2])
            fresh.replace(link)
        if index % 40 == 20:
            here.ric.write_config(policy=str(link), guard={"max_mcs": 10 + index // 40})
        decisions = here.ask()
        digests.add(decisions.arms[0][1])
        limits.add(int(np.max(decisions.value)))
        time.sleep(0.01)
    stats = here.end()
    assert digests == {first.digest, second.digest}
    assert {10, 11, 12, 13, 14} <= limits
    assert (stats.indications, stats.dropped) == (200, {})
    assert stats.platform["reload"]["configuration_applied"] == 5
    assert stats.platform["reload"]["bundle_swapped"] == 5
