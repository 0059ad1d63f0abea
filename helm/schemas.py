"""Writes the JSON schemas that follow from the runtime's models, so that no second description of a setting exists.

    python -m helm.schemas

================================================== =================================================================
helm/distila/values.schema.json                    values of the chart; ``config`` is a part of `RunConfig`
helm/distila/descriptor/schema.json                the descriptor's ``controls``, which the onboarder asks for
schemas/xapp_descriptor.schema.json                the descriptor itself
================================================== =================================================================
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from distila.xapp.config import RunConfig
from distila.xapp.descriptor import Descriptor
from distila.xapp.files import write_text
from helm.values import Values

ROOT: Final = Path(__file__).resolve().parents[1]
CHART: Final = ROOT / "helm" / "distila"

_DRAFT: Final = "http://json-schema.org/draft-07/schema#"
# Keywords of pydantic's that say nothing to anyone; the default of a section, too, repeats what its fields say.
_LEFT_OUT: Final = ("$defs", "title")


def inlined(schema: Mapping[str, Any]) -> dict[str, JsonValue]:
    """A schema without references: the onboarder, and helm for a part of the values, put it into another document."""
    definitions = schema.get("$defs", {})

    def resolve(node: Any, is_name: bool = False) -> Any:
        """``is_name``: the keys of the node are names of properties, not keywords."""
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node and not is_name:
            target = definitions[node["$ref"].removeprefix("#/$defs/")]
            # What stands beside the reference (a description, say) is about this place, and wins.
            node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
        return {
            key: resolve(value, key == "properties" and not is_name)
            for key, value in node.items()
            if is_name or not (key in _LEFT_OUT or (key == "default" and isinstance(value, dict)))
        }

    resolved: dict[str, JsonValue] = resolve(schema)
    return resolved


def controls_schema() -> dict[str, JsonValue]:
    """JSON schema (draft-07) of the settings, for the onboarder."""
    return {"$schema": _DRAFT, "title": "distila: controls", **inlined(RunConfig.model_json_schema())}


def descriptor_schema() -> dict[str, JsonValue]:
    """JSON schema (draft-07) of the descriptor."""
    return {"$schema": _DRAFT, "title": "xApp descriptor", **inlined(Descriptor.model_json_schema(by_alias=True))}


def values_schema() -> dict[str, JsonValue]:
    """JSON schema (draft-07) of the chart's values."""
    return {"$schema": _DRAFT, "title": "distila: values", **inlined(Values.model_json_schema(by_alias=True))}


FILES: Final = {
    CHART / "values.schema.json": values_schema,
    CHART / "descriptor" / "schema.json": controls_schema,
    ROOT / "schemas" / "xapp_descriptor.schema.json": descriptor_schema,
}
"""Which file holds what."""


def text(schema: Mapping[str, JsonValue]) -> str:
    """A schema as its file holds it."""
    return json.dumps(schema, indent=2) + "\n"


def main() -> None:
    """Write all of them."""
    for path, make in FILES.items():
        write_text(path, text(make()))
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
