"""The charts of the benchmark's second page; `distila.training.benchmark.global_page` puts them there.

What is null in the results is left out, never drawn as zero.
"""

import math
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from distila.replay.page.chart import Chart, new_figure, pair_up, plain
from distila.replay.page.number_text import signed
from distila.replay.page.palette import AGAINST_COLOUR, GREY, Look, faded
from distila.replay.page.verdict import Difference
from distila.training.benchmark.results import E2Sweep, FileDelays, SpeedGain
from distila.training.benchmark.view import UNSEEN, BenchmarkView, Figure, difference, figure_of

_TARGET_BLER_PCT: Final = 10
_GENIE_SHARE_SHOWN: Final = (-100.0, 200.0)
_NOTHING: Final = [math.nan]  # a trace without points that has an entry in the legend
_LEVEL: Final = {"color": GREY, "dash": "dash", "width": 1.5}


def overview(bench: BenchmarkView) -> list[Chart]:
    """All families side by side."""
    charts = [_gain(bench), _goodput(bench), _bler(bench), _worst_links(bench)]
    charts += [chart for chart in (_genie_share(bench), _file_delay(bench)) if chart is not None]
    return pair_up(charts)


def _gain(bench: BenchmarkView) -> Chart:
    others = bench.others
    step = 15 if len(others) <= 6 else 12
    figure = _by_family(bench, f"gain in goodput over {plain(bench.reference)} [%]", len(others) * step + 12)
    _zero_line(figure, bench.reference)
    for policy, shift in _lanes(others, 0.8):
        look = bench.looks[policy]
        _key(figure, bench, policy)
        rows = [(bench.gain(family, policy), family, place) for place, family in enumerate(bench.families)]
        rows = [row for row in rows if not math.isnan(row[0].mean)]
        figure.add_scatter(
            x=[gain.mean for gain, _, _ in rows],
            y=[place + shift for _, _, place in rows],
            error_x=_interval([gain for gain, _, _ in rows], look.colour),
            mode="markers",
            name=plain(policy),
            legendgroup=policy,
            showlegend=False,
            marker={
                "color": look.colour,
                "size": 9,
                "line": {"width": 1.5, "color": look.colour},
                "symbol": [look.symbol + ("" if g.kind in ("better", "worse") else "-open") for g, _, _ in rows],
            },
            customdata=[[plain(family), _with_interval(gain)] for gain, family, _ in rows],
            hovertemplate="%{customdata[0]}: %{customdata[1]}",
        )
    caption = (
        f"Gain over {bench.reference} on the same links, with 95 % intervals. Hollow: the interval includes zero or is "
        f"missing, so the difference is not significant.{_unseen_note(bench)}"
    )
    return Chart("gain", "Gain by family", caption, figure)


def _goodput(bench: BenchmarkView) -> Chart:
    caption = (
        "Mean over links, bit/s per hertz allocated; families differ in channel and antennas, so compare in a row."
    )
    return _dots(bench, "goodput", "Goodput", caption, "goodput [bit/s/Hz]", "goodput", 1.0, ".3f")


def _bler(bench: BenchmarkView) -> Chart:
    caption = (
        f"NACKs over ACKs and NACKs of first transmissions. The line at {_TARGET_BLER_PCT} % is the usual target; "
        "another one may give more goodput."
    )
    chart = _dots(
        bench, "bler", "First-transmission BLER", caption, "first-transmission BLER [%]", "first_tx_bler", 100.0, ".2f"
    )
    chart.figure.add_vline(_TARGET_BLER_PCT, line=_LEVEL)
    return chart


def _worst_links(bench: BenchmarkView) -> Chart:
    caption = "Goodput that all but the worst 5 % of the links exceed."
    return _dots(bench, "p5", "5th percentile of the links", caption, "goodput [bit/s/Hz]", "goodput_p5", 1.0, ".3f")


def _genie_share(bench: BenchmarkView) -> Chart | None:
    """Share of the genie's gain that each policy reaches; None where no genie ran."""
    cells = [(family, policy) for family in bench.families for policy in bench.policies]
    shares = {cell: bench.value(*cell, "genie_share_pct") for cell in cells}
    if all(math.isnan(share) for (_, policy), share in shares.items() if policy != bench.reference):
        return None
    caption = f"0 % is {bench.reference}, 100 % the genie, which knows each slot's error rates before it is sent."
    low, high = _GENIE_SHARE_SHOWN
    beyond = [
        f"{policy} in {family} ({signed(share, 0)} %)"
        for (family, policy), share in shares.items()
        if not math.isnan(share) and not low <= share <= high
    ]
    if beyond:
        caption += f" Beyond the axis, where the genie itself gains little: {', '.join(beyond)}."
    title, x_title = "Share of the genie's gain", "share of the genie's gain [%]"
    chart = _dots(bench, "genie", title, caption, x_title, "genie_share_pct", 1.0, ".0f")
    known = [share for share in shares.values() if low <= share <= high]
    # A share of next to nothing can be any number: one such must not squeeze all others.
    span = [min([0.0, *known]) - 6, max([100.0, *known]) + 6]
    chart.figure.update_xaxes(range=span, rangemode="normal")
    for level in (0, 100):
        chart.figure.add_vline(level, line=_LEVEL)
    return chart


def _file_delay(bench: BenchmarkView) -> Chart | None:
    """From median to 99th percentile, for the families in which files arrive; None where none do."""
    bursty = [family for family in bench.families if any(_delays(bench, family, policy) for policy in bench.policies)]
    if not bursty:
        return None
    step = 15 if len(bench.policies) <= 7 else 12
    figure = _by_family(bench, "delay of a file [ms], logarithmic", len(bench.policies) * step + 12, bursty)
    _logarithmic(figure)
    for policy, shift in _lanes(bench.policies, 0.8):
        look = bench.looks[policy]
        _key(figure, bench, policy)
        x: list[float | None] = []
        y: list[float | None] = []
        text: list[str] = []
        for place, family in enumerate(bursty):
            # A gap after each family, so that no line runs to the next.
            if delays := _delays(bench, family, policy):
                for quantile, value in (("p50", delays.p50), ("p95", delays.p95), ("p99", delays.p99)):
                    x.append(value)
                    y.append(place + shift)
                    text.append(f"{plain(family)}: {quantile} {value:,.1f} ms, {delays.files:,} files")
            x.append(None)
            y.append(None)
            text.append("")
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            name=plain(policy),
            legendgroup=policy,
            showlegend=False,
            line={"color": look.colour, "width": 1.5},
            marker={"color": look.colour, "symbol": look.symbol, "size": 8, "line": _outline(look)},
            customdata=text,
            hovertemplate="%{customdata}",
        )
    caption = "From left to right on each line: 50th, 95th and 99th percentile of the time from arrival to delivery."
    return Chart("delay", "File delay", caption, figure)


def _delays(bench: BenchmarkView, family: str, policy: str) -> FileDelays | None:
    outcome = bench.outcome(family, policy)
    return None if outcome is None else outcome.file_delay_ms


def _dots(
    bench: BenchmarkView,
    key: str,
    title: str,
    caption: str,
    x_title: str,
    figure_key: Figure,
    scale: float,
    digits: str,
) -> Chart:
    """One dot for each family and policy, the dots of a family close to one line."""
    figure = _by_family(bench, x_title, max(26, 5 * len(bench.policies)))
    figure.update_xaxes(rangemode="tozero")
    for policy, shift in _lanes(bench.policies, 0.62):
        look = bench.looks[policy]
        values = [bench.value(family, policy, figure_key, scale) for family in bench.families]
        known = [(value, place) for place, value in enumerate(values) if not math.isnan(value)]
        figure.add_scatter(
            # A trace without any point would still have to stand in the legend.
            x=[value for value, _ in known] or _NOTHING,
            y=[place + shift for _, place in known] or _NOTHING,
            mode="markers",
            name=plain(policy),
            legendgroup=policy,
            marker={"color": look.colour, "symbol": look.symbol, "size": 8, "line": _outline(look)},
            customdata=[plain(list(bench.families)[place]) for _, place in known],
            hovertemplate="%{customdata}: %{x:" + digits + "}",
        )
    return Chart(key, title, caption, figure, wide=False)


# One family at a time: the traces of all are there, `meta` says which family each belongs to, and the page shows one.


def one_family(bench: BenchmarkView) -> list[Chart]:
    """Distribution over links and gain by speed, of the family that is chosen on the page."""
    return [_distribution(bench), _quantile_gain(bench), _gain_by_speed(bench)]


def _distribution(bench: BenchmarkView) -> Chart:
    figure = new_figure("goodput [bit/s/Hz]", "links with less [%]")
    for place, family in enumerate(bench.families):
        drawn = False
        for policy in bench.policies:
            values = _percentiles(bench, family, policy)
            drawn = drawn or not all(map(math.isnan, values))
            _add_line(figure, bench, policy, place, values, _grid(values), "%{y:.0f} % of the links below %{x:.3f}")
        _note_if_empty(figure, place, drawn)
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(range=[0, 100])
    caption = "Each curve sorts the links of one policy by goodput, so the same link can be at different heights."
    return Chart("distribution", "Goodput over the links", caption, figure, wide=False)


def _quantile_gain(bench: BenchmarkView) -> Chart:
    reference = plain(bench.reference)
    figure = new_figure("percentile of the links", f"goodput against {reference} [%]")
    figure.update_yaxes(zeroline=True, zerolinewidth=1.5)
    for place, family in enumerate(bench.families):
        base = _percentiles(bench, family, bench.reference)
        drawn = False
        for policy in bench.others:
            values = _percentiles(bench, family, policy)
            gains: list[float] = []
            if len(values) == len(base):
                gains = [100 * (v / b - 1) if b > 0 else math.nan for v, b in zip(values, base, strict=True)]
            _add_line(figure, bench, policy, place, _grid(gains), gains, "percentile %{x:.0f}: %{y:+.2f} %")
            drawn = drawn or not all(map(math.isnan, gains))
        _note_if_empty(figure, place, drawn)
    caption = (
        f"The same curves, each percentile relative to that of {bench.reference}: whether weak or strong links gain."
    )
    return Chart("quantiles", "Gain by percentile", caption, figure, wide=False)


def _gain_by_speed(bench: BenchmarkView) -> Chart:
    figure = new_figure("speed [km/h]", f"gain over {plain(bench.reference)} [%]")
    figure.update_yaxes(zeroline=True, zerolinewidth=1.5)
    # A place for each class that occurs anywhere: classes grow with speed, and would be crowded on a scale of km/h.
    classes = sorted({entry.speed_kmh for f in bench.families for p in bench.others for entry in _speeds(bench, f, p)})
    figure.update_xaxes(tickvals=list(range(len(classes))), ticktext=[_class_name(*edges) for edges in classes])
    for place, family in enumerate(bench.families):
        drawn = False
        for policy, shift in _lanes(bench.others, 0.24):
            x, gains, text = [], [], []
            for entry in _speeds(bench, family, policy):
                if entry.mean is None:
                    continue
                gain = difference(entry)
                # Side by side, so that no interval hides another.
                x.append(classes.index(entry.speed_kmh) + shift)
                gains.append(gain)
                text.append(f"{_class_name(*entry.speed_kmh)} km/h: {_with_interval(gain)}, {entry.links:,} links")
            look = bench.looks[policy]
            _add_line(
                figure,
                bench,
                policy,
                place,
                x,
                [gain.mean for gain in gains],
                "%{customdata}",
                customdata=text,
                error_y=_interval(gains, look.colour),
                mode="lines+markers",
                marker={"symbol": look.symbol, "size": 8, "line": _outline(look)},
            )
            drawn = drawn or bool(x)
        _note_if_empty(figure, place, drawn)
    caption = "Gain and 95 % interval of the links in each class of speed; classes with few links are left out."
    return Chart("speed", "Gain by speed", caption, figure)


def _speeds(bench: BenchmarkView, family: str, policy: str) -> tuple[SpeedGain, ...]:
    outcome = bench.outcome(family, policy)
    return outcome.gain_by_speed if outcome else ()


def sweep(bench: BenchmarkView, swept: E2Sweep | None) -> Chart | None:
    """Gain against the period of the E2 reports; None where it was not swept."""
    if swept is None:
        return None
    figure = new_figure("E2 period [ms], logarithmic", f"gain over {plain(bench.reference)} [%]")
    periods = sorted({point.period_ms for points in swept.policies.values() for point in points})
    figure.update_xaxes(type="log", tickvals=periods, ticktext=[f"{period:g}" for period in periods])
    figure.update_yaxes(zeroline=True, zerolinewidth=1.5)
    for policy, shift in _lanes(list(swept.policies), 1.0):
        points = sorted(swept.policies[policy], key=lambda point: point.period_ms)
        points = [point for point in points if point.mean is not None]
        gains = [difference(point) for point in points]
        look = bench.looks.get(policy, Look(GREY))
        figure.add_scatter(
            x=[point.period_ms * 1.12**shift for point in points] or _NOTHING,
            y=[gain.mean for gain in gains] or _NOTHING,
            error_y=_interval(gains, look.colour),
            mode="lines+markers",
            name=plain(policy),
            line=look.line,
            marker={"symbol": look.symbol, "size": 9, "line": _outline(look)},
            customdata=[
                f"every {point.period_ms:g} ms: {_with_interval(gain)}"
                for point, gain in zip(points, gains, strict=True)
            ],
            hovertemplate="%{customdata}",
        )
    delays = {point.delay_ms for points in swept.policies.values() for point in points}
    late = f", and its decisions take effect {delays.pop():g} ms later" if len(delays) == 1 else ""
    caption = (
        f"Channels of {swept.scenario}. The xApp gets a report once per period{late}. "
        f"{bench.reference} sits in the DU at every period and gets feedback every slot."
    )
    return Chart("sweep", "Gain by E2 period", caption, figure)


def _by_family(bench: BenchmarkView, x_title: str, row_px: int, families: list[str] | None = None) -> go.Figure:
    """A figure with one row for each family, the first on top."""
    families = list(bench.families) if families is None else families
    figure = new_figure(x_title, "")
    height = 110 + max(2, len(families)) * row_px + 18 * (len(bench.policies) > 6)
    # The legend's place is a share of the height, its distance should not be.
    figure.update_layout(height=height, legend_y=1 + 6 / height)
    figure.update_xaxes(showgrid=True)
    figure.update_yaxes(
        range=[len(families) - 0.5, -0.5],
        tickvals=list(range(len(families))),
        ticktext=[plain(bench.label(family)) for family in families],
        showgrid=False,
        tickfont_size=12,
    )
    for place in range(0, len(families), 2):
        figure.add_hrect(place - 0.5, place + 0.5, fillcolor=faded(GREY, 0.08), line_width=0, layer="below")
    return figure


def _lanes(policies: list[str], spread: float) -> list[tuple[str, float]]:
    """Each policy with its distance from the middle of a row that is one wide."""
    return [(policy, spread * ((place + 0.5) / len(policies) - 0.5)) for place, policy in enumerate(policies)]


def _key(figure: go.Figure, bench: BenchmarkView, policy: str) -> None:
    """The policy's entry in the legend, which would otherwise look like its first point."""
    look = bench.looks[policy]
    marker = {"color": look.colour, "symbol": look.symbol, "size": 9, "line": _outline(look)}
    figure.add_scatter(x=_NOTHING, y=_NOTHING, mode="markers", name=plain(policy), legendgroup=policy, marker=marker)


def _add_line(
    figure: go.Figure,
    bench: BenchmarkView,
    policy: str,
    place: int,
    x: list[float],
    y: list[float],
    hover: str,
    **more: Any,
) -> None:
    look = bench.looks[policy]
    style = {"mode": "lines", "line": look.line, "visible": place == 0, "meta": {"choice": place}, **more}
    figure.add_scatter(x=x or _NOTHING, y=y or _NOTHING, name=plain(policy), hovertemplate=hover, **style)


def _note_if_empty(figure: go.Figure, place: int, drawn: bool) -> None:
    """An empty chart would look broken."""
    if not drawn:
        note = {
            "mode": "text",
            "text": ["not measured in this family"],
            "textposition": "middle right",
            "hoverinfo": "skip",
            "showlegend": False,
        }
        figure.add_scatter(x=[0], y=[0], visible=place == 0, meta={"choice": place}, **note)


def _class_name(low: float, high: float) -> str:
    return f"{low:g} to {high:g}"


def _percentiles(bench: BenchmarkView, family: str, policy: str) -> list[float]:
    outcome = bench.outcome(family, policy)
    return [figure_of(value) for value in outcome.goodput_percentiles] if outcome else []


def _grid(values: list[float]) -> list[float]:
    return [float(point) for point in np.linspace(0, 100, len(values))]


def _interval(gains: list[Difference], colour: str) -> dict[str, object]:
    """Error bars; where there is no interval, a bar of no length."""
    ends = [
        (0.0, 0.0) if gain.kind == "nothing-decided" else (gain.high - gain.mean, gain.mean - gain.low)
        for gain in gains
    ]
    arrays = {"array": [up for up, _ in ends], "arrayminus": [down for _, down in ends]}
    return {"type": "data", "symmetric": False, **arrays, "color": colour, "thickness": 1.5, "width": 0}


def _with_interval(gain: Difference) -> str:
    interval = f" ({gain.interval_text(2, unit='')})" if gain.kind != "nothing-decided" else ""
    return f"{gain.mean_text(2)}{interval}"


def _outline(look: Look) -> dict[str, str | int]:
    """Markers that are lines have nothing but their outline."""
    return {"color": look.colour, "width": 2 if look.symbol.startswith("line") else 0}


def _unseen_note(bench: BenchmarkView) -> str:
    return f" {UNSEEN}: not in training." if any(family.unseen for family in bench.families.values()) else ""


def _zero_line(figure: go.Figure, name: str) -> None:
    figure.add_vline(0, line={"color": AGAINST_COLOUR, "width": 1.5, "dash": "dot"}, name=plain(name), showlegend=True)


def _logarithmic(figure: go.Figure) -> None:
    ticks = [digit * 10.0**power for power in range(-2, 7) for digit in (1, 2, 5)]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:,g}" for tick in ticks])
