"""Probes, configuration and metrics over a real HTTP port; log lines in the platform's format; workers that survive."""

import json
import logging
import threading
import time

import httpx
import pytest

pytest.importorskip("fastapi", reason="needs [ric]")
from fastapi import APIRouter
from kpi_reports import kpi_report
from prometheus_client.parser import text_string_to_metric_families

from distila.replay.e2_node import E2Node
from distila.xapp.app import Xapp
from distila.xapp.config import RunConfig
from distila.xapp.errors import InputError
from distila.xapp.ric import health as health_module
from distila.xapp.ric.health import Health, health_router
from distila.xapp.ric.http import HttpServer
from distila.xapp.ric.logs import MdclogFormatter
from distila.xapp.ric.worker import Backoff, Worker

PATIENCE_S = 20.0


@pytest.fixture
def serve():
    servers = []

    def start(*routers):
        servers.append(HttpServer("127.0.0.1", 0, routers))
        servers[-1].start()
        return f"http://127.0.0.1:{servers[-1].port}"

    yield start
    for server in servers:
        server.stop()


# ---------------------------------------------------------------- probes


def test_alive_means_that_the_loop_runs_and_ready_that_nothing_is_missing(serve, clock, monkeypatch):
    monkeypatch.setattr(health_module, "time", clock)
    health = Health(alive_after_s=3)
    missing = {"registration": "not registered"}
    health.check(lambda: missing.get("registration", ""))
    url = serve(health_router(health, lambda: {"name": "distila"})) + "/ric/v1/health"
    health.loop_ran()
    assert httpx.get(f"{url}/alive").status_code == 200
    ready = httpx.get(f"{url}/ready")
    assert (ready.status_code, ready.json()) == (503, {"status": "unavailable", "missing": ["not registered"]})
    assert health.summary() == "not registered"
    missing.clear()
    health.loop_ran()
    assert httpx.get(f"{url}/ready").json() == {"status": "ok", "missing": []}
    clock.now_s += 4
    for probe in ("alive", "ready"):
        answer = httpx.get(f"{url}/{probe}")
        assert answer.status_code == 503
        assert "has not run" in answer.json()["missing"][0]
    health.loop_ran()
    assert httpx.get(f"{url}/alive").status_code == 200


def test_only_whole_paths_match(serve):
    """The platform's SDK takes a path that merely contains a known one."""
    url = serve(health_router(Health(10), dict))
    for path in ("/ric/v1/health", "/ric/v1/health/alivexyz", "/x/ric/v1/health/alive", "/ric/v1/health/alive/more"):
        assert httpx.get(url + path).status_code == 404
    assert httpx.post(f"{url}/ric/v1/health/alive").status_code == 405


def test_a_slow_request_holds_up_no_probe(serve):
    """The SDK's server has one thread, whatever its name says."""
    router, held = APIRouter(), threading.Event()

    @router.get("/slow")
    def slow() -> None:
        held.wait(PATIENCE_S)

    url = serve(health_router(Health(10), dict), router)
    thread = threading.Thread(target=httpx.get, args=(f"{url}/slow",), kwargs={"timeout": PATIENCE_S})
    thread.start()
    try:
        assert httpx.get(f"{url}/ric/v1/health/alive", timeout=PATIENCE_S / 2).status_code == 200
    finally:
        held.set()
        thread.join()


def test_a_port_that_is_taken_is_one_line():
    first = HttpServer("127.0.0.1", 0)
    with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{first.port}: "):
        HttpServer("127.0.0.1", first.port)
    first.stop()


def test_ric_without_http_is_rejected():
    with pytest.raises(ValueError, match="ric needs http"):
        RunConfig.model_validate({"ric": {}})


# ---------------------------------------------------------------- a running xApp


@pytest.fixture
def running(tmp_path):
    """An xApp over gRPC with an HTTP port, its node, and its URL."""
    node = E2Node()
    config = {
        "http": {"host": "127.0.0.1", "port": 0, "alive_after_s": PATIENCE_S},
        "e2": {"endpoint": node.address},
        "guard": {"deadline_us": None},
    }
    xapp = Xapp(RunConfig.model_validate(config))
    stop = threading.Event()
    thread = threading.Thread(target=xapp.run, args=(stop,))
    thread.start()
    yield xapp, node, f"http://127.0.0.1:{xapp.platform.http_port}"
    stop.set()
    thread.join(PATIENCE_S)
    node.end(0)
    assert not thread.is_alive()


def metrics(url):
    found = {}
    for family in text_string_to_metric_families(httpx.get(f"{url}/ric/v1/metrics").text):
        for sample in family.samples:
            found[sample.name, *(sample.labels[label] for label in sorted(sample.labels))] = sample.value
    return found


def test_metrics_say_what_the_counters_say(running, eventually):
    from distila.xapp.e2.codec import Identity, encode_indication

    xapp, node, url = running
    assert node.wait_for_subscriber(PATIENCE_S)
    eventually(lambda: httpx.get(f"{url}/ric/v1/health/ready").status_code == 200)
    for sequence in (1, 2):
        node.publish(*encode_indication(kpi_report(sequence, (1, 2, 3), cqi=9), Identity()))
        node.receive(PATIENCE_S).accept()
    node.publish(*encode_indication(kpi_report(2, (1, 2, 3), cqi=9), Identity()))
    eventually(lambda: metrics(url).get(("distila_dropped_indications_total", "duplicate")) == 1)
    eventually(lambda: metrics(url).get(("distila_outcomes_ue_decisions_total", "accepted")) == 6)
    found = metrics(url)
    assert found["distila_indications_total",] == 2
    assert found["distila_decisions_total",] == 6
    assert found["distila_dropped_indications_total", "duplicate"] == 1
    assert found["distila_noticed_events_total", "ue_new"] == 3
    bundle = xapp.loop.bundle
    assert found["distila_policy_info", bundle.digest, bundle.manifest.name, bundle.manifest.version] == 1
    for stage in ("decode", "state", "infer", "guard", "encode", "total"):
        assert found["distila_latency_seconds_count", stage] == 2
        edges = [v for (name, *labels), v in found.items() if name.endswith("_bucket") and stage in labels]
        assert edges == sorted(edges)
        assert edges[-1] == 2
    total_s = found["distila_latency_seconds_sum", "total"]
    assert total_s == pytest.approx(1e-6 * xapp.loop.stats.latency["total"].samples_us().sum())
    assert httpx.get(f"{url}/metrics").text.startswith("# HELP")


def test_a_loop_that_is_stuck_is_not_alive(running, eventually, monkeypatch, clock):
    """A thread that exists is not enough: the loop hangs here, all threads live."""
    from distila.xapp.e2.codec import Identity, encode_indication

    xapp, node, url = running
    assert node.wait_for_subscriber(PATIENCE_S)
    held, at_work = threading.Event(), threading.Event()
    monkeypatch.setattr(xapp.loop, "step_decoded", lambda *_: at_work.set() or (held.wait(2 * PATIENCE_S) and None))
    node.publish(*encode_indication(kpi_report(1, (1, 2, 3), cqi=9), Identity()))
    assert at_work.wait(PATIENCE_S)
    clock.now_s = time.monotonic() + PATIENCE_S + 1
    monkeypatch.setattr(health_module, "time", clock)
    eventually(lambda: httpx.get(f"{url}/ric/v1/health/alive").status_code == 503)
    held.set()
    eventually(lambda: httpx.get(f"{url}/ric/v1/health/alive").status_code == 200)


def test_without_its_e2_node_the_xapp_is_alive_but_not_ready(running, eventually):
    _, node, url = running
    assert node.wait_for_subscriber(PATIENCE_S)
    node.end(0)
    eventually(lambda: httpx.get(f"{url}/ric/v1/health/ready").status_code == 503)
    assert httpx.get(f"{url}/ric/v1/health/ready").json()["missing"] == ["no connection to E2"]
    assert httpx.get(f"{url}/ric/v1/health/alive").status_code == 200


def test_the_configuration_in_force_is_shown_within_a_descriptor(running):
    _, _, url = running
    shown = httpx.get(f"{url}/ric/v1/config").json()
    assert [port["name"] for port in shown["messaging"]["ports"]] == ["rmrdata", "rmrroute"]
    assert RunConfig.model_validate(shown["controls"]).guard.deadline_us is None


# ---------------------------------------------------------------- logs and workers


def test_a_log_line_is_a_json_object_as_mdclog_writes_it():
    formatter = MdclogFormatter("distila-7")
    try:
        raise RuntimeError("inside")
    except RuntimeError:
        import sys

        record = logging.LogRecord(
            "distila.xapp.app", logging.ERROR, "app.py", 1, "a %s", ("fault\nhere",), sys.exc_info()
        )
    line = formatter.format(record)
    assert "\n" not in line
    got = json.loads(line)
    assert (got["crit"], got["id"], got["mdc"]["logger"]) == ("ERROR", "distila-7", "distila.xapp.app")
    assert abs(got["ts"] / 1000 - time.time()) < 60
    assert got["msg"].startswith("a fault\nhere\nTraceback")
    assert "RuntimeError: inside" in got["msg"]


def test_a_worker_survives_its_faults_and_stops_on_request(eventually, caplog):
    calls = []

    def step():
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise RuntimeError("once")
        return

    worker = Worker("test", step)
    worker.start()
    eventually(lambda: len(calls) == 2)
    assert worker.faults == 1
    assert calls[1] - calls[0] > 0.9, "it does not spin"
    worker.wake()
    eventually(lambda: len(calls) == 3)
    assert worker.stop(PATIENCE_S)


def test_pauses_grow_to_a_limit_and_begin_anew_after_a_success():
    backoff = Backoff(1, 5)
    assert [backoff.pause_s() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.reset()
    assert backoff.pause_s() == 1
