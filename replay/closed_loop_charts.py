"""The charts of a closed-loop replay; `distila.replay.closed_loop_page` puts them on the page."""

import math
from typing import Final

import numpy as np
import plotly.graph_objects as go

from distila.replay.page.chart import Chart, add_level, new_figure, plain, ratio
from distila.replay.page.number_text import signed
from distila.replay.page.palette import AGAINST, AGAINST_COLOUR, GREY, POLICY, POLICY_COLOUR, Look, faded
from distila.replay.page.verdict import Difference
from distila.replay.record import SINR_EDGES_DB, RunRecord
from distila.replay.summary import Latency
from distila.xapp.nr.arrays import Float64Array, IntArray
from distila.xapp.nr.mcs import NUM_MCS

# First transmissions per point; with fewer, random draws alone move the BLER of a point by more than one percentage
# point.
_SETTLED_TX: Final = 1000
_MOST_POINTS: Final = 100
_MOST_SPEED_CLASSES: Final = 12


def over_time(names: tuple[str, str], policy: RunRecord, against: RunRecord, target_bler: float | None) -> list[Chart]:
    """Goodput and first-transmission BLER over time; bins are merged until random draws no longer hide the curve."""
    bins = policy.num_bins
    settled = _SETTLED_TX / max(1.0, float(np.median(policy.first_tx.sum(axis=0))))
    # However few transmissions there are, ten points are needed to see how they change.
    merge = max(1, min(math.ceil(max(settled, bins / _MOST_POINTS)), bins // 10))
    starts = np.arange(0, bins, merge)
    edges = np.r_[0, policy.end_slot[np.r_[starts[1:], bins] - 1]]
    counts_sent = policy.trace.meta.slot_is != "slot"
    middle = (edges[:-1] + edges[1:]) / 2 * (1.0 if counts_sent else policy.slot_us / 1e6)
    x_title = f"{policy.trace.meta.slot_is} of each UE" if counts_sent else "time [s]"
    goodput = new_figure(x_title, "goodput per UE [Mbit/s]")
    bler = new_figure(x_title, "first-transmission BLER [%]")
    for name, run, look in _runs(names, policy, against):
        counts = run.counts_over_time(starts)
        # Where no UE was scheduled the curve has a gap.
        scheduled = np.where(counts.resource > 0, counts.goodput, np.nan)
        goodput.add_scatter(x=middle, y=scheduled, name=name, line=look.line)
        bler.add_scatter(x=middle, y=100 * counts.first_tx_bler, name=name, line=look.line)
    bler.update_yaxes(rangemode="tozero")
    for figure in (goodput, bler):
        # A point between two gaps has no line to show it.
        alone = len(starts) < 2 or np.isnan(figure.data[0].y).any()
        figure.update_traces(mode="lines+markers" if alone else "lines", marker_size=4)
        figure.update_layout(hovermode="x unified", xaxis_hoverformat=".4~g", yaxis_hoverformat=".4~g")
    each = (
        f"Each point: {edges[1]:,} slots ({edges[1] * policy.slot_us / 1000:g} ms) of all UEs that are scheduled then."
    )
    if (policy.stalled + against.stalled).any():
        each += " Slots without a free HARQ process count as time."
    aim = "NACKs over ACKs and NACKs of first transmissions."
    if target_bler is not None:
        add_level(bler, 100 * target_bler, GREY, "target of the DU's own OLLA", legend=True)
        aim += f" The target of the DU's own OLLA is {100 * target_bler:g} %; another BLER may give more goodput."
    return [
        Chart("goodput", "Goodput over time", each, goodput, wide=False),
        Chart("bler", "First-transmission BLER over time", aim, bler, wide=False),
    ]


def mcs_at_sinr(names: tuple[str, str], policy: RunRecord, against: RunRecord) -> Chart:
    """Mean MCS of first transmissions in each SINR bin, over a map of those of the policy."""
    centre = np.r_[SINR_EDGES_DB, SINR_EDGES_DB[-1] + 1] - 0.5
    used = np.flatnonzero((policy.mcs_at_sinr + against.mcs_at_sinr).sum(axis=1))
    bins = slice(used[0], used[-1] + 1) if len(used) else slice(0, len(centre))
    figure = new_figure("effective SINR of the slot [dB]", "MCS index")
    share = 100 * policy.mcs_at_sinr[bins] / max(1.0, policy.mcs_at_sinr.sum())
    figure.add_heatmap(
        x=centre[bins],
        y=np.arange(NUM_MCS),
        z=np.where(share > 0, share, np.nan).T,
        colorscale=[[0, faded(GREY, 0.06)], [1, faded(GREY, 0.95)]],
        colorbar={
            "title": {"text": "share [%]", "side": "right", "font": {"size": 13}},
            "thickness": 10,
            "outlinewidth": 0,
        },
        hoverongaps=False,
        hovertemplate="%{x} dB, MCS %{y}: %{z:.2f} %<extra></extra>",
    )
    for name, run, look in _runs(names, policy, against):
        count = run.mcs_at_sinr[bins].sum(axis=1)
        figure.add_scatter(
            x=centre[bins],
            y=ratio(run.mcs_at_sinr[bins] @ np.arange(NUM_MCS), count),
            customdata=count,
            name=f"{name}, mean",
            mode="lines+markers" if len(used) < 4 else "lines",
            line={**look.line, "width": 2.5},
            hovertemplate="%{x} dB: mean MCS %{y:.2f}, %{customdata:,} first transmissions",
        )
    caption = (
        f"Lines: mean MCS of the first transmissions at this SINR. Grey: all first transmissions of {names[0]}, in %. "
        "The outermost bins hold everything beyond the axis."
    )
    return Chart("mcs", "MCS at each SINR", caption, figure)


def gain_charts(names: tuple[str, str], policy: RunRecord, against: RunRecord, gain: Difference) -> list[Chart]:
    """Gain of each UE in order, and by speed where the trace knows speeds."""
    ours, theirs = policy.bits.sum(axis=1), against.bits.sum(axis=1)
    pct = 100 * (ratio(ours, theirs) - 1)
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
    caption = f"Each bar is one UE; {better} of {total} {'gets' if better == 1 else 'get'} more with {names[0]}."
    if len(known) < len(pct):
        caption += f" Left out: {len(pct) - len(known)} that received nothing with {names[1]}."
    return Chart("gain", "Gain of each UE", caption, figure, wide=wide)


def _gain_by_speed(
    pct: Float64Array,
    ours: Float64Array,
    theirs: Float64Array,
    speed: Float64Array,
    rows: IntArray,
    labels: list[str],
) -> Chart:
    """Gain of each UE against its speed; where speeds form classes, with the gain of each class as a whole."""
    figure = new_figure("speed [km/h]", "gain in goodput [%]")
    classes = np.unique(speed[rows])
    grouped = len(classes) <= _MOST_SPEED_CLASSES
    x = speed[rows].copy()
    if grouped:
        for place, value in enumerate(classes):
            here = rows[speed[rows] == value]
            # Side by side in the order of the trace, so that no dot hides another.
            x[speed[rows] == value] = place + np.linspace(-0.25, 0.25, len(here) + 2)[1:-1]
            total = 100 * (ours[here].sum() / theirs[here].sum() - 1)
            figure.add_scatter(
                x=[place - 0.36, place + 0.36],
                y=[total, total],
                mode="lines",
                line={"color": POLICY_COLOUR, "width": 3},
                name="all UEs at this speed",
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
        marker={"color": faded(GREY, 0.8), "size": 6},
        customdata=[labels[ue] for ue in rows],
        hovertemplate="%{customdata}: %{y:+.2f} %<extra></extra>",
    )
    return Chart("speed", "Gain by speed", "The same UEs by speed.", figure, wide=False)


def _mark_gain(figure: go.Figure, gain: Difference, legend: bool) -> None:
    if math.isfinite(gain.low) and math.isfinite(gain.high):
        band = {"fillcolor": POLICY_COLOUR, "opacity": 0.22, "line_width": 0, "layer": "below"}
        figure.add_hrect(gain.low, gain.high, **band, name="95 % interval", showlegend=legend)
    if math.isfinite(gain.mean):
        add_level(figure, gain.mean, POLICY_COLOUR, f"all UEs: {signed(gain.mean, 1)} %", legend)


def latency(latency_us: Float64Array, stated: Latency) -> Chart:
    """Histogram of decision times on a logarithmic axis, with the percentiles of the summary where it has them."""
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
        fillcolor=faded(POLICY_COLOUR, 0.45),
        showlegend=False,
        hovertemplate="from %{x:.4~g} µs: %{y:.2f} %<extra></extra>",
    )
    for quantile, found, dash in (("p50", stated.p50, "solid"), ("p99", stated.p99, "dash")):
        value = float(np.percentile(latency_us, int(quantile[1:]))) if found is None else found
        figure.add_scatter(
            x=[value, value],
            y=[0, 1.04 * share.max()],
            mode="lines",
            name=f"{quantile}: {value:,.0f} µs",
            line={"color": GREY, "dash": dash, "width": 2},
            hovertemplate=f"{quantile}: {value:,.1f} µs<extra></extra>",
        )
    ticks = [digit * 10.0**power for power in range(-1, 8) for digit in (1, 2, 5)]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:,g}" for tick in ticks])
    figure.update_yaxes(rangemode="tozero")
    caption = f"{len(latency_us):,} indications, all UEs of each at once; the slowest took {high:,.0f} µs."
    caption += f" Measured: {stated.what}."
    return Chart("latency", "Time to decide", caption, figure)


def _runs(names: tuple[str, str], policy: RunRecord, against: RunRecord) -> list[tuple[str, RunRecord, Look]]:
    """Name, run and look of both sides; what is compared against first, so that the policy is drawn on top."""
    return [(plain(names[1]), against, AGAINST), (plain(names[0]), policy, POLICY)]
