"""One side of a comparison: the DU alone, or a policy through the xApp in process, over gRPC or over RMR."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from distila.replay import closed_loop
from distila.replay.decided import Decided
from distila.replay.du import Du
from distila.replay.du_config import DuConfig
from distila.replay.e2_node import E2Node, Node, RemoteXapp
from distila.replay.link import load_bler
from distila.replay.record import RunRecord
from distila.replay.summary import PolicyFacts
from distila.replay.trace import ChannelTrace
from distila.replay.xapp_process import XappProcess
from distila.xapp.config import RunConfig, load_config
from distila.xapp.errors import InputError
from distila.xapp.loop import DecisionLoop
from distila.xapp.policy.bundle import Bundle
from distila.xapp.progress import Progress
from distila.xapp.stats import LatencyRecorder, LoopSummary

Transport = Literal["inproc", "grpc", "rmr"]

TIMED_FROM_TO: Final[dict[Transport, str]] = {
    "inproc": "decision loop in process, arrays to arrays",
    "grpc": "gRPC on this machine, indication sent to control message received",
    "rmr": "RMR and E2AP on this machine, indication sent to control message received",
}


_NO_XAPP: Final = LoopSummary(indications=0, decisions=0)


@dataclass(frozen=True)
class ReplayOptions:
    """How a closed-loop replay is run; the defaults are those of `distila replay`."""

    du: DuConfig = field(default_factory=DuConfig)
    """The DU stand-in: its E2 period, delays [slots], HARQ and link adaptation."""
    seed: int = 1
    """Seed of the random draws that both sides share."""
    max_slots: int | None = None
    """Number of slots after which the replay stops; None: the whole trace."""
    speed: float | None = None
    """N times real time; None: as fast as possible, each report waiting for its answer."""
    transport: Transport = "inproc"
    listen: str = "127.0.0.1:0"
    """Address on which the E2 node listens, for gRPC; port 0 takes a free one."""
    config: Path | None = None
    """The xApp's configuration, as for `distila run --config`; its guard and loop apply, its policy does not."""
    bler: str = "smooth"
    """Name of the BLER model, see `distila.replay.link.load_bler`."""
    external: Callable[[int], None] | None = None
    """Called with the port when the replay waits for an xApp started by hand; None: the replay starts one."""


@dataclass(frozen=True)
class ComparedRun:
    """What one side did; all of ``stats`` is zero for the DU alone, which has no xApp."""

    record: RunRecord
    du: Du
    policy: PolicyFacts
    latency: LatencyRecorder
    stats: LoopSummary

    @property
    def decided(self) -> Decided:
        """Who decided: the policy, or the DU, and why."""
        return Decided.by_loop(
            reports=self.du.reported,
            decided=self.du.decided,
            native=self.du.left,
            guarded=self.stats.guarded,
            rejected=self.du.rejected_decided,
        )


def run_config(path: Path | None) -> RunConfig:
    """The xApp's configuration; all defaults without a file.

    Raises:
        InputError: the file cannot be used.
    """
    return RunConfig() if path is None else load_config(path)


def decision_loop(bundle: Bundle, config: Path | None, speed: float | None) -> DecisionLoop:
    """A decision loop. At full speed the RAN waits for it, so no decision is late, and a run repeats exactly."""
    settings = run_config(config)
    if speed is None:
        settings = settings.replaced("guard", "deadline_us", value=None)
    return DecisionLoop(bundle, settings.loop, settings.guard)


def policy_facts(bundle: Bundle) -> PolicyFacts:
    """Name, version, digest and MCS tables of a bundle."""
    manifest = bundle.manifest
    return PolicyFacts(
        name=manifest.name,
        version=manifest.version,
        digest=manifest.sha256,
        mcs_tables=[int(table) for table in manifest.mcs_tables],
    )


def native_run(channel: ChannelTrace, settings: ReplayOptions, progress: Progress) -> ComparedRun:
    """The DU's own link adaptation, without an xApp."""
    # No xApp has to keep up with the DU, so the run goes at full speed.
    record, du = _closed_loop(channel, settings, None, progress, speed=None)
    return ComparedRun(record, du, PolicyFacts(name="native OLLA"), LatencyRecorder(1), _NO_XAPP)


def in_process_run(channel: ChannelTrace, bundle: Bundle, settings: ReplayOptions, progress: Progress) -> ComparedRun:
    """A policy through the decision loop in this process."""
    loop = decision_loop(bundle, settings.config, settings.speed)
    controller = closed_loop.InProcess(loop)
    record, du = _closed_loop(channel, settings, controller, progress, settings.speed)
    return ComparedRun(record, du, policy_facts(bundle), controller.latency, loop.stats.summary())


def remote_run(
    channel: ChannelTrace, policy: str, bundle: Bundle, settings: ReplayOptions, progress: Progress
) -> ComparedRun:
    """A policy through an xApp in a process of its own, over ``settings.transport``.

    Args:
        channel: the trace.
        policy: the bundle as `distila run --policy` takes it.
        bundle: the same, loaded.
        settings: how it is run.
        progress: called with slots done and slots in all.

    Raises:
        InputError: the xApp did not start, ended early, or stopped answering; or RMR is not installed.
    """
    run = _over_grpc if settings.transport == "grpc" else _over_rmr
    return run(channel, policy, bundle, settings, progress)


def _over_grpc(
    channel: ChannelTrace, policy: str, bundle: Bundle, settings: ReplayOptions, progress: Progress
) -> ComparedRun:
    node = E2Node(settings.listen)
    process = None
    try:
        if settings.external is None:
            process = XappProcess(node, policy, settings.config, deadline=settings.speed is not None)
        else:
            settings.external(node.port)
            while not node.wait_for_subscriber(1.0):
                pass
        controller = RemoteXapp(node, lockstep=settings.speed is None)
        record, du = _closed_loop(channel, settings, controller, progress, settings.speed)
        controller.finish()
        node.end()
        if process is not None:
            stats, facts = process.finish(), policy_facts(bundle)
        else:
            # An xApp that was started by hand prints its counters itself.
            stats = LoopSummary(indications=controller.answered, decisions=controller.decisions)
            facts = _external_facts(controller)
    except BaseException:
        if process is not None:
            process.kill()
        node.end(grace_s=0)
        raise
    return ComparedRun(record, du, facts, controller.latency, _with_node(stats, node, controller))


def _external_facts(controller: RemoteXapp) -> PolicyFacts:
    name, digest = controller.arm or ("unknown", "")
    return PolicyFacts(name=f"external xApp, arm {name}", version="", digest=digest)


def _over_rmr(
    channel: ChannelTrace, policy: str, bundle: Bundle, settings: ReplayOptions, progress: Progress
) -> ComparedRun:
    try:
        from distila.replay.ric.xapp_over_rmr import xapp_over_rmr
    except ModuleNotFoundError as error:
        raise InputError(f"--transport rmr needs the package {error.name!r}: pip install 'distila[ric]'") from None
    config = run_config(settings.config)
    with xapp_over_rmr(policy, config, deadline=settings.speed is not None) as (node, process):
        controller = RemoteXapp(node, lockstep=settings.speed is None)
        record, du = _closed_loop(channel, settings, controller, progress, settings.speed)
        controller.finish()
        process.terminate()
        stats = _with_node(process.finish(), node, controller)
    return ComparedRun(record, du, policy_facts(bundle), controller.latency, stats)


def _with_node(stats: LoopSummary, node: Node, controller: RemoteXapp) -> LoopSummary:
    """The xApp's counters together with what was lost on this side of the wire."""
    dropped = Counter(stats.dropped) + node.dropped
    lost = Counter(stats.lost) + node.rejected + Counter(unanswered=controller.unanswered)
    return stats.model_copy(update={"dropped": dict(sorted(dropped.items())), "lost": dict(sorted(lost.items()))})


def _closed_loop(
    channel: ChannelTrace,
    settings: ReplayOptions,
    controller: closed_loop.Controller | None,
    progress: Progress,
    speed: float | None,
) -> tuple[RunRecord, Du]:
    return closed_loop.run(
        channel,
        load_bler(settings.bler),
        settings.du,
        seed=settings.seed,
        controller=controller,
        max_slots=settings.max_slots,
        speed=speed,
        progress=progress,
    )
