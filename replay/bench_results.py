"""What `distila bench` measures, as it prints it with `--json`."""

from typing import Literal

from pydantic import Field

from distila.xapp.result_file import ResultFile, ResultModel
from distila.xapp.stats import Percentiles, Reasons


class LoopFigures(ResultModel):
    """Times of the decision loop, and what it dropped or changed meanwhile."""

    stages_us: dict[str, Percentiles] = Field(description="duration of each stage [us]")
    p50_us: float | None = Field(description="median from end to end [us]")
    p99_us: float | None = Field(description="99th percentile from end to end [us]")
    max_us: float | None = Field(description="longest from end to end [us]")
    ue_decisions_per_s: int = Field(description="UE decisions per second of wall-clock time")
    dropped: Reasons = Field(description="indications not decided on, by reason")
    guarded: Reasons = Field(description="UE decisions that the guard changed, by reason")


class E2apFigures(LoopFigures):
    """Times of the decision loop with E2AP around it."""

    pycrate_decode_us: Percentiles = Field(description="time that pycrate alone takes to decode an indication [us]")


class PacedFigures(Percentiles):
    """Round trips [us] of indications sent every 10 ms."""

    swaps_seen: int = Field(description="changes of the policy that decided")
    indications: int = Field(description="indications sent")
    unanswered: int = Field(description="indications without an answer")


class BurstFigures(ResultModel):
    """Indications sent as fast as RMR accepts them."""

    sent: int
    sent_per_s: int
    not_sent: int = Field(description="indications that librmr rejected")
    answered: int
    newest_answered_after_us: float = Field(
        description="from the last indication sent to the answer to the newest one answered [us]"
    )


class RmrFigures(LoopFigures):
    """Round trips to an xApp in another process over RMR."""

    lost: Reasons = Field(description="messages lost on the way, by reason")
    rmr_health_check_us: Percentiles = Field(description="round trip of a health check, which only passes through [us]")
    paced: PacedFigures = Field(description="one indication every 10 ms")
    hot_swap: PacedFigures = Field(description="one indication every 10 ms while policies are swapped")
    burst: BurstFigures


class LoopBenchSettings(ResultModel):
    """What `distila bench loop` measured."""

    ues: int = Field(description="UEs in each indication")
    reports: int = Field(description="indications timed")
    policy: str = Field(description="name of the policy")
    transport: Literal["inproc", "grpc", "rmr"]
    e2ap: bool = Field(description="whether E2AP was around the service model, in process")


class LoopBench(ResultFile, LoopBenchSettings, LoopFigures):
    """Result of `distila bench loop`, in process or over gRPC."""

    kind: Literal["bench-loop"] = "bench-loop"
    version: Literal[1] = 1


class E2apLoopBench(ResultFile, LoopBenchSettings, E2apFigures):
    """Result of `distila bench loop --e2ap`."""

    kind: Literal["bench-loop-e2ap"] = "bench-loop-e2ap"
    version: Literal[1] = 1


class RmrLoopBench(ResultFile, LoopBenchSettings, RmrFigures):
    """Result of `distila bench loop --transport rmr`."""

    kind: Literal["bench-loop-rmr"] = "bench-loop-rmr"
    version: Literal[1] = 1


class ReplaySpeed(ResultModel):
    """Speed of one replay."""

    ue_slots_per_s: int = Field(description="UE-slots replayed per second of wall-clock time")
    elapsed_s: float = Field(description="wall-clock time [s]")


class ReplayBench(ResultFile):
    """Result of `distila bench replay`."""

    kind: Literal["bench-replay"] = "bench-replay"
    version: Literal[1] = 1
    ues: int = Field(description="UEs in the cell")
    slots: int = Field(description="slots replayed")
    policy_name: str
    policy: ReplaySpeed = Field(description="with the xApp in process and a decision every slot")
    du_alone: ReplaySpeed = Field(description="the DU stand-in without an xApp")


class SocketFigures(ResultModel):
    """Overrides that come back to EdgeRIC's gNB over sockets; shares are of the TTIs timed."""

    round_trip_us: Percentiles = Field(description="from telemetry to overrides, xApp in a process of its own [us]")
    in_time: float = Field(description="share of TTIs whose overrides the gNB can still apply")
    too_late: float = Field(description="share of TTIs whose overrides came later than that")
    unanswered: float = Field(description="share of TTIs without overrides")


class EdgericBench(ResultFile):
    """Result of `distila bench edgeric`."""

    kind: Literal["bench-edgeric"] = "bench-edgeric"
    version: Literal[1] = 1
    ues: int = Field(description="UEs in the cell")
    ttis: int = Field(description="TTIs timed")
    tti_us: int = Field(description="length of a TTI in the run over sockets [us]")
    policy: str = Field(description="name of the policy")
    stages_us: dict[str, Percentiles] = Field(description="duration of each stage in process [us]")
    sockets: SocketFigures


class RolloutCost(ResultModel):
    """Time of the decision loop in one kind of rollout, beside the loop without a rollout."""

    p50_us: float | None = Field(description="median [us]")
    p99_us: float | None = Field(description="99th percentile [us]")
    max_us: float | None = Field(description="longest [us]")
    account_us: float = Field(description="time to add up the KPIs, per indication, on another thread [us]")
    p50_over_plain_pct: float = Field(description="median over that without a rollout, less 1 [%]")
    with_account_pct: float = Field(description="the same with the time to add up the KPIs [%]")


class RolloutCosts(ResultModel):
    """The decision loop without a rollout and in three of them."""

    plain: RolloutCost = Field(description="without a rollout")
    assignment: RolloutCost = Field(description="half control, half challenger, both with the champion's policy")
    small_challenger: RolloutCost = Field(description="5 % of the UEs on another policy")
    half_challenger: RolloutCost = Field(description="half of the UEs on another policy")


class RolloutBench(ResultFile, RolloutCosts):
    """Result of `distila bench rollout`."""

    kind: Literal["bench-rollout"] = "bench-rollout"
    version: Literal[1] = 1
    ues: int = Field(description="UEs in each indication")
    reports: int = Field(description="indications timed")


class GpuRate(ResultModel):
    """The simulator's rate on a GPU."""

    name: str = Field(description="name of the GPU")
    ue_slots_per_s: int = Field(description="UE-slots per second")


class SimBench(ResultFile):
    """`distila bench sim`: the training simulator and Sionna's own OLLA loop, measured alternately."""

    kind: Literal["bench-sim"] = "bench-sim"
    version: Literal[1] = 1
    links: int = Field(description="links simulated at once")
    device: Literal["cpu", "cuda"] = Field(description="device that both ran on")
    threads: int = Field(description="threads of PyTorch")
    report_period_slots: int = Field(description="slots between two E2 reports in the simulator")
    rounds: int = Field(description="rounds, in each of which all were timed once")
    ue_slots_per_s: int = Field(description="UE-slots per second of the simulator with OLLA in the DU")
    sionna_ue_slots_per_s: int = Field(description="UE-slots per second of Sionna's OLLA loop")
    ratio: float = Field(description="simulator over Sionna, all rounds together")
    ratio_min: float = Field(description="the same of the round in which it was lowest")
    ratio_max: float = Field(description="the same of the round in which it was highest")
    every_slot_ue_slots_per_s: int = Field(description="the simulator with a report and a decision per link and slot")
    bare_link_ue_slots_per_s: int = Field(description="the simulator without OLLA, an MCS held for 20 slots")
    cuda: GpuRate | None = Field(description="the simulator's rate on a GPU; null: there is none")


class CombiningErrors(ResultModel):
    """Errors of two combining rules: SINR at 10 % block errors, measured less predicted; positive is too optimistic."""

    settings: int = Field(description="measured settings that the rule was not fitted to")
    mean_error_db: float = Field(description="mean error of the rule [dB]")
    p95_error_db: float = Field(description="95th percentile of the rule's absolute error [dB]")
    worst_error_db: float = Field(description="largest absolute error of the rule [dB]")
    ideal_mean_error_db: float = Field(description="mean error of the ideal rule, which adds up capacities [dB]")
    ideal_p95_error_db: float = Field(description="95th percentile of the ideal rule's absolute error [dB]")
    ideal_worst_error_db: float = Field(description="largest absolute error of the ideal rule [dB]")


class HarqBench(ResultFile, CombiningErrors):
    """`distila bench harq`: how well HARQ combining is predicted, beside measured points of a real LDPC decoder.

    The errors at the top are of all settings with several redundancy versions.
    """

    kind: Literal["bench-harq"] = "bench-harq"
    version: Literal[2] = 2
    fitted_settings: int = Field(description="measured settings that the rule was fitted to")
    by_transmissions: dict[int, CombiningErrors] = Field(description="by number of transmissions")
    by_group: dict[str, CombiningErrors] = Field(
        description="by MCS table, base graph, buffer, SINRs and block length; chase: version 0 repeated"
    )
