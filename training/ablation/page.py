"""The study as a Markdown table and a chart."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from distila.replay.atomic_file import replacing

_BLUE, _GREY = "#2563a8", "#8a8a8a"


def write_page(path: Path, summary: dict[str, Any]) -> None:
    """The table alone, as ``docs/ablation.md`` has it."""
    lines: list[str] = []
    for question, variants in by_question(summary["variants"]):
        lines += [f"### {question}", "", "| variant | | seen [%] | unseen [%] | against student |"]
        lines += ["|---|---|---|---|---|"]
        for variant in variants:
            cells = [text(variant[name]) for name in ("seen", "unseen", "against_student")]
            lines.append(f"| `{variant['name']}` | {variant['what']} | {' | '.join(cells)} |")
        lines.append("")
    with replacing(path) as partial:
        partial.write_text("\n".join(lines))


def write_chart(path: Path, summary: dict[str, Any]) -> None:
    """Gain of every variant over OLLA on the seen families, with interval, as PNG."""
    rows = [variant for _, variants in by_question(summary["variants"]) for variant in variants]
    figure = Figure(figsize=(8, 0.8 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, variant in enumerate(reversed(rows)):
        gain = variant["seen"]
        colour = _BLUE if place == len(rows) - 1 else _GREY
        if gain["ci95"] is not None:
            axes.plot(gain["ci95"], [place, place], color=colour, linewidth=2)
        axes.plot(gain["values"], [place] * len(gain["values"]), "|", color=colour, markersize=6)
        axes.plot(gain["mean"], place, "o", color=colour, markersize=6)
    axes.set_yticks(range(len(rows)), [variant["name"] for variant in reversed(rows)])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.axvline(rows[0]["seen"]["mean"], color=_BLUE, linewidth=0.8, linestyle=":")
    axes.set_xlabel("gain in goodput over tuned OLLA [%], mean of the seen families; 95 % interval over seeds")
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=150, facecolor="white")


def by_question(variants: Iterable[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Variants under their headings, in order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for variant in variants:
        found.setdefault(variant["question"], []).append(variant)
    return list(found.items())


def text(figures: dict[str, Any] | None) -> str:
    """``+1.2 (+0.8 to +1.6)``; a dash where there is nothing."""
    if figures is None:
        return "-"
    if figures["ci95"] is None:
        return f"{figures['mean']:+.1f}"
    low, high = figures["ci95"]
    return f"{figures['mean']:+.1f} ({low:+.1f} to {high:+.1f})"
