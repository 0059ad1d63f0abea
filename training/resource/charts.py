"""Charts and Markdown tables of the study and of the contests."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from distila.replay.page.palette import series_look
from distila.replay.page.table import Column, Table
from distila.training.learning.interval import SeedInterval
from distila.training.resource.algorithms import BEST_OF
from distila.training.resource.contest import REFERENCE, ContestRow, MlpTime
from distila.training.resource.study import TEACHER, FigureResults, FigureRow
from distila.xapp.files import replacing

NAMES: Final = {
    "ad-decreasing": "AD, beta decreasing",
    "ad-fixed": "AD, beta fixed",
    "ad-increasing": "AD, beta increasing",
    "supervised": "supervised",
    "plain": "no algorithm in the loss",
    "plain-bn": "the same, batch norm and Adam",
    "ad-decreasing-bn": "AD decreasing, batch norm and Adam",
}
_COLOURS: Final = {name: series_look(place).colour for place, name in enumerate(NAMES)}
_SHOWN_PCT: Final = 95.0
_SWEPT: Final = {"links": "links K", "samples": "samples", "epochs": "epochs"}


def figure_table(found: FigureResults) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: ours with interval, ours scheduled, and the paper's."""
    swept = "K" if found.swept == "epochs" else _SWEPT[found.swept]
    columns = ["method", swept, "paper", "ours", "on/off", "% FPLinQ"]
    rows = []
    for row in found.rows:
        paper = "-" if row.seed_paper is None else f"{row.seed_paper:.3f}"
        teacher = found.classical[row.k][TEACHER]
        rows.append(
            [
                row.method,
                str(row.at),
                paper,
                _interval(row.sum_rate),
                f"{row.sum_rate_scheduled.mean:.3f}",
                f"{100 * row.sum_rate.mean / teacher:.1f}",
            ]
        )
    return columns, rows


def _plain(found: FigureResults) -> str:
    return "reinforcement learning alone" if found.reinforcement else "unsupervised alone"


def _interval(figures: SeedInterval) -> str:
    if figures.ci95 is None:
        return f"{figures.mean:.3f}"
    return f"{figures.mean:.3f} ± {(figures.ci95[1] - figures.ci95[0]) / 2:.3f}"


def markdown(columns: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table; the first two columns are text."""
    head = [Column(name, text=place < 2) for place, name in enumerate(columns)]
    return Table(head, list(rows)).markdown()


def write_figure(path: Path, found: FigureResults) -> None:
    """A figure of the paper, trained again: ours as lines with intervals, the paper's values as crosses; PNG."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    methods = list(dict.fromkeys(row.method for row in found.rows))
    for method in methods:
        rows = [row for row in found.rows if row.method == method]
        label = NAMES[method].replace("no algorithm in the loss", _plain(found))
        if found.swept == "epochs":
            _curves(axes, rows[0], _COLOURS[method], label)
        else:
            at = [row.at for row in rows]
            mean = [row.sum_rate.mean for row in rows]
            half = [0.0 if row.sum_rate.ci95 is None else row.sum_rate.ci95[1] - row.sum_rate.mean
                    for row in rows]  # fmt: skip
            axes.errorbar(at, mean, half, color=_COLOURS[method], marker="o", markersize=4, capsize=2, label=label)
            paper = [(row.at, row.seed_paper) for row in rows if row.seed_paper is not None]
            if paper:
                axes.plot(*zip(*paper, strict=True), "x:", color=_COLOURS[method], linewidth=0.8)
    if found.swept == "epochs":
        classical = next(iter(found.classical.values()))
        for name, style in ((TEACHER, "-"), ("all-on", ":")):
            axes.axhline(classical[name], color="black", linewidth=0.8, linestyle=style, label=name)
    else:
        at = sorted({row.at for row in found.rows})
        links = {row.at: row.k for row in found.rows}
        for name, style in ((TEACHER, "-"), ("all-on", ":")):
            values = [found.classical[links[place]][name] for place in at]
            axes.plot(at, values, color="black", linewidth=0.8, linestyle=style, label=name)
        axes.plot([], [], "x:", color="black", linewidth=0.8, label="arXiv 2308.07511")
    if found.swept == "samples":
        axes.set_xscale("log")
    swept = "instances seen" if found.swept == "epochs" and found.reinforcement else _SWEPT[found.swept]
    _finish(axes, swept, "sum rate [bit/s/Hz]", f"Figure {found.figure}: {found.title}")
    _save(figure, path)


def _curves(axes: Axes, row: FigureRow, colour: str, label: str) -> None:
    curves = row.curves or ()
    for curve in curves:
        axes.plot(*zip(*curve, strict=True), color=colour, linewidth=0.5, alpha=0.4)
    mean = [(at[0][0], sum(value for _, value in at) / len(at)) for at in zip(*curves, strict=True)]
    axes.plot(*zip(*mean, strict=True), color=colour, linewidth=1.8, label=label)
    if row.seed_paper is not None:
        axes.plot(mean[-1][0], row.seed_paper, "x", color=colour)


def write_quality_time(path: Path, rows: Sequence[ContestRow], setting: str) -> None:
    """Sum rate over time per instance of what comes near WMMSE, one panel for each K; PNG.

    Vertical lines: a fifth of the time of WMMSE (dotted), a tenth of that of its best of 100 starts (dashed).
    """
    sizes = sorted({row.k for row in rows if row.setting == setting})
    figure = Figure(figsize=(4.5 * len(sizes), 4.6), layout="constrained")
    colours: dict[str, str] = {}
    for axes, links in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes, strict=True):
        here = [row for row in rows if row.setting == setting and row.k == links]
        here = [row for row in here if row.pct_of_wmmse.mean >= _SHOWN_PCT]
        families: dict[str, list[ContestRow]] = {}
        for row in here:
            families.setdefault(family(row.method), []).append(row)
        for name, members in families.items():
            members.sort(key=lambda row: row.us_per_instance)
            style = "o-" if len(members) > 1 else "o"
            axes.plot(
                [row.us_per_instance for row in members],
                [row.pct_of_wmmse.mean for row in members],
                style,
                markersize=4,
                color=colours.setdefault(name, to_hex(colormaps["tab20"](len(colours) % 20))),
                label=name,
            )
        reference = next(row for row in here if row.method == REFERENCE)
        axes.axvline(reference.us_per_instance / 5, color="black", linewidth=0.7, linestyle=":")
        best_of = [row for row in here if row.method == BEST_OF]
        if best_of:
            axes.axvline(best_of[0].us_per_instance / 10, color="black", linewidth=0.7, linestyle="--")
        axes.set_xscale("log")
        _finish(axes, "µs per instance, one thread", "% of WMMSE", f"{setting}, K = {links}", legend=False)
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=max(2, 2 * len(sizes)), fontsize=7
    )
    _save(figure, path)


def family(method: str) -> str:
    """Methods that are one curve: iterations of WMMSE, starts of it, uses of a student."""
    if method.startswith("wmmse-best-of-"):
        return "WMMSE, best of N starts"
    if method == REFERENCE or method.removeprefix("wmmse-").isdigit():
        return "WMMSE, N iterations"
    name, _, use = method.partition(" ")
    return f"{name}, flips" if "+" in use else f"{name}, ONNX" if "onnx" in use else name


def write_times(path: Path, times: Sequence[MlpTime]) -> None:
    """Time per instance over K; PNG."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    links = [entry.k for entry in times]
    axes.plot(links, [entry.wmmse_us for entry in times], "o-", label="WMMSE, 100 iterations")
    axes.plot(links, [entry.mlp_us for entry in times], "o-", label="MLP")
    axes.set_yscale("log")
    _finish(axes, "links K", "µs per instance, one thread", "Time of students and of WMMSE")
    _save(figure, path)


def _finish(axes: Axes, x: str, y: str, title: str, legend: bool = True) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(alpha=0.3)
    if legend:
        axes.legend(fontsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=130, facecolor="white")
