"""The report of a rollout, from its audit log alone: one HTML file with the confidence sequences over time.

write_rollout_page(Path("report.html"), entries)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

import plotly.graph_objects as go

from distila.replay.page.chart import Chart, add_level, new_figure, pair_up, plain
from distila.replay.page.document import Page, write_page
from distila.replay.page.number_text import DASH, counted, signed, significant
from distila.replay.page.palette import GREY, LIMIT_COLOUR, faded, series_look
from distila.replay.page.table import Cell, Column, Table
from distila.replay.page.verdict import Kind, VerdictLine
from distila.xapp.errors import InputError
from distila.xapp.rollout.audit import Entry, replayed, verify
from distila.xapp.rollout.machine import event_words
from distila.xapp.rollout.metric_text import (
    FINDING_TEXTS,
    METRIC_NAMES,
    VALUE_UNITS,
    difference_digits,
    difference_unit,
    margin_text,
)
from distila.xapp.rollout.plan import Metric, Plan
from distila.xapp.rollout.verdict import Finding, Verdict

_VERDICTS: Final[dict[str, tuple[Kind, str]]] = {
    "promoted": ("better", "{who} was promoted"),
    "rolled_back": ("worse", "{who} was rolled back"),
    "aborted": ("nothing-decided", "The rollout was aborted"),
    "held": ("nothing-decided", "The rollout is held"),
    "running": ("nothing-decided", "The rollout is running"),
    "paused": ("nothing-decided", "The rollout is paused"),
}
_KINDS: Final[dict[str, Kind | None]] = {
    "harm": "worse",
    "gain": "better",
    "safe": None,
    "open": "nothing-decided",
    "waiting": "nothing-decided",
    "missing": "nothing-decided",
}
_TEMPLATE: Final = resources.files("distila.replay.rollouts").joinpath("rollout_page.html.j2")


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


def write_rollout_page(path: Path, entries: Sequence[Entry]) -> None:
    """Write the report of the latest rollout of an audit log.

    An altered log gets a report too, with a warning at the top.

    Args:
        path: the HTML file.
        entries: the whole log, oldest first.

    Raises:
        InputError: there is no rollout in the log.
    """
    course = _course(entries)
    plan, evaluations = course.plan, course.evaluations()
    findings = next((verdict.findings for _, _, verdict in reversed(evaluations) if verdict.findings), [])
    intact, audit = _audit(entries)
    charts = [_share_chart(course)]
    if findings:
        charts += [_sequence_chart(course, metric) for metric in plan.metrics]
    page = Page(
        kind="rollout",
        title=f"rollout {plan.name}",
        eyebrow=f"distila rollout · {course.last.run} · {counted(len(evaluations), 'evaluation')}",
        verdicts=[_verdict(course)],
        caveats=[*([] if intact else [audit]), *plan.notes()],
        headline=_findings_table(plan, findings) if findings else None,
        charts=pair_up(charts),
    )
    values = {"transitions": _transitions(course), "stages": _stages(plan), "audit": audit}
    write_page(path, page, _TEMPLATE.read_text("utf-8"), values)


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


def _verdict(course: _Course) -> VerdictLine:
    last = course.last
    verdict = next((v for _, entry, v in reversed(course.evaluations()) if entry.what == last.what), None)
    kind, text = _VERDICTS[last.status]
    name = verdict.challenger if verdict and verdict.challenger else "The challenger"
    where = f"in stage {course.plan.stages[last.stage].name}, after {counted(course.interval[-1], 'interval')}"
    sentence = f"{text.format(who=name)} {where}"
    decisive = _decisive(course.plan, last, verdict)
    if decisive is not None:
        metric, finding = decisive
        low, high = _change(metric, finding.low), _change(metric, finding.high)
        difference = _change(metric, finding.difference, difference_unit(metric))
        found = f"{METRIC_NAMES[metric.name]} differs from the control's by {difference}"
        return VerdictLine(
            kind, f"{sentence}: {found}.", f"Confidence sequence {low} to {high} {difference_unit(metric)}"
        )
    why = f": {last.why}" if last.why and last.what != "evaluate" else ""
    return VerdictLine(kind, f"{sentence}{why}.")


def _decisive(plan: Plan, last: Entry, verdict: Verdict | None) -> tuple[Metric, Finding] | None:
    """The finding that a rollback or a promotion rests on; None where an operator decided."""
    if verdict is None or last.what not in ("roll_back", "promote"):
        return None
    for finding in verdict.findings:
        metric = plan.metric(finding.metric)
        decisive = finding.state == "harm" if last.what == "roll_back" else metric.role == "primary"
        if finding.challenger == verdict.challenger and decisive:
            return metric, finding
    return None


def _audit(entries: Sequence[Entry]) -> tuple[bool, str]:
    try:
        verify(entries)
    except InputError as error:
        return False, f"Do not trust this report: {error}."
    verdicts = replayed(entries)
    differ = [one.seq for one in verdicts if not one.same]
    text = f"{len(entries)} entries, hash chain intact. {len(verdicts)} verdicts were computed again from their records"
    if differ:
        return False, f"{text}; those of entries {', '.join(map(str, differ[:5]))} differ."
    return True, f"{text}, all to the same result."


def _transitions(course: _Course) -> Table:
    columns = [
        Column("interval"), Column("event", text=True), Column("ordered by", text=True), Column("reason", text=True),
    ]  # fmt: skip
    rows = [
        [str(number), event_words(entry.what), entry.who, entry.why or DASH]
        for number, entry in zip(course.interval, course.entries, strict=True)
        if entry.what != "evaluate"
    ]
    return Table(columns, rows, style="list", label="What happened")


def _stages(plan: Plan) -> Table:
    columns = [Column("stage"), Column("challengers", text=True), Column("control"), Column("intervals")]
    rows = []
    for stage in plan.stages:
        shares = (
            ", ".join(f"{arm} {share:g} %" for arm, share in stage.share_pct.items()) or "shadow: no decision is sent"
        )
        control = DASH if stage.shadow else f"{stage.control_share_pct:g} %"
        longest = f" to {stage.max_intervals}" if stage.max_intervals else " or more"
        rows.append([stage.name, shares, control, f"{stage.min_intervals}{longest}"])
    return Table(columns, rows, style="list", label="Stages of the plan")


def _change(metric: Metric, difference: float | None, unit: str = "") -> str:
    return signed(None if difference is None else 100 * difference, difference_digits(metric), unit)


def _findings_table(plan: Plan, findings: Sequence[Finding]) -> Table:
    columns = [
        Column("latest evaluation", text=True),
        Column("challenger"),
        Column("control"),
        Column("difference", note="confidence sequence"),
        Column("margin"),
        Column("finding", text=True),
    ]
    rows = [_finding_row(plan.metric(finding.metric), finding) for finding in findings]
    return Table(columns, rows, style="grid", label="Findings of the latest evaluation")


def _finding_row(metric: Metric, finding: Finding) -> list[Cell | str]:
    def value(x: float | None) -> str:
        if metric.name in VALUE_UNITS:
            return significant(x, 4, VALUE_UNITS[metric.name])
        return significant(None if x is None else 100 * x, 3, "%")

    unit = difference_unit(metric)
    sequence = ""
    if finding.low is not None or finding.high is not None:
        sequence = f"{_change(metric, finding.low)} to {_change(metric, finding.high)}"
    return [
        Cell(METRIC_NAMES[metric.name], note=finding.challenger),
        value(finding.value),
        value(finding.control),
        Cell(_change(metric, finding.difference, unit), note=sequence) if finding.difference is not None else DASH,
        margin_text(metric),
        Cell(FINDING_TEXTS[finding.state], kind=_KINDS[finding.state]),
    ]


def _share_chart(course: _Course) -> Chart:
    """Share of each challenger over time, with the transitions."""
    figure = new_figure("evaluation interval", "share of the units [%]")
    plan, length = course.plan, max(course.interval[-1], 1)
    evaluations = course.evaluations()
    for index, arm in enumerate(plan.challengers):
        xs, ys = [0.0], [plan.stages[0].share_pct.get(arm.name, 0.0)]
        rolled_back = False
        for number, entry, verdict in evaluations:
            rolled_back = rolled_back or (entry.what == "roll_back" and verdict.challenger == arm.name)
            share = plan.stages[entry.stage].share_pct.get(arm.name, 0.0)
            if entry.status == "promoted":
                share = 100.0 if verdict.challenger == arm.name else 0.0
            xs.append(float(number))
            ys.append(0.0 if rolled_back or entry.status in ("rolled_back", "aborted") else share)
        figure.add_scatter(
            x=xs,
            y=ys,
            name=plain(arm.name),
            mode="lines",
            line={**series_look(index).line, "width": 2.5, "shape": "hv"},
        )
    _mark_transitions(figure, course)
    figure.update_xaxes(range=[0, length * 1.02])
    figure.update_yaxes(rangemode="tozero")
    caption = "Share of the units on each challenger. Dotted: where a stage began, and where the rollout ended."
    return Chart("share", "Share of each challenger", caption, figure)


def _mark_transitions(figure: go.Figure, course: _Course) -> None:
    for number, entry in zip(course.interval, course.entries, strict=True):
        if entry.what in ("evaluate", "start"):
            continue
        label = course.plan.stages[entry.stage].name if entry.what == "advance" else event_words(entry.what)
        figure.add_vline(
            number,
            line={"color": faded(GREY, 0.7), "dash": "dot", "width": 1},
            annotation={"text": plain(label), "font": {"size": 11}, "textangle": 0, "yshift": -4},
            annotation_position="top right" if number < 0.85 * course.interval[-1] else "top left",
        )


def _sequence_chart(course: _Course, metric: Metric) -> Chart:
    """The confidence sequence of one metric, per challenger, with its margin."""
    unit = difference_unit(metric)
    of = "relative to the control" if metric.scale == "relative" else "absolute"
    figure = new_figure("evaluation interval", f"difference [{unit}]")
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
        look = series_look(index)
        xs = [number for number, *_ in points]
        low, middle, high = ([100 * point[place] for point in points] for place in (1, 2, 3))
        few = len(points) < 3
        shown += middle + (low + high if few else low[2:] + high[2:])
        band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(x=xs, y=high, **band)
        figure.add_scatter(x=xs, y=low, fill="tonexty", fillcolor=faded(look.colour, 0.18), **band)
        figure.add_scatter(
            x=xs,
            y=middle,
            name=plain(arm.name),
            mode="lines+markers",
            marker={"size": 5, "symbol": look.symbol},
            line=look.line,
            # One or two points make no band.
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [top - y for top, y in zip(high, middle, strict=True)],
                "arrayminus": [y - bottom for bottom, y in zip(low, middle, strict=True)],
                "visible": few,
                "color": look.colour,
            },
            customdata=list(zip(low, high, strict=True)),
            hovertemplate="interval %{x}: %{y:+.3g} (%{customdata[0]:+.3g} to %{customdata[1]:+.3g})",
        )
    bad = -metric.margin if metric.better == "higher" else metric.margin
    figure.add_hline(0, line={"color": faded(GREY, 0.8), "width": 1})
    add_level(figure, 100 * bad, LIMIT_COLOUR, "margin")
    _mark_transitions(figure, course)
    shown += [0.0, 100 * bad]
    # Sequences start very wide; the axis shows what is near the estimates and the margin.
    spread = max(shown) - min(shown)
    figure.update_yaxes(range=[min(shown) - 0.08 * spread, max(shown) + 0.12 * spread])
    side = "below" if metric.better == "higher" else "above"
    caption = (
        f"Difference from the control, {of}. A challenger is rolled back when its band lies wholly {side} the margin."
    )
    if metric.role == "primary":
        caption += " It is promoted only when its band lies wholly on the good side of zero."
    return Chart(metric.name, _capital(METRIC_NAMES[metric.name]), caption, figure, wide=metric.role == "primary")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
