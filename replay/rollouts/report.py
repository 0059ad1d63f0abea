"""The report of a rollout, from its audit log alone: one HTML file with the confidence sequences over time.

write_rollout_report(Path("report.html"), entries)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

import plotly.graph_objects as go

from distila.replay.report import write_page
from distila.replay.report_charts import AGAINST_COLOUR, DASH, GREY, MINUS, POLICY_COLOUR, Chart, new_figure, plain
from distila.xapp.errors import InputError
from distila.xapp.rollout.audit import Entry, replayed, verify
from distila.xapp.rollout.plan import Metric, Plan
from distila.xapp.rollout.verdict import Finding, Verdict

LABELS: Final = {
    "goodput_per_prb": "goodput per PRB",
    "first_tx_bler": "first-transmission BLER",
    "residual_bler": "residual BLER",
    "control_failures": "control failures",
    "decision_latency": "late decisions",
    "worst5_throughput": "throughput of the worst 5 %",
}
_COLOURS: Final = (POLICY_COLOUR, AGAINST_COLOUR, "#2a9d63", "#a04bb0", "#c23b5a", "#6b7280")
_VERDICTS: Final = {
    "promoted": "{who} was promoted",
    "rolled_back": "Rolled back",
    "aborted": "Aborted",
    "held": "Held: neither better nor worse for sure",
    "running": "Still running",
    "paused": "Paused",
}


@dataclass
class _Course:
    """The entries of one rollout, with the interval that each belongs to."""

    plan: Plan
    entries: list[Entry]
    interval: list[int]

    @property
    def last(self) -> Entry:
        return self.entries[-1]

    def evaluations(self) -> list[tuple[int, Entry, Verdict]]:
        """Interval, entry and verdict of every evaluation."""
        return [
            (number, entry, entry.evaluation.verdict)
            for number, entry in zip(self.interval, self.entries, strict=True)
            if entry.evaluation is not None
        ]


def write_rollout_report(path: Path, entries: Sequence[Entry]) -> None:
    """Write the report of the latest rollout of an audit log.

    An altered log is reported on too, with that on top.

    Args:
        path: the HTML file.
        entries: the whole log, oldest first.

    Raises:
        InputError: there is no rollout in the log.
    """
    course = _course(entries)
    plan, last = course.plan, course.last
    evaluations = course.evaluations()
    latest = next((verdict.findings for _, _, verdict in reversed(evaluations) if verdict.findings), [])
    intact, audit = _audit(entries)
    caveats = [*([] if intact else [audit]), *plan.notes()]
    shadow_only = not latest
    charts = [_share_chart(course)]
    if not shadow_only:
        charts += [_sequence_chart(course, metric) for metric in plan.metrics]
    values = {
        "title": f"rollout {plan.name}",
        "eyebrow": f"distila rollout · {last.run} · {len(evaluations)} evaluations",
        "verdict": _verdict(course),
        "caveats": caveats,
        "charts": charts,
        "findings": [_shown(plan, finding) for finding in latest],
        "transitions": [
            {"interval": number, "what": e.what.replace("_", " "), "who": e.who, "why": e.why or DASH}
            for number, e in zip(course.interval, course.entries, strict=True)
            if e.what != "evaluate"
        ],
        "stages": [_stage(plan, number) for number in range(len(plan.stages))],
        "audit": audit,
    }
    template = resources.files("distila.replay.rollouts").joinpath("report.html.j2").read_text("utf-8")
    write_page(path, values, template)


def _course(entries: Sequence[Entry]) -> _Course:
    start = next((entry for entry in reversed(entries) if entry.start is not None), None)
    if start is None or start.start is None:
        raise InputError("audit log: holds no rollout")
    own = list(entries[entries.index(start) :])
    intervals, interval = [], 0
    for entry in own:
        interval += entry.evaluation is not None
        intervals.append(interval)
    return _Course(start.start.plan, own, intervals)


def _verdict(course: _Course) -> str:
    last = course.last
    name = next((v.challenger for _, entry, v in reversed(course.evaluations()) if entry.what == last.what), None)
    text = _VERDICTS.get(last.status, last.status).format(who=name or "The challenger")
    why = last.why if last.what != "evaluate" else ""
    where = course.plan.stages[last.stage].name
    return f"{text} in stage {where}, interval {course.interval[-1]}{': ' + why if why else ''}"


def _audit(entries: Sequence[Entry]) -> tuple[bool, str]:
    try:
        verify(entries)
    except InputError as error:
        return False, f"Do not trust this report: {error}."
    verdicts = replayed(entries)
    differ = [one.seq for one in verdicts if not one.same]
    text = (
        f"{len(entries)} entries, hash chain intact. {len(verdicts)} verdicts were worked out again from their records"
    )
    if differ:
        return False, f"{text}; those of entries {', '.join(map(str, differ[:5]))} differ."
    return True, f"{text}, all to the same result."


def _stage(plan: Plan, number: int) -> dict[str, str]:
    stage = plan.stages[number]
    longest = f" to {stage.max_intervals}" if stage.max_intervals else ""
    return {
        "name": stage.name,
        "shares": ", ".join(f"{arm} {share:g} %" for arm, share in stage.share_pct.items()) or "shadow",
        "control": DASH if stage.shadow else f"{stage.control_share_pct:g} %",
        "intervals": f"{stage.min_intervals}{longest}",
    }


def _metric(plan: Plan, name: str) -> Metric:
    return next(metric for metric in plan.metrics if metric.name == name)


def _unit(metric: Metric) -> tuple[float, str]:
    return (100, "%") if metric.scale == "relative" else (100, "pp")


def _shown(plan: Plan, finding: Finding) -> dict[str, str]:
    metric = _metric(plan, finding.metric)
    factor, unit = _unit(metric)
    share = metric.name not in ("goodput_per_prb", "worst5_throughput")

    def value(x: float | None) -> str:
        return DASH if x is None else f"{100 * x:.3g} %" if share else f"{x:,.4g}"

    def change(x: float | None) -> str:
        return DASH if x is None else f"{factor * x:+.3g} {unit}".replace("-", MINUS)

    return {
        "label": LABELS[metric.name],
        "challenger": finding.challenger,
        "value": value(finding.value),
        "control": value(finding.control),
        "difference": change(finding.difference),
        "low": change(finding.low),
        "high": change(finding.high),
        "margin": f"{factor * metric.margin:g} {unit}",
        "state": finding.state,
    }


def _share_chart(course: _Course) -> Chart:
    """Share of each challenger over time, and what happened."""
    figure = new_figure("evaluation interval", "share of the units [%]")
    plan, length = course.plan, max(course.interval[-1], 1)
    evaluations = course.evaluations()
    for index, arm in enumerate(plan.challengers):
        xs, ys = [0.0], [plan.stages[0].share_pct.get(arm.name, 0.0)]
        gone = False
        for number, entry, verdict in evaluations:
            gone = gone or (entry.what == "roll_back" and verdict.challenger == arm.name)
            share = plan.stages[entry.stage].share_pct.get(arm.name, 0.0)
            if entry.status == "promoted":
                share = 100.0 if verdict.challenger == arm.name else 0.0
            xs.append(float(number))
            ys.append(0.0 if gone or entry.status in ("rolled_back", "aborted") else share)
        figure.add_scatter(
            x=xs,
            y=ys,
            name=plain(arm.name),
            mode="lines",
            line={"color": _COLOURS[index % len(_COLOURS)], "width": 2.5, "shape": "hv"},
        )
    _mark_transitions(figure, course)
    figure.update_xaxes(range=[0, length * 1.02])
    figure.update_yaxes(rangemode="tozero")
    caption = "Share of the units on each challenger. Dotted: stages, and how it ended."
    return Chart("share", "The ramp", caption, figure)


def _mark_transitions(figure: go.Figure, course: _Course) -> None:
    for number, entry in zip(course.interval, course.entries, strict=True):
        if entry.what in ("evaluate", "start"):
            continue
        label = course.plan.stages[entry.stage].name if entry.what == "advance" else entry.what
        figure.add_vline(
            number,
            line={"color": f"rgba({GREY},0.7)", "dash": "dot", "width": 1},
            annotation={"text": plain(label.replace("_", " ")), "font": {"size": 11}, "textangle": 0, "yshift": -4},
            annotation_position="top right" if number < 0.85 * course.interval[-1] else "top left",
        )


def _sequence_chart(course: _Course, metric: Metric) -> Chart:
    """The confidence sequence of one metric, per challenger, with its margin."""
    factor, unit = _unit(metric)
    of = "relative to the control" if metric.scale == "relative" else "absolute"
    figure = new_figure("evaluation interval", f"difference [{'%' if unit == '%' else 'percentage points'}]")
    shown: list[float] = []
    for index, arm in enumerate(course.plan.challengers):
        points = [
            (number, finding.low, finding.difference, finding.high)
            for number, _, verdict in course.evaluations()
            for finding in verdict.findings
            if (finding.challenger, finding.metric) == (arm.name, metric.name)
            and finding.difference is not None
            and finding.low is not None
            and finding.high is not None
        ]
        colour = _COLOURS[index % len(_COLOURS)]
        xs = [number for number, *_ in points]
        low, middle, high = ([factor * point[place] for point in points] for place in (1, 2, 3))
        few = len(points) < 3
        shown += middle + (low + high if few else low[2:] + high[2:])
        band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(x=xs, y=high, **band)
        figure.add_scatter(x=xs, y=low, fill="tonexty", fillcolor=_pale(colour), **band)
        figure.add_scatter(
            x=xs,
            y=middle,
            name=plain(arm.name),
            mode="lines+markers",
            marker={"size": 4},
            line={"color": colour, "width": 2},
            # Two looks or one make no band to see.
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [top - y for top, y in zip(high, middle, strict=True)],
                "arrayminus": [y - bottom for bottom, y in zip(low, middle, strict=True)],
                "visible": few,
                "color": colour,
            },
            customdata=list(zip(low, high, strict=True)),
            hovertemplate="interval %{x}: %{y:+.3g} (%{customdata[0]:+.3g} to %{customdata[1]:+.3g})",
        )
    bad = -metric.margin if metric.better == "higher" else metric.margin
    figure.add_hline(0, line={"color": f"rgba({GREY},0.8)", "width": 1})
    figure.add_hline(
        factor * bad, line={"color": "#c23b3b", "dash": "dash", "width": 1.5}, name="margin", showlegend=True
    )
    _mark_transitions(figure, course)
    shown += [0.0, factor * bad]
    # Sequences start very wide: what matters is near the estimates and the margin.
    spread = max(shown) - min(shown)
    figure.update_yaxes(range=[min(shown) - 0.08 * spread, max(shown) + 0.12 * spread])
    primary = "The primary metric: promoted only when wholly above zero. " if metric.role == "primary" else ""
    side = "below" if metric.better == "higher" else "above"
    caption = f"{primary}Difference to the control, {of}; harm when the band lies wholly {side} the dashed margin."
    return Chart(metric.name, _capital(LABELS[metric.name]), caption, figure, wide=metric.role == "primary")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _pale(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
