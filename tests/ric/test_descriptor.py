"""The xApp descriptor: what the platform's onboarder takes, and what `distila run --config` makes of it."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from distila.xapp.app import XappSummary
from distila.xapp.config import RunConfig, load_config
from distila.xapp.descriptor import Descriptor, parse_descriptor
from distila.xapp.e2 import rmr
from distila.xapp.errors import InputError
from distila.xapp.ric import metrics, registration
from distila.xapp.rollout_config import RolloutConfig
from distila.xapp.stats import LoopStats

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "helm" / "distila" / "descriptor" / "config-file.json"
SCHEMA = json.loads((ROOT / "schemas" / "xapp_descriptor.schema.json").read_text())


@pytest.fixture
def descriptor():
    return json.loads(SHIPPED.read_text())


def rmr_data(descriptor):
    return next(port for port in descriptor["messaging"]["ports"] if port["name"] == "rmrdata")


def missing_messages(descriptor: Descriptor, receives, sends):
    """Message types that a program uses but the descriptor does not name; no route leads to them."""
    data = descriptor.messaging.data
    return sorted(({*receives} - {*(data.rx_messages or [])}) | ({*sends} - {*(data.tx_messages or [])}))


def test_the_one_that_ships_is_accepted(descriptor):
    parsed = parse_descriptor(descriptor, "it")
    jsonschema.validate(descriptor, SCHEMA)
    assert parsed.name == "distila"
    assert [port.name for port in parsed.messaging.ports] == ["http", "rmrdata", "rmrroute"]


def test_controls_come_with_a_schema_that_requires_nothing_the_onboarder_would_not_find(descriptor):
    controls = json.loads((SHIPPED.parent / "schema.json").read_text())
    jsonschema.validate(descriptor["controls"], controls)
    assert "required" not in controls


def test_its_controls_are_the_settings():
    config = load_config(SHIPPED)
    assert config.e2.transport == "rmr"
    assert config.ric.a1_policy_type in rmr_data(json.loads(SHIPPED.read_text()))["policies"]


def changed(path, value):
    """A change of a descriptor: the field at ``path`` set, or taken out where ``value`` is None."""

    def change(descriptor):
        *sections, field = path
        place = descriptor
        for section in sections:
            place = place[section]
        if value is None:
            del place[field]
        else:
            place[field] = value

    return change


PORTS = ("messaging", "ports")
BAD = {
    "no name": (changed(["name"], None), "name"),
    "a name that is no label": (changed(["name"], "Distila_1"), "name"),
    "no semantic version": (changed(["version"], "1.0"), "version"),
    "no container": (changed(["containers"], []), "containers"),
    "an image without a tag": (changed(["containers", 0, "image", "tag"], None), "tag"),
    "a misspelt field": (changed(["containers", 0, "imgae"], {}), "imgae"),
    "a probe of both kinds": (changed(["livenessProbe", "exec"], {"command": ["true"]}), "exactly one"),
    "a probe of no kind": (changed(["livenessProbe", "httpGet"], None), "exactly one"),
    "a probe without a period": (changed(["readinessProbe", "periodSeconds"], None), "periodSeconds"),
    "a probe without a delay": (changed(["readinessProbe", "initialDelaySeconds"], None), "initialDelaySeconds"),
    "messages without policies": (changed([*PORTS, 1, "policies"], None), "need each other"),
    "sent messages alone": (changed([*PORTS, 2, "txMessages"], ["RIC_ALARM"]), "need each other"),
    "a port that is none": (changed([*PORTS, 0, "port"], 70000), "port"),
    "a port without container": (changed([*PORTS, 0, "container"], None), "container"),
    "the data port under its old name": (changed([*PORTS, 1, "name"], "rmr-data"), "rmrdata"),
    "no route port": (changed([*PORTS, 2, "name"], "routes"), "rmrroute"),
    "the data port without messages": (
        lambda it: [rmr_data(it).pop(name) for name in ("rxMessages", "txMessages", "policies")],
        "rxMessages",
    ),
    "a policy type as a string": (changed([*PORTS, 1, "policies"], ["20130"]), "policies"),
    "a message that is a number": (changed([*PORTS, 1, "rxMessages"], [12050]), "rxMessages"),
    "the old rmr section": (changed(["rmr"], {"protPort": "tcp:4560", "rxMessages": []}), "old section rmr"),
    "a metric without a type": (
        changed(["metrics"], [{"objectName": "a", "objectInstance": "b", "name": "c"}]),
        "type",
    ),
    "no controls": (changed(["controls"], None), "controls"),
}


@pytest.mark.parametrize("case", BAD)
def test_values_that_the_platform_would_reject_or_misread_are_rejected_by_name(case, descriptor):
    change, named = BAD[case]
    change(descriptor)
    with pytest.raises(InputError, match=named) as error:
        parse_descriptor(descriptor, "config-file.json")
    assert str(error.value).startswith("config-file.json: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("case", BAD)
def test_the_json_schema_rejects_the_same(case, descriptor):
    BAD[case][0](descriptor)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(descriptor, SCHEMA)


def test_a_port_of_another_container_is_rejected(descriptor):
    descriptor["messaging"]["ports"][0]["container"] = "sidecar"
    with pytest.raises(InputError, match="sidecar"):
        parse_descriptor(descriptor, "it")


def test_sections_that_the_platform_may_add_are_let_through(descriptor):
    without = parse_descriptor(descriptor, "it")
    descriptor["hpa"] = {"maxReplicas": 1}
    assert parse_descriptor(descriptor, "it").messaging == without.messaging
    jsonschema.validate(descriptor, SCHEMA)


def test_every_message_that_the_xapp_receives_or_sends_is_in_the_descriptor_that_ships(descriptor):
    parsed = parse_descriptor(descriptor, "it")
    assert missing_messages(parsed, registration.RX_MESSAGES, registration.TX_MESSAGES) == []
    handled, sent = set(), set()
    for path in (ROOT / "xapp").rglob("*.py"):
        handled |= set(re.findall(r"\.handle\(\s*rmr\.([A-Z0-9_]+)", path.read_text()))
        sent |= set(re.findall(r"\.send\(\s*rmr\.([A-Z0-9_]+)", path.read_text()))
    # Answers to the sender of a request are returned by its handler.
    sent.add("HEALTH_CHECK_RESP")
    of_platform = {name: name if name.startswith("A1_") else f"RIC_{name}" for name in handled | sent}
    assert {"INDICATION", "CONTROL_ACK", "CONTROL_FAILURE", "A1_POLICY_REQ"} <= handled
    assert {"CONTROL_REQ", "A1_POLICY_RESP", "A1_POLICY_QUERY"} <= sent
    receives, sends = ([of_platform[name] for name in names] for names in (handled, sent))
    assert missing_messages(parsed, receives, sends) == []
    # And no message type of the program is left that is neither.
    assert {name for name in vars(rmr) if re.fullmatch("[A-Z][A-Z0-9_]+", name)} == handled | sent


def test_the_descriptor_names_the_policy_types_that_the_mediator_is_given(descriptor):
    policy_type = json.loads((ROOT / "schemas" / "a1_policy_type.json").read_text())
    assert rmr_data(descriptor)["policies"] == [policy_type["policy_type_id"], RolloutConfig().a1_policy_type]


def test_every_metric_of_the_descriptor_is_exported(descriptor):
    stats = XappSummary(**LoopStats().summary().model_dump())
    gauges = dict.fromkeys(("ready", "subscriptions_active"), lambda: 1.0)
    collector = metrics.XappCollector(LoopStats(), lambda: stats, lambda: {"name": "olla"}, {}, gauges, {})
    exported = {sample.name for family in collector.collect() for sample in family.samples}
    assert {metric["name"] for metric in descriptor["metrics"]} <= exported
    # The two gauges are those that the platform's side really gives.
    platform = (ROOT / "xapp" / "ric" / "platform.py").read_text()
    assert all(f'"{name}"' in platform for name in gauges)


def test_a_message_without_a_route_is_named(descriptor):
    parsed = parse_descriptor(descriptor, "it")
    assert missing_messages(parsed, ["RIC_INDICATION"], ["RIC_CONTROL_REQ"]) == []
    assert missing_messages(parsed, ["RIC_SUB_RESP"], ["RIC_ALARM"]) == ["RIC_ALARM", "RIC_SUB_RESP"]


# --- as a configuration file ---


def test_a_bare_settings_file_is_read_as_before(tmp_path):
    file = tmp_path / "distila.yaml"
    file.write_text("guard: {max_mcs: 20}\n")
    assert load_config(file).guard.max_mcs == 20
    file.write_text("")
    assert load_config(file) == RunConfig()


def test_a_wrong_control_is_named_with_its_file(tmp_path, descriptor):
    file = tmp_path / "config-file.json"
    descriptor["controls"]["e2"]["transprot"] = "rmr"
    file.write_text(json.dumps(descriptor))
    with pytest.raises(InputError) as error:
        load_config(file)
    assert str(error.value) == f"{file}: controls: e2.transprot: no such field"


def test_values_of_the_chart_are_distinguished_from_settings():
    with pytest.raises(InputError, match=r"values\.yaml: these are values of the helm chart; give its descriptor/"):
        load_config(SHIPPED.parents[1] / "values.yaml")


def test_reading_changes_nothing(descriptor):
    before = copy.deepcopy(descriptor)
    parse_descriptor(descriptor, "it")
    assert descriptor == before


@pytest.mark.parametrize("by", ["--config", "CONFIG_FILE"])
def test_the_command_says_in_one_line_what_is_wrong_with_it(by, tmp_path, descriptor, monkeypatch):
    file = tmp_path / "config-file.json"
    del descriptor["controls"]
    file.write_text(json.dumps(descriptor))
    if by == "CONFIG_FILE":
        monkeypatch.setenv("CONFIG_FILE", str(file))
    given = [by, str(file)] if by == "--config" else []
    done = subprocess.run(
        [sys.executable, "-m", "distila.xapp.cli", "run", *given],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 2
    assert done.stderr == f"error: {file}: controls: Field required\n"
