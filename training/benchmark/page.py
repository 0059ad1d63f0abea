"""The page of a benchmark: one HTML file that holds everything it shows.

    write_report(Path("report.html"), results)

What is null in the results is named as not defined, and left out of the charts.
"""

from importlib import resources
from pathlib import Path
from typing import Final

from distila.replay.page.document import Page, write_page
from distila.replay.page.number_text import DASH, counted, number, setting, significant
from distila.replay.page.table import Cell, Column, Group, Row, Table, difference_cell, settings_table
from distila.training.benchmark import charts
from distila.training.benchmark.averages import distinct
from distila.training.benchmark.results import BenchmarkResults
from distila.training.benchmark.verdict import PACES, SEATS, caveats, counts, verdicts
from distila.training.benchmark.view import MIXED, BenchmarkView, Figure, difference
from distila.xapp.policy.benchmark_figures import group_title

PAGE_FILE: Final = "report.html"

_RESIDUAL: Final = "residual_bler"
_RESIDUAL_DIGITS: Final = 3
# Figure of a policy in a family: heading, unit, scale, digits. The difference of residual BLER follows residual BLER.
_COLUMNS: Final[dict[Figure, tuple[str, str, float, int]]] = {
    "goodput": ("goodput", "bit/s/Hz", 1, 3),
    "goodput_p5": ("5th percentile", "bit/s/Hz", 1, 3),
    "first_tx_bler": ("first-tx BLER", "%", 100, 2),
    _RESIDUAL: ("residual BLER", "%", 100, _RESIDUAL_DIGITS),
    "genie_share_pct": ("share of the genie's gain", "%", 1, 0),
    "mean_mcs": ("mean MCS", "", 1, 2),
}


def write_report(path: Path, results: BenchmarkResults) -> None:
    """Write the HTML page; it is there whole or not at all."""
    bench = BenchmarkView.of(results)
    sentences = verdicts(bench)
    swept = charts.sweep(bench, results.e2_sweep)
    page = Page(
        kind="benchmark",
        title=sentences[0].sentence,
        eyebrow=_eyebrow(results, bench),
        verdicts=sentences,
        caveats=caveats(results, bench),
        headline=_headline(bench),
        charts=[*charts.overview(bench), *([] if swept is None else [swept])],
    )
    values = {
        "reference": bench.reference,
        "one_family": charts.one_family(bench),
        "families": [bench.label(family) for family in bench.families],
        "figures": _figures(bench),
        "about": _about(bench),
        "setups": _setups(bench),
        "settings": _settings(results),
    }
    template = resources.files("distila.training").joinpath("benchmark/page.html.j2").read_text("utf-8")
    write_page(path, page, template, values)


def _eyebrow(results: BenchmarkResults, bench: BenchmarkView) -> str:
    settings = results.settings
    parts = ["distila benchmark", counted(len(bench.families), "family", "families")]
    parts.append(counted(len(bench.policies), "policy", "policies"))
    parts.append(f"{settings.links:,} links of {settings.duration_ms / 1000:g} s")
    if len(settings.seeds) > 1:
        parts.append(counted(len(settings.seeds), "seed"))
    return " · ".join(parts)


def _seat(bench: BenchmarkView, policy: str) -> str:
    return " / ".join(SEATS.get(seat, seat) for seat in bench.seats(policy)) or DASH


def _family_cell(bench: BenchmarkView, family: str, note: str = "") -> Cell:
    about = bench.families[family]
    return Cell(family, badge="unseen" if about.unseen else "", note=note, title=about.description)


def _headline(bench: BenchmarkView) -> Table:
    """Gain by family and policy; for the reference itself its goodput."""
    columns = [Column("family", text=True)]
    for policy in bench.policies:
        role = ", reference" if policy == bench.reference else ", genie" if bench.is_genie(policy) else ""
        columns.append(Column(policy, colour=bench.looks[policy].colour, note=f"{_seat(bench, policy)}{role}"))
    rows: list[Row] = []
    for family in bench.families:
        goodput = Cell(number(bench.value(family, bench.reference, "goodput"), 3), note="bit/s/Hz")
        gains = [difference_cell(bench.gain(family, policy)) for policy in bench.others]
        rows.append([_family_cell(bench, family, _period(bench, family)), goodput, *gains])
    return Table(columns, rows, [*_averages(bench), *_tallies(bench)], "grid", "Gain by family and policy", "headline")


def _period(bench: BenchmarkView, family: str) -> str:
    if bench.pace(family) == MIXED:
        return PACES[MIXED]
    return f"E2 period {significant(bench.families[family].e2_period_ms)} ms"


def _averages(bench: BenchmarkView) -> list[Row]:
    """Mean gains, a row for each group of families."""
    return [
        [
            Cell(f"mean over {group_title(name)}", note=counted(len(group.families), "family", "families")),
            "",
            *(difference_cell(difference(group.policies.get(policy))) for policy in bench.others),
        ]
        for name, group in distinct(bench.averages).items()
    ]


def _tallies(bench: BenchmarkView) -> list[Row]:
    """Families that are better, worse and neither: a row for real-time E2 and one for slow E2, never their sum."""
    rows: list[Row] = []
    for pace, families in bench.by_pace.items():
        cells = []
        for policy in bench.others:
            count = counts(bench, policy, families)
            neither = len(families) - count["better"] - count["worse"]
            cells.append(f"{count['better']} · {count['worse']} · {neither}")
        families_text = counted(len(families), "family", "families")
        rows.append([Cell(f"{PACES[pace]}, {families_text}", note="better · worse · neither"), "", *cells])
    return rows


def _figures(bench: BenchmarkView) -> Table:
    """All figures of all policies, family by family."""
    columns = [Column("policy", text=True), Column("gain", "%")]
    for figure, (heading, unit, _, _) in _COLUMNS.items():
        columns.append(Column(heading, unit))
        if figure == _RESIDUAL:
            columns.append(Column("residual BLER minus reference", "points"))
    columns.append(Column("file delay p50 / p95 / p99", "ms"))
    rows: list[Row] = []
    for name, family in bench.families.items():
        rows.append(Group(name, badge="unseen" if family.unseen else ""))
        rows += [_figures_of(bench, name, policy) for policy in bench.policies if policy in family.policies]
    return Table(columns, rows, style="grid", label="All figures")


def _figures_of(bench: BenchmarkView, family: str, policy: str) -> Row:
    is_reference = policy == bench.reference
    cells: list[Cell | str] = ["reference" if is_reference else difference_cell(bench.gain(family, policy), unit="")]
    for figure, (_, _, scale, digits) in _COLUMNS.items():
        cells.append(number(bench.value(family, policy, figure, scale), digits))
        if figure == _RESIDUAL:
            change = difference_cell(bench.residual(family, policy), _RESIDUAL_DIGITS, unit="")
            cells.append(DASH if is_reference else change)
    outcome = bench.outcome(family, policy)
    delays = None if outcome is None else outcome.file_delay_ms
    delay = DASH if delays is None else " / ".join(number(ms, 1) for ms in (delays.p50, delays.p95, delays.p99))
    return [policy, *cells, delay]


def _about(bench: BenchmarkView) -> Table:
    columns = [Column("family", text=True), Column("slot", "ms"), Column("E2 period", "ms"), Column("E2 delay", "ms")]
    columns += [Column("links"), Column("links with files", "%"), Column("description", text=True)]
    rows: list[Row] = [
        [
            _family_cell(bench, name),
            significant(None if family.slot_us is None else family.slot_us / 1000),
            significant(family.e2_period_ms),
            significant(family.e2_delay_ms),
            number(family.links),
            number(100 * family.bursty_share),
            family.description or DASH,
        ]
        for name, family in bench.families.items()
    ]
    return Table(columns, rows, style="grid", label="Families")


def _setups(bench: BenchmarkView) -> Table:
    """Settings of each policy, once for all families that share them, and the time of its runs."""
    columns = [Column("policy", text=True), Column("families", text=True), Column("settings", text=True)]
    columns.append(Column("time of the runs", "s"))
    rows: list[Row] = []
    for policy in bench.policies:
        shared: dict[str, list[str]] = {}
        elapsed_s: list[float] = []
        for family in bench.families:
            if outcome := bench.outcome(family, policy):
                text = ", ".join(f"{key} = {setting(value)}" for key, value in outcome.settings.items())
                shared.setdefault(text, []).append(family)
                elapsed_s += [] if outcome.elapsed_s is None else [outcome.elapsed_s]
        head = Cell(policy, colour=bench.looks[policy].colour, note=_seat(bench, policy))
        total = number(sum(elapsed_s) if elapsed_s else None, 1)
        for place, (text, names) in enumerate(shared.items()):
            families = "all" if len(shared) == 1 else ", ".join(names)
            settings = Cell(text, code=True) if text else "none"
            rows.append([head if place == 0 else "", families, settings, total if place == 0 else ""])
    return Table(columns, rows, style="list", label="Settings of each policy")


def _settings(results: BenchmarkResults) -> Table:
    values = {"distila": results.distila, "size": "quick" if results.quick else "full"}
    values |= {name: setting(value) for name, value in results.settings.model_dump(exclude_none=True).items()}
    return settings_table(values.items())
