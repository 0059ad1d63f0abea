"""The charts of the replay report, as plotly figures; `distila.replay.report` puts them on the page.

Colours: one for the policy, one for what it is compared with, grey for everything that is neither. Where nothing was
sent or measured a curve has a gap. Text that comes from a trace or a bundle goes through `plain`, since plotly reads
markup.
"""

import html
import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from distila.replay.kpi_log import KpiLog
from distila.replay.record import SINR_EDGES_DB, RunRecord
from distila.xapp.nr.arrays import Float64Array, IntArray
from distila.xapp.nr.mcs import NUM_MCS

# Told apart by every kind of colour vision and, with the dashes, in grey; the same pair in light and dark.
POLICY_COLOUR: Final = "#1f77b4"
AGAINST_COLOUR: Final = "#d1730b"
GREY: Final = "128,132,140"
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

MINUS: Final = "\u2212"
DASH: Final = "\u2013"
"""Stands where there is no figure."""

_SETTLED_TX: Final = 1000  # first transmissions per point; with fewer, luck alone moves its BLER by more than a point
_MOST_POINTS: Final = 100
_MOST_SPEED_CLASSES: Final = 12
_POINTS_PER_UE: Final = 1500
_POINTS_PER_LOG: Final = 150_000
_GAP_PERIODS: Final = 5


@dataclass
class Chart:
    """A figure with its heading and a caption that says what one sees.

    ``choices`` are names of which one is shown at a time, with two traces each.
    """

    key: str
    title: str
    caption: str
    figure: go.Figure
    wide: bool = True
    choices: list[str] = field(default_factory=list)

    @property
    def data(self) -> str:
        """The figure as JSON that may stand inside a script element."""
        return str(self.figure.to_json()).replace("<", "\\u003c")


def over_time(names: tuple[str, str], policy: RunRecord, against: RunRecord, target_bler: float | None) -> list[Chart]:
    """Goodput and first-transmission BLER over time, bins merged until luck no longer hides the curve."""
    bins = policy.num_bins
    settled = _SETTLED_TX / max(1.0, float(np.median(policy.first_tx.sum(axis=0))))
    # However few transmissions there are, ten points are needed to see a course.
    merge = max(1, min(math.ceil(max(settled, bins / _MOST_POINTS)), bins // 10))
    starts = np.arange(0, bins, merge)
    edges = np.r_[0, policy.end_slot[np.r_[starts[1:], bins] - 1]]
    counts_sent = policy.trace.meta.slot_is != "slot"
    middle = (edges[:-1] + edges[1:]) / 2 * (1.0 if counts_sent else policy.slot_us / 1e6)
    x_title = f"{policy.trace.meta.slot_is} of each UE" if counts_sent else "time [s]"
    goodput = new_figure(x_title, "goodput per UE [Mbit/s]")
    bler = new_figure(x_title, "first-transmission BLER [%]")
    for name, run, style in _runs(names, policy, against):
        sums = {key: np.add.reduceat(getattr(run, key).sum(axis=0), starts) for key in _SUMMED}
        goodput.add_scatter(x=middle, y=_ratio(sums["bits"], sums["slots"] * run.slot_us), name=name, line=style)
        bler.add_scatter(x=middle, y=100 * _ratio(sums["first_fail"], sums["first_tx"]), name=name, line=style)
    bler.update_yaxes(rangemode="tozero")
    for figure in (goodput, bler):
        # A point between two gaps has no line to show it.
        alone = len(starts) < 2 or np.isnan(figure.data[0].y).any()
        figure.update_traces(mode="lines+markers" if alone else "lines", marker_size=4)
        figure.update_layout(hovermode="x unified", xaxis_hoverformat=".4~g", yaxis_hoverformat=".4~g")
    each = f"Each point: {edges[1]:,} slots ({edges[1] * policy.slot_us / 1000:g} ms) of all UEs that are served then."
    aim = "Share of first transmissions that were not decoded."
    if target_bler is not None:
        _level(bler, 100 * target_bler, f"rgb({GREY})", "target of the DU's own OLLA", legend=True)
        aim += f" The DU's own OLLA aims at {100 * target_bler:g} %; a policy may find another trade to be better."
    return [
        Chart("goodput", "Goodput over time", each, goodput, wide=False),
        Chart("bler", "First-transmission BLER over time", aim, bler, wide=False),
    ]


_SUMMED: Final = ("bits", "slots", "first_tx", "first_fail")


def mcs_at_sinr(names: tuple[str, str], policy: RunRecord, against: RunRecord) -> Chart:
    """Mean MCS of first transmissions in each SINR bin, over a map of where the policy's lie."""
    centre = np.r_[SINR_EDGES_DB, SINR_EDGES_DB[-1] + 1] - 0.5
    used = np.flatnonzero((policy.mcs_at_sinr + against.mcs_at_sinr).sum(axis=1))
    bins = slice(used[0], used[-1] + 1) if len(used) else slice(0, len(centre))
    figure = new_figure("effective SINR of the slot [dB]", "MCS index")
    share = 100 * policy.mcs_at_sinr[bins] / max(1.0, policy.mcs_at_sinr.sum())
    figure.add_heatmap(
        x=centre[bins],
        y=np.arange(NUM_MCS),
        z=np.where(share > 0, share, np.nan).T,
        colorscale=[[0, f"rgba({GREY},0.06)"], [1, f"rgba({GREY},0.95)"]],
        colorbar={
            "title": {"text": "share [%]", "side": "right", "font": {"size": 13}},
            "thickness": 10,
            "outlinewidth": 0,
        },
        hoverongaps=False,
        hovertemplate="%{x} dB, MCS %{y}: %{z:.2f} %<extra></extra>",
    )
    for name, run, style in _runs(names, policy, against):
        count = run.mcs_at_sinr[bins].sum(axis=1)
        figure.add_scatter(
            x=centre[bins],
            y=_ratio(run.mcs_at_sinr[bins] @ np.arange(NUM_MCS), count),
            customdata=count,
            name=f"{name}, mean",
            mode="lines+markers" if len(used) < 4 else "lines",
            line={**style, "width": 2.5},
            hovertemplate="%{x} dB: mean MCS %{y:.2f}, %{customdata:,} first transmissions",
        )
    caption = (
        f"Lines: mean MCS of the first transmissions that met this SINR. Grey: where those of {names[0]} lie, in % of "
        "all of them. The outermost bins take what lies beyond."
    )
    return Chart("mcs", "Which MCS met which SINR", caption, figure)


def gain_charts(names: tuple[str, str], policy: RunRecord, against: RunRecord, gain: dict[str, Any]) -> list[Chart]:
    """Gain of each UE in order, and by speed where the trace knows speeds."""
    ours, theirs = policy.bits.sum(axis=1), against.bits.sum(axis=1)
    pct = 100 * (_ratio(ours, theirs) - 1)
    known = np.flatnonzero(~np.isnan(pct))
    if not len(known):
        return []
    ues = policy.trace.meta.ues
    speed = np.array([np.nan if ue.speed_kmh is None else ue.speed_kmh for ue in ues], np.float64)
    moving = known[~np.isnan(speed[known])]
    labels = [plain(u.name) + ("" if u.speed_kmh is None else f", {u.speed_kmh:g} km/h") for u in ues]
    charts = [_gain_in_order(names, pct, known, labels, wide=not len(moving))]
    if len(moving):
        charts.append(_gain_by_speed(pct, ours, theirs, speed, moving, labels))
    margin = 0.08 * max(float(np.ptp(np.r_[pct[known], 0.0])), 0.1)
    span = [min(0.0, float(pct[known].min())) - margin, max(0.0, float(pct[known].max())) + margin]
    for number, chart in enumerate(charts):
        # One scale in both, so that the eye can go across.
        chart.figure.update_yaxes(range=span, zeroline=True, zerolinewidth=1.5)
        _mark_gain(chart.figure, gain, legend=number == 0)
    return charts


def _gain_in_order(names: tuple[str, str], pct: Float64Array, known: IntArray, labels: list[str], wide: bool) -> Chart:
    figure = new_figure("UEs, from least to most gain", "gain in goodput [%]")
    order = known[np.argsort(pct[known], kind="stable")]
    rank = np.arange(1, len(order) + 1)
    sides = [(pct[order] < 0, names[1], AGAINST_COLOUR), (pct[order] >= 0, names[0], POLICY_COLOUR)]
    for side, name, colour in sides:
        if side.any():
            figure.add_bar(
                x=rank[side],
                y=pct[order][side],
                name=plain(f"better with {name}"),
                marker={"color": colour, "line": {"width": 0}},
                customdata=[labels[ue] for ue in order[side]],
                hovertemplate="%{customdata}: %{y:+.2f} %<extra></extra>",
            )
    # A few UEs must not become bars as wide as the page.
    figure.update_layout(bargap=0.15, xaxis={"range": [0.4, max(len(order), 8) + 0.6], "showgrid": False})
    better, total = int((pct[known] > 0).sum()), len(known)
    caption = f"Each bar is one UE; {better} of {total} get{'s' if better == 1 else ''} more with {names[0]}."
    if len(known) < len(pct):
        caption += f" Left out: {len(pct) - len(known)} that got nothing with {names[1]}."
    return Chart("gain", "Who gains and who loses", caption, figure, wide=wide)


def _gain_by_speed(
    pct: Float64Array,
    ours: Float64Array,
    theirs: Float64Array,
    speed: Float64Array,
    rows: IntArray,
    labels: list[str],
) -> Chart:
    """Gain of each UE against its speed; where there are classes of speed, with what each gains as a whole."""
    figure = new_figure("speed [km/h]", "gain in goodput [%]")
    classes = np.unique(speed[rows])
    grouped = len(classes) <= _MOST_SPEED_CLASSES
    x = speed[rows].copy()
    if grouped:
        for place, value in enumerate(classes):
            here = rows[speed[rows] == value]
            # Side by side in the order of the trace: no dot hides another, and no chance is needed.
            x[speed[rows] == value] = place + np.linspace(-0.25, 0.25, len(here) + 2)[1:-1]
            total = 100 * (ours[here].sum() / theirs[here].sum() - 1)
            figure.add_scatter(
                x=[place - 0.36, place + 0.36],
                y=[total, total],
                mode="lines",
                line={"color": POLICY_COLOUR, "width": 3},
                name="all UEs of this speed",
                showlegend=place == 0,
                hovertemplate=f"{value:g} km/h, {len(here)} UEs together: {signed(total, 2)} %<extra></extra>",
            )
        names = [f"{value:g}" for value in classes]
        figure.update_xaxes(tickvals=np.arange(len(classes)), ticktext=names, showgrid=False)
        figure.update_xaxes(range=[-0.6, len(classes) - 0.4])
    figure.add_scatter(
        x=x,
        y=pct[rows],
        mode="markers",
        name="one UE",
        marker={"color": f"rgba({GREY},0.8)", "size": 6},
        customdata=[labels[ue] for ue in rows],
        hovertemplate="%{customdata}: %{y:+.2f} %<extra></extra>",
    )
    return Chart("speed", "Gain by speed", "The same UEs, by how fast they move.", figure, wide=False)


def _mark_gain(figure: go.Figure, gain: dict[str, Any], legend: bool) -> None:
    mean, (low, high) = gain.get("mean"), gain.get("ci95") or (None, None)
    if low is not None and high is not None and math.isfinite(low) and math.isfinite(high):
        band = {"fillcolor": POLICY_COLOUR, "opacity": 0.22, "line_width": 0, "layer": "below"}
        figure.add_hrect(low, high, **band, name="95 % interval", showlegend=legend)
    if mean is not None and math.isfinite(mean):
        _level(figure, mean, POLICY_COLOUR, f"all UEs: {signed(mean, 1)} %", legend)


def latency(latency_us: Float64Array, stated: dict[str, Any]) -> Chart:
    """Histogram of decision times on a logarithmic axis; the percentiles are the summary's where it has them."""
    latency_us = np.maximum(latency_us, 0.1)
    low, high = float(latency_us.min()), float(latency_us.max())
    edges = np.geomspace(low * 0.97, high * 1.03, max(8, min(60, 4 * math.isqrt(len(latency_us)))))
    share = 100 * np.histogram(latency_us, edges)[0] / len(latency_us)
    figure = new_figure("time to decide [µs], logarithmic", "share of indications [%]")
    # An outline over the edges: bars on a logarithmic axis would come out with unequal widths.
    figure.add_scatter(
        x=np.r_[edges[0], edges],
        y=np.r_[0, share, 0],
        mode="lines",
        line={"shape": "hv", "width": 1, "color": POLICY_COLOUR},
        fill="tozeroy",
        fillcolor="rgba(31,119,180,0.45)",
        showlegend=False,
        hovertemplate="from %{x:.4~g} µs: %{y:.2f} %<extra></extra>",
    )
    for quantile, dash in (("p50", "solid"), ("p99", "dash")):
        value = stated.get(quantile)
        value = float(np.percentile(latency_us, int(quantile[1:]))) if value is None else value
        figure.add_scatter(
            x=[value, value],
            y=[0, 1.04 * share.max()],
            mode="lines",
            name=f"{quantile}: {value:,.0f} µs",
            line={"color": f"rgb({GREY})", "dash": dash, "width": 2},
            hovertemplate=f"{quantile}: {value:,.1f} µs<extra></extra>",
        )
    ticks = [digit * 10.0**power for power in range(-1, 8) for digit in (1, 2, 5)]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:,g}" for tick in ticks])
    figure.update_yaxes(rangemode="tozero")
    what = str(stated.get("what") or "").strip().rstrip(".")
    caption = f"{len(latency_us):,} indications, all UEs of each at once; the slowest took {high:,.0f} µs."
    caption += f" Measured: {what}." if what else ""
    return Chart("latency", "How long a decision takes", caption, figure)


def mcs_of_ues(name: str, log: KpiLog, decided_mcs: Float64Array) -> Chart:
    """Logged and decided MCS over time, two traces per UE of which one pair is shown; long logs as means."""
    figure = new_figure("time since the UE's first report [s]", "MCS index")
    most = max(50, min(_POINTS_PER_UE, _POINTS_PER_LOG // len(log.meta.ues)))
    names: list[str] = []
    averaged = 0
    for ue, ue_name in enumerate(log.meta.ues):
        rows = np.flatnonzero(log.ue == ue)
        if not len(rows):
            continue
        averaged = max(averaged, math.ceil(len(rows) / most))
        time_s = (log.timestamp_us[rows] - log.timestamp_us[rows[0]]) / 1e6
        gaps = np.flatnonzero(np.diff(time_s) > _GAP_PERIODS * log.meta.period_us / 1e6) + 1
        first = not names
        pair = ((log.measured["mcs"], "logged", AGAINST_COLOUR), (decided_mcs, f"decided by {name}", POLICY_COLOUR))
        for values, label, colour in pair:
            x, y = _thinned(time_s, values[rows], gaps, most)
            figure.add_scatter(
                x=x.astype(np.float32),
                y=y.astype(np.float32),
                mode="lines+markers",
                name=plain(label),
                line={"color": colour, "width": 1, "dash": "dot" if colour == AGAINST_COLOUR else "solid"},
                marker_size=3,
                visible=first,
            )
        names.append(ue_name)
    figure.update_layout(hovermode="x unified", xaxis_hoverformat=".6~g", yaxis_hoverformat=".3~g")
    figure.update_yaxes(range=[-0.5, NUM_MCS - 0.5])
    caption = "Gaps: nothing was sent or logged, or the UE was left to the DU."
    if averaged > 1:
        caption += f" Long logs are drawn as means of up to {averaged} reports."
    return Chart("ue", "Logged and decided MCS over time", caption, figure, choices=names)


def _thinned(
    time_s: Float64Array, values: Float64Array, gaps: IntArray, most: int
) -> tuple[Float64Array, Float64Array]:
    """At most about ``most`` points, each the mean over consecutive reports, with a NaN between stretches of time."""
    size = math.ceil(len(time_s) / most)
    starts = np.unique(np.r_[np.arange(0, len(time_s), size), gaps])
    measured = ~np.isnan(values)
    count = np.add.reduceat(measured.astype(np.float64), starts)
    mean = _ratio(np.add.reduceat(np.where(measured, values, 0.0), starts), count)
    breaks = np.searchsorted(starts, gaps)
    return np.insert(time_s[starts], breaks, time_s[starts][breaks]), np.insert(mean, breaks, np.nan)


def difference(name: str, logged: Float64Array, decided: Float64Array) -> Chart:
    """Histogram of decided minus logged MCS."""
    delta = np.rint(decided - logged).astype(np.int64)
    values = np.arange(min(delta.min(), -3), max(delta.max(), 3) + 1)
    share = 100 * np.bincount(delta - values[0], minlength=len(values)) / len(delta)
    figure = new_figure("decided minus logged MCS", "share of reports [%]")
    figure.add_bar(
        x=values,
        y=share,
        marker={"color": POLICY_COLOUR, "line": {"width": 0}},
        showlegend=False,
        hovertemplate="%{x:+d} MCS: %{y:.1f} %<extra></extra>",
    )
    figure.update_layout(bargap=0.12, xaxis={"showgrid": False, "zeroline": True})
    low, high = 100 * (delta < 0).mean(), 100 * (delta > 0).mean()
    caption = (
        f"{name} is more cautious than the log in {low:.0f} % of the reports and bolder in {high:.0f} %; "
        "a log's mean MCS of a period is rounded."
    )
    return Chart("difference", "How far decisions are from the log", caption, figure, wide=False)


def mcs_at_cqi(name: str, cqi: Float64Array, logged: Float64Array, decided: Float64Array) -> Chart:
    """Mean logged and decided MCS at each CQI, over the same reports."""
    figure = new_figure("CQI", "mean MCS index")
    known = ~np.isnan(cqi)
    level = np.rint(cqi[known]).astype(np.int64)
    count = np.bincount(level, minlength=16).astype(np.float64)
    pair = ((logged, "logged", AGAINST_COLOUR, "dot"), (decided, f"decided by {name}", POLICY_COLOUR, "solid"))
    for values, label, colour, dash in pair:
        figure.add_scatter(
            x=np.arange(16),
            y=_ratio(np.bincount(level, weights=values[known], minlength=16).astype(np.float64), count),
            customdata=count,
            mode="lines+markers",
            name=plain(label),
            line={"color": colour, "width": 2, "dash": dash},
            hovertemplate="CQI %{x}: mean MCS %{y:.2f}, %{customdata:,} reports",
        )
    figure.update_xaxes(dtick=1)
    figure.update_yaxes(rangemode="tozero")
    return Chart("cqi", "MCS at each CQI", "Means over the same reports, logged and decided.", figure, wide=False)


def signed(value: float | None, digits: int) -> str:
    """A number with its sign, a proper minus, and a dash where there is none."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{value:+,.{digits}f}"
    # "-0.0" would claim a direction that the digits do not show.
    return f"{0:.{digits}f}" if float(text.replace(",", "")) == 0 else text.replace("-", MINUS)


def _runs(names: tuple[str, str], policy: RunRecord, against: RunRecord) -> list[tuple[str, RunRecord, dict[str, Any]]]:
    """What is compared against first, so that the policy is drawn on top."""
    return [
        (plain(names[1]), against, {"color": AGAINST_COLOUR, "width": 2, "dash": "dot"}),
        (plain(names[0]), policy, {"color": POLICY_COLOUR, "width": 2}),
    ]


def _level(figure: go.Figure, value: float, colour: str, name: str, legend: bool) -> None:
    figure.add_hline(value, line={"color": colour, "dash": "dash", "width": 1.5}, name=name, showlegend=legend)


def new_figure(x_title: str, y_title: str) -> go.Figure:
    """An empty figure that looks like all others of the reports, on light and on dark."""
    axis = {"gridcolor": f"rgba({GREY},0.2)", "zerolinecolor": f"rgba({GREY},0.6)", "zeroline": False}
    axis |= {"linecolor": f"rgba({GREY},0.6)", "automargin": True, "title_standoff": 10, "title_font_size": 13}
    layout = {
        "template": None,
        "height": 340,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "font": {"family": _FONT, "size": 13},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
        "hoverlabel": {"bgcolor": "#fff", "font": {"color": "#1c2026", "family": _FONT}},
        "xaxis": {**axis, "title_text": x_title, "showline": True, "showgrid": False},
        "yaxis": {**axis, "title_text": y_title},
    }
    return go.Figure(layout=layout)


def plain(text: str) -> str:
    """Text for plotly, which would otherwise take markup in it for formatting and links."""
    return html.escape(text, quote=False)


def _ratio(numerator: Float64Array, denominator: Float64Array) -> Float64Array:
    """Quotient, NaN where there is nothing to divide by: a gap is no zero."""
    quotient = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
