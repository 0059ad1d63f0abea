"""The user interfaces of the rollout: HTTP API, Prometheus, Grafana board, command line, report."""

import json
import re
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
import yaml
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, generate_latest

from distila.replay.commands.rollout import app as offline
from distila.replay.rollouts.rollout_page import write_rollout_page
from distila.xapp.app import Xapp
from distila.xapp.cli import main
from distila.xapp.config import RunConfig
from distila.xapp.errors import InputError
from distila.xapp.rollout.api import rollout_router
from distila.xapp.rollout.controller import carry_out
from distila.xapp.rollout.machine import Command
from distila.xapp.rollout.metrics import RolloutCollector
from distila.xapp.rollout.store import SqliteStore
from distila.xapp.rollout_config import RolloutConfig

TOKEN = "correct horse battery"
BOARD = Path(__file__).parents[2] / "helm" / "dashboards" / "distila-rollout.json"


@pytest.fixture
def desk(make_desk):
    return make_desk()


@contextmanager
def served(desk, token=TOKEN):
    """A real server on a real socket; gives a client that has the token."""
    app = FastAPI()
    app.include_router(rollout_router(desk.controller, token))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield client
    server.should_exit = True
    thread.join()


@pytest.fixture
def http(desk):
    with served(desk) as client:
        yield client


# --- HTTP ---


@pytest.mark.parametrize("given", ["", "Basic eA==", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", "Bearer käse"])
def test_without_the_token_every_request_is_rejected(desk, http, given):
    headers = {"Authorization": given.encode()}
    for method, path in (("GET", "status"), ("GET", "audit"), ("POST", "kill"), ("POST", "start")):
        answer = http.request(method, f"/rollout/v1/{path}", headers=headers, json={"who": "eve", "plan": "challenger"})
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert desk.store.load() is None


def test_where_no_token_is_configured_nobody_may_do_anything(desk):
    with served(desk, token=None) as http:
        answer = http.get("/rollout/v1/status")
    assert answer.status_code == 503
    assert "DISTILA_ROLLOUT_TOKEN" in answer.json()["detail"]


def test_a_rollout_over_http_from_start_to_abort(http, make_plan):
    assert http.get("/rollout/v1/status").json()["status"] == "none"
    assert http.get("/rollout/v1/plan").status_code == 404
    body = {"who": "ana@noc", "why": "tonight", "plan": make_plan().model_dump(mode="json")}
    started = http.post("/rollout/v1/start", json=body)
    assert (started.status_code, started.json()["status"]) == (200, "running")
    assert http.get("/rollout/v1/plan").json()["name"] == "test"
    assert http.post("/rollout/v1/start", json=body).status_code == 409
    assert http.post("/rollout/v1/promote", json={"who": "ana"}).json()["stage_name"] == "tenth"
    stale = http.post("/rollout/v1/abort", json={"who": "ben", "expected_version": 1})
    assert stale.status_code == 409
    assert "at version 2, not 1" in stale.json()["detail"]
    assert http.post("/rollout/v1/pause", json={"who": "ana"}).json()["status"] == "paused"
    assert http.post("/rollout/v1/resume", json={"who": "ana"}).json()["status"] == "running"
    assert http.post("/rollout/v1/kill", json={"who": "ana"}).json()["status"] == "aborted"
    log = http.get("/rollout/v1/audit").json()
    assert log["intact"]
    assert [entry["what"] for entry in log["entries"]] == ["start", "advance", "pause", "resume", "kill"]
    assert log["entries"][0]["who"] == "ana@noc"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"plan": "challenger"}, 422),
        ({"who": "ana", "plan": "nowhere"}, 422),
        ({"who": "ana", "plan": {"name": "x"}}, 422),
        ({"who": "ana", "plan": "challenger", "extra": 1}, 422),
    ],
)
def test_bad_input_over_http(desk, http, body, status):
    assert http.post("/rollout/v1/start", json=body).status_code == status
    assert desk.store.load() is None


def test_a_lost_store_is_a_503(desk, http):
    desk.store._db.close()
    assert http.post("/rollout/v1/start", json={"who": "a", "plan": "challenger"}).status_code == 503
    assert http.get("/rollout/v1/audit").status_code == 503


def test_openapi_names_every_action(http):
    paths = http.get("/openapi.json").json()["paths"]
    actions = ("status", "plan", "audit", "start", "promote", "pause", "resume", "abort", "kill")
    assert sorted(paths) == sorted(f"/rollout/v1/{action}" for action in actions)


def test_the_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("DISTILA_ROLLOUT_TOKEN", raising=False)
    assert RolloutConfig().token() is None
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert RolloutConfig(token_file=path).token() == TOKEN
    path.write_text("short")
    with pytest.raises(InputError, match="a token of 5 characters"):
        RolloutConfig(token_file=path).token()
    monkeypatch.setenv("DISTILA_ROLLOUT_TOKEN", TOKEN)
    assert RolloutConfig().token() == TOKEN


# --- Prometheus and Grafana ---


def scraped(desk):
    registry = CollectorRegistry()
    registry.register(RolloutCollector(desk.controller))
    return generate_latest(registry).decode()


def test_metrics_say_where_the_rollout_stands(desk, make_plan):
    assert 'distila_rollout_status{status="none"} 1.0' in scraped(desk)
    desk.controller.command(Command(action="start", who="ana", plan=make_plan()))
    for _ in range(4):
        desk.interval()
    text = scraped(desk)
    for line in (
        'distila_rollout_status{status="running"} 1.0',
        "distila_rollout_ready 1.0",
        'distila_rollout_stage{plan="test"} 2.0',
        'distila_rollout_share_percent{arm="new",plan="test"} 50.0',
        'distila_rollout_transitions_total{what="advance"} 2.0',
        'distila_rollout_shadow_total{arm="new",plan="test",what="decisions"} 800.0',
    ):
        assert line in text
    assert re.search(r'distila_rollout_low\{arm="new",metric="first_tx_failure_rate",plan="test"\} -?\d', text)
    desk.store._db.close()
    desk.controller.tick()
    assert 'distila_rollout_trouble{what="store"} 1.0' in scraped(desk)
    assert "distila_rollout_ready 0.0" in scraped(desk)


def test_the_grafana_board_asks_for_metrics_that_there_are(desk, make_plan):
    desk.controller.command(Command(action="start", who="ana", plan=make_plan()))
    for _ in range(4):
        desk.interval()
    names = set(re.findall(r"^(distila_rollout_\w+)", scraped(desk), re.M))
    board = json.loads(BOARD.read_text())
    asked = set()
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["description"]
        for target in panel["targets"]:
            asked |= set(re.findall(r"distila_rollout_\w+", target["expr"]))
            assert target["expr"].count("(") == target["expr"].count(")")
    assert asked <= names
    assert {f"distila_rollout_{name}" for name in ("status", "difference", "low", "high", "share_percent")} <= asked
    cells = [(x, y) for p in board["panels"] for x, y in _cells(p["gridPos"])]
    assert len(cells) == len(set(cells)), "no panel lies on another"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def _cells(at):
    assert at["x"] + at["w"] <= 24
    return [(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]


# --- command line ---


def distila(*arguments, status=0, capsys):
    try:
        main(["rollout", *map(str, arguments)])
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    out = capsys.readouterr()
    assert code == status, out.err
    return out


def test_a_rollout_on_the_command_line(tmp_path, capsys, make_plan):
    plan, store = tmp_path / "plan.yaml", tmp_path / "r.sqlite"
    plan.write_text(yaml.safe_dump(make_plan().model_dump(mode="json")))
    assert "at most" not in distila("plan", plan, capsys=capsys).out
    at = ("--store", store)
    distila("start", plan, *at, "--who", "ana", "--why", "tonight", capsys=capsys)
    assert "promote: test#1 is running" in distila("promote", *at, capsys=capsys).out
    found = json.loads(distila("status", *at, "--json", capsys=capsys).out)
    assert (found["status"], found["stage_name"]) == ("running", "tenth")
    rejected = distila("abort", *at, "--expect", 1, status=2, capsys=capsys)
    assert rejected.err == "error: abort: the rollout is at version 2, not 1\n"
    distila("abort", *at, capsys=capsys)
    log = json.loads(distila("audit", *at, "--json", capsys=capsys).out)
    assert (log["intact"], [e["what"] for e in log["entries"]]) == (True, ["start", "advance", "abort"])
    distila("report", *at, "--out", tmp_path / "r.html", capsys=capsys)
    assert "The rollout was aborted in stage" in (tmp_path / "r.html").read_text()
    log["entries"][0]["who"] = "eve"
    (tmp_path / "log.json").write_text(json.dumps(log))
    assert "entry 1: altered" in distila("audit", "--log", tmp_path / "log.json", status=1, capsys=capsys).out


@pytest.mark.parametrize("command", ["status", "promote", "pause", "resume", "abort", "kill", "audit", "report"])
def test_only_start_makes_a_store(tmp_path, capsys, command):
    err = distila(command, "--store", tmp_path / "typo.sqlite", status=2, capsys=capsys).err
    assert err.startswith(f"error: {tmp_path / 'typo.sqlite'}: no such store; ")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_speaks_to_an_xapp_over_http(http, capsys, monkeypatch):
    monkeypatch.setenv("DISTILA_ROLLOUT_TOKEN", TOKEN)
    at = ("--url", str(http.base_url))
    distila("start", "challenger", *at, "--who", "ana", capsys=capsys)
    distila("promote", *at, capsys=capsys)
    assert json.loads(distila("status", *at, "--json", capsys=capsys).out)["stage_name"] == "five"
    assert (
        "409: abort: the rollout is at version 2" in distila("abort", *at, "--expect", 1, status=2, capsys=capsys).err
    )
    distila("kill", *at, capsys=capsys)
    monkeypatch.setenv("DISTILA_ROLLOUT_TOKEN", TOKEN + "x")
    assert "401: a valid bearer token is needed" in distila("status", *at, status=2, capsys=capsys).err
    assert (
        "error: http://127.0.0.1:1: " in distila("status", "--url", "http://127.0.0.1:1", status=2, capsys=capsys).err
    )


def test_a_wrong_plan_on_the_command_line_is_one_line(tmp_path, capsys):
    plan = tmp_path / "plan.yaml"
    plan.write_text("name: x\nchallengers: [{name: a, policy: olla}]\nstages: [{name: s, share_pct: {a: 70}}]\n")
    err = distila("plan", plan, status=2, capsys=capsys).err
    assert err.startswith(f"error: {plan}: stages: ")
    assert "add up to 140 %, at most 100 %" in err
    assert err.count("\n") == 1


def test_nothing_but_help_is_needed_to_find_every_command():
    assert {command.callback.__name__ for command in offline.registered_commands} == {
        "simulate",
        "aa",
        "power",
        "report",
    }


# --- report ---


def test_an_altered_log_is_reported_as_such(tmp_path, make_plan):
    store = SqliteStore(tmp_path / "r.sqlite")
    carry_out(store, Command(action="start", who="<b>ana</b>", plan=make_plan()))
    carry_out(store, Command(action="abort", who="ana"))
    entries = store.audit()
    write_rollout_page(tmp_path / "r.html", entries)
    text = (tmp_path / "r.html").read_text()
    assert "hash chain intact" in text
    assert "<b>ana" not in text
    entries[1] = entries[1].model_copy(update={"who": "eve"})
    write_rollout_page(tmp_path / "r.html", entries)
    assert "Do not trust this report: audit log, entry 2: altered" in (tmp_path / "r.html").read_text()
    with pytest.raises(InputError, match="holds no rollout"):
        write_rollout_page(tmp_path / "r.html", [])


# --- the xApp ---


def test_an_xapp_follows_the_store_that_its_configuration_names(tmp_path, make_plan):
    config = RunConfig(rollout=RolloutConfig(store=str(tmp_path / "r.sqlite")))
    xapp = Xapp(config)
    transitions = []
    xapp.rollout.on_transition = transitions.append
    xapp.rollout.tick()
    carry_out(SqliteStore(tmp_path / "r.sqlite"), Command(action="start", who="ana", plan=make_plan()))
    xapp.rollout.tick()
    assert [arm.name for arm in xapp.loop.lineup.shadows] == ["new"]
    assert xapp.stats().rollout.status == "running"
    assert [one.what for one in transitions] == ["start"]
    assert Xapp(RunConfig()).rollout is None
