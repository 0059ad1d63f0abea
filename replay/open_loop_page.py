"""The report of an open-loop replay: how the policy's MCS differ from those in the log, report by report.

write_open_loop_page(Path("report.html"), summary, log, decided_mcs)
"""

from pathlib import Path

import numpy as np

from distila.replay import open_loop_charts as charts_of
from distila.replay.kpi_log import KpiLog
from distila.replay.page.document import Page
from distila.replay.page.number_text import number, percent, signed
from distila.replay.page.table import Column, Table
from distila.replay.page.verdict import VerdictLine
from distila.replay.replay_sections import write_replay_page
from distila.replay.summary import OpenLoopSummary
from distila.xapp.nr.arrays import Float64Array


def write_open_loop_page(path: Path, summary: OpenLoopSummary, log: KpiLog, decided_mcs: Float64Array) -> None:
    """Write the report of an open-loop replay.

    Args:
        path: the HTML file.
        summary: as in summary.json.
        log: the KPI log that was replayed.
        decided_mcs: [row], the MCS decided in answer to each row; NaN where the UE was left to the DU.
    """
    name, logged = summary.policy.name, log.measured["mcs"]
    charts = [charts_of.mcs_of_ues(name, log, decided_mcs)]
    both = ~np.isnan(logged) & ~np.isnan(decided_mcs)
    if both.any():
        charts.append(charts_of.difference(name, logged[both], decided_mcs[both]))
        if not np.isnan(log.measured["cqi"][both]).all():
            charts.append(charts_of.mcs_at_cqi(name, log.measured["cqi"][both], logged[both], decided_mcs[both]))
    caveats = [
        "The decisions were recorded beside the log and are never scored as if they had been applied: the log shows "
        "only what happened with the MCS that was really used."
    ]
    if np.isnan(log.measured["cqi"]).all() and np.isnan(log.measured["sinr_db"]).all():
        caveats.append("The log holds no CQI and no SINR: the policy decided on HARQ feedback alone.")
    # Where many were left out it is the verdict.
    some_left = [who_decided(summary)] if summary.incomplete and not summary.few else []
    page = Page(
        kind="replay",
        title=f"{name} beside the log {summary.trace.name}",
        eyebrow=f"distila replay · open loop · {summary.trace.name}",
        verdicts=verdicts(summary),
        # The importer's assumptions limit how far the two MCS can be compared at all.
        caveats=[*some_left, *caveats, *summary.trace.notes],
        headline=_headline(summary),
        charts=charts,
    )
    write_replay_page(path, page, summary)


def verdicts(summary: OpenLoopSummary) -> list[VerdictLine]:
    """What came out, most important first: before all a policy that decided little, or nothing."""
    few = [VerdictLine("nothing-decided", sentence) for sentence in decided_little(summary)]
    return few if summary.few and not summary.decided else [*few, _agreement_verdict(summary)]


def decided_little(summary: OpenLoopSummary) -> list[str]:
    """A sentence that says that the policy decided little or nothing, and why; empty where it decided."""
    return [who_decided(summary)] if summary.few else []


def who_decided(summary: OpenLoopSummary) -> str:
    """How many UE reports the policy decided, and why not the others."""
    known = summary.policy.mcs_tables
    tables = None if known is None else ([summary.trace.mcs_table], known)
    return summary.sentence(summary.policy.name, tables)


def _agreement_verdict(summary: OpenLoopSummary) -> VerdictLine:
    """The outcome in one sentence; nothing is decided, since no decision was applied."""
    name, agreement = summary.policy.name, summary.agreement
    mean = agreement.mean_difference
    if not agreement.rows_compared or mean is None:
        sentence = f"Nothing can be compared: no report of this log holds both a logged MCS and a decision of {name}."
        return VerdictLine("nothing-decided", sentence)
    side = "above" if mean > 0 else "below"
    sentence = (
        f"{name} decides {abs(mean):.2f} MCS {side} the logged one, on average over {agreement.rows_compared:,} "
        f"reports; in {percent(agreement.same_mcs_share, 0)} of them both are the same."
    )
    return VerdictLine("nothing-decided", sentence)


def _headline(summary: OpenLoopSummary) -> Table:
    agreement = summary.agreement
    return Table(
        [Column("", text=True), ""],
        [
            ["reports with a logged and a decided MCS", number(agreement.rows_compared)],
            ["share of them with the same MCS", percent(agreement.same_mcs_share)],
            ["mean of decided minus logged MCS", signed(agreement.mean_difference, 2)],
        ],
        label="Agreement of decided and logged MCS",
    )
