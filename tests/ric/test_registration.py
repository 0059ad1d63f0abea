"""Registration at an application manager that is there, absent, or says no."""

import json
import socket

import pytest

pytest.importorskip("httpx", reason="needs [ric]")
from distila.replay.ric.managers import ApplicationManager
from distila.replay.ric.ric import free_ports
from distila.xapp.config import RunConfig
from distila.xapp.ric.registration import RX_MESSAGES, TX_MESSAGES, Registration, descriptor

PATIENCE_S = 20.0


@pytest.fixture
def make():
    made = []

    def registration(url):
        config = RunConfig.model_validate({"http": {}, "ric": {"appmgr": url}, "e2": {"transport": "rmr"}})
        made.append(Registration(config.ric, "distila-7", 8080, 4560, descriptor(config)))
        made[-1].start()
        return made[-1]

    yield registration
    for one in made:
        one.stop(0.2)


@pytest.fixture
def appmgr():
    manager = ApplicationManager()
    yield manager
    manager.stop()


def test_it_says_who_and_where_it_is_and_what_it_sends_and_receives(make, appmgr, eventually):
    registration = make(appmgr.url)
    eventually(lambda: registration.registered)
    assert registration.missing() == ""
    body = appmgr.registered["distila-7"]
    assert body["appName"] == "distila"
    assert body["httpEndpoint"] == "service-ricxapp-distila-http.ricxapp:8080"
    assert body["rmrEndpoint"] == "service-ricxapp-distila-rmr.ricxapp:4560"
    assert body["configPath"] == "/ric/v1/config"
    described = json.loads(body["config"])
    data = next(port for port in described["messaging"]["ports"] if port["name"] == "rmrdata")
    assert data["rxMessages"] == list(RX_MESSAGES)
    assert data["txMessages"] == list(TX_MESSAGES)
    assert data["policies"] == [20130]
    assert "rmr" not in described, "the application manager would use that section instead"


def test_an_absent_manager_is_tried_until_it_is_there(make, eventually):
    """The platform's SDK takes the text of the exception for a yes."""
    port = free_ports(1)[0]
    registration = make(f"http://127.0.0.1:{port}")
    eventually(lambda: registration.counts["register_unreachable"] >= 2)
    assert not registration.registered
    assert registration.missing() == "not registered at the application manager"
    late = ApplicationManager(port)
    eventually(lambda: registration.registered)
    assert list(late.registered) == ["distila-7"]
    registration.stop(PATIENCE_S)
    late.stop()


def test_a_manager_that_says_no_is_tried_again(make, appmgr, eventually):
    appmgr.fail_with = 500
    registration = make(appmgr.url)
    eventually(lambda: registration.counts["register_500"] >= 2)
    assert not registration.registered
    appmgr.fail_with = None
    eventually(lambda: registration.registered)


def test_at_the_end_it_deregisters(make, appmgr, eventually):
    registration = make(appmgr.url)
    eventually(lambda: registration.registered)
    registration.stop(PATIENCE_S)
    assert appmgr.registered == {}
    assert appmgr.requests[-1] == ("POST", "/ric/v1/deregister", {"appName": "distila", "appInstanceName": "distila-7"})


def test_an_unreachable_manager_does_not_delay_the_shutdown(make, appmgr, eventually, returned):
    """The SDK tries again and again, and sleeps for ten seconds in between."""
    registration = make(appmgr.url)
    eventually(lambda: registration.registered)
    appmgr.stop()
    returned(lambda: registration.stop(1))
    assert registration.counts["deregister_unreachable"] == 1


def test_a_manager_that_never_answers_does_not_delay_the_shutdown(make, appmgr, eventually, returned):
    registration = make(appmgr.url)
    eventually(lambda: registration.registered)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        registration._base = f"http://127.0.0.1:{mute.getsockname()[1]}"
        returned(lambda: registration.stop(0.2))
    assert registration.counts["deregister_unreachable"] == 1
