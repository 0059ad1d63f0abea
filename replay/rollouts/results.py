"""Results of the rollouts that are simulated: one rollout on a trace, the A/A study, and the power study."""

from typing import Literal

from pydantic import Field

from distila.xapp.result_file import ResultFile, ResultModel


class TransitionTaken(ResultModel):
    """A transition of a simulated rollout."""

    interval: int = Field(description="evaluation interval in which it was taken")
    what: str = Field(description="event: start, advance, roll_back, promote, hold and so on")
    stage: str = Field(description="name of the stage afterwards")
    why: str


class SimulationSummary(ResultFile):
    """Result of `distila rollout simulate`: a whole rollout on a replayed trace."""

    kind: Literal["rollout-simulation"] = "rollout-simulation"
    version: Literal[1] = 1
    plan: str = Field(description="name of the plan")
    status: str = Field(description="promoted, rolled_back, held, or running if the intervals ran out")
    stage_name: str = Field(description="stage in which it ended")
    interval: int = Field(description="evaluations until the end")
    promoted: str | None = Field(description="challenger that was promoted")
    withdrawn: list[str] = Field(description="challengers that were rolled back")
    reason: str = Field(description="why the latest transition was made")
    exposure: dict[str, int] = Field(description="unit intervals counted, by arm")
    transitions: list[TransitionTaken]
    harmful_decisions_after_rollback: int = Field(description="decisions of an arm that were sent after its rollback")
    slots: int = Field(description="slots replayed")
    simulated_s: float = Field(description="the same in seconds of the trace's time")
    ues: int = Field(description="UEs in the cell")
    trace: str = Field(description="file of the channel trace")
    shadow: dict[str, dict[str, int]] = Field(
        description="decisions of each shadow arm, compared with those that were sent"
    )
    noticed: dict[str, int] = Field(description="reports that could not be counted, by reason")


Interval95 = tuple[float, float]


class StudySettings(ResultModel):
    """What the simulated rollouts of a study were drawn from."""

    plan: str = Field(description="name of the plan")
    kpis: Literal["replayed", "gaussian"] = Field(description="KPIs as replayed, or Gaussian noise of the same spread")
    traces: list[str] = Field(description="files of the channel traces")
    units: int = Field(description="UEs at any time")
    mean_stay_intervals: float = Field(description="evaluation intervals that a UE stays, on average")
    library_ues: int = Field(description="UEs in the library of KPIs")
    library_intervals: int = Field(description="UE intervals in the library of KPIs")


class AaFigures(ResultModel):
    """Rollouts of the champion against itself."""

    runs: int = Field(description="simulated rollouts")
    false_alarms: int = Field(description="rollouts that were rolled back or promoted")
    false_alarm_share: float
    ci95: Interval95 = Field(description="exact 95 % interval of the share of false alarms (Clopper and Pearson)")
    allowed_share: float = Field(description="share of false alarms that the plan allows")
    rolled_back: int
    promoted: int
    sequences_missed: int = Field(description="rollouts in which a confidence sequence ever lay wholly beyond zero")
    sequences_missed_ci95: Interval95
    evaluations: int = Field(description="evaluations in all rollouts")


class AaStudy(ResultFile, StudySettings, AaFigures):
    """Result of `distila rollout aa`."""

    kind: Literal["rollout-aa"] = "rollout-aa"
    version: Literal[1] = 1


class EffectFigures(ResultModel):
    """Rollouts of challengers with one effect on the KPIs."""

    runs: int = Field(description="simulated rollouts")
    expected_end: Literal["rolled_back", "promoted"] = Field(description="how such a rollout should end")
    rolled_back: int
    promoted: int
    ci95: Interval95 = Field(description="exact 95 % interval of the share that ended so")
    median_exposure_pct: float = Field(description="median exposure over that of a rollout of full length [%]")
    p95_exposure_pct: float = Field(description="95th percentile of the same [%]")


class PowerFigures(ResultModel):
    """Rollouts of harmful challengers and of good ones."""

    harmful_runs: int
    rolled_back: int = Field(description="harmful challengers that were rolled back")
    rolled_back_ci95: Interval95
    median_exposure_pct: float = Field(description="median exposure of harmful challengers [%]")
    good_runs: int
    promoted: int = Field(description="good challengers that were promoted")
    promoted_ci95: Interval95
    by_effect: dict[str, EffectFigures] = Field(description="by name of the effect, see `studies.EFFECTS`")


class PowerStudy(ResultFile, StudySettings, PowerFigures):
    """Result of `distila rollout power`."""

    kind: Literal["rollout-power"] = "rollout-power"
    version: Literal[1] = 1
