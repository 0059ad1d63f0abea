"""The study as a Markdown table and a chart."""

from collections.abc import Iterable
from pathlib import Path

from matplotlib.figure import Figure

from distila.replay.page.palette import GREY, POLICY_COLOUR
from distila.replay.page.table import Cell, Column, Row, Table
from distila.training.ablation.study import AblationResults, VariantResult
from distila.training.learning.interval import SeedInterval
from distila.xapp.files import replacing, write_text
from distila.xapp.policy.benchmark_figures import interval_text
from distila.xapp.result_file import Estimate


def write_page(path: Path, results: AblationResults) -> None:
    """Write the tables, as ``docs/ablation.md`` has them."""
    columns: list[Column | str] = [
        Column("variant"),
        Column("what it is", text=True),
        "seen [%]",
        "unseen [%]",
        "against student",
    ]
    parts = []
    for question, variants in by_question(results.variants):
        rows: list[Row] = [
            [Cell(v.name, code=True), v.what, text(v.seen), text(v.unseen), text(v.against_student)] for v in variants
        ]
        parts.append(f"### {question}\n\n{Table(columns, rows).markdown()}")
    write_text(path, "\n".join(parts))


def write_chart(path: Path, results: AblationResults) -> None:
    """Gain of every variant over OLLA on the seen families, with interval, as PNG."""
    rows = [variant for _, variants in by_question(results.variants) for variant in variants]
    figure = Figure(figsize=(8, 0.8 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, variant in enumerate(reversed(rows)):
        gain = variant.seen
        colour = POLICY_COLOUR if place == len(rows) - 1 else GREY
        if gain.ci95 is not None:
            axes.plot(gain.ci95, [place, place], color=colour, linewidth=2)
        axes.plot(gain.values, [place] * len(gain.values), "|", color=colour, markersize=6)
        axes.plot(gain.mean, place, "o", color=colour, markersize=6)
    axes.set_yticks(range(len(rows)), [variant.name for variant in reversed(rows)])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.axvline(rows[0].seen.mean, color=POLICY_COLOUR, linewidth=0.8, linestyle=":")
    axes.set_xlabel("gain in goodput over tuned OLLA [%], mean of the seen families; 95 % interval over seeds")
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=150, facecolor="white")


def by_question(variants: Iterable[VariantResult]) -> list[tuple[str, list[VariantResult]]]:
    """Variants under their headings, in order."""
    found: dict[str, list[VariantResult]] = {}
    for variant in variants:
        found.setdefault(variant.question, []).append(variant)
    return list(found.items())


def text(figures: SeedInterval | None) -> str:
    """``+1.2 (+0.8 to +1.6)``; a dash where there is nothing."""
    if figures is None:
        return "-"
    return interval_text(Estimate(mean=figures.mean, ci95=figures.ci95 or (None, None)))
