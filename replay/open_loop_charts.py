"""The charts of an open-loop replay; `distila.replay.open_loop_page` puts them on the page."""

import math
from typing import Final

import numpy as np

from distila.replay.kpi_log import KpiLog
from distila.replay.page.chart import Chart, new_figure, plain, ratio
from distila.replay.page.palette import AGAINST_COLOUR, POLICY_COLOUR
from distila.xapp.nr.arrays import Float64Array, IntArray
from distila.xapp.nr.mcs import NUM_MCS

_POINTS_PER_UE: Final = 1500
_POINTS_PER_LOG: Final = 150_000
_GAP_PERIODS: Final = 5


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
    mean = ratio(np.add.reduceat(np.where(measured, values, 0.0), starts), count)
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
        f"{name} decides a lower MCS than the log in {low:.0f} % of the reports and a higher one in {high:.0f} %; "
        "a log's mean MCS of a period is rounded."
    )
    return Chart("difference", "Decided minus logged MCS", caption, figure, wide=False)


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
            y=ratio(np.bincount(level, weights=values[known], minlength=16).astype(np.float64), count),
            customdata=count,
            mode="lines+markers",
            name=plain(label),
            line={"color": colour, "width": 2, "dash": dash},
            hovertemplate="CQI %{x}: mean MCS %{y:.2f}, %{customdata:,} reports",
        )
    figure.update_xaxes(dtick=1)
    figure.update_yaxes(rangemode="tozero")
    return Chart("cqi", "MCS at each CQI", "Means over the same reports, logged and decided.", figure, wide=False)
