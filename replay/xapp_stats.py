"""What an xApp counted: read from a decision loop in this process, or from what `distila run --json` prints."""

from pydantic import BaseModel, ConfigDict, Field

from distila.xapp.loop import DecisionLoop
from distila.xapp.result_file import ResultModel
from distila.xapp.stats import LatencyRecorder

Reasons = dict[str, int]
"""Counts by reason; `distila.replay.reasons` explains each."""


class Percentiles(ResultModel):
    """Durations [us]; null where none was timed."""

    p50: float | None = Field(description="median [us]")
    p99: float | None = Field(description="99th percentile [us]")
    max: float | None = Field(description="longest [us]")

    @classmethod
    def of(cls, recorder: LatencyRecorder) -> "Percentiles":
        """From the samples of a recorder."""
        return cls.model_validate(recorder.summary())


class XappStats(BaseModel):
    """Counters of an xApp at its end; None where an xApp started by hand keeps them to itself."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    indications: int = Field(description="indications decided on")
    decisions: int = Field(description="UE decisions sent, native ones included")
    native: int | None = Field(default=None, description="decisions that left the UE to the DU")
    dropped: Reasons = Field(default_factory=dict, description="indications not decided on, by reason")
    guarded: Reasons | None = Field(default=None, description="UE decisions that the guard changed, by reason")
    noticed: Reasons | None = Field(default=None, description="odd input that was not dropped, by reason")
    outcomes: Reasons | None = Field(default=None, description="UE decisions by what the E2 node did with them")
    lost: Reasons = Field(default_factory=dict, description="messages lost on the way, by reason")
    latency_us: dict[str, Percentiles] = Field(default_factory=dict, description="duration of each stage [us]")

    @classmethod
    def of(cls, loop: DecisionLoop) -> "XappStats":
        """Of a decision loop in this process."""
        return cls.model_validate(loop.stats.summary().model_dump())
