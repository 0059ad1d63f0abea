"""Renders the chart: by helm where it is on the PATH, otherwise by `gotpl`, a Go template engine in Python.

objects = render({"serviceMonitor": {"enabled": True}})
"""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jsonschema
import yaml
from gotpl import TemplateError
from gotpl.exts.helm import HelmTemplateEngine

from distila.xapp.errors import InputError, one_line
from distila.xapp.files import read_json, read_yaml, write_yaml
from helm.values import KubernetesObject

CHART: Final = Path(__file__).resolve().parent / "distila"
NAMESPACE: Final = "ricxapp"
RELEASE: Final = "distila"

_NOTES: Final = "NOTES.txt"


class _Files:
    """``.Files`` of a template."""

    def __init__(self, chart: Path) -> None:
        self._chart = chart

    def Get(self, name: str) -> str:  # noqa: N802  # the name is helm's
        """The content of a file of the chart; empty where there is none, as in helm."""
        path = self._chart / name
        return path.read_text() if path.is_file() else ""


def helm() -> str | None:
    """The helm on the PATH, if there is one."""
    return shutil.which("helm")


def with_defaults(values: Mapping[str, Any], chart: Path = CHART) -> dict[str, Any]:
    """Values laid over the chart's own, as helm does; checked against values.schema.json.

    Raises:
        InputError: one line naming the value and what is wrong.
    """
    merged = _laid_over(read_yaml(chart / "values.yaml"), values)
    schema = read_json(chart / "values.schema.json")
    error = jsonschema.exceptions.best_match(jsonschema.Draft7Validator(schema).iter_errors(merged))
    if error is not None:
        raise InputError(f"values: {error.json_path.removeprefix('$.')}: {error.message}")
    return merged


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _laid_over(merged[key], value) if both else value
    return merged


def render(values: Mapping[str, Any], namespace: str = NAMESPACE, chart: Path = CHART) -> list[KubernetesObject]:
    """The Kubernetes objects that the chart makes of these values.

    Raises:
        InputError: the values or the chart are wrong; one line.
    """
    merged = with_defaults(values, chart)
    text = _by_gotpl(merged, namespace, chart) if helm() is None else _by_helm(values, namespace, chart)
    try:
        return [item for item in yaml.safe_load_all(text) if item is not None]
    except yaml.YAMLError as error:
        raise InputError(f"the chart renders to what is not YAML: {one_line(error)}") from None


def _by_gotpl(values: Mapping[str, Any], namespace: str, chart: Path) -> str:
    metadata = read_yaml(chart / "Chart.yaml")
    context = {
        "Values": values,
        # Helm capitalises what it read from Chart.yaml.
        "Chart": {key[0].upper() + key[1:]: value for key, value in metadata.items()},
        "Release": {"Name": RELEASE, "Namespace": namespace, "Service": "Helm", "IsInstall": True, "Revision": 1},
        "Files": _Files(chart),
    }
    templates = chart / "templates"
    sources = {path.name: path.read_text() for path in sorted(templates.iterdir())}
    try:
        # Strict, where helm would write nothing for a value that does not exist.
        engine = HelmTemplateEngine.from_sources(sources, strict=True)
        rendered = engine.render({name: context for name in sources if not name.startswith("_")})
    except TemplateError as error:
        raise InputError(f"the chart does not render: {one_line(error)}") from None
    return "\n---\n".join(text for name, text in rendered.items() if name != _NOTES)


def _by_helm(values: Mapping[str, Any], namespace: str, chart: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "values.yaml"
        write_yaml(path, values)
        options = [str(chart), "--namespace", namespace, "--values", str(path)]
        _call("lint", "--strict", *options)
        return _call("template", RELEASE, *options)


def _call(command: str, *arguments: str) -> str:
    done = subprocess.run([helm() or "helm", command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(f"helm {command}: {' '.join((done.stderr or done.stdout).split())[:500]}")
    return done.stdout
