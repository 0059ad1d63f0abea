"""Subscriptions against a subscription manager and an E2 manager that are as strict as the real ones."""

import httpx
import pytest

pytest.importorskip("fastapi", reason="needs [ric]")
from distila.replay.ric.managers import E2Manager, SubscriptionManager
from distila.schemas import e2sm_v1_pb2 as pb
from distila.xapp.platform_config import RicConfig
from distila.xapp.ric import subscriptions as subscriptions_module
from distila.xapp.ric.http import HttpServer
from distila.xapp.ric.nodes import NodesUnknownError
from distila.xapp.ric.sdl import Sdl
from distila.xapp.ric.subscriptions import Notification, Subscriptions, subscriptions_router

MEID = "gnb_001_001_0001"
PATIENCE_S = 20.0


class Bench:
    """Managers, and the xApp's part of it on a real HTTP port."""

    def __init__(self, submgr=None, e2mgr=None, sdl=None, cells=(), offered=None, **subscription):
        self.instance = None
        self.submgr = submgr or SubscriptionManager(self._subscribe)
        self.e2mgr = e2mgr or E2Manager({MEID: 200} if offered is None else offered)
        self.http = HttpServer("127.0.0.1", 0)
        timing = {"silent_after_s": 60, "discover_every_s": 0.1, **subscription}
        config = RicConfig.model_validate(
            {"host": "127.0.0.1", "submgr": self.submgr.url, "e2mgr": self.e2mgr.url, "subscription": timing}
        )
        self.sdl = sdl
        self.subscriptions = Subscriptions(config, self.http.port, 4560, list(cells), sdl)
        self.http.serve(subscriptions_router(self.subscriptions))
        self.http.start()

    def start(self):
        self.subscriptions.start()
        return self

    def step(self):
        """What the worker does each time, on this thread; it is not started."""
        self.subscriptions._step()

    def _subscribe(self, instance_id):
        self.instance = instance_id

    @property
    def active(self):
        return self.subscriptions.states().get("active", 0)

    def posts(self):
        return [body for method, _, body in self.submgr.requests if method == "POST"]

    def deletes(self):
        return [path for method, path, _ in self.submgr.requests if method == "DELETE"]


@pytest.fixture
def bench():
    made = []

    def make(**settings):
        made.append(Bench(**settings))
        return made[-1]

    yield make
    for one in made:
        one.subscriptions.stop(1)
        one.http.stop()
        one.submgr.stop()
        one.e2mgr.stop()
        if one.sdl is not None:
            one.sdl.stop(0.5)


def test_the_request_is_what_the_manager_wants(bench, eventually):
    here = bench(cells=["cell-1"], report_period_ms=20).start()
    eventually(lambda: here.active == 1)
    [body] = here.posts()
    assert body["ClientEndpoint"] == {"Host": "127.0.0.1", "HTTPPort": here.http.port, "RMRPort": 4560}
    assert (body["Meid"], body["RANFunctionID"]) == (MEID, 200), "the function that the node announces"
    assert "SubscriptionId" not in body
    [detail] = body["SubscriptionDetails"]
    trigger = pb.EventTriggerDefinition.FromString(bytes(detail["EventTriggers"]))
    assert trigger.report_period_ms == 20
    [action] = detail["ActionToBeSetupList"]
    assert list(pb.ActionDefinition.FromString(bytes(action["ActionDefinition"])).cell_ids) == ["cell-1"]
    eventually(lambda: here.submgr.notified == [200])
    assert here.subscriptions.missing() == ""
    assert here.subscriptions.knows(MEID, here.instance)
    assert not here.subscriptions.knows(MEID, here.instance + 1)
    assert not here.subscriptions.knows("gnb_other", here.instance)


def test_a_manager_that_says_503_is_asked_again_until_it_agrees(bench, eventually):
    here = bench()
    here.submgr.fail_with = 503
    here.start()
    eventually(lambda: here.subscriptions.counts["request_503"] >= 2)
    assert here.subscriptions.missing() == f"no active subscription: subscription manager: 503 for {MEID}"
    here.submgr.fail_with = None
    eventually(lambda: here.active == 1)
    assert here.subscriptions.missing() == ""


def test_a_late_notification_is_taken_and_indications_before_it_are_not_dropped(bench, eventually):
    here = bench()
    here.submgr.notify_after_s = None
    here.start()
    eventually(lambda: here.subscriptions.states() == {"asked": 1})
    assert here.subscriptions.knows(MEID, 1)
    assert here.subscriptions.missing() == "no active subscription"
    [(ident, asked)] = here.submgr.subscriptions.items()
    here.submgr.notify(ident, asked.ClientEndpoint, 1, None)
    eventually(lambda: here.active == 1)


def test_a_notification_that_never_comes_is_asked_for_again_by_the_same_id(bench, eventually):
    here = bench(silent_after_s=0.3)
    here.submgr.notify_after_s = None
    here.start()
    eventually(lambda: len(here.posts()) >= 2)
    assert [body.get("SubscriptionId") for body in here.posts()[:2]] == [None, "subscription-1"]
    here.submgr.notify_after_s = 0.0
    eventually(lambda: here.active == 1)


def test_a_notification_that_overtakes_the_answer_is_not_lost(bench, eventually):
    here = bench()
    with here.subscriptions._changing:
        here.subscriptions._asking = True
    early = Notification.model_validate(
        {"SubscriptionId": "subscription-1", "SubscriptionInstances": [{"E2EventInstanceId": 5}]}
    )
    here.subscriptions.notified(early)
    here.submgr.notify_after_s = None
    here.start()
    eventually(lambda: here.active == 1)
    assert here.subscriptions.knows(MEID, 5)


def test_unknown_and_malformed_notifications_are_rejected_or_counted_and_change_nothing(bench, eventually):
    here = bench().start()
    eventually(lambda: here.active == 1)
    url = f"http://127.0.0.1:{here.http.port}/ric/v1/subscriptions/response"
    strange = {"SubscriptionId": "another", "SubscriptionInstances": [{"E2EventInstanceId": 1}]}
    assert httpx.post(url, json=strange).status_code == 200
    assert here.subscriptions.counts["notification_unknown"] == 1
    for body in (
        {},
        {"SubscriptionId": 7},
        [],
        {"SubscriptionId": "x", "SubscriptionInstances": [{"E2EventInstanceId": "y"}]},
    ):
        assert httpx.post(url, json=body).status_code == 400
    assert httpx.post(url, content=b"\xff").status_code == 400
    assert here.subscriptions.counts["notification_malformed"] == 5
    assert here.active == 1


def test_a_node_that_rejects_is_named_with_its_cause_and_asked_again(bench, eventually):
    here = bench()
    here.submgr.reject_with = "RIC_RESOURCE_LIMIT"
    here.start()
    eventually(lambda: here.subscriptions.counts["notification_failed"] >= 1)
    assert "RIC_RESOURCE_LIMIT" in here.subscriptions.missing()
    here.submgr.reject_with = None
    eventually(lambda: here.active == 1)


@pytest.fixture
def clock(clock, monkeypatch):
    monkeypatch.setattr(subscriptions_module, "time", clock)
    return clock


def test_a_silent_node_gets_a_new_subscription(bench, eventually, clock):
    """As after a restart of the E2 termination: the manager believes in a subscription that nobody serves."""
    here = bench(silent_after_s=5)
    here.step()
    eventually(lambda: here.active == 1)
    first = here.instance
    for _ in range(20):
        here.subscriptions.indication_received(MEID)
        clock.now_s += 4
        here.step()
    assert len(here.posts()) == 1, "a node that reports is not silent"
    clock.now_s += 2
    here.step()
    clock.now_s += 1
    here.step()
    assert len(here.posts()) == 2
    assert here.deletes() == ["/ric/v1/subscriptions/subscription-1"]
    eventually(lambda: here.active == 1)
    assert here.instance == first + 1
    assert here.subscriptions.knows(MEID, first + 1)
    assert not here.subscriptions.knows(MEID, first)


def test_a_wall_clock_that_is_set_is_no_silence(bench, eventually, clock):
    here = bench(silent_after_s=5)
    here.step()
    eventually(lambda: here.active == 1)
    for jump_s in (-3600, 3600):
        clock.time = lambda jump_s=jump_s: jump_s
        clock.now_s += 1
        here.step()
    assert here.active == 1
    assert len(here.posts()) == 1


def test_nodes_come_and_go(bench, eventually):
    here = bench(offered={MEID: 200, "gnb_2": 17}).start()
    eventually(lambda: here.active == 2)
    here.e2mgr.disconnected = {"gnb_2"}
    eventually(lambda: here.subscriptions.counts["node_gone"] == 1)
    eventually(lambda: len(here.deletes()) == 1)
    assert here.active == 1
    here.e2mgr.disconnected = set()
    eventually(lambda: here.active == 2)
    assert {(body["Meid"], body["RANFunctionID"]) for body in here.posts()} == {(MEID, 200), ("gnb_2", 17)}


def test_only_the_nodes_asked_for_are_subscribed_to(bench, eventually):
    here = bench(offered={MEID: 200, "gnb_2": 17}, nodes=["gnb_2"]).start()
    eventually(lambda: here.active == 1)
    assert [body["Meid"] for body in here.posts()] == ["gnb_2"]


def test_an_e2_manager_that_fails_is_named_and_asked_again(bench, eventually):
    here = bench()
    here.e2mgr.fail_with = 500
    here.start()
    eventually(lambda: here.subscriptions.counts["e2mgr_failed"] >= 2)
    assert "E2 manager" in here.subscriptions.missing()
    here.e2mgr.fail_with = None
    eventually(lambda: here.active == 1)


def test_without_a_node_that_offers_the_service_model_that_is_what_is_said(bench, eventually):
    here = bench(offered={}).start()
    eventually(lambda: "offers the service model" in here.subscriptions.missing())


@pytest.mark.parametrize("answer", [{}, [1, 2], "text", None])
def test_an_e2_manager_that_talks_nonsense_is_no_fault_of_ours(bench, monkeypatch, answer):
    nodes = bench().subscriptions._nodes
    monkeypatch.setattr(nodes, "_get", lambda url: answer)
    if isinstance(answer, list):
        assert nodes.offers() == []
        return
    with pytest.raises(NodesUnknownError):
        nodes.offers()


def test_at_the_end_it_unsubscribes(bench, eventually):
    here = bench().start()
    eventually(lambda: here.active == 1)
    here.subscriptions.stop(PATIENCE_S)
    assert here.submgr.subscriptions == {}
    assert here.instance is None
    assert here.subscriptions.counts["delete_accepted"] == 1


def test_an_unreachable_manager_does_not_delay_the_end(bench, eventually, returned):
    here = bench().start()
    eventually(lambda: here.active == 1)
    here.submgr.stop()
    returned(lambda: here.subscriptions.stop(1))
    assert here.subscriptions.counts["delete_unreachable"] == 1


@pytest.mark.parametrize("known", [True, False], ids=["manager remembers", "manager forgot"])
def test_the_subscription_id_outlives_the_process(redis, bench, eventually, known):
    first = bench(sdl=_sdl())
    first.start()
    eventually(lambda: first.active == 1)
    eventually(lambda: redis.client.get("{distila},subscription:" + MEID) == b"subscription-1")
    first.subscriptions._worker.stop(PATIENCE_S)  # killed: nothing is unsubscribed
    if not known:
        first.submgr.subscriptions.clear()
    again = bench(submgr=first.submgr, sdl=_sdl()).start()
    eventually(lambda: again.active == 1)
    asked = [body.get("SubscriptionId") for body in first.posts()[1:]]
    assert asked == (["subscription-1"] if known else ["subscription-1", None])
    again.subscriptions.stop(PATIENCE_S)
    again.sdl.stop(PATIENCE_S)
    assert redis.keys("{distila},*") == [], "nothing is left of what was unsubscribed"


def _sdl():
    sdl = Sdl("distila", fake=False)
    sdl.start()
    return sdl
