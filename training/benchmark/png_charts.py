"""Two charts of a benchmark as PNG, for pages that cannot hold the interactive ones: gain.png and e2_sweep.png.

Policies look as on the page, see `distila.training.benchmark.view`.
"""

import math
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distila.replay.page.palette import AGAINST_COLOUR, AXIS, GREY, GRID, PAPER, STRIPE, Look
from distila.training.benchmark.results import BenchmarkResults, E2Sweep
from distila.training.benchmark.view import UNSEEN, BenchmarkView, difference
from distila.xapp.files import replacing

GAIN_FILE: Final = "gain.png"
SWEEP_FILE: Final = "e2_sweep.png"


def write_pngs(folder: Path, results: BenchmarkResults) -> list[Path]:
    """Write gain.png and, where the E2 period was swept, e2_sweep.png into ``folder``; returns what was written.

    Where there was no sweep an e2_sweep.png of an earlier run is removed.
    """
    (folder / SWEEP_FILE).unlink(missing_ok=True)
    bench = BenchmarkView.of(results)
    drawings = {GAIN_FILE: _draw_gain(bench)}
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
            face = colour if gain.kind in ("better", "worse") else PAPER
            axes.plot(gain.mean, y, marker=marker, markersize=5, color=colour, markerfacecolor=face, linestyle="")
            named = True
        if named:
            axes.plot([], [], marker=marker, markersize=5, color=colour, linestyle="", label=_literal(policy))
    axes.set_ylim(len(families) - 0.5, -0.5)
    axes.set_yticks(range(len(families)), [_literal(bench.label(family)) for family in families])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    note = f"; {UNSEEN} not in training" if any(family.unseen for family in bench.families.values()) else ""
    axes.set_xlabel(
        _literal(f"gain in goodput over {bench.reference} [%]; 95 % intervals, hollow where they include zero{note}")
    )
    _finish(figure, axes)
    return figure


def _draw_sweep(bench: BenchmarkView, swept: E2Sweep) -> Figure:
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color=AGAINST_COLOUR, linestyle=":", linewidth=1.4, label=_literal(f"{bench.reference}, in the DU"))
    periods: set[float] = set()
    for lane, (policy, points) in enumerate(swept.policies.items()):
        known = [(point.period_ms, difference(point)) for point in points if point.mean is not None]
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
