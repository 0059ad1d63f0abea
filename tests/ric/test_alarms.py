"""Alarms at an alarm manager that is there, comes late, or says no."""

import time

import pytest

pytest.importorskip("httpx", reason="needs [ric]")
from distila.replay.ric.managers import AlarmManager
from distila.replay.ric.ric import free_ports
from distila.xapp.ric.alarms import Alarm, Alarms

REJECTED = (20131, "configuration")


@pytest.fixture
def manager():
    made = AlarmManager()
    yield made
    made.stop()


@pytest.fixture
def alarms():
    made = []

    def make(url):
        made.append(Alarms(url, "distila", "distila-7", 1.0))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop(0.2)


def test_an_alarm_is_defined_raised_once_and_cleared_once(alarms, manager, eventually):
    ours = alarms(manager.url)
    for text in ("first", "second"):
        ours.raise_(Alarm.CONFIGURATION_REJECTED, "configuration", text)
    eventually(lambda: REJECTED in manager.active)
    raised = manager.active[REJECTED]
    assert (raised["managedObjectId"], raised["applicationId"]) == ("distila", "distila-7")
    assert (raised["perceivedSeverity"], raised["AlarmAction"], raised["additionalInfo"]) == ("MINOR", "RAISE", "first")
    assert abs(raised["AlarmTime"] / 1e9 - time.time()) < 60
    for _ in range(2):
        ours.clear(Alarm.CONFIGURATION_REJECTED, "configuration")
    eventually(lambda: not manager.active)
    assert [message["AlarmAction"] for message in manager.history] == ["RAISE", "CLEAR"]
    assert ours.counts["raised"] == ours.counts["cleared"] == 1


def test_an_alarm_that_was_not_raised_is_not_cleared(alarms, manager):
    ours = alarms(manager.url)
    ours.clear(Alarm.NO_TELEMETRY, "e2")
    ours.stop(1)
    assert manager.history == []


def test_a_manager_that_comes_late_gets_the_state_as_it_is_then(alarms, eventually):
    port = free_ports(1)[0]
    ours = alarms(f"http://127.0.0.1:{port}")
    ours.raise_(Alarm.NO_TELEMETRY, "e2", "silent")
    ours.raise_(Alarm.POLICY_REJECTED, "bundle", "damaged")
    eventually(lambda: ours.counts["failed"] >= 1)
    ours.clear(Alarm.POLICY_REJECTED, "bundle")
    late = AlarmManager(port)
    eventually(lambda: set(late.active) == {(20133, "e2")})
    late.stop()


def test_a_manager_that_says_no_is_tried_again(alarms, manager, eventually):
    manager.fail_with = 503
    ours = alarms(manager.url)
    ours.raise_(Alarm.NO_TELEMETRY, "e2", "silent")
    eventually(lambda: ours.counts["failed"] >= 2)
    manager.fail_with = None
    eventually(lambda: (20133, "e2") in manager.active)


def test_ids_are_our_own():
    ids = [alarm.value.ident for alarm in Alarm]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & set(range(72001, 72009)), "those are the platform's"
