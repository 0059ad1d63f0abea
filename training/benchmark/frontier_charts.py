"""The frontier: goodput over what it costs, a line for each policy with its BLER targets as points, a panel per family.

`points` has the numbers, for the page and the PNG alike. What is null in the results is left out, never drawn as zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from plotly.subplots import make_subplots

from distila.replay.page.chart import Chart, new_figure, plain
from distila.replay.page.palette import GREY, Look, faded
from distila.training.benchmark.results import PolicyFigures
from distila.training.benchmark.view import BenchmarkView, figure_of

Cost = Literal["bler", "delay"]
"""What stands on the x axis: first-transmission BLER [%], or the 95th percentile of block delay [ms]."""

BLER_TICKS: Final = (0.5, 1, 2, 5, 10, 20, 50, 100)
_COLUMNS: Final = 4
_ROW_PX: Final = 200
_GAP_PX: Final = 62
X_TITLES: Final[dict[Cost, str]] = {
    "bler": "first-transmission BLER [%], logarithmic",
    "delay": "95th percentile of block delay [ms], logarithmic",
}


@dataclass(frozen=True)
class Point:
    """Where a policy ends up in a family at one target.

    Attributes:
        target: in percent; None for a policy that takes none.
        cost: see `Cost`.
        goodput: bit/s/Hz.
    """

    target: str | None
    cost: float
    goodput: float


def policies_of(views: dict[str, BenchmarkView]) -> list[str]:
    """The policies of a frontier, in the order of the views; genies are left out: they would squeeze the scale."""
    first = next(iter(views.values()))
    return [name for name in first.policies if not first.is_genie(name)]


def points(views: dict[str, BenchmarkView], family: str, policy: str, cost: Cost) -> list[Point]:
    """A policy's points in a family, by target ascending: one for each, or a single one without a target.

    Args:
        views: by target in percent, ascending.
        family: name of the family.
        policy: name of the policy.
        cost: what stands on the x axis.
    """
    found: list[Point] = []
    for target, bench in views.items():
        outcome = bench.outcome(family, policy)
        if outcome is None:
            continue
        point = Point(target if outcome.takes_target else None, _cost(outcome, cost), figure_of(outcome.goodput))
        if math.isfinite(point.cost) and math.isfinite(point.goodput) and point not in found:
            found.append(point)
    return found


def has_delays(views: dict[str, BenchmarkView]) -> bool:
    """Whether any policy has a block delay."""
    families, policies = list(next(iter(views.values())).families), policies_of(views)
    return any(points(views, family, policy, "delay") for family in families for policy in policies)


def all_costs(views: dict[str, BenchmarkView], cost: Cost) -> list[float]:
    """What the x axes of all panels share: BLERs of all families, so that panels can be compared; no delays, which
    depend on the family's round trip and slot."""
    if cost == "delay":
        return []
    families, policies = list(next(iter(views.values())).families), policies_of(views)
    return [point.cost for f in families for policy in policies for point in points(views, f, policy, cost)]


@dataclass(frozen=True)
class XAxis:
    """Range and ticks of a logarithmic axis, in its unit."""

    range: tuple[float, float]
    ticks: list[float]


def x_axis(values: Sequence[float], cost: Cost) -> XAxis:
    """The axis around these values."""
    low, high = (min(values) / 1.25, max(values) * 1.25) if values else (1.0, 10.0)
    if cost == "bler":
        return XAxis((low, high), [tick for tick in BLER_TICKS if low <= tick <= high])
    steps = (1, 2, 5) if high / low < 30 else (1, 3) if high / low < 300 else (1,)
    ticks = [step * 10.0**power for power in range(-3, 7) for step in steps]
    return XAxis((low, high), [tick for tick in ticks if low <= tick <= high])


def frontiers(views: dict[str, BenchmarkView]) -> list[Chart]:
    """Goodput over BLER, and over block delay where the results have it, a panel for each family."""
    charts = [_frontier(views, "bler")]
    if has_delays(views):
        charts.append(_frontier(views, "delay"))
    return charts


def _frontier(views: dict[str, BenchmarkView], cost: Cost) -> Chart:
    bench = next(iter(views.values()))
    families, policies = list(bench.families), policies_of(views)
    columns = min(_COLUMNS, len(families))
    rows = -(-len(families) // columns)
    height = rows * _ROW_PX + (rows - 1) * _GAP_PX + 130
    inner = height - 130
    grid = make_subplots(
        rows,
        columns,
        subplot_titles=[plain(bench.label(family)) for family in families],
        horizontal_spacing=0.055,
        vertical_spacing=_GAP_PX / inner if rows > 1 else 0,
    )
    blank = new_figure("", "")
    grid.update_layout(blank.layout)
    axis = {"gridcolor": faded(GREY, 0.2), "linecolor": faded(GREY, 0.6), "zeroline": False, "tickfont_size": 11}
    # The titles of the figure's first axes were those of the blank one.
    grid.update_xaxes(title_text=None, showline=True, showgrid=True, type="log", title_standoff=None, **axis)
    grid.update_yaxes(title_text=None, title_standoff=None, nticks=5, **axis)
    everywhere = all_costs(views, cost)
    for place, family in enumerate(families):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        shown = {policy: points(views, family, policy, cost) for policy in policies}
        about = x_axis(everywhere or [point.cost for found in shown.values() for point in found], cost)
        ends = [math.log10(end) for end in about.range]
        grid.update_xaxes(range=ends, tickvals=about.ticks, ticktext=[f"{tick:g}" for tick in about.ticks], **at)
        for policy, found in shown.items():
            look = bench.looks[policy]
            grid.add_scatter(
                x=[point.cost for point in found] or [math.nan],
                y=[point.goodput for point in found] or [math.nan],
                mode="lines+markers" if len(found) > 1 else "markers",
                name=plain(policy),
                legendgroup=policy,
                showlegend=place == 0,
                line=look.line | {"width": 1.5},
                marker=_marker(look, len(found) > 1),
                customdata=[_hover(point, cost) for point in found],
                hovertemplate="%{customdata}",
                **at,
            )
    grid.update_annotations(font_size=12.5)
    grid.update_layout(
        height=height,
        margin={"l": 44, "r": 8, "t": 74, "b": 46},
        legend_y=1 + 30 / inner,
        hovermode="closest",
    )
    grid.add_annotation(text=X_TITLES[cost], x=0.5, y=0, xref="paper", yref="paper", yshift=-44, showarrow=False)
    grid.add_annotation(
        text="goodput [bit/s/Hz]", x=0, y=0.5, xref="paper", yref="paper", xshift=-46, textangle=-90, showarrow=False
    )
    lines = (
        f"Each point of a line is a BLER target: {', '.join(views)} %" if len(views) > 1 else "Each point is a policy"
    )
    if cost == "bler":
        caption = (
            f"{lines}, at the BLER that was reached. A policy is better than {bench.reference} at equal BLER where it"
            " lies above the line. Single markers are policies that take no target, or have one of their own."
        )
        return Chart("frontier", "Goodput over first-transmission BLER", caption, grid)
    caption = (
        f"{lines}, at the delay that 95 % of the blocks do not exceed, from first transmission to delivery. Delays"
        " differ by whole HARQ round trips, so points stand in columns."
    )
    return Chart("frontier-delay", "Goodput over block delay", caption, grid)


def _cost(outcome: PolicyFigures, cost: Cost) -> float:
    """On the x axis; what a logarithmic axis cannot show, BLERs of zero, stand at its lower end."""
    if cost == "bler":
        return max(100 * figure_of(outcome.first_tx_bler), BLER_TICKS[0])
    return math.nan if outcome.block_delay_ms is None else figure_of(outcome.block_delay_ms.p95)


def _marker(look: Look, on_line: bool) -> dict[str, Any]:
    """Points of a line are small; a single one is large and hollow, so that it does not hide what lies beneath."""
    symbol = "circle" if look.symbol.startswith("line") else look.symbol
    if on_line:
        return {"color": look.colour, "symbol": symbol, "size": 6}
    return {"color": look.colour, "symbol": f"{symbol}-open", "size": 10, "line": {"width": 2}}


def _hover(point: Point, cost: Cost) -> str:
    target = "" if point.target is None else f"target {point.target} %: "
    reached = f"BLER {point.cost:.2f} %" if cost == "bler" else f"{point.cost:.2f} ms"
    return f"{target}{reached}, {point.goodput:.3f} bit/s/Hz"
