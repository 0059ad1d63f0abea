"""The report of a benchmark: one HTML file that holds everything it shows, and two of its charts as PNG.

    write_report(Path("report.html"), results)
    write_pngs(Path("docs/images"), results)

``results`` is the content of results.json. What is null there is shown as a dash and left out of the charts.
"""

import json
import math
from importlib import resources
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distila.replay.atomic_file import replacing
from distila.replay.report import number, write_page
from distila.replay.report_charts import AGAINST_COLOUR, DASH, GREY, signed
from distila.training.benchmark import charts
from distila.training.benchmark.averages import FIVE_GROUP, distinct
from distila.training.benchmark.view import (
    BETTER,
    MIXED,
    REAL_TIME,
    SLOW,
    UNCLEAR,
    UNKNOWN,
    UNSEEN,
    WORSE,
    BenchmarkView,
    Gain,
    figure_of,
    gain_of,
)

_SIGNS: Final = {BETTER: "\u25b2", WORSE: "\u25bc"}
_SEATS: Final = {"du": "in the DU", "xapp": "xApp"}
_PACES: Final = {REAL_TIME: "real-time E2", SLOW: "slow E2", MIXED: f"E2 period {DASH}"}
_RESIDUAL: Final = "residual_vs_olla"
# Figure of a policy in a family: heading, scale, digits.
_COLUMNS: Final = {
    "goodput": ("goodput [bit/s/Hz]", 1, 3),
    "goodput_p5": ("5th percentile", 1, 3),
    "first_tx_bler": ("first-tx BLER [%]", 100, 2),
    "residual_bler": ("residual BLER [%]", 100, 3),
    _RESIDUAL: ("less the reference's [points]", 100, 3),
    "genie_share_pct": ("of the genie's gain [%]", 1, 0),
    "mean_mcs": ("mean MCS", 1, 2),
}
# matplotlib does not read CSS's rgb().
_GREY: Final = "#" + "".join(f"{int(part):02x}" for part in GREY.split(","))
# matplotlib's names of the page's markers.
_MARKERS: Final = {
    "circle": "o", "diamond": "D", "square": "s", "triangle-up": "^", "pentagon": "p", "star": "*",
    "triangle-down": "v", "hexagram": "h", "line-ns": "|", "x": "X",
}  # fmt: skip


def write_report(path: Path, results: dict[str, Any]) -> None:
    """Write the HTML page.

    Args:
        path: the file; it is there whole or not at all.
        results: as in results.json.
    """
    bench = BenchmarkView(results)
    verdicts = _verdicts(bench)
    swept = charts.sweep(bench)
    values = {
        "title": verdicts[0],
        "eyebrow": _eyebrow(bench),
        "verdicts": verdicts,
        "caveats": _caveats(bench),
        "reference": bench.reference,
        "policies": [_column(bench, name) for name in bench.policies],
        "families": [_family_row(bench, name) for name in bench.families],
        "tallies": _tallies(bench),
        "averages": _averages(bench),
        "overview": charts.overview(bench),
        "one_family": charts.one_family(bench),
        "sweep": [] if swept is None else [swept],
        "figure_columns": [heading for heading, _, _ in _COLUMNS.values()],
        "settings": {key: _text(value) for key, value in _settings(results).items()},
        "setups": [_setup(bench, name) for name in bench.policies],
        "unseen": UNSEEN,
    }
    template = resources.files("distila.training").joinpath("benchmark/report.html.j2").read_text("utf-8")
    write_page(path, values, template)


def write_pngs(folder: Path, results: dict[str, Any]) -> list[Path]:
    """Write gain.png and, where the E2 period was swept, e2_sweep.png into ``folder``; returns what was written.

    Where there was no sweep an e2_sweep.png of an earlier run is removed.
    """
    (folder / "e2_sweep.png").unlink(missing_ok=True)
    bench = BenchmarkView(results)
    drawings = {"gain.png": _draw_gain(bench)}
    if results.get("e2_sweep"):
        drawings["e2_sweep.png"] = _draw_sweep(bench)
    for name, figure in drawings.items():
        with replacing(folder / name) as partial:
            # The name of the partial file does not tell the format.
            figure.savefig(partial, format="png", dpi=150, facecolor="white")
    return [folder / name for name in drawings]


def _eyebrow(bench: BenchmarkView) -> str:
    settings, families = bench.results["settings"], len(bench.families)
    parts = ["distila benchmark", f"{families} {'family' if families == 1 else 'families'}"]
    parts.append(f"{len(bench.policies)} policies")
    if settings.get("links") and settings.get("duration_ms"):
        parts.append(f"{settings['links']:,} links of {settings['duration_ms'] / 1000:g} s")
    if len(settings.get("seeds") or []) > 1:
        parts.append(f"{len(settings['seeds'])} seeds")
    return " · ".join(parts)


def _verdicts(bench: BenchmarkView) -> list[str]:
    """The outcome in a sentence for the best policy of each seat, xApp first; genies are marks, not contestants.

    Of the xApp's seat, one for each pace of E2: what holds with real-time E2 says nothing about a slower loop.
    """
    contestants = [name for name in bench.others if not bench.is_genie(name)]
    sentences = []
    for pace, families in bench.by_pace.items():
        sentences += _verdict_on_best(bench, [name for name in contestants if bench.is_xapp(name)], families, pace)
    in_du = [name for name in contestants if "du" in bench.seats(name)]
    sentences += _verdict_on_best(bench, in_du, list(bench.families))
    return list(dict.fromkeys(sentences)) or [f"No policy was compared with {bench.reference}."]


def _verdict_on_best(bench: BenchmarkView, policies: list[str], families: list[str], pace: str = "") -> list[str]:
    """In one sentence, if there is a policy."""
    policies = [name for name in policies if any(bench.outcome(family, name) for family in families)]
    if not policies:
        return []
    return [_verdict(bench, max(policies, key=lambda name: _rank(bench, name, families)), families, pace)]


def _rank(bench: BenchmarkView, policy: str, families: list[str]) -> tuple[int, float]:
    counts = _counts(bench, policy, families)
    means = [gain.mean for f in families if not math.isnan((gain := bench.gain(f, policy)).mean)]
    return counts[BETTER] - counts[WORSE], sum(means) / len(means) if means else -math.inf


def _verdict(bench: BenchmarkView, policy: str, families: list[str], pace: str) -> str:
    seat = " and ".join(_SEATS.get(seat, seat) for seat in bench.seats(policy))
    who = f"{policy} ({seat}, {_PACES[pace]})" if pace else f"{policy} ({seat})"
    if len(families) == 1:
        gain = bench.gain(families[0], policy)
        interval = f"{signed(gain.mean, 1)} %, 95 % interval {signed(gain.low, 1)} to {signed(gain.high, 1)} %"
        return {
            BETTER: f"{who} gains goodput over {bench.reference} in {families[0]} ({interval}).",
            WORSE: f"{who} loses goodput to {bench.reference} in {families[0]} ({interval}).",
            UNCLEAR: f"No difference can be told between {who} and {bench.reference} in {families[0]} ({interval}).",
            UNKNOWN: f"{who} cannot be compared with {bench.reference} in {families[0]}: there is no interval.",
        }[gain.verdict]
    counts = _counts(bench, policy, families)
    better, worse = (str(counts[key]) if counts[key] else "none" for key in (BETTER, WORSE))
    sentence = f"{who} gains over {bench.reference} in {better} of {len(families)} families and loses in {worse}"
    open_ones = counts[UNCLEAR] + counts[UNKNOWN]
    sentence += f"; in {open_ones} no difference can be told." if open_ones else "."
    for group in bench.averages.values():
        mean = gain_of(group["policies"].get(policy))
        if set(group["families"]) == set(families) and mean.verdict != UNKNOWN:
            interval = f"95 % interval {signed(mean.low, 1)} to {signed(mean.high, 1)} %"
            return f"{sentence} Its mean gain over them is {signed(mean.mean, 1)} % ({interval})."
    return sentence


def _caveats(bench: BenchmarkView) -> list[str]:
    lines = []
    if bench.results.get("quick"):
        lines.append("A quick run, with fewer links and less time than the full benchmark: to look at, not to quote.")
    unseen = [name for name, family in bench.families.items() if family.get("unseen")]
    if unseen:
        lines.append(f"Not in training, marked {UNSEEN}: {', '.join(unseen)}.")
    if any(bench.is_xapp(name) for name in bench.others):
        meant = {
            REAL_TIME: "a report every slot or two",
            SLOW: "reports further apart",
            MIXED: "a period that varies by seed or is not known",
        }
        told = "; ".join(f"{_PACES[pace]}: {meant[pace]}" for pace in bench.by_pace)
        lines.append(f"{told[0].upper()}{told[1:]}. The period of E2 matters to policies in the xApp seat only.")
    lines += _timing(bench.results["settings"])
    for policy in bench.others:
        worse = [family for family in bench.families if bench.residual(family, policy).verdict == WORSE]
        if worse and not bench.is_genie(policy):
            lines.append(f"{policy} gives up significantly more blocks than {bench.reference} in {', '.join(worse)}.")
    genies = [name for name in bench.policies if bench.is_genie(name)]
    if genies:
        knows = "know" if len(genies) > 1 else "knows"
        lines.append(
            f"No real policy can know what {' and '.join(genies)} {knows}: a mark to compare with. What HARQ gains by "
            "combining is left out of it, so another policy can be better."
        )
    return lines


def _timing(settings: dict[str, Any]) -> list[str]:
    """That E2 is not as the families have it, if so."""
    given = {"period": settings.get("e2_period_ms"), "delay": settings.get("e2_delay_ms")}
    told = [f"an E2 {what} of {value:g} ms" for what, value in given.items() if value is not None]
    return [f"All families were run with {' and '.join(told)} instead of their own."] if told else []


def _column(bench: BenchmarkView, policy: str) -> dict[str, Any]:
    seats = " / ".join(_SEATS.get(seat, seat) for seat in bench.seats(policy)) or DASH
    role = "reference" if policy == bench.reference else "mark" if bench.is_genie(policy) else ""
    return {"name": policy, "seat": seats, "role": role, "colour": bench.looks[policy].colour}


def _family_row(bench: BenchmarkView, family: str) -> dict[str, Any]:
    """A family with its gains for the headline, and all figures of its policies."""
    about = bench.families[family]
    details = []
    for policy in bench.policies:
        outcome, gain = bench.outcome(family, policy), bench.gain(family, policy)
        if not outcome:
            continue
        delay = outcome.get("file_delay_ms") or {}
        figures: list[str | dict[str, str]] = [
            number(figure_of(outcome.get(key)) * scale, digits) for key, (_, scale, digits) in _COLUMNS.items()
        ]
        if policy != bench.reference:
            figures[list(_COLUMNS).index(_RESIDUAL)] = _residual_cell(bench.residual(family, policy))
        delays = [number(figure_of(delay.get(key)), 1) for key in ("p50", "p95", "p99")]
        cell = _cell(gain) if policy != bench.reference else None
        details.append(
            {"name": policy, "gain": cell, "figures": figures, "delay": " / ".join(delays) if delay else DASH}
        )
    return {
        "name": family,
        "unseen": bool(about.get("unseen")),
        "e2_period": _period(bench, family),
        "description": about.get("description") or "",
        "about": {
            "slot [ms]": _short(figure_of(about.get("slot_us")) / 1000),
            "E2 period [ms]": _short(figure_of(about.get("e2_period_ms"))),
            "E2 delay [ms]": _short(figure_of(about.get("e2_delay_ms"))),
            "links": number(about.get("links")),
            "with files [%]": number(figure_of(about.get("bursty_share")) * 100),
        },
        "goodput": number(bench.value(family, bench.reference, "goodput"), 3),
        "cells": [_cell(bench.gain(family, policy)) for policy in bench.others],
        "details": details,
    }


def _period(bench: BenchmarkView, family: str) -> str:
    if bench.pace(family) == MIXED:
        return _PACES[MIXED]
    return f"E2 period {_short(figure_of(bench.families[family].get('e2_period_ms')))} ms"


def _cell(gain: Gain) -> dict[str, str]:
    interval = DASH if gain.verdict == UNKNOWN else f"{signed(gain.low, 1)} to {signed(gain.high, 1)}"
    if gain.verdict in _SIGNS and min(abs(gain.low), abs(gain.high)) < 0.05:
        # One more decimal, or the interval would seem to end at the zero that it stays clear of.
        interval = f"{signed(gain.low, 2)} to {signed(gain.high, 2)}"
    mean = DASH if math.isnan(gain.mean) else f"{signed(gain.mean, 1)} %"
    return {"verdict": gain.verdict, "sign": _SIGNS.get(gain.verdict, ""), "mean": mean, "interval": interval}


def _residual_cell(change: Gain) -> dict[str, str]:
    nearest = min(abs(change.low), abs(change.high))
    digits = 5 if change.verdict in _SIGNS and nearest < 0.0005 else _COLUMNS[_RESIDUAL][2]
    interval = DASH if change.verdict == UNKNOWN else f"{signed(change.low, digits)} to {signed(change.high, digits)}"
    mean, sign = signed(change.mean, digits), _SIGNS.get(change.verdict, "")
    return {"verdict": change.verdict, "sign": sign, "mean": mean, "interval": interval}


def _counts(bench: BenchmarkView, policy: str, families: list[str]) -> dict[str, int]:
    verdicts = [bench.gain(family, policy).verdict for family in families]
    return {verdict: verdicts.count(verdict) for verdict in (BETTER, UNCLEAR, WORSE, UNKNOWN)}


def _tallies(bench: BenchmarkView) -> list[dict[str, Any]]:
    """The last rows of the headline: one for each pace of E2, never a sum over several."""
    rows = []
    for pace, families in bench.by_pace.items():
        counts = [_counts(bench, policy, families) for policy in bench.others]
        cells = [{"better": c[BETTER], "worse": c[WORSE], "rest": c[UNCLEAR] + c[UNKNOWN]} for c in counts]
        rows.append({"name": _PACES[pace], "families": len(families), "cells": cells})
    return rows


def _averages(bench: BenchmarkView) -> list[dict[str, Any]]:
    """Rows of mean gains below the families', one for each group of them."""
    rows = []
    for name, group in distinct(bench.averages).items():
        unseen, _, pace = name.partition(" ")
        text = "the five" if name == FIVE_GROUP else f"{unseen}, {_PACES.get(pace, pace)}"
        cells = [_cell(gain_of(group["policies"].get(policy))) for policy in bench.others]
        rows.append({"name": text, "families": len(group["families"]), "cells": cells})
    return rows


def _setup(bench: BenchmarkView, policy: str) -> dict[str, Any]:
    """How a policy was set: one entry for each set of settings, with the families that share it."""
    shared: dict[str, list[str]] = {}
    for family in bench.families:
        if outcome := bench.outcome(family, policy):
            settings = outcome.get("settings") or {}
            text = ", ".join(f"{key} = {_text(value)}" for key, value in settings.items())
            shared.setdefault(text or "nothing to set", []).append(family)
    everywhere = len(shared) == 1
    sets = [{"text": text, "families": "" if everywhere else ", ".join(names)} for text, names in shared.items()]
    elapsed = [figure_of(bench.outcome(family, policy).get("elapsed_s")) for family in bench.families]
    total = sum(seconds for seconds in elapsed if not math.isnan(seconds))
    return _column(bench, policy) | {"sets": sets, "elapsed": number(total, 1) if total else DASH}


def _settings(results: dict[str, Any]) -> dict[str, Any]:
    run: dict[str, Any] = {"distila": results.get("distila"), "size": "quick" if results.get("quick") else "full"}
    return {**run, **results["settings"]}


def _short(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:,.6g}"


def _text(value: Any) -> str:
    """A setting as text: plain where it is a word or a number, JSON where it is more."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple) and not any(isinstance(item, list | tuple | dict) for item in value):
        return ", ".join(_text(item) for item in value) or DASH
    return json.dumps(value, default=str) if isinstance(value, list | tuple | dict) else str(value)


# PNG, for pages that cannot hold the interactive ones. Policies look as in the report.


def _draw_gain(bench: BenchmarkView) -> Figure:
    families, others = list(bench.families), bench.others
    height = 1.4 + len(families) * (0.13 * len(others) + 0.12)
    figure = Figure(figsize=(9.0, max(2.4, height)), layout="constrained")
    axes = figure.subplots()
    for place in range(0, len(families), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="#f3f4f6", linewidth=0, zorder=0)
    axes.axvline(0, color=AGAINST_COLOUR, linestyle=":", linewidth=1.4, zorder=1, label=_literal(bench.reference))
    for lane, policy in enumerate(others):
        colour, marker = _drawn_as(bench, policy)
        named = False
        for place, family in enumerate(families):
            gain = bench.gain(family, policy)
            if math.isnan(gain.mean):
                continue
            y = place + 0.8 * ((lane + 0.5) / len(others) - 0.5)
            if gain.verdict != UNKNOWN:
                axes.plot([gain.low, gain.high], [y, y], color=colour, linewidth=1.3)
            face = colour if gain.verdict in _SIGNS else "white"
            axes.plot(gain.mean, y, marker=marker, markersize=5, color=colour, markerfacecolor=face, linestyle="")
            named = True
        if named:
            axes.plot([], [], marker=marker, markersize=5, color=colour, linestyle="", label=_literal(policy))
    axes.set_ylim(len(families) - 0.5, -0.5)
    axes.set_yticks(range(len(families)), [_literal(bench.label(family)) for family in families])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dfe3e8", linewidth=0.7)
    note = f"; {UNSEEN} not in training" if any(f.get("unseen") for f in bench.families.values()) else ""
    axes.set_xlabel(
        _literal(f"gain in goodput over {bench.reference} [%]; 95 % intervals, hollow where they hold zero{note}")
    )
    _finish(figure, axes)
    return figure


def _draw_sweep(bench: BenchmarkView) -> Figure:
    swept = bench.results["e2_sweep"]
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color=AGAINST_COLOUR, linestyle=":", linewidth=1.4, label=_literal(f"{bench.reference}, in the DU"))
    periods: set[float] = set()
    for lane, (policy, points) in enumerate(swept["policies"].items()):
        known = [(float(p["period_ms"]), gain_of(p)) for p in points if not math.isnan(gain_of(p).mean)]
        known.sort(key=lambda point: point[0])
        periods.update(period for period, _ in known)
        x = [period * 1.04 ** (lane - (len(swept["policies"]) - 1) / 2) for period, _ in known]
        colour, marker = _drawn_as(bench, policy)
        axes.plot(x, [g.mean for _, g in known], marker=marker, markersize=5, color=colour, label=_literal(policy))
        for place, (_, gain) in zip(x, known, strict=True):
            if gain.verdict != UNKNOWN:
                axes.plot([place, place], [gain.low, gain.high], color=colour, linewidth=1.3)
    axes.set_xscale("log")
    ticks = sorted(periods)
    axes.set_xticks(ticks, [f"{period:g}" for period in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(axis="y", color="#dfe3e8", linewidth=0.7)
    axes.set_xlabel(_literal(f"E2 period [ms], channels of {swept['scenario']}"))
    axes.set_ylabel(_literal(f"gain over {bench.reference} [%]"))
    _finish(figure, axes)
    return figure


def _finish(figure: Figure, axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#8a9099")
    figure.legend(loc="outside upper left", ncols=6, frameon=False, fontsize=9)


def _drawn_as(bench: BenchmarkView, policy: str) -> tuple[str, str]:
    """Colour and marker; grey for what is nowhere but in the sweep."""
    look = bench.looks.get(policy)
    if look is None:
        return _GREY, "o"
    return look.colour if look.colour.startswith("#") else _GREY, _MARKERS[look.symbol]


def _literal(text: str) -> str:
    """Text for matplotlib, which would otherwise take what stands between dollars for a formula."""
    return text.replace("$", r"\$")
