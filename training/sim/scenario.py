"""Scenarios: the settings of simulations (channels, interference, link, CQI, E2, traffic), typed and read from YAML.

Every setting is a `Distribution`. Settings that hold for a whole batch of links (CQI and E2 periods, HARQ, tables) are
drawn once per batch, the others once per link. The training domain is a scenario with wide ranges, a family of the
benchmark has narrow ranges, a point has constants only. ::

    scenario = load_scenario(Path("mine.yaml"))
    scenario = family("high_mobility")
"""

import functools
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from distila.training.sim.distribution import (
    AtLeastOne,
    Count,
    Distribution,
    NonNegative,
    Number,
    Positive,
    Share,
    Whole,
    parse_number,
)
from distila.xapp.files import read_model
from distila.xapp.kpi.observations import TABLE
from distila.xapp.shipped import Shipped, package_folder

SYSTEM_LEVEL: Final = ("UMi", "UMa", "RMa")
"""Channel models of TR 38.901 that place UEs in a cell, with path loss, line of sight and shadowing."""

_OPTIONAL_SETTINGS: Final = tuple(
    column.name for column in TABLE if column.kind == "node setting" and column.may_be_absent
)

GEOMETRY_SNR_DB: Final = (-8.0, 32.0)
"""The SNR of a drop's link budget is clipped to this [dB]."""

FAMILIES: Final = Shipped("scenario", package_folder("distila.training.sim", "families"))
"""Scenarios by YAML file, or by the name of a family of the benchmark: ``FAMILIES.find("high_mobility")``."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_GEOMETRY: Final = Distribution(kind="constant", values=("geometry",))


def _number_or_geometry(value: Any) -> Distribution:
    return _GEOMETRY if value in ("geometry", _GEOMETRY) else parse_number(value)


class AntennaConfig(_Settings):
    """Antennas, and how the precoder follows the channel."""

    tx: Literal[1, 2, 4, 8, 16, 32, 64] = Field(default=1, description="transmit antennas; dual-polarised from 2 up")
    rx: Literal[1, 2, 4] = Field(default=2, description="receive antennas")
    max_rank: int = Field(default=1, ge=1, le=4, description="highest number of layers of the one codeword")
    csi_period_slots: int = Field(default=20, ge=1, description="slots between two wideband precoders")
    csi_delay_slots: int = Field(default=8, ge=0, description="age of the channel that a new precoder is computed from")

    @model_validator(mode="after")
    def _rank_fits(self) -> "AntennaConfig":
        if self.max_rank > min(self.tx, self.rx):
            raise ValueError(f"max_rank {self.max_rank} with {self.tx} transmit and {self.rx} receive antennas")
        return self


class ChannelConfig(_Settings):
    """Settings of a fading bank: the channel model of TR 38.901 and its UEs."""

    model: Literal[
        "TDL-A", "TDL-B", "TDL-C", "TDL-D", "TDL-E", "CDL-A", "CDL-B", "CDL-C", "CDL-D", "CDL-E", "UMi", "UMa", "RMa"
    ]
    carrier_ghz: float = Field(default=3.5, ge=0.5, le=100)
    subcarrier_khz: Literal[15, 30, 60, 120] = 30
    prbs: int = Field(default=52, ge=4, le=275, description="PRBs over which the fading is generated")
    speed_kmh: NonNegative = Distribution(kind="uniform", values=(3.0, 30.0))
    delay_spread_ns: Positive | None = Field(
        default=None, description="RMS delay spread; TDL and CDL only, default 30 to 300"
    )
    antennas: AntennaConfig = AntennaConfig()
    shadowing_db: float = Field(
        default=0.0, ge=0, le=12, description="standard deviation of the shadowing along the UE's path"
    )
    decorrelation_m: float = Field(
        default=50.0, gt=0, description="distance over which shadowing's autocorrelation falls to 1/e"
    )

    @model_validator(mode="before")
    @classmethod
    def _default_delay_spread(cls, data: Any) -> Any:
        if isinstance(data, dict) and str(data.get("model")).startswith(("TDL", "CDL")):
            given = {name: value for name, value in data.items() if name != "delay_spread_ns" or value is not None}
            return {"delay_spread_ns": {"log_uniform": [30.0, 300.0]}, **given}
        return data

    @model_validator(mode="after")
    def _fits_the_model(self) -> "ChannelConfig":
        if self.model in SYSTEM_LEVEL and self.delay_spread_ns is not None:
            raise ValueError(f"delay_spread_ns has no meaning for {self.model}, which draws its own")
        if self.model.startswith("TDL") and self.antennas.tx > 4:
            raise ValueError(f"{self.antennas.tx} transmit antennas: TDL has no angles, take CDL, UMi, UMa or RMa")
        return self

    @property
    def slot_us(self) -> float:
        """Slot duration [us] (TS 38.211 clause 4.3.2)."""
        return 15_000.0 / self.subcarrier_khz


class InterferenceConfig(_Settings):
    """Neighbours that transmit in bursts and lift noise plus interference: a two-state Markov chain per link."""

    share: Share = Field(
        default=Distribution(kind="constant", values=(0,)), description="share of links with interference"
    )
    rise_db: NonNegative = Distribution(kind="uniform", values=(3.0, 9.0))
    burst_slots: Positive = Field(
        default=Distribution(kind="log_uniform", values=(10.0, 200.0)), description="mean length of bursts"
    )
    gap_per_burst: Positive = Field(
        default=Distribution(kind="uniform", values=(1.0, 3.0)),
        description="mean gap between bursts, in mean burst lengths",
    )


_LARGEST: Final = {
    "mcs_table": 3,
    "prbs": 275,
    "carrier_prbs": 275,
    "carrier_layers": 4,
    "harq_rtt_slots": 64,
    "processes": 32,
    "max_transmissions": 8,
    "rlc_delay_ms": 10_000,
}
"""Largest value of the link's settings."""


class LinkConfig(_Settings):
    """PDSCH, its decoder, and HARQ."""

    mcs_table: Count = Field(default=Distribution(kind="constant", values=(1,)), description="TS 38.214, 1 to 3")
    prbs: Count = Field(
        default=Distribution(kind="constant", values=(52,)), description="allocation; a choice varies in time"
    )
    prb_hold_slots: Positive | None = Field(
        default=None, description="mean slots between changes of the allocation; null: fixed per link"
    )
    carrier_prbs: Count | None = Field(
        default=None,
        description="PRBs of the carrier, which limit the decoder's buffer (LBRM); null: the largest allocation",
    )
    carrier_layers: Count | None = Field(
        default=None, description="most layers of the carrier, likewise; null: the largest rank"
    )
    harq_rtt_slots: Count = Field(
        default=Distribution(kind="constant", values=(8,)),
        description="HARQ round trip, 1 to 64: slots from a transmission to the next one of the same block",
    )
    processes: Count = Field(
        default=Distribution(kind="constant", values=(16,)),
        description="HARQ processes, 1 to 32; fewer than the round trip leave slots without a free process",
    )
    max_transmissions: Count = Field(
        default=Distribution(kind="constant", values=(4,)), description="of a block, 1 to 8"
    )
    combining: Literal["ir", "chase", "ideal", "drawn"] = Field(
        default="ir",
        description="soft combining of retransmissions: ir, redundancy versions of TS 38.212; chase, version 0 only; "
        "ideal, an upper bound for comparison; drawn: chase or ir, for the whole batch",
    )
    combining_efficiency: Share = Field(
        default=Distribution(kind="constant", values=(1,)),
        description="share of the soft bits of earlier transmissions that a UE still has; 0: nothing is combined",
    )
    rlc: Literal["am", "um"] = Field(
        default="am",
        description="after a block's last transmission fails: am, RLC sends its bits again; um, they are lost",
    )
    rlc_delay_ms: NonNegative = Field(
        default=Distribution(kind="constant", values=(40,)),
        description="time until RLC in acknowledged mode has the lost bits back in the buffer",
    )
    dtx_probability: Share = Field(
        default=Distribution(kind="constant", values=(0,)), description="probability that a grant is missed"
    )
    bler_slope: Positive = Field(
        default=Distribution(kind="constant", values=(1,)), description="slope of the BLER curves, relative to nominal"
    )
    bler_shift_db: Number = Field(
        default=Distribution(kind="constant", values=(0,)),
        description="shift of the BLER curves; positive: worse receiver",
    )

    @field_validator(*_LARGEST)
    @classmethod
    def _not_too_large(cls, value: Distribution | None, info: ValidationInfo) -> Distribution | None:
        largest = _LARGEST[str(info.field_name)]
        if value is not None and value.bounds[1] > largest:
            given = "" if value.kind == "constant" else f"{value.bounds[1]:g} "
            raise ValueError(f"{given}must be at most {largest}")
        return value

    @model_validator(mode="after")
    def _fits_the_carrier(self) -> "LinkConfig":
        if self.carrier_prbs is not None and self.carrier_prbs.bounds[0] < self.prbs.bounds[1]:
            raise ValueError(
                f"carrier_prbs {self.carrier_prbs.bounds[0]:g} must be at least the largest allocation, "
                f"prbs {self.prbs.bounds[1]:g}"
            )
        return self


class CqiConfig(_Settings):
    """The CQI that UEs report."""

    share: Share = Field(
        default=Distribution(kind="constant", values=(1,)), description="share of links that report CQI"
    )
    table: Count = Field(default=Distribution(kind="constant", values=(1,)), description="TS 38.214, 1 to 3")
    period_slots: Count = Distribution(kind="constant", values=(40,))
    delay_slots: Whole = Field(
        default=Distribution(kind="constant", values=(8,)), description="from measurement to the DU"
    )
    bias_db: Number = Field(
        default=Distribution(kind="normal", values=(0, 0.7)), description="constant error of a link's CQI"
    )
    error_db: NonNegative = Field(
        default=Distribution(kind="constant", values=(0.5,)),
        description="standard deviation of the independent error of each CQI",
    )

    @field_validator("table")
    @classmethod
    def _is_a_table(cls, value: Distribution) -> Distribution:
        if value.bounds[1] > 3:
            raise ValueError(f"{value.bounds[1]:g} is above 3")
        return value


class E2Config(_Settings):
    """How often the xApp gets a report of a link, what it contains, and how late the decision takes effect."""

    period_slots: Count = Field(
        default=Distribution(kind="constant", values=(1,)), description="slots between two reports"
    )
    delay_slots: Whole = Field(default=Distribution(kind="constant", values=(0,)), description="decision delay")
    not_reported: tuple[str, ...] = Field(
        default=(), description="settings of the node that its reports leave out: " + ", ".join(_OPTIONAL_SETTINGS)
    )

    @model_validator(mode="before")
    @classmethod
    def _older_name(cls, data: Any) -> Any:
        # `tells_combining: false` was the name before there was more than one such setting.
        if isinstance(data, dict) and "tells_combining" in data and "not_reported" not in data:
            data = {**data, "not_reported": () if data["tells_combining"] else ("combining",)}
            del data["tells_combining"]
        return data

    @field_validator("not_reported")
    @classmethod
    def _can_be_left_out(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in _OPTIONAL_SETTINGS:
                raise ValueError(f"{name!r} must be one of {', '.join(_OPTIONAL_SETTINGS)}")
        return names


class TrafficConfig(_Settings):
    """Full buffer, randomly arriving files (FTP model 3 of TR 36.889), or a mix of links with either."""

    full_buffer_share: Share = Distribution(kind="constant", values=(1,))
    file_bytes: AtLeastOne = Distribution(kind="constant", values=(100_000,))
    files_per_s: Positive = Field(
        default=Distribution(kind="constant", values=(5,)), description="mean arrival rate, Poisson"
    )


class Scenario(_Settings):
    """All settings that a batch of links is drawn from."""

    name: str = Field(pattern="^[a-z0-9_]{1,40}$")
    description: str = ""
    unseen: bool = Field(default=False, description="excluded from every training configuration")
    channels: tuple[ChannelConfig, ...] = Field(min_length=1, description="channels, assigned evenly to the links")
    snr_db: Annotated[Distribution, BeforeValidator(_number_or_geometry)] = Field(
        default=Distribution(kind="uniform", values=(0.0, 28.0)),
        description="mean SNR after combining, one layer; `geometry`: from the drop's link budget",
    )
    interference: InterferenceConfig = InterferenceConfig()
    link: LinkConfig = LinkConfig()
    cqi: CqiConfig = CqiConfig()
    e2: E2Config = E2Config()
    traffic: TrafficConfig = TrafficConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "Scenario":
        if self.snr_from_geometry and any(channel.model not in SYSTEM_LEVEL for channel in self.channels):
            raise ValueError(f"snr_db geometry needs channels among {', '.join(SYSTEM_LEVEL)} only")
        layers, rank = self.link.carrier_layers, max(channel.antennas.max_rank for channel in self.channels)
        if layers is not None and layers.bounds[0] < rank:
            raise ValueError(f"link.carrier_layers {layers.bounds[0]:g} must be at least the largest max_rank, {rank}")
        return self

    @property
    def snr_from_geometry(self) -> bool:
        """Whether every link has the SNR of its drop's link budget."""
        return self.snr_db.values == _GEOMETRY.values

    def outside(self, domain: "Scenario") -> list[str]:
        """Names of the settings whose range exceeds that of ``domain``; empty: this is a sub-range of it."""
        found = [
            f"channels.{index}.{name}"
            for index, channel in enumerate(self.channels)
            for name in _not_in(channel, domain.channels)
        ]
        for section in ("interference", "link", "cqi", "e2", "traffic"):
            ours, theirs = getattr(self, section), getattr(domain, section)
            found += [
                f"{section}.{n}" for n in type(ours).model_fields if not _within(getattr(ours, n), getattr(theirs, n))
            ]
        return found if _within(self.snr_db, domain.snr_db) else [*found, "snr_db"]


def _not_in(channel: ChannelConfig, domain: tuple[ChannelConfig, ...]) -> list[str]:
    """The settings by which ``channel`` differs from the nearest of ``domain``."""
    fields = ChannelConfig.model_fields
    gaps = [[n for n in fields if not _within(getattr(channel, n), getattr(other, n))] for other in domain]
    return min(gaps, key=len)


def _within(ours: Any, theirs: Any) -> bool:
    if ours == _GEOMETRY and isinstance(theirs, Distribution) and theirs != _GEOMETRY:
        return theirs.bounds[0] <= GEOMETRY_SNR_DB[0] and GEOMETRY_SNR_DB[1] <= theirs.bounds[1]
    if theirs == "drawn":  # see `LinkConfig.combining`
        return ours in ("chase", "ir", "drawn")
    if ours is None:
        return True
    if isinstance(ours, Distribution) and isinstance(theirs, Distribution):
        return ours.within(theirs)
    return bool(ours == theirs)


def load_scenario(path: Path) -> Scenario:
    """Read a scenario from YAML.

    Raises:
        InputError: one line naming file, setting and value.
    """
    return read_model(path, Scenario)


@functools.cache
def families() -> dict[str, Scenario]:
    """The families of the benchmark by name, in the benchmark's order: seen ones first."""
    return {name: load_scenario(path) for name, path in FAMILIES.paths().items()}


def training_domain() -> Scenario:
    """The domain that generalist policies are trained on: a scenario that includes every family that is not unseen."""
    return load_scenario(package_folder("distila.training.sim") / "domain.yaml")


def find_scenario(name: str) -> Scenario:
    """Read a scenario from a YAML file, or find a family of the benchmark by its name.

    Raises:
        InputError: there is no such file or family, or the file is invalid.
    """
    path = FAMILIES.find(name)
    return families()[name] if path == FAMILIES.paths().get(name) else load_scenario(path)
