"""One replay, start to end: run the policy and what it is compared with, sum up, write summary.json and report.html."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from distila.replay import closed_loop_page, open_loop, open_loop_page
from distila.replay.closed_loop_page import write_closed_loop_page
from distila.replay.compared_run import (
    TIMED_FROM_TO,
    ComparedRun,
    ReplayOptions,
    decision_loop,
    in_process_run,
    native_run,
    policy_facts,
    remote_run,
    run_config,
)
from distila.replay.decided import Decided
from distila.replay.kpi_log import KpiLog
from distila.replay.open_loop_page import write_open_loop_page
from distila.replay.page.verdict import VerdictLine
from distila.replay.statistics import paired_gain
from distila.replay.summary import (
    AgainstFigures,
    Agreement,
    BlockDelay,
    ClosedLoopSummary,
    GoodputGain,
    Latency,
    LogFacts,
    OpenLoopSummary,
    ReplaySettings,
    RunFigures,
    TraceFacts,
)
from distila.replay.trace import TRACES, ChannelTrace
from distila.xapp.errors import InputError
from distila.xapp.files import check_writable, write_json
from distila.xapp.nr.arrays import Float64Array
from distila.xapp.policy.bundle import DEFAULT_POLICY, load_bundle
from distila.xapp.progress import Progress, no_progress

NATIVE: Final = "native"
"""What a policy is compared with by default: the DU's own OLLA, without an xApp."""
_NATIVE_NAMES: Final = (NATIVE, "olla")
"""The second is its name in distila 0.1; the bundle ``olla`` takes the same decisions."""
_DEFAULT_SETTINGS: Final = ReplayOptions()

Summary = TypeVar("Summary", ClosedLoopSummary, OpenLoopSummary)


def replay_trace(
    trace: str | Path,
    policy: str = DEFAULT_POLICY,
    against: str = NATIVE,
    settings: ReplayOptions = _DEFAULT_SETTINGS,
    out: str | Path | None = None,
) -> ClosedLoopSummary:
    """Closed-loop replay of a channel trace: what a policy gains.

    Args:
        trace: its file, or the name of one that ships, such as ``urban``.
        policy: directory or name of a bundle.
        against: what it is compared with: ``"native"``, the DU's own link adaptation, or another bundle.
        settings: of the DU, the link and the run.
        out: directory for ``summary.json`` and ``report.html``; None: nothing is written.

    Returns:
        What is in ``summary.json``; ``gain_pct`` is the gain in goodput [%] with its 95 % interval, and every field has
        its unit in its description.

    Raises:
        InputError: trace, bundle or a setting cannot be used.
    """
    path = TRACES.find(trace)
    return replay_channel(path, ChannelTrace.load(path), policy, against, settings, None if out is None else Path(out))


def replay_channel(
    path: Path,
    channel: ChannelTrace,
    policy: str,
    against: str,
    settings: ReplayOptions,
    out: Path | None,
    progress: Callable[[str], Progress] = lambda _: no_progress,
) -> ClosedLoopSummary:
    """Closed-loop replay of ``policy`` and of ``against``; writes summary and report into ``out``.

    Args:
        path: file of the trace, for the summary.
        channel: the trace.
        policy: directory or name of a bundle, run through the whole xApp.
        against: `NATIVE`, or another bundle, run in process.
        settings: see `ReplayOptions`; what its ``du`` does not set is taken from the trace, where that does.
        out: directory; None: nothing is written.
        progress: given what is being run, gives the function to call with slots done and in all.

    Raises:
        InputError: a bundle or a setting cannot be used, or the xApp failed.
    """
    du_from_trace = [name for name in channel.meta.du.given() if name not in settings.du.given()]
    settings = replace(settings, du=settings.du.on_top_of(channel.meta.du))
    bundle = load_bundle(policy)
    other = None if against in _NATIVE_NAMES else load_bundle(against)
    valid_slots = run_config(settings.config).loop.valid_for_slots(settings.du.period_slots)
    if settings.du.decision_delay_slots >= valid_slots:
        raise InputError(
            f"a delay of {settings.du.decision_delay_slots} slots: decisions are valid for {valid_slots}, none would"
            " ever take effect; raise loop.valid_for_extra_slots in the xApp's configuration"
        )
    if out is not None:
        check_writable(out)
    title = f"policy {bundle.manifest.name}"
    if settings.transport == "inproc":
        ours = in_process_run(channel, bundle, settings, progress(title))
    else:
        ours = remote_run(channel, policy, bundle, settings, progress(title))
    if other is None:
        theirs = native_run(channel, settings, progress("native OLLA"))
    else:
        theirs = in_process_run(channel, other, settings, progress(f"against {against}"))
    summary = _closed_loop_summary(path, channel, settings, du_from_trace, ours, theirs)
    if out is not None:
        write_json(out / "summary.json", summary)
        write_closed_loop_page(out / "report.html", summary, ours.record, theirs.record, ours.latency.samples_us())
    return summary


def replay_log(
    path: Path,
    log: KpiLog,
    policy: str,
    out: Path,
    config: Path | None = None,
    progress: Progress = no_progress,
) -> OpenLoopSummary:
    """Open-loop replay of a KPI log; writes summary and report into ``out``.

    Raises:
        InputError: the bundle cannot be used.
    """
    bundle = load_bundle(policy)
    check_writable(out)
    loop = decision_loop(bundle, config, speed=None)
    decided, latency = open_loop.run(log, loop, progress)
    stats = loop.stats.summary()
    summary = OpenLoopSummary(
        verdict="",
        **dict(
            Decided.by_loop(
                reports=stats.decisions,
                decided=stats.decisions - (stats.native or 0),
                native=stats.native or 0,
                guarded=stats.guarded,
            )
        ),
        trace=LogFacts(
            path=str(path), **log.meta.model_dump(exclude={"ues"}), ues=len(log.meta.ues), rows=log.num_rows
        ),
        policy=policy_facts(bundle),
        agreement=_agreement(decided, log.measured["mcs"]),
        latency_us=Latency.timed(latency, TIMED_FROM_TO["inproc"]),
        indications=stats.indications,
        decisions=stats.decisions,
        native=stats.native or 0,
        dropped=stats.dropped,
        guarded=stats.guarded or {},
        noticed=stats.noticed or {},
    )
    summary = _with_verdict(summary, open_loop_page.verdicts(summary))
    write_json(out / "summary.json", summary)
    write_open_loop_page(out / "report.html", summary, log, decided)
    return summary


def _closed_loop_summary(
    path: Path,
    channel: ChannelTrace,
    settings: ReplayOptions,
    du_from_trace: list[str],
    ours: ComparedRun,
    theirs: ComparedRun,
) -> ClosedLoopSummary:
    gain = paired_gain(ours.record, theirs.record, np.random.default_rng(settings.seed))
    stats = ours.stats
    summary = ClosedLoopSummary(
        verdict="",
        **dict(ours.decided),
        trace=TraceFacts(
            path=str(path),
            **channel.meta.model_dump(exclude={"ues", "du"}),
            ues=len(channel.meta.ues),
            mcs_tables=sorted({ue.mcs_table for ue in channel.meta.ues}),
            slots=ours.record.num_slots,
        ),
        settings=ReplaySettings(
            period_slots=settings.du.period_slots,
            decision_delay_slots=settings.du.decision_delay_slots,
            seed=settings.seed,
            transport=settings.transport,
            bler=settings.bler,
            speed="max" if settings.speed is None else settings.speed,
            du=settings.du,
            du_from_trace=du_from_trace,
        ),
        policy=RunFigures(**dict(ours.policy), **ours.record.summary(), block_delay_ms=_block_delay(ours)),
        against=AgainstFigures(
            **dict(theirs.policy),
            **theirs.record.summary(),
            block_delay_ms=_block_delay(theirs),
            **dict(theirs.decided),
        ),
        gain_pct=GoodputGain(
            mean=_rounded(gain.mean_pct), ci95=(_rounded(gain.low_pct), _rounded(gain.high_pct)), unit=gain.unit
        ),
        answered_share=round(ours.du.accepted / ours.du.reported, 4) if ours.du.reported else None,
        latency_us=Latency.timed(ours.latency, TIMED_FROM_TO[settings.transport]),
        indications=stats.indications,
        decisions=stats.decisions,
        native=stats.native,
        dropped=stats.dropped,
        guarded=stats.guarded,
        noticed=stats.noticed,
        outcomes=stats.outcomes,
        lost=stats.lost,
    )
    return _with_verdict(summary, closed_loop_page.verdicts(summary))


def _with_verdict(summary: Summary, verdicts: Sequence[VerdictLine]) -> Summary:
    return summary.model_copy(update={"verdict": " ".join(verdict.text for verdict in verdicts)})


def _block_delay(run: ComparedRun) -> BlockDelay:
    slot_us = run.record.slot_us
    delays = run.record.block_delays(run.du.config.block_timing(slot_us)).scaled(slot_us / 1000).percentiles()
    return BlockDelay(p50=_rounded(delays.p50), p95=_rounded(delays.p95), p99=_rounded(delays.p99))


def _rounded(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None


def _agreement(decided: Float64Array, logged: Float64Array) -> Agreement:
    both = ~np.isnan(decided) & ~np.isnan(logged)
    if not both.any():
        return Agreement(rows_compared=0, same_mcs_share=None, mean_difference=None)
    difference = decided[both] - np.round(logged[both])
    return Agreement(
        rows_compared=int(both.sum()),
        same_mcs_share=round(float((difference == 0).mean()), 4),
        mean_difference=round(float(difference.mean()), 3),
    )
