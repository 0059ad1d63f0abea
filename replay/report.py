"""The report of a replay: one HTML file that holds everything it shows, plotly.js included, and loads nothing.

    write_closed_loop_report(Path("report.html"), summary, policy, against, latency_us)
    write_open_loop_report(Path("report.html"), summary, log, decided_mcs)

``summary`` is the content of summary.json; the records and arrays are only drawn. Where nothing was sent or measured
the curves have gaps, never zeros. Text from a trace, a log or a bundle is shown as text, whatever it holds.
"""

import math
from importlib import resources
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
from plotly.offline import get_plotlyjs

from distila.replay import report_charts as charts_of
from distila.replay.atomic_file import replacing
from distila.replay.kpi_log import KpiLog
from distila.replay.reasons import explain
from distila.replay.record import RunRecord
from distila.replay.report_charts import AGAINST_COLOUR, DASH, MINUS, POLICY_COLOUR, Chart, signed
from distila.xapp.nr.arrays import Float64Array

# Group: heading, what is said when it is empty, and the count that its shares are of.
_GROUPS: Final = {
    "dropped": ("Indications dropped", "Nothing was dropped: every indication was decided on.", "indications"),
    "guarded": ("UE decisions changed by the guard", "The guard changed no decision.", "decisions"),
    "noticed": ("Noticed, without dropping anything", "Nothing odd was noticed.", None),
    "outcomes": ("What the E2 node did with the UE decisions", "The E2 node reported no outcome.", "answers"),
    "lost": ("Lost on the way", "Nothing was lost on the way.", None),
}


def write_closed_loop_report(
    path: Path, summary: dict[str, Any], policy: RunRecord, against: RunRecord, latency_us: Float64Array
) -> None:
    """Write the report of a closed-loop replay.

    Args:
        path: the HTML file.
        summary: as in summary.json; figures that are None or missing are shown as a dash.
        policy, against: the two runs on the same trace and with the same luck.
        latency_us: how long each decision took, may be empty.
    """
    names = summary["policy"]["name"], summary["against"]["name"]
    charts = [
        *charts_of.over_time(names, policy, against, (summary["settings"].get("du") or {}).get("olla_target_bler")),
        charts_of.mcs_at_sinr(names, policy, against),
        *charts_of.gain_charts(names, policy, against, summary["gain_pct"]),
    ]
    if len(latency_us):
        charts.append(charts_of.latency(np.asarray(latency_us, np.float64), summary.get("latency_us") or {}))
    _write(path, summary, charts, f"{names[0]} against {names[1]}", _verdict(summary), _caveats(summary))


def write_open_loop_report(path: Path, summary: dict[str, Any], log: KpiLog, decided_mcs: Float64Array) -> None:
    """Write the report of an open-loop replay.

    Args:
        path: the HTML file.
        summary: as in summary.json; figures that are None or missing are shown as a dash.
        log: the KPI log that was replayed.
        decided_mcs: [row], the MCS decided in answer to each row; NaN where the UE was left to the DU.
    """
    name, agreement = summary["policy"]["name"], summary.get("agreement") or {}
    logged = log.measured["mcs"]
    charts = [charts_of.mcs_of_ues(name, log, decided_mcs)]
    both = ~np.isnan(logged) & ~np.isnan(decided_mcs)
    if both.any():
        charts.append(charts_of.difference(name, logged[both], decided_mcs[both]))
        if not np.isnan(log.measured["cqi"][both]).all():
            charts.append(charts_of.mcs_at_cqi(name, log.measured["cqi"][both], logged[both], decided_mcs[both]))
    rows, mean = agreement.get("rows_compared"), agreement.get("mean_difference")
    verdict = f"No report of this log holds both a logged MCS and a decision of {name}, so there is nothing to compare."
    if rows and mean is not None:
        share = agreement.get("same_mcs_share")
        same = "" if share is None else f"; the same MCS in {100 * share:.0f} %"
        side = "above" if mean > 0 else "below"
        verdict = f"{name} decides {abs(mean):.2f} MCS {side} what was logged, on average over {rows:,} reports{same}."
    caveat = (
        "The decisions were recorded beside the log and are never scored as if they had been applied: the log knows "
        "only what happened with the MCS that was really used."
    )
    caveats = [caveat]
    if np.isnan(log.measured["cqi"]).all() and np.isnan(log.measured["sinr_db"]).all():
        caveats.append("The log holds no CQI and no SINR: the policy had only HARQ feedback to go by.")
    # What the importer had to assume bears on how far the two MCS can be compared at all.
    caveats += summary["trace"].get("notes") or []
    _write(path, summary, charts, f"{name} beside the log {summary['trace'].get('name', '')}", verdict, caveats)


def _write(
    path: Path, summary: dict[str, Any], charts: list[Chart], title: str, verdict: str, caveats: list[str]
) -> None:
    values = {
        "s": summary,
        "charts": charts,
        "title": title,
        "verdict": verdict,
        "caveats": caveats,
        "groups": _reason_tables(summary),
        "trace_rows": {key: value for key, value in summary["trace"].items() if not isinstance(value, list)},
        # Period and delay are settings of the replay and of its DU: once is enough.
        "settings_rows": {**(summary.get("settings") or {}), **((summary.get("settings") or {}).get("du") or {})},
    }
    write_page(path, values)


def write_page(path: Path, values: dict[str, Any], template: str = '{% extends "page" %}') -> None:
    """Write the page of this report, or another one that keeps its looks: ``template`` fills the blocks of "page"."""
    # All is escaped that the template does not call safe; a figure that is missing becomes a dash.
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(
            {"page": resources.files("distila.replay").joinpath("report.html.j2").read_text("utf-8")}
        ),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, signed=signed)
    colours = {"policy": POLICY_COLOUR, "against": AGAINST_COLOUR}
    text = environment.from_string(template).render(colours=colours, plotly_js=get_plotlyjs(), **values)
    with replacing(path) as partial:
        partial.write_text(text, "utf-8")


def _reason_tables(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Counts by reason with one line on each; the reasons not known are shown as they are."""
    tables = []
    totals = {
        "indications": summary.get("indications", 0) + sum((summary.get("dropped") or {}).values()),
        "decisions": summary.get("decisions", 0),
        "answers": sum((summary.get("outcomes") or {}).values()),
    }
    for group, (heading, when_empty, whole) in _GROUPS.items():
        if group not in summary:
            continue
        if summary[group] is None:
            when_empty = "Not known here: the xApp was started by hand, and printed its own counters."
        rows = []
        for reason, count in sorted((summary[group] or {}).items(), key=lambda item: -item[1]):
            # Trips are no decisions, so they are no share of them.
            share = 100 * count / totals[whole] if whole and totals[whole] and reason != "breaker_tripped" else None
            rows.append({"reason": reason, "count": count, "share": share, "why": explain(group, reason)})
        tables.append({"heading": heading, "when_empty": when_empty, "rows": rows})
    return tables


def _verdict(summary: dict[str, Any]) -> str:
    """The outcome in one sentence; no difference is claimed where the interval holds zero."""
    name, other, gain = summary["policy"]["name"], summary["against"]["name"], summary["gain_pct"]
    mean, (low, high) = gain.get("mean"), gain.get("ci95") or (None, None)
    if mean is None or not math.isfinite(mean):
        return f"{name} cannot be compared with {other}: no data arrived in one of the runs."
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return f"{name} differs from {other} by {signed(mean, 1)} % in goodput; how sure that is cannot be told."
    ues, unit = summary["trace"].get("ues"), gain.get("unit")
    pairs = f"{ues} UEs" if unit == "UE" else f"{unit}, {ues} UE{'' if ues == 1 else 's'}"
    # One decimal, unless it would hide on which side of zero the interval ends.
    digits = 1 if min(abs(low), abs(high)) >= 0.05 else 2
    interval = f"95 % interval {signed(low, digits)} to {signed(high, digits)} %, paired over {pairs}"
    if low <= 0 <= high:
        return (
            f"No difference in goodput can be told between {name} and {other}: {signed(mean, digits)} % ({interval})."
        )
    if low > 0:
        return f"{name} gains {signed(mean, digits)} % goodput over {other} ({interval})."
    return f"{name} loses {abs(mean):.{digits}f} % goodput to {other} ({interval})."


def _caveats(summary: dict[str, Any]) -> list[str]:
    """At which of the two speeds of link adaptation the figures hold, and what the times of the trace mean."""
    settings, trace = summary["settings"], summary["trace"]
    period_ms = settings["period_slots"] * trace["slot_us"] / 1000
    delay_ms = settings["decision_delay_slots"] * trace["slot_us"] / 1000
    timing = f"a report every {period_ms:g} ms, decisions in force {delay_ms:g} ms later"
    if period_ms >= 10:
        lines = [f"Near-RT loop ({timing}), compared with a DU that adapts in every slot."]
    elif settings["period_slots"] <= 2:
        lines = [f"Real-time loop ({timing}). Not a figure for a near-RT RIC, whose period is 10 ms to 1 s."]
    else:
        lines = [f"Faster than a near-RT RIC ({timing}), whose period is 10 ms to 1 s."]
    share = summary.get("applied_share")
    if share is not None and share < _APPLIED_SHARE:
        lines.insert(
            0,
            f"Only {100 * share:.1f} % of the UE reports were answered by a decision that the DU took over. For the"
            " rest the DU was on its own, so this says little about the policy.",
        )
    if settings["decision_delay_slots"] == 0 and settings.get("speed") == "max":
        lines.append("Decisions took effect in the very slot of their report, which no real loop reaches.")
    if trace["slot_is"] != "slot":
        lines.append(f"A slot of this trace is a {trace['slot_is']}: times count those only, not what lay between.")
    return lines


_APPLIED_SHARE = 0.95


def number(value: Any, digits: int = 0) -> str:
    """A number with thousands separators; a dash for what is missing or not finite."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return DASH
    return f"{value:,.{digits}f}".replace("-", MINUS)
