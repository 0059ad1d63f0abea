"""Settings of the DU stand-in: its E2 reports, HARQ, RLC, CQI and own link adaptation; from YAML or ``key=value``."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from distila.xapp.errors import InputError
from distila.xapp.files import parse_model, read_yaml
from distila.xapp.kpi.block_delay import BlockTiming
from distila.xapp.nr.soft_combining import CombiningKind
from distila.xapp.policy.olla import OllaConfig
from distila.xapp.shipped import did_you_mean

_OPTION: Final = "--du"


class DuConfig(BaseModel):
    """Settings of the DU stand-in: its E2 reports, HARQ, RLC, CQI and own link adaptation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    period_slots: int = Field(
        default=1, title="report period [slots]", ge=1, description="slots between two E2 reports"
    )
    decision_delay_slots: int = Field(
        default=0,
        title="decision delay [slots]",
        ge=0,
        description="slots from a report until its decisions take effect",
    )
    harq_rtt_slots: int = Field(
        default=8,
        title="HARQ round trip [slots]",
        ge=1,
        le=64,
        description="slots from a transmission until its feedback is usable",
    )
    processes: int = Field(
        default=16,
        title="HARQ processes of a UE",
        ge=1,
        le=32,
        description="HARQ processes of a UE; with fewer than slots of the round trip, slots are left in which none is"
        " free and nothing is sent",
    )
    max_transmissions: int = Field(
        default=4,
        title="most transmissions of a block",
        ge=1,
        le=8,
        description="highest number of transmissions of one transport block",
    )
    combining: CombiningKind = Field(
        default="ir",
        title="HARQ combining",
        description="combining: incremental redundancy as in TS 38.212, chase, or the ideal rule, for comparison only",
    )
    combining_efficiency: float = Field(
        default=1.0,
        title="combining efficiency",
        ge=0,
        le=1,
        description="share of the soft bits' power that the decoder keeps from one transmission to the next; 1: as the"
        " standard allows, 0: each transmission is decoded alone",
    )
    carrier_prbs: int | None = Field(
        default=None,
        title="PRBs of the carrier",
        ge=1,
        le=275,
        description="PRBs of the carrier, which limit the decoder's buffer (LBRM); null: the largest allocation of the"
        " trace",
    )
    carrier_layers: int | None = Field(
        default=None,
        title="most layers of the carrier",
        ge=1,
        le=4,
        description="most layers that are configured, which limit the decoder's buffer (LBRM); null: the largest rank"
        " of the trace",
    )
    rlc: Literal["am", "um"] = Field(
        default="am",
        title="RLC mode",
        description="RLC mode: `am` sends the data of a block again that was lost after its last transmission, `um`"
        " does not",
    )
    rlc_delay_ms: float = Field(
        default=40,
        title="delay of the RLC [ms]",
        ge=0,
        le=10_000,
        description="time from the loss of a block until its data can be sent again by RLC AM [ms]",
    )
    cqi_period_slots: int = Field(
        default=40, title="CQI period [slots]", ge=1, description="slots between two CQI of a UE"
    )
    cqi_delay_slots: int = Field(
        default=8,
        title="CQI delay [slots]",
        ge=0,
        description="slots from the measurement until the DU receives the CQI",
    )
    olla_target_bler: float = Field(
        default=0.15,
        title="native OLLA: target of first-transmission BLER",
        gt=0,
        lt=0.5,
        description="first-transmission BLER at which the DU's own OLLA settles",
    )
    olla_step_on_nack: float = Field(
        default=0.02,
        title="native OLLA: step on a NACK [CQI steps]",
        gt=0,
        description="step of the OLLA offset on NACK [CQI steps]",
    )
    olla_max_offset: float = Field(
        default=4.0,
        title="native OLLA: largest offset [CQI steps]",
        gt=0,
        description="largest OLLA offset [CQI steps]",
    )

    def given(self) -> dict[str, object]:
        """The settings that were given, without those left at their defaults."""
        return self.model_dump(exclude_unset=True)

    def on_top_of(self, other: "DuConfig") -> "DuConfig":
        """Settings that were given here, then those given in ``other``, then the defaults."""
        return DuConfig.model_validate({**other.given(), **self.given()})

    def block_timing(self, slot_us: float) -> BlockTiming:
        """What the delay of a block depends on besides its number of transmissions."""
        delay_slots = math.ceil(self.rlc_delay_ms * 1000 / slot_us)
        return BlockTiming(self.harq_rtt_slots, self.max_transmissions, self.rlc, delay_slots)

    def olla(self) -> OllaConfig:
        """The native OLLA's settings."""
        return OllaConfig(
            target_bler=self.olla_target_bler, step_on_nack=self.olla_step_on_nack, max_offset=self.olla_max_offset
        )


def load_du_config(given: Sequence[str], options: Mapping[str, object]) -> DuConfig:
    """Settings as a command line has them: each of ``given`` on top of those before it, ``options`` on top of all.

    Args:
        given: each a YAML file, or settings as ``key=value,key=value``; values are YAML too.
        options: settings by name.

    Raises:
        InputError: a file cannot be read, or a setting is unknown or out of range.
    """
    settings: dict[str, object] = {}
    for text in given:
        key, equals, _ = text.partition("=")
        if equals and key.strip().isidentifier():
            settings |= _checked(_settings(text), _OPTION)
        elif not text.strip() or (equals and not Path(text).exists()):
            raise InputError(f"{_OPTION} {text}: expected key=value or a YAML file")
        elif text.isidentifier() and not Path(text).exists():
            raise InputError(f"{_OPTION} {text}: neither key=value nor a YAML file")
        else:
            settings |= _checked(read_yaml(Path(text)) or {}, text)
    return parse_model({**settings, **options}, DuConfig, "DU settings")


def _settings(text: str) -> dict[str, object]:
    """``max_transmissions=1,rlc=um`` as a mapping."""
    found: dict[str, object] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals or not key or not value.strip():
            raise InputError(f"{_OPTION} {part or text}: expected key=value")
        if key in found:
            raise InputError(f"{_OPTION} {text}: {key} is given twice")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"{_OPTION} {part}: not a value") from None
    return found


def _checked(settings: object, where: str) -> dict[str, object]:
    """Settings that are valid, each by itself; ``where`` they come from is named in errors."""
    if not isinstance(settings, dict):
        raise InputError(f"{where}: not a YAML mapping of settings of the DU stand-in")
    names = DuConfig.model_fields
    for key, value in settings.items():
        if key not in names:
            found = f"{where} {key}={value}" if where == _OPTION else f"{where}: {key} = {value!r}"
            known = did_you_mean(str(key), names) or f"; there are {', '.join(names)}"
            raise InputError(f"{found}: no such setting{known}")
    parse_model(settings, DuConfig, where)
    return settings
