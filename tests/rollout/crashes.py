"""Kills xApps with SIGKILL at random points of a rollout, in children forked from one warm process; prints JSON.

    python tests/rollout/crashes.py FOLDER KILLS [REDIS_URL]

Two thirds of the kills hit right before or after a random write to the store, the others a random moment. Every child
goes on where the one before was killed. After each kill the store must hold one whole state with its whole audit log,
no commit that a child was told of may be missing, and two replicas that read it must give every unit the same arm.
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from kpi_reports import kpi_report

from distila.xapp.errors import InputError
from distila.xapp.loop import DecisionLoop, LoopConfig
from distila.xapp.policy.bundle import load_bundle
from distila.xapp.policy.guard import GuardConfig
from distila.xapp.rollout.assignment import Assignment
from distila.xapp.rollout.audit import verify
from distila.xapp.rollout.controller import RolloutController
from distila.xapp.rollout.machine import Command
from distila.xapp.rollout.open_store import open_store
from distila.xapp.rollout.plan import Plan
from distila.xapp.rollout.store import SqliteStore

_KILLS_PER_STORE = 100
UES = np.arange(100, 160)
PLAN = Plan.model_validate(
    {
        "name": "crash",
        "challengers": [{"name": "new", "policy": "olla"}],
        "stages": [
            {"name": "shadow", "shadow": True, "min_intervals": 1},
            {"name": "some", "share_pct": {"new": 30}, "control_pct": 30, "min_intervals": 1},
            {"name": "half", "share_pct": {"new": 50}, "min_intervals": 2, "max_intervals": 2},
        ],
        "settle_intervals": 0,
        "latency_budget_us": 1e9,
    },
)
OLLA = load_bundle("olla")
FOLLOWS = {
    "start": {"start"},
    "evaluate": {"start", "evaluate", "advance"},
    "advance": {"start", "evaluate", "advance"},
    "hold": {"evaluate", "advance"},
    "promote": {"hold", "evaluate"},
}


def report(sequence):
    return kpi_report(sequence, UES, period_slots=20, cqi=9, prbs=50, ack=10)


def live(place, writer, kill_at, seed):
    """A child: runs rollouts until it is killed; writes down every version that a commit returned."""
    writes = 0

    def fault(_point):
        nonlocal writes
        writes += 1
        if writes == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    store = open_store(place) if place.startswith("unix") else SqliteStore(Path(place), fault)
    commit = store.commit

    def commit_and_report(before, after, **given):
        written = commit(before, after, **given)
        if written is not None:
            os.write(writer, f"{written.version} {given['what']} {written.audit_head}\n".encode())
        return written

    store.commit = commit_and_report
    now_s = [0.0]
    loop = DecisionLoop(OLLA, LoopConfig(ue_capacity=128), GuardConfig(deadline_us=None))
    controller = RolloutController(loop, store, f"r{seed}", clock_s=lambda: now_s[0])
    sequence = 0
    os.write(writer, b"0 ready -\n")
    while True:
        controller.tick()
        state = controller.state
        try:
            if state is None or not state.active:
                controller.command(Command(action="start", plan=PLAN, who="crashes"))
            elif state.status == "held":
                controller.command(Command(action="promote", to_end=True, who="crashes"))
        except InputError:
            continue
        sequence += 1
        loop.decide(report(sequence))
        now_s[0] += PLAN.interval_s


def check(place, acknowledged):
    """Look at what a kill left behind; returns (version, entries) and raises where anything is wrong."""
    store = open_store(place) if place.startswith("unix") else SqliteStore(Path(place))
    state, entries = store.load(), store.audit()
    store.close()
    if state is None:
        assert not entries
        assert not acknowledged
        return 0, entries
    assert state.version == len(entries), "state and audit log are of one commit"
    verify(entries, state.audit_head)
    for version, (what, head) in acknowledged.items():
        assert entries[version - 1].what == what, f"transition {version} was lost"
        assert entries[version - 1].hash == head, f"transition {version} is another one now"
    for before, after in pairwise(entries):
        if after.what == "start":
            assert before.what == "promote"
        else:
            assert before.what in FOLLOWS[after.what], f"{before['what']} then {after['what']}"
            assert after.stage - before.stage == (after.what == "advance"), "one stage at a time"
    one, other = (Assignment(state.plan, state.stage, state.withdrawn)(report(1)) for _ in range(2))
    assert (one == other).all()
    if state.stage == 2:
        earlier = Assignment(state.plan, 1)(report(1))
        assert (one[earlier > 0] == earlier[earlier > 0]).all(), "no unit in two arms"
    return state.version, entries


def main(folder, kills, redis_url):
    rng = np.random.default_rng(1)
    acknowledged, entries, by_write, counts = {}, [], 0, Counter()
    place = redis_url
    for number in range(kills):
        if redis_url is None and number % _KILLS_PER_STORE == 0:
            # All that was ever written is checked after each kill, so a store must not grow for ever.
            counts.update(entry.what for entry in entries)
            place, acknowledged, entries = str(folder / f"rollout-{number}.sqlite"), {}, []
        at_write = place.startswith("unix") is False and number % 3 > 0
        by_write += at_write
        kill_at = int(rng.integers(1, 40)) if at_write else -1
        moment_s = None if at_write else float(rng.uniform(0.0, 0.3))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            live(place, writer, kill_at, number)
        os.close(writer)
        with os.fdopen(reader) as lines:
            if moment_s is not None:
                # From outside, so that it may hit in the middle of a system call too.
                lines.readline()
                time.sleep(moment_s)
                os.kill(child, signal.SIGKILL)
            for line in lines:
                if line.endswith("\n") and not line.startswith("0 ready"):
                    version, what, head = line.split()
                    assert int(version) not in acknowledged, f"version {version} was committed twice"
                    acknowledged[int(version)] = (what, head)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the child ended by itself"
        assert os.WTERMSIG(status) == signal.SIGKILL
        _, entries = check(place, acknowledged)
    counts.update(entry.what for entry in entries)
    print(json.dumps({"kills": kills, "at_a_write": by_write, "commits": counts.total(), "what": counts}))


if __name__ == "__main__":
    start = time.monotonic()
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
    print(f"{time.monotonic() - start:.1f} s", file=sys.stderr)
