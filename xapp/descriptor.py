"""The xApp descriptor: the file from which a near-RT RIC's onboarder makes a chart, its application manager a
registration and its routing manager the routes. Its ``controls`` section is what `distila.xapp.config.RunConfig`
describes.

The rules are those of the platform's onboarder and application manager, and a few of our own for what these accept
and then misread. schemas/xapp_descriptor.schema.json says the same as JSON schema, written from here by `make schemas`.
"""

from typing import Annotated, Any, Final, Literal, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema

from distila.xapp.errors import InputError, first_error

RMR_DATA: Final = "rmrdata"
"""Name of the RMR data port. The platform's chart sorts port names and exports the first as *the* RMR port, and the
routing manager looks for this one; ``rmr-data`` of older documentation sorts after ``rmr-route``."""

RMR_ROUTE: Final = "rmrroute"

_SECTIONS: Final = frozenset({"controls", "containers", "messaging"})
_NAME: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_SEMVER: Final = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$"
_MESSAGE: Final = r"^[A-Z][A-Z0-9_]*$"
_TOGETHER: Final = ("rxMessages", "txMessages", "policies")

Port = Annotated[int, Field(ge=1, le=65535)]
Message = Annotated[str, Field(pattern=_MESSAGE)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel)


class Image(_Section):
    """Where the container's image is."""

    registry: str = Field(min_length=1)
    name: str = Field(min_length=1)
    tag: str = Field(min_length=1)


class Container(_Section):
    """One container of the pod."""

    name: str = Field(pattern=_NAME)
    image: Image
    command: list[str] | SkipJsonSchema[None] = None
    args: list[str] | SkipJsonSchema[None] = None


class HttpGet(_Section):
    """A probe by HTTP."""

    path: str = Field(pattern="^/")
    port: Port


class Exec(_Section):
    """A probe by command."""

    command: list[str] = Field(min_length=1)


class Probe(_Section):
    """A liveness or readiness probe: by HTTP or by command, exactly one of the two."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["httpGet"]}, {"required": ["exec"]}]})

    http_get: HttpGet | SkipJsonSchema[None] = None
    exec: Exec | SkipJsonSchema[None] = None
    initial_delay_seconds: int = Field(ge=0)
    period_seconds: int = Field(ge=1)

    @model_validator(mode="after")
    def _one_kind(self) -> "Probe":
        if (self.http_get is None) == (self.exec is None):
            raise ValueError("a probe needs exactly one of httpGet and exec")
        return self


class MessagingPort(_Section):
    """A port of a container. One with messages is RMR: it says what it receives and sends, and which A1 policies."""

    model_config = ConfigDict(
        json_schema_extra={"dependencies": {name: [n for n in _TOGETHER if n != name] for name in _TOGETHER}}
    )

    name: str = Field(pattern=_NAME)
    container: str = Field(pattern=_NAME)
    port: Port
    description: str | SkipJsonSchema[None] = None
    rx_messages: list[Message] | SkipJsonSchema[None] = None
    tx_messages: list[Message] | SkipJsonSchema[None] = None
    policies: list[int] | SkipJsonSchema[None] = None

    @model_validator(mode="after")
    def _together(self) -> "MessagingPort":
        given = [part is not None for part in (self.rx_messages, self.tx_messages, self.policies)]
        if any(given) and not all(given):
            raise ValueError(f"{', '.join(_TOGETHER)} need each other: give all of them, or none")
        return self


class Messaging(_Section):
    """All ports."""

    model_config = ConfigDict(
        json_schema_extra=lambda schema: schema["properties"]["ports"].update(
            allOf=[
                {"contains": {"properties": {"name": {"const": RMR_DATA}}, "required": ["name", *_TOGETHER]}},
                {"contains": {"properties": {"name": {"const": RMR_ROUTE}}, "required": ["name"]}},
            ]
        )
    )

    ports: list[MessagingPort]

    @model_validator(mode="after")
    def _rmr(self) -> "Messaging":
        names = [port.name for port in self.ports]
        for name in (RMR_DATA, RMR_ROUTE):
            if names.count(name) != 1:
                raise ValueError(f"expected exactly one port named {name}")
        if self.data.rx_messages is None:
            raise ValueError(f"port {RMR_DATA} needs rxMessages, txMessages and policies")
        return self

    @property
    def data(self) -> MessagingPort:
        """The RMR data port."""
        return next(port for port in self.ports if port.name == RMR_DATA)


class Metric(_Section):
    """A metric that the xApp exports, as the platform's VES agent reads it."""

    object_name: str = Field(min_length=1)
    object_instance: str = Field(min_length=1)
    name: str = Field(min_length=1)
    type: Literal["counter", "gauge"]
    description: str


class Descriptor(_Section):
    """A whole descriptor. Sections that the platform may add are let through."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"not": {"required": ["rmr"]}})

    name: str = Field(pattern=_NAME)
    version: str = Field(pattern=_SEMVER)
    vendor: str | SkipJsonSchema[None] = None
    containers: list[Container] = Field(min_length=1)
    liveness_probe: Probe | SkipJsonSchema[None] = None
    readiness_probe: Probe | SkipJsonSchema[None] = None
    messaging: Messaging
    metrics: list[Metric] = []
    controls: dict[str, JsonValue]

    @model_validator(mode="after")
    def _consistent(self) -> "Descriptor":
        if "rmr" in (self.model_extra or {}):
            # The application manager would use it instead of messaging.ports, without a word.
            raise ValueError("the old section rmr would replace messaging.ports: leave it out")
        known = {container.name for container in self.containers}
        for port in self.messaging.ports:
            if port.container not in known:
                raise ValueError(f"port {port.name}: there is no container {port.container!r}")
        return self


def is_descriptor(data: Any) -> TypeGuard[dict[str, JsonValue]]:
    """Whether the content of a configuration file is a descriptor, not the bare settings of `RunConfig`."""
    return isinstance(data, dict) and not _SECTIONS.isdisjoint(data)


def parse_descriptor(data: Any, where: str) -> Descriptor:
    """Check the content of a descriptor.

    Args:
        data: what the file holds.
        where: its name, for the error.

    Raises:
        InputError: one line naming file, field and what is wrong.
    """
    try:
        return Descriptor.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{where}: {first_error(error)}") from None
