"""One replay, start to end: run the policy and what it is compared with, sum up, write summary.json and report.html."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from distila.replay import closed_loop, open_loop
from distila.replay.atomic_file import check_writable, replacing
from distila.replay.du import Du, DuConfig
from distila.replay.e2_node import E2Node, Node, RemoteXapp
from distila.replay.kpi_log import KpiLog
from distila.replay.link import load_bler
from distila.replay.record import RunRecord
from distila.replay.report import write_closed_loop_report, write_open_loop_report
from distila.replay.statistics import paired_gain
from distila.replay.trace import ChannelTrace
from distila.replay.xapp_process import XappProcess
from distila.xapp.config import RunConfig, load_config
from distila.xapp.errors import InputError
from distila.xapp.loop import DecisionLoop
from distila.xapp.nr.arrays import Float64Array
from distila.xapp.policy.bundle import Bundle, resolve_bundle
from distila.xapp.stats import LatencyRecorder

Progress = Callable[[int, int], None]

NATIVE_OLLA: Final = "olla"
"""As what a policy is compared with: the DU's own link adaptation. (As a policy: the same law as a bundle.)"""

_LATENCY_IS: Final = {
    "inproc": "decision loop in process, arrays to arrays",
    "grpc": "gRPC on this machine, indication sent to control message received",
    "rmr": "RMR and E2AP on this machine, indication sent to control message received",
}


@dataclass(frozen=True)
class Settings:
    """How a closed-loop replay is run."""

    du: DuConfig = field(default_factory=DuConfig)
    seed: int = 1
    """Of the luck that both sides share."""
    max_slots: int | None = None
    """Stop there; None: the whole trace."""
    speed: float | None = None
    """N times real time; None: as fast as possible, each report waiting for its answer."""
    transport: Literal["inproc", "grpc", "rmr"] = "inproc"
    listen: str = "127.0.0.1:0"
    """Where the E2 node listens, for gRPC; port 0 takes a free one."""
    config: Path | None = None
    """Configuration of the xApp, as `distila run --config` takes it; its guard and loop apply, its policy does not."""
    bler: str = "smooth"
    """Name of the BLER model, see `distila.replay.link.load_bler`."""
    external: Callable[[int], None] | None = None
    """Called with the port when an xApp started by hand is awaited; None: one is started."""


@dataclass(frozen=True)
class _Side:
    """One side of a comparison."""

    record: RunRecord
    du: Du
    stats: dict[str, Any]
    latency: LatencyRecorder
    policy: dict[str, Any]
    """What decided."""


def replay_channel(
    path: Path,
    channel: ChannelTrace,
    policy: str,
    against: str,
    settings: Settings,
    out: Path,
    progress: Callable[[str], Progress] = lambda _: lambda done, total: None,
) -> dict[str, Any]:
    """Closed-loop replay of ``policy`` and of ``against``; writes summary and report into ``out``.

    Args:
        path: where the trace came from, for the summary.
        channel: the trace.
        policy: directory or name of a bundle, run through the whole xApp.
        against: `NATIVE_OLLA`, or another bundle, run in process.
        settings: see `Settings`.
        out: directory.
        progress: given what is being run, gives the function to call with slots done and in all.

    Returns:
        The summary.

    Raises:
        InputError: a bundle or a setting cannot be used, or the xApp failed.
    """
    bundle = resolve_bundle(policy)
    other = None if against == NATIVE_OLLA else resolve_bundle(against)
    valid_slots = _run_config(settings.config).loop.valid_for_slots(settings.du.period_slots)
    if settings.du.decision_delay_slots >= valid_slots:
        raise InputError(
            f"a delay of {settings.du.decision_delay_slots} slots: decisions are valid for {valid_slots}, none would"
            " ever take effect; raise loop.valid_for_extra_slots in the xApp's configuration"
        )
    check_writable(out)
    title = f"policy {bundle.manifest.name}"
    if settings.transport == "inproc":
        ours = _in_process(channel, bundle, settings, progress(title))
    else:
        over = _over_grpc if settings.transport == "grpc" else _over_rmr
        ours = over(channel, policy, bundle, settings, progress(title))
    if other is None:
        theirs = _native(channel, settings, progress("native OLLA"))
    else:
        theirs = _in_process(channel, other, settings, progress(f"against {against}"))
    gain = paired_gain(ours.record, theirs.record, np.random.default_rng(settings.seed))
    mean, *interval = (round(x, 3) if np.isfinite(x) else None for x in (gain.mean_pct, gain.low_pct, gain.high_pct))
    meta = channel.meta
    summary = {
        "kind": "closed-loop",
        "trace": {
            "path": str(path),
            **meta.model_dump(exclude={"ues"}),
            "ues": len(meta.ues),
            "slots": ours.record.num_slots,
        },
        "settings": {
            "period_slots": settings.du.period_slots,
            "decision_delay_slots": settings.du.decision_delay_slots,
            "seed": settings.seed,
            "transport": settings.transport,
            "bler": settings.bler,
            "speed": "max" if settings.speed is None else settings.speed,
            "du": settings.du.model_dump(),
        },
        "policy": {**ours.policy, **ours.record.summary()},
        "against": {**theirs.policy, **theirs.record.summary()},
        "gain_pct": {"mean": mean, "ci95": interval, "unit": gain.unit},
        "applied_share": round(ours.du.accepted / ours.du.reported, 4) if ours.du.reported else None,
        "latency_us": {**ours.latency.summary(), "what": _LATENCY_IS[settings.transport]},
        **ours.stats,
    }
    _write_json(out / "summary.json", summary)
    write_closed_loop_report(out / "report.html", summary, ours.record, theirs.record, ours.latency.samples_us())
    return summary


def replay_log(
    path: Path,
    log: KpiLog,
    policy: str,
    out: Path,
    config: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Open-loop replay of a KPI log; writes summary and report into ``out``, returns the summary.

    Raises:
        InputError: the bundle cannot be used.
    """
    bundle = resolve_bundle(policy)
    check_writable(out)
    loop = _loop(bundle, config, speed=None)
    decided, latency = open_loop.run(log, loop, progress)
    summary = {
        "kind": "open-loop",
        "trace": {
            "path": str(path),
            **log.meta.model_dump(exclude={"ues"}),
            "ues": len(log.meta.ues),
            "rows": log.num_rows,
        },
        "policy": _facts(bundle),
        "agreement": _agreement(decided, log.measured["mcs"]),
        "latency_us": {**latency.summary(), "what": _LATENCY_IS["inproc"]},
        # There is no E2 node that could have taken or lost anything.
        **{k: v for k, v in _counters(loop.stats.as_dict()).items() if k not in ("outcomes", "lost")},
    }
    _write_json(out / "summary.json", summary)
    write_open_loop_report(out / "report.html", summary, log, decided)
    return summary


def _native(channel: ChannelTrace, settings: Settings, progress: Progress) -> _Side:
    # Nobody has to keep up with the DU alone, so it runs through at full speed.
    record, du = _closed_loop(channel, settings, None, progress, speed=None)
    return _Side(record, du, {}, LatencyRecorder(1), {"name": "native OLLA"})


def _in_process(channel: ChannelTrace, bundle: Bundle, settings: Settings, progress: Progress) -> _Side:
    loop = _loop(bundle, settings.config, settings.speed)
    controller = closed_loop.InProcess(loop)
    record, du = _closed_loop(channel, settings, controller, progress, settings.speed)
    return _Side(record, du, _counters(loop.stats.as_dict()), controller.latency, _facts(bundle))


def _run_config(path: Path | None) -> RunConfig:
    return RunConfig() if path is None else load_config(path)


def _loop(bundle: Bundle, config: Path | None, speed: float | None) -> DecisionLoop:
    """A decision loop. At full speed the RAN waits for it, so no decision is late, and a run repeats exactly."""
    settings = _run_config(config)
    if speed is None:
        settings = settings.replaced("guard", "deadline_us", value=None)
    return DecisionLoop(bundle, settings.loop, settings.guard)


def _over_grpc(channel: ChannelTrace, policy: str, bundle: Bundle, settings: Settings, progress: Progress) -> _Side:
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
            stats, facts = _counters(process.finish()), _facts(bundle)
        else:
            # An xApp started by hand prints its counters itself; known here is what it answered, and as whom.
            stats = {
                **dict.fromkeys(("native", "guarded", "noticed", "outcomes")),
                "indications": controller.answered,
                "decisions": controller.decisions,
                "dropped": {},
                "lost": {},
            }
            name, digest = controller.arm or ("unknown", "")
            facts = {"name": f"external xApp, arm {name}", "version": "", "digest": digest}
    except BaseException:
        if process is not None:
            process.kill()
        node.end(grace_s=0)
        raise
    return _Side(record, du, _with_node(stats, node, controller), controller.latency, facts)


def _over_rmr(channel: ChannelTrace, policy: str, bundle: Bundle, settings: Settings, progress: Progress) -> _Side:
    try:
        from distila.replay.ric.standing import xapp_over_rmr
    except ModuleNotFoundError as error:
        raise InputError(f"--transport rmr needs the package {error.name!r}: pip install 'distila[ric]'") from None
    config = _run_config(settings.config).model_dump(mode="json", exclude_defaults=True)
    with xapp_over_rmr(policy, config, deadline=settings.speed is not None) as (node, process):
        controller = RemoteXapp(node, lockstep=settings.speed is None)
        record, du = _closed_loop(channel, settings, controller, progress, settings.speed)
        controller.finish()
        process.terminate()
        stats = _with_node(_counters(process.finish()), node, controller)
    return _Side(record, du, stats, controller.latency, _facts(bundle))


def _with_node(stats: dict[str, Any], node: Node, controller: RemoteXapp) -> dict[str, Any]:
    """The xApp's counters with what was lost on this side of the wire."""
    dropped = Counter(stats["dropped"]) + node.dropped
    lost = Counter(stats["lost"]) + node.refused + Counter(unanswered=controller.unanswered)
    return {**stats, "dropped": dict(sorted(dropped.items())), "lost": dict(sorted(lost.items()))}


def _closed_loop(
    channel: ChannelTrace,
    settings: Settings,
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


def _facts(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {"name": manifest.name, "version": manifest.version, "digest": manifest.sha256}


def _counters(stats: dict[str, Any]) -> dict[str, Any]:
    """The xApp's counters as the summary holds them."""
    counts = {name: stats[name] for name in ("indications", "decisions", "native")}
    return {**counts, **{name: stats.get(name, {}) for name in ("dropped", "guarded", "noticed", "outcomes", "lost")}}


def _agreement(decided: Float64Array, logged: Float64Array) -> dict[str, Any]:
    both = ~np.isnan(decided) & ~np.isnan(logged)
    if not both.any():
        return {"rows_compared": 0, "same_mcs_share": None, "mean_difference": None}
    difference = decided[both] - np.round(logged[both])
    return {
        "rows_compared": int(both.sum()),
        "same_mcs_share": round(float((difference == 0).mean()), 4),
        "mean_difference": round(float(difference.mean()), 3),
    }


def _write_json(path: Path, data: dict[str, Any]) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n")
