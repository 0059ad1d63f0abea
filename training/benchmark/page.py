"""The page of a benchmark: one HTML file that holds everything it shows.

    write_report(Path("report.html"), results)

What is null in the results is a dash on the page, and left out of the charts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from distila.replay.report import number, write_page
from distila.replay.report_charts import DASH, signed
from distila.training.benchmark import charts
from distila.training.benchmark.averages import distinct
from distila.training.benchmark.results import BenchmarkResults, FamilyResults, FileDelays
from distila.training.benchmark.verdict import PACES, SEATS, caveats, counts, verdicts
from distila.training.benchmark.view import (
    BETTER,
    MIXED,
    UNKNOWN,
    UNSEEN,
    WORSE,
    BenchmarkView,
    Figure,
    Gain,
    figure_of,
    gain_of,
)
from distila.xapp.policy.benchmark_figures import group_title

PAGE_FILE: Final = "report.html"

_SIGNS: Final = {BETTER: "\u25b2", WORSE: "\u25bc"}
_RESIDUAL: Final = "residual_bler"
_RESIDUAL_DIGITS: Final = 3
# Figure of a policy in a family: heading, scale, digits. The difference of residual BLER stands behind residual BLER.
_COLUMNS: Final[dict[Figure, tuple[str, float, int]]] = {
    "goodput": ("goodput [bit/s/Hz]", 1, 3),
    "goodput_p5": ("5th percentile [bit/s/Hz]", 1, 3),
    "first_tx_bler": ("first-tx BLER [%]", 100, 2),
    _RESIDUAL: ("residual BLER [%]", 100, _RESIDUAL_DIGITS),
    "genie_share_pct": ("share of the genie's gain [%]", 1, 0),
    "mean_mcs": ("mean MCS", 1, 2),
}


@dataclass(frozen=True)
class _Column:
    """A policy at the head of a column or row."""

    name: str
    seat: str
    role: str
    colour: str


@dataclass(frozen=True)
class _Cell:
    """A difference from the reference with its interval, and a mark where it is significant."""

    verdict: str
    sign: str
    mean: str
    interval: str


@dataclass(frozen=True)
class _Details:
    """All figures of one policy in one family; ``gain`` is None for the reference."""

    name: str
    gain: _Cell | None
    figures: list[str | _Cell]
    delay: str


@dataclass(frozen=True)
class _Family:
    """A family with its gains for the headline, and all figures of its policies."""

    name: str
    unseen: bool
    e2_period: str
    description: str
    about: dict[str, str]
    goodput: str
    cells: list[_Cell]
    details: list[_Details]


@dataclass(frozen=True)
class _Tally:
    """Families of one pace of E2 in which each policy is better, worse or neither."""

    name: str
    families: int
    cells: list[tuple[int, int, int]]


@dataclass(frozen=True)
class _Average:
    """Mean gains over a group of families."""

    name: str
    families: int
    cells: list[_Cell]


@dataclass(frozen=True)
class _SettingsOf:
    """Settings of a policy, and the families that have them; empty: all."""

    text: str
    families: str


@dataclass(frozen=True)
class _Setup:
    """How a policy was set, and how long its runs took [s]."""

    policy: _Column
    sets: list[_SettingsOf]
    elapsed: str


def write_report(path: Path, results: BenchmarkResults) -> None:
    """Write the HTML page; it is there whole or not at all."""
    bench = BenchmarkView.of(results)
    sentences = verdicts(bench)
    swept = charts.sweep(bench, results.e2_sweep)
    values = {
        "title": sentences[0],
        "eyebrow": _eyebrow(results, bench),
        "verdicts": sentences,
        "caveats": caveats(results, bench),
        "reference": bench.reference,
        "policies": [_column(bench, name) for name in bench.policies],
        "families": [_family(bench, name, family) for name, family in bench.families.items()],
        "tallies": _tallies(bench),
        "averages": _averages(bench),
        "overview": charts.overview(bench),
        "one_family": charts.one_family(bench),
        "sweep": [] if swept is None else [swept],
        "figure_columns": _headings(),
        "settings": _settings(results),
        "setups": [_setup(bench, name) for name in bench.policies],
        "unseen": UNSEEN,
    }
    template = resources.files("distila.training").joinpath("benchmark/page.html.j2").read_text("utf-8")
    write_page(path, values, template)


def _eyebrow(results: BenchmarkResults, bench: BenchmarkView) -> str:
    settings, families = results.settings, len(bench.families)
    parts = ["distila benchmark", f"{families} {'family' if families == 1 else 'families'}"]
    parts.append(f"{len(bench.policies)} policies")
    parts.append(f"{settings.links:,} links of {settings.duration_ms / 1000:g} s")
    if len(settings.seeds) > 1:
        parts.append(f"{len(settings.seeds)} seeds")
    return " · ".join(parts)


def _column(bench: BenchmarkView, policy: str) -> _Column:
    seats = " / ".join(SEATS.get(seat, seat) for seat in bench.seats(policy)) or DASH
    role = "reference" if policy == bench.reference else "mark" if bench.is_genie(policy) else ""
    return _Column(policy, seats, role, bench.looks[policy].colour)


def _headings() -> list[str]:
    headings = []
    for figure, (heading, _, _) in _COLUMNS.items():
        headings.append(heading)
        if figure == _RESIDUAL:
            headings.append("minus the reference's [points]")
    return headings


def _family(bench: BenchmarkView, name: str, family: FamilyResults) -> _Family:
    return _Family(
        name=name,
        unseen=family.unseen,
        e2_period=_period(bench, name),
        description=family.description,
        about={
            "slot [ms]": _short(figure_of(family.slot_us) / 1000),
            "E2 period [ms]": _short(figure_of(family.e2_period_ms)),
            "E2 delay [ms]": _short(figure_of(family.e2_delay_ms)),
            "links": number(family.links),
            "with files [%]": number(family.bursty_share * 100),
        },
        goodput=number(bench.value(name, bench.reference, "goodput"), 3),
        cells=[_cell(bench.gain(name, policy)) for policy in bench.others],
        details=[_details(bench, name, policy) for policy in bench.policies if policy in family.policies],
    )


def _details(bench: BenchmarkView, family: str, policy: str) -> _Details:
    is_reference = policy == bench.reference
    figures: list[str | _Cell] = []
    for figure, (_, scale, digits) in _COLUMNS.items():
        figures.append(number(bench.value(family, policy, figure, scale), digits))
        if figure == _RESIDUAL:
            figures.append(DASH if is_reference else _residual_cell(bench.residual(family, policy)))
    outcome = bench.outcome(family, policy)
    delays = None if outcome is None else outcome.file_delay_ms
    return _Details(
        name=policy,
        gain=None if is_reference else _cell(bench.gain(family, policy)),
        figures=figures,
        delay=_delay(delays) if delays else DASH,
    )


def _delay(delays: FileDelays) -> str:
    return " / ".join(number(delay, 1) for delay in (delays.p50, delays.p95, delays.p99))


def _period(bench: BenchmarkView, family: str) -> str:
    if bench.pace(family) == MIXED:
        return PACES[MIXED]
    return f"E2 period {_short(figure_of(bench.families[family].e2_period_ms))} ms"


def _cell(gain: Gain) -> _Cell:
    interval = DASH if gain.verdict == UNKNOWN else f"{signed(gain.low, 1)} to {signed(gain.high, 1)}"
    if gain.verdict in _SIGNS and min(abs(gain.low), abs(gain.high)) < 0.05:
        # One more decimal, or the interval would seem to end at the zero that it excludes.
        interval = f"{signed(gain.low, 2)} to {signed(gain.high, 2)}"
    mean = DASH if math.isnan(gain.mean) else f"{signed(gain.mean, 1)} %"
    return _Cell(gain.verdict, _SIGNS.get(gain.verdict, ""), mean, interval)


def _residual_cell(change: Gain) -> _Cell:
    nearest = min(abs(change.low), abs(change.high))
    digits = 5 if change.verdict in _SIGNS and nearest < 0.0005 else _RESIDUAL_DIGITS
    interval = DASH if change.verdict == UNKNOWN else f"{signed(change.low, digits)} to {signed(change.high, digits)}"
    return _Cell(change.verdict, _SIGNS.get(change.verdict, ""), signed(change.mean, digits), interval)


def _tallies(bench: BenchmarkView) -> list[_Tally]:
    """The last rows of the headline: one for each pace of E2, never a sum over several."""
    rows = []
    for pace, families in bench.by_pace.items():
        cells = []
        for policy in bench.others:
            count = counts(bench, policy, families)
            cells.append((count[BETTER], count[WORSE], len(families) - count[BETTER] - count[WORSE]))
        rows.append(_Tally(PACES[pace], len(families), cells))
    return rows


def _averages(bench: BenchmarkView) -> list[_Average]:
    """Rows of mean gains below the families', one for each group of them."""
    return [
        _Average(
            group_title(name),
            len(group.families),
            [_cell(gain_of(group.policies.get(policy))) for policy in bench.others],
        )
        for name, group in distinct(bench.averages).items()
    ]


def _setup(bench: BenchmarkView, policy: str) -> _Setup:
    """One entry for each set of settings, with the families that share it."""
    shared: dict[str, list[str]] = {}
    elapsed = []
    for family in bench.families:
        if outcome := bench.outcome(family, policy):
            text = ", ".join(f"{key} = {_text(value)}" for key, value in outcome.settings.items())
            shared.setdefault(text or "no settings", []).append(family)
            elapsed.append(outcome.elapsed_s or 0.0)
    everywhere = len(shared) == 1
    sets = [_SettingsOf(text, "" if everywhere else ", ".join(names)) for text, names in shared.items()]
    return _Setup(_column(bench, policy), sets, number(sum(elapsed), 1) if sum(elapsed) else DASH)


def _settings(results: BenchmarkResults) -> dict[str, str]:
    run = {"distila": results.distila, "size": "quick" if results.quick else "full"}
    settings = results.settings.model_dump(exclude_none=True)
    return {**run, **{name: _text(value) for name, value in settings.items()}}


def _short(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:,.6g}"


def _text(value: str | float | Sequence[int] | None) -> str:
    """A setting as text."""
    if value is None:
        return DASH
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if isinstance(value, str | int) else ", ".join(map(str, value))
