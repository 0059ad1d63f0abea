"""The result of a replay, summary.json: `ClosedLoopSummary` of a channel trace, `OpenLoopSummary` of a KPI log."""

from typing import Literal

from pydantic import Field

from distila.replay.decided import Decided
from distila.replay.du_config import DuConfig
from distila.xapp.result_file import Estimate, ResultFile, ResultModel
from distila.xapp.stats import LatencyRecorder, Percentiles, Reasons


class TraceFacts(ResultModel):
    """The channel trace that was replayed."""

    path: str = Field(title="file", description="file, as it was given")
    name: str = Field(title="name")
    slot_us: float = Field(title="duration of a slot [µs]", description="duration of a slot [us]")
    slot_is: str = Field(title="what the trace counts", description="`slot`, or what the trace counts instead")
    source: str = Field(title="source", description="who recorded or simulated it, licence")
    notes: list[str] = Field(title="limits", description="what to keep in mind about it")
    ues: int = Field(title="number of UEs", description="number of UEs")
    mcs_tables: list[int] = Field(title="MCS tables", description="MCS tables of the UEs, 1 to 3 (TS 38.214)")
    slots: int = Field(title="slots replayed", description="slots that were replayed")


class LogFacts(ResultModel):
    """The KPI log that was replayed."""

    path: str = Field(title="file", description="file, as it was given")
    name: str = Field(title="name")
    source: str = Field(title="source", description="who recorded it, licence")
    mcs_table: int = Field(
        title="MCS table of the logged MCS", description="MCS table of the logged MCS, 1 to 3 (TS 38.214)"
    )
    cqi_table: int = Field(
        title="CQI table of the logged CQI", description="CQI table of the logged CQI, 1 to 3 (TS 38.214)"
    )
    slot_us: float = Field(title="duration of a slot [µs]", description="duration of a slot [us]")
    period_us: float = Field(title="report period [µs]", description="report period [us]")
    notes: list[str] = Field(title="assumptions of the importer", description="what the importer assumed")
    ues: int = Field(title="number of UEs", description="number of UEs")
    rows: int = Field(title="rows of the log", description="rows of the log, one per UE and report")


class ReplaySettings(ResultModel):
    """How a closed-loop replay was run."""

    period_slots: int = Field(title="report period [slots]", description="slots between two E2 reports")
    decision_delay_slots: int = Field(
        title="decision delay [slots]", description="slots from a report until the decision on it takes effect"
    )
    seed: int = Field(
        title="seed of the random draws",
        description="seed of the random draws that decide each transmission, the same for both runs",
    )
    transport: Literal["inproc", "grpc", "rmr"] = Field(
        title="transport to the xApp", description="how the xApp was reached"
    )
    bler: str = Field(title="BLER model", description="BLER model")
    speed: float | Literal["max"] = Field(title="speed", description="N times real time; `max`: as fast as possible")
    du: DuConfig = Field(title="DU stand-in", description="the DU stand-in")
    du_from_trace: list[str] = Field(
        default_factory=list,
        title="settings taken from the trace",
        description="settings of `du` that the trace gave, by name",
    )


class PolicyFacts(ResultModel):
    """What decided."""

    name: str = Field(description="name of the policy bundle, or `native OLLA`: the DU alone")
    version: str | None = Field(default=None, description="version of the bundle; null: no bundle")
    digest: str | None = Field(default=None, description="sha256 of the bundle's graph; null: no bundle")
    mcs_tables: list[int] | None = Field(
        default=None, description="MCS tables (TS 38.214) that the bundle was made for; null: no bundle, or not known"
    )


class BlockDelay(ResultModel):
    """Percentiles of block delay [ms], from the start of a block's first transmission to its delivery.

    Null: no block was delivered, or that share of the blocks never was.
    """

    p50: float | None = Field(description="median [ms]")
    p95: float | None = Field(description="95th percentile [ms]")
    p99: float | None = Field(description="99th percentile [ms]")


class RunFigures(PolicyFacts):
    """Which policy decided, and the figures of its run; null where nothing was sent."""

    goodput_mbps: float | None = Field(
        description="mean goodput of a UE over all slots in which it is scheduled, those without a free HARQ process"
        " included [Mbit/s]"
    )
    first_tx_bler: float | None = Field(description="NACKs over ACKs and NACKs of first transmissions; DTX is left out")
    transmissions_per_block: float | None = Field(description="mean number of transmissions of a block")
    retransmission_share: float | None = Field(description="grants that carry retransmissions, over all grants")
    residual_bler: float | None = Field(description="blocks lost after their last transmission, over all blocks")
    stalled_slot_share: float | None = Field(
        description="slots in which a scheduled UE had no free HARQ process, over all slots in which it was scheduled"
    )
    block_delay_ms: BlockDelay
    mean_mcs: float | None = Field(description="mean MCS index of first transmissions")
    first_transmissions: int = Field(description="number of first transmissions")


class AgainstFigures(RunFigures, Decided):
    """What the policy was compared with; the DU alone is not asked for decisions."""


class GoodputGain(Estimate):
    """Relative gain in goodput [%] with its bootstrap interval; null where it is not defined."""

    unit: str = Field(description="what was paired and resampled: `UE`, or `UE and stretch of time`")


class Latency(Percentiles):
    """How long decisions took [us]; null where none was timed."""

    what: str = Field(description="from where to where it was timed")

    @classmethod
    def timed(cls, recorder: LatencyRecorder, what: str) -> "Latency":
        """From the samples of a run."""
        return cls(**recorder.summary().model_dump(), what=what)


class Agreement(ResultModel):
    """How far decided and logged MCS agree; null where no report holds both."""

    rows_compared: int = Field(description="reports with a logged and a decided MCS")
    same_mcs_share: float | None = Field(description="share of them in which both are the same")
    mean_difference: float | None = Field(description="mean of decided minus logged MCS")


class Outcome(ResultModel):
    """What came out, in words."""

    verdict: str = Field(
        description="the result in words; where the policy decided less than half of the UE decisions it says so first,"
        " and why"
    )


class ClosedLoopSummary(Decided, Outcome, ResultFile):
    """A policy and what it was compared with, replayed on one channel trace with the same random draws."""

    kind: Literal["closed-loop"] = "closed-loop"
    version: Literal[2] = 2
    trace: TraceFacts
    settings: ReplaySettings
    policy: RunFigures
    against: AgainstFigures
    gain_pct: GoodputGain
    answered_share: float | None = Field(
        description="share of UE reports that were answered by a decision which the DU accepted, decisions that leave"
        " the UE to the DU included; null: there was no report"
    )
    latency_us: Latency
    indications: int = Field(description="indications that the xApp decided on")
    decisions: int = Field(description="UE decisions sent, native ones included")
    native: int | None = Field(description="decisions that left the UE to the DU; null: not known")
    dropped: Reasons = Field(description="indications not decided on, by reason")
    guarded: Reasons | None = Field(description="UE decisions that the guard changed, by reason; null: not known")
    noticed: Reasons | None = Field(description="odd input that was not dropped, by reason; null: not known")
    outcomes: Reasons | None = Field(description="UE decisions by what the E2 node did with them; null: not known")
    lost: Reasons = Field(description="messages lost between xApp and E2 node, by reason")


class OpenLoopSummary(Decided, Outcome, ResultFile):
    """Decisions of a policy beside those of a KPI log; they are never scored as if they had been applied."""

    kind: Literal["open-loop"] = "open-loop"
    version: Literal[2] = 2
    trace: LogFacts
    policy: PolicyFacts
    agreement: Agreement
    latency_us: Latency
    indications: int = Field(description="indications that the loop decided on")
    decisions: int = Field(description="UE decisions, native ones included")
    native: int = Field(description="decisions that left the UE to the DU")
    dropped: Reasons = Field(description="indications not decided on, by reason")
    guarded: Reasons = Field(description="UE decisions that the guard changed, by reason")
    noticed: Reasons = Field(description="odd input that was not dropped, by reason")


ReplaySummary = ClosedLoopSummary | OpenLoopSummary
