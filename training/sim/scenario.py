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

import numpy as np
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
    parse_count,
    parse_number,
)
from distila.training.sim.split import Split, seed_sequence
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


GEOMETRY: Final = Distribution(kind="constant", values=("geometry",))
"""``snr_db: geometry``: every link has the SNR of its drop's link budget."""


def _number_or_geometry(value: Any) -> Distribution:
    return GEOMETRY if value in ("geometry", GEOMETRY) else parse_number(value)


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


_LARGEST_OF_LINK: Final = {
    "mcs_table": 3,
    "prbs": 273,
    "carrier_prbs": 273,
    "carrier_layers": 4,
    "harq_rtt_slots": 64,
    "processes": 32,
    "max_transmissions": 8,
    "rlc_delay_ms": 10_000,
}
"""Largest value of the link's settings."""
_LARGEST_OF_CQI: Final = {"table": 3, "period_slots": 320, "delay_slots": 640, "ri_period_slots": 5120}
"""Likewise of CQI (its longest period as in TS 38.331, ``CSI-ReportPeriodicityAndOffset``) and rank."""


def _check_largest(value: Distribution, largest: int) -> None:
    if value.bounds[1] > largest:
        given = "" if value.kind == "constant" else f"{value.bounds[1]:g} "
        raise ValueError(f"{given}must be at most {largest}")


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

    @field_validator(*_LARGEST_OF_LINK)
    @classmethod
    def _not_too_large(cls, value: Distribution | None, info: ValidationInfo) -> Distribution | None:
        if value is not None:
            _check_largest(value, _LARGEST_OF_LINK[str(info.field_name)])
        return value

    @model_validator(mode="after")
    def _fits_the_carrier(self) -> "LinkConfig":
        if self.carrier_prbs is not None and self.carrier_prbs.bounds[0] < self.prbs.bounds[1]:
            raise ValueError(
                f"carrier_prbs {self.carrier_prbs.bounds[0]:g} must be at least the largest allocation, "
                f"prbs {self.prbs.bounds[1]:g}"
            )
        return self


SAME_TABLE: Final = Distribution(kind="constant", values=("same",))
"""``cqi.table: same``: the CQI table with the number of the MCS table, which has the same modulations."""


def _count_or_same(value: Any) -> Distribution:
    return SAME_TABLE if value in ("same", SAME_TABLE) else parse_count(value)


class CqiConfig(_Settings):
    """The CQI and ranks that UEs report; see `distila.training.sim.csi`."""

    share: Share = Field(
        default=Distribution(kind="constant", values=(1,)), description="share of links that report CQI"
    )
    table: Annotated[Distribution, BeforeValidator(_count_or_same)] = Field(
        default=SAME_TABLE, description="TS 38.214, 1 to 3; same: the number of the MCS table"
    )
    kind: Literal["effective_sinr", "mean_sinr", "drawn"] = Field(
        default="effective_sinr",
        description="what a CQI says: effective_sinr, the block that the UE could decode (EESM); mean_sinr, the mean "
        "SINR over PRBs, which is higher; drawn: one of them, for the whole batch",
    )
    period_slots: Count = Field(default=Distribution(kind="constant", values=(40,)), description="1 to 320")
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
    outage_share: Share = Field(
        default=Distribution(kind="constant", values=(0,)),
        description="share of links whose reports stop for a while and come back, again and again",
    )
    outage_slots: AtLeastOne = Field(
        default=Distribution(kind="log_uniform", values=(200.0, 2000.0)),
        description="mean length of the outages of a link that has them",
    )
    outage_gap_slots: AtLeastOne = Field(
        default=Distribution(kind="log_uniform", values=(400.0, 4000.0)), description="mean time between two outages"
    )
    ri_period_slots: Count | None = Field(
        default=None,
        description="slots between two reports of the rank, which the DU uses for new blocks; null: the rank is fixed",
    )

    @field_validator(*_LARGEST_OF_CQI)
    @classmethod
    def _not_too_large(cls, value: Distribution | None, info: ValidationInfo) -> Distribution | None:
        if value is not None and value != SAME_TABLE:
            _check_largest(value, _LARGEST_OF_CQI[str(info.field_name)])
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


class NodeKind(_Settings):
    """A kind of node in a mixture: settings that go together, which independent draws would hardly ever combine.

    A section that a file gives for a kind overrides the scenario's setting by setting; here they are complete.
    """

    share: float = Field(gt=0, le=1e6, description="how often this kind is drawn, relative to the others' shares")
    description: str = ""
    link: LinkConfig = LinkConfig()
    cqi: CqiConfig = CqiConfig()
    e2: E2Config = E2Config()


_NODE_SECTIONS: Final = ("link", "cqi", "e2")


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
    nodes: dict[Annotated[str, Field(pattern="^[a-z0-9_]{1,40}$")], NodeKind] = Field(
        default={}, description="kinds of node by name, one of which is drawn for each batch; none: all nodes are alike"
    )

    @model_validator(mode="before")
    @classmethod
    def _complete_kinds(cls, data: Any) -> Any:
        kinds = data.get("nodes") if isinstance(data, dict) else None
        if not isinstance(kinds, dict):
            return data
        base = {section: _as_dict(data.get(section, {})) for section in _NODE_SECTIONS}
        return {**data, "nodes": {name: _completed(kind, base) for name, kind in kinds.items()}}

    @model_validator(mode="after")
    def _consistent(self) -> "Scenario":
        if self.snr_from_geometry and any(channel.model not in SYSTEM_LEVEL for channel in self.channels):
            raise ValueError(f"snr_db geometry needs channels among {', '.join(SYSTEM_LEVEL)} only")
        rank = max(channel.antennas.max_rank for channel in self.channels)
        links = {"link": self.link} | {f"nodes.{name}.link": kind.link for name, kind in self.nodes.items()}
        for place, link in links.items():
            layers = link.carrier_layers
            if layers is not None and layers.bounds[0] < rank:
                raise ValueError(
                    f"{place}.carrier_layers {layers.bounds[0]:g} must be at least the largest max_rank, {rank}"
                )
        return self

    def __hash__(self) -> int:
        # A dict has no hash; equal scenarios have equal ones without it.
        return hash((self.name, self.channels, self.snr_db, self.link, self.cqi, self.e2, tuple(self.nodes)))

    @property
    def snr_from_geometry(self) -> bool:
        """Whether every link has the SNR of its drop's link budget."""
        return self.snr_db.values == GEOMETRY.values

    @property
    def kinds(self) -> "dict[str, Scenario]":
        """The scenario of each kind of node by the kind's name; one without a name where all nodes are alike."""
        if not self.nodes:
            return {"": self}
        return {
            name: self.model_copy(update={**{x: getattr(kind, x) for x in _NODE_SECTIONS}, "nodes": {}})
            for name, kind in self.nodes.items()
        }

    def drawn(self, split: Split, seed: int) -> "tuple[str, Scenario]":
        """The kind of node of a batch, by split and seed: its name and its scenario, as in `kinds`."""
        if not self.nodes:
            return "", self
        rng = np.random.default_rng(seed_sequence(split, seed, f"node {self.name}"))
        shares = np.array([kind.share for kind in self.nodes.values()])
        name = list(self.nodes)[int(rng.choice(len(shares), p=shares / shares.sum()))]
        return name, self.kinds[name]

    @property
    def longest_report_period_slots(self) -> int:
        """Longest E2 report period that any kind of node may have [slots]."""
        return max(int(kind.e2.period_slots.bounds[1]) for kind in self.kinds.values())


def _as_dict(section: Any) -> Any:
    return section.model_dump(exclude_unset=True) if isinstance(section, BaseModel) else section


def _completed(kind: Any, base: dict[str, Any]) -> Any:
    """A kind of node with the scenario's settings where it has none of its own; what is no mapping stays as it is."""
    if not isinstance(kind, dict):
        return kind
    merged = dict(kind)
    for section, settings in base.items():
        own = _as_dict(kind.get(section, {}))
        merged[section] = {**settings, **own} if isinstance(own, dict) and isinstance(settings, dict) else own
    return merged


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
    """The domain that generalist policies are trained on: a mixture that includes every family that is not unseen."""
    return load_scenario(package_folder("distila.training.sim") / "domain.yaml")


def training_domain_table1() -> Scenario:
    """The domain that policies of MCS table 1 are trained on, without kinds of node."""
    return load_scenario(package_folder("distila.training.sim") / "domain_table1.yaml")


DOMAINS: Final = {"domain": training_domain, "domain_table1": training_domain_table1}
"""Domains by the names that `find_scenario` knows them by."""


def find_scenario(name: str) -> Scenario:
    """Read a scenario from a YAML file, or find a family of the benchmark or a domain of training by its name.

    Raises:
        InputError: there is no such file or family, or the file is invalid.
    """
    if name in DOMAINS:
        return DOMAINS[name]()
    path = FAMILIES.find(name)
    return families()[name] if path == FAMILIES.paths().get(name) else load_scenario(path)
