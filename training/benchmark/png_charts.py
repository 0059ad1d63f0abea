"""Charts of a benchmark as PNG, for pages that cannot hold the interactive ones: gains, frontiers and the E2 sweep.

Policies look as on the page, see `distila.training.benchmark.view`.
"""

import math
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distila.replay.page.palette import AGAINST_COLOUR, AXIS, GREY, GRID, PAPER, STRIPE, Look
from distila.training.benchmark.frontier_charts import (
    X_TITLES,
    Cost,
    all_costs,
    has_delays,
    points,
    policies_of,
    x_axis,
)
from distila.training.benchmark.results import BenchmarkResults, E2Sweep
from distila.training.benchmark.view import UNSEEN, BenchmarkView, difference
from distila.xapp.files import replacing

GAIN_FILE: Final = "gain.png"
SWEEP_FILE: Final = "e2_sweep.png"
FRONTIER_FILE: Final = "frontier.png"
DELAY_FILE: Final = "frontier_delay.png"
_FILES: Final = (GAIN_FILE, SWEEP_FILE, FRONTIER_FILE, DELAY_FILE)
_PANELS_PER_ROW: Final = 4


def write_pngs(folder: Path, results: BenchmarkResults) -> list[Path]:
    """Write the charts into ``folder``; returns what was written.

    gain.png is always there, frontier.png and frontier_delay.png where there are BLER targets, e2_sweep.png where the
    E2 period was swept; those of an earlier run that would not be true any more are removed.
    """
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
    bench, views = BenchmarkView.headline(results), BenchmarkView.at_targets(results)
    drawings = {GAIN_FILE: _draw_gain(bench)}
    if views:
        drawings[FRONTIER_FILE] = _draw_frontier(views, "bler")
        if has_delays(views):
            drawings[DELAY_FILE] = _draw_frontier(views, "delay")
    if results.e2_sweep:
        drawings[SWEEP_FILE] = _draw_sweep(bench, results.e2_sweep)
    for name, figure in drawings.items():
        with replacing(folder / name) as partial:
            # The name of the partial file does not tell the format.
            figure.savefig(partial, format="png", dpi=150, facecolor=PAPER)
    return [folder / name for name in drawings]


def _draw_gain(bench: BenchmarkView) -> Figure:
    families, others = list(bench.families), bench.others
    height = 1.4 + len(families) * (0.13 * len(others) + 0.12)
    figure = Figure(figsize=(9.0, max(2.4, height)), layout="constrained")
    axes = figure.subplots()
    for place in range(0, len(families), 2):
        axes.axhspan(place - 0.5, place + 0.5, color=STRIPE, linewidth=0, zorder=0)
    axes.axvline(0, color=AGAINST_COLOUR, linestyle=":", linewidth=1.4, zorder=1, label=_literal(bench.reference))
    for lane, policy in enumerate(others):
        look = _look(bench, policy)
        colour, marker = look.colour, look.matplotlib_marker
        named = False
        for place, family in enumerate(families):
            gain = bench.gain(family, policy)
            if math.isnan(gain.mean):
                continue
            y = place + 0.8 * ((lane + 0.5) / len(others) - 0.5)
            if gain.kind != "nothing-decided":
                axes.plot([gain.low, gain.high], [y, y], color=colour, linewidth=1.3)
            kind = bench.kind(family, policy)
            style: dict[str, Any] = {"markerfacecolor": colour if kind in ("better", "worse") else PAPER}
            if kind == "bought-with-bler":
                style = {"fillstyle": "bottom", "markerfacecoloralt": PAPER}
            axes.plot(gain.mean, y, marker=marker, markersize=5, color=colour, linestyle="", **style)
            named = True
        if named:
            axes.plot([], [], marker=marker, markersize=5, color=colour, linestyle="", label=_literal(policy))
    axes.set_ylim(len(families) - 0.5, -0.5)
    axes.set_yticks(range(len(families)), [_literal(bench.label(family)) for family in families])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    note = f"; {UNSEEN} not in training" if any(family.unseen for family in bench.families.values()) else ""
    at = "" if bench.target is None else f" at equal BLER, target {bench.target} %"
    label = f"gain in goodput over {bench.reference}{at} [%]; 95 % intervals, hollow where they include zero"
    if any(bench.kind(family, policy) == "bought-with-bler" for family in families for policy in others):
        label += ",\nhalf where the gain is bought with a higher first-transmission BLER"
    axes.set_xlabel(_literal(f"{label}{note}"))
    _finish(figure, axes)
    return figure


def _draw_frontier(views: dict[str, BenchmarkView], cost: Cost) -> Figure:
    bench = next(iter(views.values()))
    families, policies = list(bench.families), policies_of(views)
    columns = min(_PANELS_PER_ROW, len(families))
    rows = -(-len(families) // columns)
    figure = Figure(figsize=(2.75 * columns + 0.4, 2.1 * rows + 0.9), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    everywhere = all_costs(views, cost)
    for place in range(rows * columns):
        axes = panels[place // columns, place % columns]
        if place >= len(families):
            axes.set_axis_off()
            continue
        family = families[place]
        costs: list[float] = []
        for policy in policies:
            found = points(views, family, policy, cost)
            look = _look(bench, policy)
            marker = "o" if look.matplotlib_marker == "|" else look.matplotlib_marker
            costs += [point.cost for point in found]
            hollow = {"markerfacecolor": "none", "markersize": 6.5, "markeredgewidth": 1.4}
            style: dict[str, Any] = {"markersize": 3.5} if len(found) > 1 else hollow
            axes.plot(
                [point.cost for point in found],
                [point.goodput for point in found],
                marker=marker,
                linewidth=1.1,
                color=look.colour,
                label=_literal(policy) if place == 0 else None,
                **style,
            )
        axes.set_xscale("log")
        about = x_axis(everywhere or costs, cost)
        axes.set_xlim(*about.range)
        axes.set_xticks(about.ticks, [f"{tick:g}" for tick in about.ticks], fontsize=7)
        axes.set_xticks([], minor=True)
        axes.tick_params(axis="y", labelsize=7)
        axes.set_title(_literal(bench.label(family)), fontsize=8)
        axes.grid(color=GRID, linewidth=0.6)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.supxlabel(X_TITLES[cost], fontsize=9)
    figure.supylabel("goodput [bit/s/Hz]", fontsize=9)
    figure.legend(loc="outside upper left", ncols=6, frameon=False, fontsize=9)
    return figure


def _draw_sweep(bench: BenchmarkView, swept: E2Sweep) -> Figure:
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color=AGAINST_COLOUR, linestyle=":", linewidth=1.4, label=_literal(f"{bench.reference}, in the DU"))
    periods: set[float] = set()
    for lane, (policy, swept_points) in enumerate(swept.policies.items()):
        known = [(point.period_ms, difference(point)) for point in swept_points if point.mean is not None]
        known.sort(key=lambda point: point[0])
        periods.update(period for period, _ in known)
        x = [period * 1.04 ** (lane - (len(swept.policies) - 1) / 2) for period, _ in known]
        look = _look(bench, policy)
        colour, marker = look.colour, look.matplotlib_marker
        axes.plot(x, [g.mean for _, g in known], marker=marker, markersize=5, color=colour, label=_literal(policy))
        for place, (_, gain) in zip(x, known, strict=True):
            if gain.kind != "nothing-decided":
                axes.plot([place, place], [gain.low, gain.high], color=colour, linewidth=1.3)
    axes.set_xscale("log")
    ticks = sorted(periods)
    axes.set_xticks(ticks, [f"{period:g}" for period in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_xlabel(_literal(f"E2 period [ms], channels of {swept.scenario}"))
    axes.set_ylabel(_literal(f"gain over {bench.reference} [%]"))
    _finish(figure, axes)
    return figure


def _finish(figure: Figure, axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(AXIS)
    figure.legend(loc="outside upper left", ncols=6, frameon=False, fontsize=9)


def _look(bench: BenchmarkView, policy: str) -> Look:
    """How the policy is drawn; grey for a policy that is only in the sweep."""
    return bench.looks.get(policy, Look(GREY))


def _literal(text: str) -> str:
    """Text for matplotlib, which would otherwise read text between dollars as a formula."""
    return text.replace("$", r"\$")
