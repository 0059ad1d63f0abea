"""The report of a closed-loop replay: which policy got more goodput, by how much, and at which BLER.

    write_closed_loop_page(Path("report.html"), summary, policy, against, latency_us)

``summary`` is the content of summary.json; the records and latencies are only drawn.
"""

from pathlib import Path
from typing import Final

import numpy as np

from distila.replay import closed_loop_charts as charts_of
from distila.replay.decided import Decided
from distila.replay.page.document import Page
from distila.replay.page.number_text import NOT_DEFINED, counted, setting
from distila.replay.page.palette import AGAINST_COLOUR, POLICY_COLOUR
from distila.replay.page.table import Cell, Column, Row, Table
from distila.replay.page.verdict import Difference, VerdictLine
from distila.replay.record import RunRecord
from distila.replay.replay_sections import write_replay_page
from distila.replay.run_figures import figure_rows
from distila.replay.summary import ClosedLoopSummary
from distila.xapp.nr.arrays import Float64Array

_NEAR_RT_MS: Final = 10
_REAL_TIME_SLOTS: Final = 2


def write_closed_loop_page(
    path: Path, summary: ClosedLoopSummary, policy: RunRecord, against: RunRecord, latency_us: Float64Array
) -> None:
    """Write the report of a closed-loop replay.

    Args:
        path: the HTML file.
        summary: as in summary.json.
        policy, against: the two runs on the same trace and with the same random draws.
        latency_us: duration of each decision [us], may be empty.
    """
    names = summary.policy.name, summary.against.name
    charts = [
        *charts_of.over_time(names, policy, against, summary.settings.du.olla_target_bler),
        charts_of.mcs_at_sinr(names, policy, against),
        *charts_of.gain_charts(names, policy, against, _gain(summary)),
    ]
    if len(latency_us):
        charts.append(charts_of.latency(np.asarray(latency_us, np.float64), summary.latency_us))
    page = Page(
        kind="replay",
        title=f"{names[0]} against {names[1]}",
        eyebrow=f"distila replay · closed loop · {summary.trace.name}",
        verdicts=verdicts(summary),
        caveats=_caveats(summary),
        headline=_headline(summary),
        charts=charts,
    )
    write_replay_page(path, page, summary)


def verdicts(summary: ClosedLoopSummary) -> list[VerdictLine]:
    """What came out, most important first.

    A policy that decided little comes before any figure; where it decided nothing at all, there is nothing to compare.
    """
    few = [VerdictLine("nothing-decided", sentence) for sentence in decided_little(summary)]
    return few if summary.few and not summary.decided else [*few, gain_verdict(summary)]


def decided_little(summary: ClosedLoopSummary) -> list[str]:
    """For each side that decided little or nothing, a sentence that says so and why."""
    return [who_decided(summary, side) for side in (summary, summary.against) if side.few]


def who_decided(summary: ClosedLoopSummary, side: Decided) -> str:
    """Who decided on one side of the comparison: the policy, or the DU, and why."""
    facts = summary.against if side is summary.against else summary.policy
    known = facts.mcs_tables
    return side.sentence(facts.name, None if known is None else (summary.trace.mcs_tables, known))


def gain_verdict(summary: ClosedLoopSummary) -> VerdictLine:
    """The gain in one sentence; it claims a difference only where the whole interval lies on one side of zero."""
    name, other, gain = summary.policy.name, summary.against.name, _gain(summary)
    mean = gain.mean_text(1)
    if mean == NOT_DEFINED:
        return VerdictLine(gain.kind, f"{name} cannot be compared with {other}: one of the runs delivered no data.")
    if gain.kind == "nothing-decided":
        return VerdictLine(
            gain.kind, f"The goodput of {name} differs from that of {other} by {mean}; the interval is not defined."
        )
    unit, ues = summary.gain_pct.unit, counted(summary.trace.ues, "UE")
    pairs = ues if unit == "UE" else f"{unit}, {ues}"
    interval = f"95 % interval {gain.interval_text(1)}, paired over {pairs}"
    if gain.kind == "no-difference":
        sentence = f"The replay shows no difference in goodput between {name} and {other}: {mean}."
    elif gain.kind == "better":
        sentence = f"{name} gains {mean} goodput over {other}."
    else:
        sentence = f"{name} loses {gain.size_text(1)} goodput to {other}."
    return VerdictLine(gain.kind, sentence, interval)


def settings_of_trace(summary: ClosedLoopSummary) -> str:
    """Which settings of the DU stand-in the trace gave, in one sentence; written as `--du` takes them."""
    du = summary.settings.du
    taken = ", ".join(f"{name}={setting(getattr(du, name))}" for name in summary.settings.du_from_trace)
    return f"Settings of the DU stand-in come with the trace: {taken}. They apply unless --du says otherwise."


def _gain(summary: ClosedLoopSummary) -> Difference:
    return Difference.of(summary.gain_pct.mean, summary.gain_pct.ci95)


def _headline(summary: ClosedLoopSummary) -> Table:
    ours, theirs = summary.policy, summary.against
    columns = [
        Column("", text=True),
        Column(ours.name, colour=POLICY_COLOUR),
        Column(theirs.name, colour=AGAINST_COLOUR),
        Column("difference"),
    ]
    rows: list[Row] = [
        [Cell(row.label, unit=row.unit), row.policy, row.against, row.difference] for row in figure_rows(ours, theirs)
    ]
    return Table(columns, rows, label="Figures of both runs")


def _caveats(summary: ClosedLoopSummary) -> list[str]:
    """At which speed of link adaptation the figures hold, and what the times of the trace mean."""
    settings, trace = summary.settings, summary.trace
    period_ms = settings.period_slots * trace.slot_us / 1000
    delay_ms = settings.decision_delay_slots * trace.slot_us / 1000
    timing = f"a report every {period_ms:g} ms, decisions in force {delay_ms:g} ms later"
    if period_ms >= _NEAR_RT_MS:
        lines = [f"Near-RT loop ({timing}), compared with a DU that adapts in every slot."]
    elif settings.period_slots <= _REAL_TIME_SLOTS:
        lines = [f"Real-time loop ({timing}). Not a figure for a near-RT RIC, whose period is 10 ms to 1 s."]
    else:
        lines = [f"Faster than a near-RT RIC ({timing}), whose period is 10 ms to 1 s."]
    for side in (summary.against, summary):
        if side.incomplete and not side.few:
            lines.insert(0, who_decided(summary, side))
    if settings.decision_delay_slots == 0 and settings.speed == "max":
        lines.append("Decisions took effect in the very slot of their report, which no real loop reaches.")
    if settings.du_from_trace:
        lines.append(settings_of_trace(summary))
    if trace.slot_is != "slot":
        lines.append(f"A slot of this trace is a {trace.slot_is}: times count those only, not the pauses between them.")
    return lines
