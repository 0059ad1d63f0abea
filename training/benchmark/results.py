"""``results.json`` of a benchmark: what was run, and the figures of every policy in every family.

A figure that is not defined, because nothing was sent or there is nothing to compare with, is null.
"""

from typing import Final, Literal

from pydantic import ConfigDict, Field

from distila.training.benchmark.sizes import Sizes
from distila.xapp.result_file import Estimate, ResultFile, ResultModel

RESULTS_FILE: Final = "results.json"
PERCENTILES: Final = tuple(range(0, 101, 5))
"""Percentiles of the links that ``goodput_percentiles`` holds."""


class FileDelays(ResultModel):
    """Time from the arrival of a file to its last bit; a file that is not done counts with its time so far."""

    p50: float = Field(description="median [ms]")
    p95: float = Field(description="95th percentile [ms]")
    p99: float = Field(description="99th percentile [ms]")
    files: int = Field(ge=1, description="files of all links and seeds")


class SpeedGain(Estimate):
    """Gain over the reference [%] of the links in one class of speed."""

    speed_kmh: tuple[float, float] = Field(description="edges of the class, low included, high not [km/h]")
    links: int = Field(description="links in it, of all seeds")


class PolicyFigures(ResultModel):
    """Figures of one policy in one family, over all links and seeds."""

    base: str = Field(description="name of the baseline, directory of the bundle, or file of the network")
    seat: Literal["du", "xapp"] = Field(description="where the policy decides: in the DU, or in the xApp behind E2")
    settings: dict[str, float | None] = Field(description="settings of a baseline in this family")
    goodput: float | None = Field(description="mean over links of the bits delivered per allocated resource [bit/s/Hz]")
    goodput_p5: float | None = Field(description="5th percentile over links of the same [bit/s/Hz]")
    gain_vs_olla_pct: Estimate = Field(description="gain of mean goodput over the reference, paired [%]")
    first_tx_bler: float | None = Field(description="NACKs over ACKs and NACKs of first transmissions, without DTX")
    residual_bler: float | None = Field(description="blocks lost after their last transmission, over all blocks")
    residual_vs_olla: Estimate = Field(description="residual BLER minus the reference's, paired")
    genie_share_pct: float | None = Field(
        default=None, description="how much of the gain from the reference to the genie the policy reaches [%]"
    )
    mean_mcs: float | None = Field(description="mean MCS index of first transmissions, mean over links")
    file_delay_ms: FileDelays | None = Field(description="delays of files [ms]; null where all traffic is full buffer")
    goodput_percentiles: tuple[float | None, ...] = Field(
        description="goodput at the percentiles 0, 5, ... 100 of the links [bit/s/Hz]; empty where nothing was sent"
    )
    gain_by_speed: tuple[SpeedGain, ...] = Field(
        description="gain by class of speed; classes with few links are absent"
    )
    elapsed_s: float | None = Field(description="time that the runs took [s]")


class FamilyResults(ResultModel):
    """One scenario family, and how each policy did in it."""

    description: str = Field(default="", description="what is special about it")
    unseen: bool = Field(description="whether every training configuration leaves it out")
    slot_us: float | None = Field(description="duration of a slot [us]; null where it differs between seeds")
    e2_period_ms: float | None = Field(description="period of E2 reports [ms]; null where it differs between seeds")
    e2_delay_ms: float | None = Field(
        description="delay from an E2 report to the effect of its decision [ms]; null where it differs between seeds"
    )
    links: int = Field(description="links of all seeds")
    bursty_share: float = Field(description="share of links that carry files, 0 to 1; the others have a full buffer")
    policies: dict[str, PolicyFigures] = Field(description="figures by name of the policy")


class GroupAverages(ResultModel):
    """Mean gain over a group of families, see `distila.training.benchmark.averages`."""

    families: tuple[str, ...] = Field(description="names of the families")
    policies: dict[str, Estimate] = Field(description="plain mean of the gains over these families [%], by policy")


class SweepPoint(Estimate):
    """Gain over the reference [%] at one E2 period."""

    period_ms: float = Field(description="period of E2 reports [ms]")
    delay_ms: float = Field(description="delay from report to effect [ms]")


class E2Sweep(ResultModel):
    """Gain of the policies in the xApp against the E2 period."""

    scenario: str = Field(description="family whose channels are used")
    policies: dict[str, tuple[SweepPoint, ...]] = Field(description="points by name of the policy")


class BenchmarkSettings(Sizes):
    """How the benchmark was run."""

    model_config = ConfigDict(allow_inf_nan=False)

    seeds: tuple[int, ...] = Field(description="seeds of the split")
    split: Literal["test", "validation"] = Field(description="split that the random numbers and channels came from")
    reference: str = Field(default="olla", description="name of the policy that gains are relative to")
    device: str = Field(default="cpu", description="where the simulation ran")
    e2_period_ms: float | None = Field(default=None, description="E2 period of all families [ms]; null: their own")
    e2_delay_ms: float | None = Field(default=None, description="E2 delay of all families [ms]; null: their own")


class Comparison(ResultModel):
    """Policies side by side in every family, and their mean gains over groups of families."""

    families: dict[str, FamilyResults] = Field(description="results by name of the family")
    averages: dict[str, GroupAverages] = Field(default_factory=dict, description="mean gains by name of the group")


class BenchmarkResults(ResultFile, Comparison):
    """The content of ``results.json``."""

    kind: Literal["benchmark"] = "benchmark"
    version: Literal[2] = 2
    distila: str = Field(description="version of distila that wrote the file")
    quick: bool = Field(description="whether it was a quick run, with few links and little time")
    settings: BenchmarkSettings = Field(description="how the benchmark was run")
    e2_sweep: E2Sweep | None = Field(default=None, description="gain against the E2 period; null without a sweep")
