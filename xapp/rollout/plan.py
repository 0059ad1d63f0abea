"""A rollout plan: arms, scope, stages, and the metrics that decide; in YAML, with every field checked.

    name: student-tonight
    scope: {cells: [gnb7-1, gnb7-2, gnb7-3]}
    champion: {name: champion, policy: olla}
    challengers:
      - {name: student, policy: out/student/bundle}
    stages:
      - {name: shadow, shadow: true, min_intervals: 3}
      - {name: one, share_pct: {student: 1}, min_intervals: 6}
      - {name: half, share_pct: {student: 50}, min_intervals: 12, max_intervals: 60}

All other fields have defaults. A challenger is always compared with a *control*: as many units, drawn in the same way
at the same time, that keep the champion's policy.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from distila.xapp.errors import InputError
from distila.xapp.files import read_model
from distila.xapp.shipped import Shipped, package_folder

BUCKETS: Final = 10_000
"""Units are hashed to this many buckets, so a share has steps of 0.01 %."""

CONTROL: Final = "control"
NATIVE_POLICY: Final = "native"
PLANS: Final = Shipped("rollout plan", package_folder("distila.xapp.rollout", "plans"))
"""Plans by YAML file, or by the name of one that ships: ``PLANS.find("student")``."""

_RENAMED: Final = {"first_tx_bler": "first_tx_failure_rate"}


def _present_name(name: object) -> object:
    """The metric's name today. In rollouts `first_tx_bler` always counted DTX; older plans and stores use that name."""
    return _RENAMED.get(name, name) if isinstance(name, str) else name


MetricName = Annotated[
    Literal[
        "goodput_per_prb",
        "first_tx_failure_rate",
        "residual_bler",
        "control_failures",
        "decision_latency",
        "worst5_throughput",
    ],
    BeforeValidator(_present_name),
]
MetricKey = Annotated[str, BeforeValidator(_present_name)]
"""The name of a metric where a store holds what was counted; one of another version is kept as it is."""


class ArmPlan(BaseModel):
    """One arm."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$", description="name of the arm, which its decisions carry"
    )
    policy: str = Field(
        min_length=1, description="directory of a bundle, name of one that ships (olla), or `native`: the DU decides"
    )


class Scope(BaseModel):
    """The cells that take part; the UEs of all others keep the champion and are not counted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cells: list[str] = Field(default_factory=list, description="cell ids; empty: all cells")


class Stage(BaseModel):
    """One step of the ramp."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=40)
    shadow: bool = Field(
        default=False, description="challengers decide on every unit in scope, but their decisions are not sent"
    )
    share_pct: dict[str, float] = Field(default_factory=dict, description="share of the units of each challenger [%]")
    control_pct: float | None = Field(
        default=None, gt=0, le=100, description="share of the control [%]; null: that of the largest challenger"
    )
    min_intervals: int = Field(default=6, ge=1, description="evaluation intervals before the next stage")
    min_exposure: int = Field(default=0, ge=0, description="unit intervals on each challenger before the next stage")
    max_intervals: int | None = Field(
        default=None,
        ge=1,
        description="last stage: number of evaluation intervals after which the rollout is held, unless promoted",
    )

    @property
    def control_share_pct(self) -> float:
        """Share of the control [%]."""
        return self.control_pct if self.control_pct is not None else max(self.share_pct.values(), default=0.0)


class Metric(BaseModel):
    """A metric that is compared, and the margin beyond which a challenger is rolled back.

    The difference is challenger minus control; ``relative``: over the control's value (of ``worst5_throughput``: over
    the threshold below which 5 % of the unit intervals lie).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: MetricName
    role: Literal["primary", "guardrail"] = "guardrail"
    better: Literal["higher", "lower"]
    scale: Literal["relative", "absolute"]
    margin: float = Field(
        ge=0,
        description="a challenger is rolled back if its whole confidence sequence is worse by more than this; it may be"
        " promoted only if the whole sequence is better than that",
    )
    effect: float = Field(
        gt=0, description="size of the difference at which the confidence sequence is tuned to be tight"
    )


DEFAULT_METRICS: Final = (
    Metric(name="goodput_per_prb", role="primary", better="higher", scale="relative", margin=0.01, effect=0.03),
    Metric(name="first_tx_failure_rate", better="lower", scale="relative", margin=0.5, effect=0.5),
    Metric(name="residual_bler", better="lower", scale="absolute", margin=0.005, effect=0.005),
    Metric(name="control_failures", better="lower", scale="absolute", margin=0.01, effect=0.01),
    Metric(name="decision_latency", better="lower", scale="absolute", margin=0.01, effect=0.01),
    Metric(name="worst5_throughput", better="higher", scale="relative", margin=0.2, effect=0.3),
)


class Plan(BaseModel):
    """A whole rollout."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$")
    description: str = ""
    unit: Literal["ue", "cell"] = Field(default="ue", description="unit of randomisation")
    switchback_intervals: int | None = Field(
        default=None,
        ge=2,
        description="unit cell: number of intervals after which a cell alternates between control and challenger",
    )
    salt: str = Field(default="", max_length=80, description="salt of the random assignment; empty: the name")
    scope: Scope = Scope()
    champion: ArmPlan = ArmPlan(name="champion", policy="olla")
    challengers: list[ArmPlan] = Field(min_length=1, max_length=6)
    stages: list[Stage] = Field(min_length=1, max_length=20)
    metrics: list[Metric] = Field(default_factory=lambda: list(DEFAULT_METRICS), min_length=1)
    interval_s: float = Field(default=10.0, gt=0, le=3600, description="time [s] between two evaluations")
    settle_intervals: int = Field(
        default=1, ge=0, description="intervals of a unit that are not counted after it joined an arm"
    )
    alpha: float = Field(default=0.05, gt=0, le=0.2, description="chance of a false alarm in the whole rollout")
    goal: Literal["superior", "non_inferior"] = Field(
        default="superior",
        description="promotion needs a better primary metric (superior), or one not worse by its margin (non_inferior)",
    )
    min_units: int = Field(default=8, ge=4, description="units in each arm that are needed for any conclusion")
    latency_budget_us: float = Field(
        default=2000.0, gt=0, description="inference and guard of a decision that take longer [us] make it late"
    )
    auto_promote: bool = Field(default=True, description="false: the rollout is held instead of promoted")
    auto_rollback: bool = Field(default=True, description="false: the rollout is held instead of rolled back")

    @field_validator("stages")
    @classmethod
    def _shares(cls, stages: list[Stage]) -> list[Stage]:
        before: dict[str, float] = {}
        for stage in stages:
            where = f"stage {stage.name!r}"
            if stage.shadow and stage.share_pct:
                raise ValueError(f"{where}: a shadow stage has no share_pct")
            if not stage.shadow and not stage.share_pct:
                raise ValueError(f"{where}: give shadow or share_pct")
            if stage.shadow and before:
                raise ValueError(
                    f"{where}: a shadow stage cannot follow a live one: it would take units away from the challenger"
                )
            for arm, share in stage.share_pct.items():
                if not 0 <= share <= 100:
                    raise ValueError(f"{where}: share_pct of {arm} is {share:g}, expected 0 to 100")
            total = sum(stage.share_pct.values()) + stage.control_share_pct
            if total > 100 + 1e-9:
                raise ValueError(f"{where}: challengers and control add up to {total:g} %, at most 100 %")
            if stage.shadow:
                continue
            now = {**stage.share_pct, CONTROL: stage.control_share_pct}
            for arm, share in before.items():
                if now.get(arm, 0) < share:
                    raise ValueError(
                        f"{where}: share of {arm} falls from {share:g} to {now.get(arm, 0):g} %, a ramp only adds units"
                    )
            before = now
        return stages

    @model_validator(mode="after")
    def _names(self) -> "Plan":
        names = [self.champion.name, CONTROL, *(arm.name for arm in self.challengers)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"challengers: the name {twice!r} is used twice")
        known = [arm.name for arm in self.challengers]
        for stage in self.stages:
            for arm in stage.share_pct:
                if arm not in known:
                    raise ValueError(f"stage {stage.name!r}: arm {arm!r} is unknown, there are {', '.join(known)}")
        metrics = [metric.name for metric in self.metrics]
        repeated = next((name for name in metrics if metrics.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(f"metrics: {repeated} is listed twice")
        if sum(metric.role == "primary" for metric in self.metrics) != 1:
            raise ValueError("metrics: expected exactly one with the role primary")
        if self.switchback_intervals is not None and self.unit != "cell":
            raise ValueError("switchback_intervals: needs unit: cell, because a UE stays in its arm")
        if self.switchback_intervals is not None and self.switchback_intervals <= self.settle_intervals:
            raise ValueError("switchback_intervals: must be more than settle_intervals, or nothing would be counted")
        if self.switchback_intervals is not None and len(self.challengers) > 1:
            raise ValueError("switchback_intervals: needs exactly one challenger")
        return self

    @property
    def seed(self) -> str:
        """Salt of the random assignment."""
        return self.salt or self.name

    def metric(self, name: str) -> Metric:
        """The metric of this name, which is one of `metrics`."""
        return next(metric for metric in self.metrics if metric.name == name)

    @property
    def primary(self) -> Metric:
        """The metric on which promotion depends."""
        return next(metric for metric in self.metrics if metric.role == "primary")

    @property
    def digest(self) -> str:
        """sha256 of the plan, hex."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def arm_names(self) -> list[str]:
        """Names by arm index, as decisions carry them: champion, control, challengers."""
        return [self.champion.name, CONTROL, *(arm.name for arm in self.challengers)]

    def policy_of(self, arm: str) -> str:
        """The policy of an arm; the control's is the champion's.

        Raises:
            InputError: no such challenger.
        """
        if arm in (CONTROL, self.champion.name):
            return self.champion.policy
        for challenger in self.challengers:
            if challenger.name == arm:
                return challenger.policy
        raise InputError(f"arm {arm!r} is unknown, there are {', '.join(one.name for one in self.challengers)}")

    def notes(self) -> list[str]:
        """Notes on the design, for readers of the result."""
        if self.unit == "ue":
            return [
                "UEs of all arms share the PRBs of their cells and the interference of their neighbours: one arm"
                " may gain time or PRBs at the cost of the other, so differences can be larger than after"
                " promotion. With unit: cell, or a switchback schedule, cells are compared as a whole.",
                "A UE with a stable E2 UE id keeps its arm wherever it goes. One without is drawn by cell and RNTI: a"
                " new UE on an old RNTI is in the same arm, but is counted as a unit of its own (an episode).",
            ]
        if self.switchback_intervals is None:
            return [
                "Few cells are few units, and differences between cells are large and lasting. Consider a switchback."
            ]
        return [
            "Switchback: each cell runs control and challenger in turn, in random order within each pair of periods;"
            f" {self.settle_intervals} interval(s) after each change are not counted."
        ]


def load_plan(plan: str | Path, plans: Shipped = PLANS) -> Plan:
    """Read a plan. Policies may be directories beside the file.

    Args:
        plan: a YAML file, or the name of one of ``plans``.
        plans: those that ship.

    Raises:
        InputError: there is no such plan, or it is wrong.
    """
    path = plans.find(plan)
    loaded = read_model(path, Plan)

    def found(arm: ArmPlan) -> ArmPlan:
        beside = path.parent / arm.policy
        return arm.model_copy(update={"policy": str(beside.resolve())}) if beside.is_dir() else arm

    arms = {"champion": found(loaded.champion), "challengers": [found(arm) for arm in loaded.challengers]}
    return loaded.model_copy(update=arms)
