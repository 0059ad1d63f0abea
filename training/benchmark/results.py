"""``results.json`` of a benchmark: what was run, and the figures of every policy in every family.

There is one comparison for each BLER target, with OLLA of the same target as the reference; and one in which every
baseline has the settings that give it the most goodput over all seen families, whatever BLER that takes. A figure that
is not defined, because nothing was sent or there is nothing to compare with, is null.
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


class BlockDelays(ResultModel):
    """Time from the first transmission of a block to its delivery, of the blocks that were delivered."""

    p50: float | None = Field(description="median [ms]; null: so many blocks are never delivered")
    p95: float | None = Field(description="95th percentile [ms]; null likewise")
    p99: float | None = Field(description="99th percentile [ms]; null likewise")


GainKind = Literal["better", "worse", "no_difference", "nothing_decided", "bought_with_bler"]
"""What a gain shows; ``bought_with_bler``: it is significant, but so is a first-transmission BLER that is higher than
the reference's by more than `distila.training.benchmark.frontier.EQUAL_WITHIN` of it."""


class EqualBlerGain(Estimate):
    """Gain over OLLA at the BLER that the policy reaches [%], see `distila.training.benchmark.frontier`."""

    reference_bler: float | None = Field(description="first-transmission BLER of the OLLA that it is compared with")
    bler_vs_reference: Estimate = Field(description="first-transmission BLER minus that OLLA's, paired")
    beyond_targets: bool = Field(
        description="whether no target of OLLA comes to this BLER: the policy is compared with the nearest one"
    )
    coarse_reference: bool = Field(
        default=False,
        description="whether OLLA's points on both sides of this BLER differ by more than a factor of 2.5 in BLER: the"
        " straight line between them is coarse, and the policy may look better than it is",
    )
    kind: GainKind = Field(description="what the gain shows")


class SpeedGain(Estimate):
    """Gain over the reference [%] of the links in one class of speed."""

    speed_kmh: tuple[float, float] = Field(description="edges of the class, low included, high not [km/h]")
    links: int = Field(description="links in it, of all seeds")


class PolicyFigures(ResultModel):
    """Figures of one policy in one family, over all links and seeds."""

    base: str = Field(description="name of the baseline, directory of the bundle, or file of the network")
    seat: Literal["du", "xapp"] = Field(description="where the policy decides: in the DU, or in the xApp behind E2")
    settings: dict[str, float | None] = Field(description="settings of a baseline in this family")
    takes_target: bool = Field(description="whether the policy was given the comparison's BLER target")
    target_bler: float | None = Field(
        default=None, description="BLER target that the policy ran with, 0 to 1; null: none, or one of its settings"
    )
    decided_share: float = Field(
        ge=0, le=1, description="share of decisions that do not leave the MCS to the DU, 0 to 1; in the DU always 1"
    )
    undecided_because: Literal["mcs_table"] | None = Field(
        default=None,
        description="why the policy could decide nothing, in at least one seed: mcs_table, it does not know the cell's"
        " MCS table; null: it could decide",
    )
    goodput: float | None = Field(description="mean over links of the bits delivered per allocated resource [bit/s/Hz]")
    goodput_p5: float | None = Field(description="5th percentile over links of the same [bit/s/Hz]")
    gain_vs_olla_pct: Estimate = Field(description="gain of mean goodput over the reference, paired [%]")
    gain_kind: GainKind = Field(description="what this gain shows")
    equal_bler_gain: EqualBlerGain | None = Field(
        default=None, description="gain over OLLA at the BLER that the policy reaches; null without BLER targets"
    )
    first_tx_bler: float | None = Field(description="NACKs over ACKs and NACKs of first transmissions, without DTX")
    bler_vs_olla: Estimate = Field(description="first-transmission BLER minus the reference's, paired")
    transmissions_per_block: float | None = Field(description="mean number of transmissions of a block")
    retransmission_share: float | None = Field(description="share of grants that carry retransmissions, 0 to 1")
    stalled_slot_share: float | None = Field(
        description="share of slots in which nothing was sent because no HARQ process was free, 0 to 1"
    )
    block_delay_ms: BlockDelays | None = Field(
        description="time from first transmission to delivery [ms]; null where nothing was delivered"
    )
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
    mcs_table: int | None = Field(
        default=None, description="MCS table of TS 38.214 that the links use; null where it differs between seeds"
    )
    links: int = Field(description="links of all seeds")
    bursty_share: float = Field(description="share of links that carry files, 0 to 1; the others have a full buffer")
    policies: dict[str, PolicyFigures] = Field(description="figures by name of the policy")


class MeanFigures(ResultModel):
    """Plain means of a policy's figures over the families of a group in which it decided; null where one has none."""

    decided_in: int = Field(
        ge=0,
        description="number of families that all means of the policy are over: those of the group without any in which"
        " it left every MCS to the DU",
    )
    first_tx_bler: float | None = Field(description="first-transmission BLER")
    residual_bler: float | None = Field(description="residual BLER")
    block_delay_p95_ms: float | None = Field(description="95th percentile of block delay [ms]")
    bought_with_bler: int = Field(
        description="families in which the gain is bought with a higher BLER than any target of OLLA comes to"
    )


class GroupAverages(ResultModel):
    """Means over a group of families, see `distila.training.benchmark.averages`."""

    families: tuple[str, ...] = Field(description="names of the families")
    policies: dict[str, Estimate] = Field(
        description="plain mean of the gains over the reference in these families [%], by policy; families in which"
        " the policy decided nothing are left out"
    )
    equal_bler: dict[str, Estimate] = Field(
        default_factory=dict, description="plain mean of the gains at equal BLER [%], by policy; empty without targets"
    )
    figures: dict[str, MeanFigures] = Field(
        default_factory=dict, description="plain means of other figures over these families, by policy"
    )


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

    targets_pct: tuple[float, ...] = Field(
        default=(), description="BLER targets [%] that policies were given; empty: none"
    )
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


class BenchmarkResults(ResultFile):
    """The content of ``results.json``."""

    kind: Literal["benchmark"] = "benchmark"
    version: Literal[3] = 3
    distila: str = Field(description="version of distila that wrote the file")
    quick: bool = Field(description="whether it was a quick run, with few links and little time")
    settings: BenchmarkSettings = Field(description="how the benchmark was run")
    targets: dict[str, Comparison] = Field(
        description="comparisons at each BLER target, by the target in percent: `10`; policies without a target stand"
        " under every one"
    )
    globally_tuned: Comparison | None = Field(
        default=None,
        description="comparison with OLLA tuned for goodput over all seen families, whatever BLER that takes; null:"
        " not run",
    )
    e2_sweep: E2Sweep | None = Field(default=None, description="gain against the E2 period; null without a sweep")

    @property
    def against_tuned(self) -> Comparison:
        """The comparison with OLLA tuned for goodput.

        Raises:
            ValueError: it was not run.
        """
        if self.globally_tuned is None:
            raise ValueError("these results have no comparison with globally tuned OLLA")
        return self.globally_tuned
