"""One replay, start to end: run the policy and what it is compared with, sum up, write summary.json and report.html."""

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from replay import closed_loop, open_loop
from replay.du import DuConfig
from replay.e2_node import E2Node, OverGrpc
from replay.kpi_log import KpiLog
from replay.record import RunRecord
from replay.report import write_closed_loop_report, write_open_loop_report
from replay.statistics import paired_gain
from replay.trace import ChannelTrace
from replay.xapp_process import XappProcess
from xapp.loop import DecisionLoop
from xapp.nr.bler import SmoothBler
from xapp.policy.bundle import Bundle, resolve_bundle
from xapp.policy.guard import GuardConfig
from xapp.stats import LatencyRecorder

Progress = Callable[[int, int], None]

NATIVE_OLLA: Final = "olla"
"""As what a policy is compared with: the DU's own link adaptation. (As a policy: the same law as a bundle.)"""

_LATENCY_IS: Final = {
    "inproc": "decision loop in process, arrays to arrays",
    "grpc": "gRPC on this machine, indication sent to control message received",
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
    transport: Literal["inproc", "grpc"] = "inproc"
    listen: str = "127.0.0.1:0"
    """Where the E2 node listens, for gRPC; port 0 takes a free one."""
    external: Callable[[int], None] | None = None
    """Called with the port when an xApp started by hand is awaited; None: one is started."""


@dataclass(frozen=True)
class _Side:
    """One side of a comparison."""

    record: RunRecord
    stats: dict[str, Any]
    latency: LatencyRecorder


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
    title = f"policy {bundle.manifest.name}"
    if settings.transport == "inproc":
        ours = _in_process(channel, bundle, settings, progress(title))
    else:
        ours = _over_grpc(channel, policy, settings, progress(title))
    if other is None:
        theirs, facts = _native(channel, settings, progress("native OLLA")), {"name": "native OLLA"}
    else:
        theirs, facts = _in_process(channel, other, settings, progress(f"against {against}")), _facts(other)
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
            "speed": "max" if settings.speed is None else settings.speed,
            "du": settings.du.model_dump(),
        },
        "policy": {**_facts(bundle), **ours.record.summary()},
        "against": {**facts, **theirs.record.summary()},
        "gain_pct": {"mean": mean, "ci95": interval, "unit": gain.unit},
        "latency_us": {**ours.latency.summary(), "what": _LATENCY_IS[settings.transport]},
        **ours.stats,
    }
    _write_json(out / "summary.json", summary)
    write_closed_loop_report(out / "report.html", summary, ours.record, theirs.record, ours.latency.samples_us())
    return summary


def replay_log(
    path: Path, log: KpiLog, policy: str, out: Path, progress: Progress = lambda done, total: None
) -> dict[str, Any]:
    """Open-loop replay of a KPI log; writes summary and report into ``out``, returns the summary.

    Raises:
        InputError: the bundle cannot be used.
    """
    bundle = resolve_bundle(policy)
    loop = _loop(bundle, speed=None)
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
        **_counters(loop.stats.as_dict()),
    }
    _write_json(out / "summary.json", summary)
    write_open_loop_report(out / "report.html", summary, log, decided)
    return summary


def _native(channel: ChannelTrace, settings: Settings, progress: Progress) -> _Side:
    # Nobody has to keep up with the DU alone, so it runs through at full speed.
    record = _closed_loop(channel, settings, None, progress, speed=None)
    return _Side(record, {}, LatencyRecorder(1))


def _in_process(channel: ChannelTrace, bundle: Bundle, settings: Settings, progress: Progress) -> _Side:
    loop = _loop(bundle, settings.speed)
    controller = closed_loop.InProcess(loop)
    record = _closed_loop(channel, settings, controller, progress, settings.speed)
    return _Side(record, _counters(loop.stats.as_dict()), controller.latency)


def _loop(bundle: Bundle, speed: float | None) -> DecisionLoop:
    """A decision loop. At full speed the RAN waits for it, so no decision is late, and a run repeats exactly."""
    return DecisionLoop(bundle, guard_config=GuardConfig(deadline_us=None) if speed is None else GuardConfig())


def _over_grpc(channel: ChannelTrace, policy: str, settings: Settings, progress: Progress) -> _Side:
    node = E2Node(settings.listen)
    process = None
    try:
        if settings.external is None:
            process = XappProcess(node, policy, deadline=settings.speed is not None)
        else:
            settings.external(node.port)
            while not node.wait_for_subscriber(1.0):
                pass
        controller = OverGrpc(node, lockstep=settings.speed is None)
        record = _closed_loop(channel, settings, controller, progress, settings.speed)
        controller.finish()
        node.end()
        if process is not None:
            stats = _counters(process.finish())
        else:
            # An xApp started by hand prints its counters itself; here is known what it answered.
            stats = _counters({"indications": controller.answered, "decisions": controller.decisions, "native": 0})
    except BaseException:
        if process is not None:
            process.kill()
        node.end(grace_s=0)
        raise
    dropped = Counter(stats["dropped"]) + node.refused + Counter(unanswered=controller.unanswered)
    return _Side(record, {**stats, "dropped": dict(sorted(dropped.items()))}, controller.latency)


def _closed_loop(
    channel: ChannelTrace,
    settings: Settings,
    controller: closed_loop.Controller | None,
    progress: Progress,
    speed: float | None,
) -> RunRecord:
    record, _ = closed_loop.run(
        channel,
        SmoothBler.load(),
        settings.du,
        seed=settings.seed,
        controller=controller,
        max_slots=settings.max_slots,
        speed=speed,
        progress=progress,
    )
    return record


def _facts(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {"name": manifest.name, "version": manifest.version, "digest": manifest.sha256}


def _counters(stats: dict[str, Any]) -> dict[str, Any]:
    """The xApp's counters as the summary holds them."""
    counts = {name: stats[name] for name in ("indications", "decisions", "native")}
    return {**counts, **{name: stats.get(name, {}) for name in ("dropped", "guarded", "noticed", "outcomes", "lost")}}


def _agreement(decided: npt.NDArray[np.float64], logged: npt.NDArray[np.float64]) -> dict[str, Any]:
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
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n")
    os.replace(partial, path)
