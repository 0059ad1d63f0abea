"""The chart renders to what a cluster takes and the platform finds, and `make helm-check` fails where it does not."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest
import yaml

from distila.xapp.config import RunConfig, parse_config
from distila.xapp.errors import InputError
from distila.xapp.policy.bundle import load_bundle
from distila.xapp.ric import reload
from helm import check, schemas
from helm.chart import CHART, helm, render, with_defaults

ROOT = Path(__file__).resolve().parents[2]
VALUES_FILES = sorted((CHART / "ci").glob("*.yaml"))
RIC = "ricxapp"


def kind(objects, name):
    return [item for item in objects if item["kind"] == name]


def pod(objects):
    return kind(objects, "Deployment")[0]["spec"]["template"]["spec"]


def container(objects):
    return pod(objects)["containers"][0]


def environment(objects):
    return {item["name"]: item.get("value") for item in container(objects)["env"]}


def settings(objects):
    """What the xApp reads from the rendered ConfigMap."""
    data = kind(objects, "ConfigMap")[0]["data"]
    return parse_config(json.loads(data["config-file.json"]), "config-file.json")


@pytest.fixture(scope="module")
def defaults():
    return render({})


# --- schemas ---


@pytest.mark.parametrize("path", schemas.FILES, ids=lambda path: path.name)
def test_a_schema_file_is_what_the_models_say(path):
    assert path.read_text() == schemas.text(schemas.FILES[path]()), "run `make schemas`"


@pytest.mark.parametrize("path", schemas.FILES, ids=lambda path: path.name)
def test_a_schema_is_draft_7_and_whole_so_that_it_can_stand_in_another_document(path):
    schema = json.loads(path.read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    assert "$ref" not in path.read_text()


def test_the_controls_schema_takes_all_settings_at_their_defaults():
    schema = schemas.controls_schema()
    jsonschema.validate(RunConfig().model_dump(mode="json"), schema)
    with pytest.raises(jsonschema.ValidationError, match="transprot"):
        jsonschema.validate({"e2": {"transprot": "rmr"}}, schema)


def test_every_value_of_the_chart_is_described_and_has_its_default_in_values_yaml():
    described = json.loads((CHART / "values.schema.json").read_text())["properties"]
    assert set(yaml.safe_load((CHART / "values.yaml").read_text())) == set(described)


# --- bad values ---


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"imgae": {"tag": "1"}}, "imgae"),
        ({"image": {"digest": "sha256:abc"}}, "image.digest"),
        ({"resources": {"limits": {"memory": "lots"}}}, "resources.limits.memory"),
        ({"config": {"guard": {"max_mcs": 29}}}, "config.guard.max_mcs"),
        ({"config": {"e2": {"transport": "sctp"}}}, "config.e2.transport"),
        ({"config": {"polcy": "olla"}}, "polcy"),
        ({"podDisruptionBudget": {"maxUnavailable": 2}}, "podDisruptionBudget.maxUnavailable"),
        ({"terminationGracePeriodSeconds": 3}, "terminationGracePeriodSeconds"),
        ({"policies": {"configMaps": ["Student"]}}, "policies.configMaps"),
    ],
)
def test_a_wrong_value_is_rejected_by_name_in_one_line(values, named):
    with pytest.raises(InputError, match=named) as error:
        render(values)
    assert "\n" not in str(error.value)


# --- what the platform looks for ---


def test_services_have_the_names_and_ports_that_the_platform_expects(defaults):
    services = {item["metadata"]["name"]: item["spec"] for item in kind(defaults, "Service")}
    assert set(services) == {"service-ricxapp-distila-rmr", "service-ricxapp-distila-http"}
    rmr = {port["name"]: port["port"] for port in services["service-ricxapp-distila-rmr"]["ports"]}
    assert rmr == {"rmrdata": 4560, "rmrroute": 4561}
    http = {port["name"]: port["port"] for port in services["service-ricxapp-distila-http"]["ports"]}
    assert http == {"http": 8080}
    # Sorted by name, as the platform's tools do, the data port comes first.
    assert min(rmr) == "rmrdata"


def test_routes_and_callbacks_reach_a_pod_that_is_not_ready_yet(defaults):
    assert all(item["spec"]["publishNotReadyAddresses"] for item in kind(defaults, "Service"))


def test_the_environment_is_that_of_the_platforms_own_chart(defaults):
    given = environment(defaults)
    assert given["CONFIG_FILE"] == "/opt/ric/config/config-file.json"
    assert given["XAPP_DESCRIPTOR_PATH"] == "/opt/ric/config"
    assert given["RMR_SRC_ID"] == "service-ricxapp-distila-rmr.ricxapp"
    assert given["RMR_RTG_SVC"] == "4561"
    assert container(defaults)["envFrom"] == [{"configMapRef": {"name": "dbaas-appconfig"}}]
    assert kind(defaults, "ConfigMap")[0]["metadata"]["name"] == "configmap-ricxapp-distila-appconfig"


def test_chart_descriptor_and_package_have_one_version():
    metadata = yaml.safe_load((CHART / "Chart.yaml").read_text())
    descriptor = json.loads((CHART / "descriptor" / "config-file.json").read_text())
    versions = {metadata["version"], metadata["appVersion"], descriptor["version"], version("distila")}
    assert versions == {descriptor["containers"][0]["image"]["tag"]}


def test_a_bundle_is_read_from_a_configmap_as_the_kubelet_lays_it_out(tmp_path):
    hidden = tmp_path / "..2026_11_25_12_00_00.1"
    shutil.copytree(load_bundle("olla").path, hidden)
    (tmp_path / "..data").symlink_to(hidden.name)
    for file in hidden.iterdir():
        (tmp_path / file.name).symlink_to(f"..data/{file.name}")
    assert load_bundle(str(tmp_path)).digest == load_bundle("olla").digest


def test_the_names_follow_the_namespace():
    objects = render({}, namespace="lab")
    assert settings(objects).ric.host == "service-lab-distila-http.lab"
    assert check.disagreements(objects) == []


def test_updates_of_the_configmap_reach_the_file_since_a_directory_is_mounted(defaults):
    mount = next(item for item in container(defaults)["volumeMounts"] if item["name"] == "config")
    assert mount["mountPath"] == "/opt/ric/config"
    assert "subPath" not in mount


def test_a_change_restarts_the_pod_exactly_where_the_running_xapp_could_not_take_it():
    template = (CHART / "templates" / "deployment.yaml").read_text()
    left_out = re.search(r"omit \$controls ([^)]+)\)", template).group(1)
    assert set(re.findall(r'"(\w+)"', left_out)) == reload._CHANGEABLE

    def annotations(**values):
        return kind(render(values), "Deployment")[0]["spec"]["template"]["metadata"]["annotations"]

    as_it_was = annotations()
    assert annotations(config={"guard": {"max_mcs": 20}, "policy": "student", "log_level": "DEBUG"}) == as_it_was
    assert annotations(config={"ric": {"timeout_s": 3}}) != as_it_was
    assert annotations(seedRoutes="newrt|start") != as_it_was


# --- the settings that come out ---


def test_config_is_laid_over_the_controls_of_the_descriptor():
    config = settings(render({"config": {"guard": {"max_mcs": 20}, "e2": {"rmr": {"ack_timeout_s": 0.5}}}}))
    assert config.guard.max_mcs == 20
    assert config.e2.rmr.ack_timeout_s == 0.5
    assert (config.e2.transport, config.e2.rmr.port) == ("rmr", 4560), "what is not given stays the descriptor's"
    assert (config.ric.host, config.ric.rmr_host) == (
        "service-ricxapp-distila-http.ricxapp",
        "service-ricxapp-distila-rmr.ricxapp",
    )


def test_without_rmr_there_is_no_platform_to_register_at():
    config = settings(render({"config": {"e2": {"transport": "grpc", "endpoint": "gnb:36421"}}}))
    assert config.ric is None
    assert config.http.port == 8080


def test_policy_bundles_from_configmaps_lie_where_the_settings_say():
    objects = render({"policies": {"configMaps": ["student-7", "student-8"]}})
    mounts = {item["mountPath"] for item in container(objects)["volumeMounts"]}
    folder = settings(objects).ric.policies
    assert {str(folder / name) for name in ("student-7", "student-8")} <= mounts


def test_grpc_is_let_out_by_the_network_policy_and_nothing_else_is():
    objects = render({"config": {"e2": {"transport": "grpc", "endpoint": "gnb:36421"}}})
    ports = [
        rule["ports"][0]["port"] for rule in kind(objects, "NetworkPolicy")[0]["spec"]["egress"] if "ports" in rule
    ]
    assert ports == [53, 36421]
    to_platform, to_dns = kind(render({}), "NetworkPolicy")[0]["spec"]["egress"]
    assert "ports" not in to_platform
    assert [rule["port"] for rule in to_dns["ports"]] == [53, 53]


@pytest.mark.parametrize("switch", ["serviceMonitor", "podDisruptionBudget", "networkPolicy"])
def test_optional_parts_can_be_switched_on_and_off(switch):
    name = switch[0].upper() + switch[1:]
    assert len(kind(render({switch: {"enabled": True}}), name)) == 1
    assert kind(render({switch: {"enabled": False}}), name) == []


# --- the check itself ---


@pytest.mark.parametrize("values", VALUES_FILES, ids=lambda path: path.stem)
def test_every_values_file_is_valid_in_every_kubernetes_version(values):
    objects, faults = check.check_values(values)
    assert faults == []
    assert len(objects) >= 6


@pytest.fixture
def broken(tmp_path):
    """Copies the chart and changes one thing in it; gives what the check then finds."""

    def find(file, before, after, values=None):
        chart = tmp_path / "distila"
        shutil.copytree(CHART, chart)
        text = (chart / file).read_text()
        assert before in text
        (chart / file).write_text(text.replace(before, after))
        try:
            objects = render(values or {}, chart=chart)
        except InputError as error:
            return [str(error)]
        return check.faults_of(objects, ["1.28"])

    return find


@pytest.mark.parametrize(
    ("file", "before", "after", "found"),
    [
        ("templates/deployment.yaml", "replicas: 1", "replicas: one", "spec.replicas"),
        ("templates/deployment.yaml", "revisionHistoryLimit", "revisionsKept", "revisionsKept"),
        ("templates/deployment.yaml", "{{- range", "{{- rnage", "does not render"),
        ("templates/deployment.yaml", "replicas: 1", "replicas: {{ .Values.a.b.c }}", "does not render"),
        ("templates/deployment.yaml", "  replicas: 1", " replicas: 1", "not YAML"),
        (
            "templates/deployment.yaml",
            "- name: tmp\n          emptyDir",
            "- name: temp\n          emptyDir",
            "volume tmp",
        ),
        ("templates/deployment.yaml", "/opt/ric/config/config-file.json", "/opt/config.json", "CONFIG_FILE"),
        ("templates/service-rmr.yaml", "publishNotReadyAddresses: true", "", "until ready"),
        ("templates/service-rmr.yaml", "targetPort: {{ .name }}", "targetPort: rmr-data", "leads to none"),
        ("templates/service-rmr.yaml", '{{- include "distila.selector" . | nindent 4 }}', "app: distila", "selects"),
        ("templates/_names.tpl", '"service-%s-http.%s"', '"service-%s.%s"', "leads to service-ricxapp-distila.ricxapp"),
        ("values.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "as root"),
        ("values.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "write to its image"),
        ("values.yaml", 'tag: ""', "tag: latest", "not pinned"),
        ("descriptor/config-file.json", '"port": 4560}', '"port": 4570}', "e2.rmr.port is 4570"),
        (
            "descriptor/config-file.json",
            '"port": 8080},\n    "ric"',
            '"port": 8081},\n    "ric"',
            "the probes ask port 8080",
        ),
        ("descriptor/config-file.json", '"a1_policy_type": 20130', '"a1_policy_type": 20132', "a1_policy_type 20132"),
        ("descriptor/config-file.json", '"policy": "student"', '"polcy": "olla"', "controls: polcy: no such field"),
        (
            "descriptor/config-file.json",
            '"name": "rmrroute"',
            '"name": "rmr-route"',
            "expected exactly one port named rmrroute",
        ),
        ("descriptor/schema.json", '"log_format"', '"log_form"', "schema.json rejects controls"),
    ],
)
def test_a_broken_chart_is_found_out(broken, file, before, after, found):
    assert any(found in fault for fault in broken(file, before, after)), found


def test_a_chart_that_was_only_reworded_is_not_found_faulty(broken):
    assert broken("templates/service-http.yaml", "# The subscription manager", "# It") == []


def test_a_service_monitor_that_selects_nothing_is_found_out(broken):
    values = {"serviceMonitor": {"enabled": True}}
    faults = broken("templates/servicemonitor.yaml", "distila.io/port: http", "distila.io/port: metrics", values)
    assert any("selects 0 services" in fault for fault in faults)


def test_the_command_fails_on_a_values_file_that_is_wrong_and_passes_without(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("replicas: 3\n")

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "helm.check", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )

    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hadolint has nothing to say" in done.stdout
    done = run(str(bad))
    assert done.returncode == 1
    assert "replicas" in done.stdout


@pytest.mark.skipif(helm() is None, reason="no helm on the PATH; gotpl renders")
def test_helm_renders_the_same_as_gotpl():
    from helm import chart

    for path in VALUES_FILES:
        values = yaml.safe_load(path.read_text()) or {}
        text = chart._by_gotpl(with_defaults(values), RIC, CHART)
        by_gotpl = [item for item in yaml.safe_load_all(text) if item is not None]

        def name(item):
            return (item["kind"], item["metadata"]["name"])

        assert sorted(render(values), key=name) == sorted(by_gotpl, key=name)
