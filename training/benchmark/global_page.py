"""The second page of a benchmark: policies against OLLA tuned for goodput over all seen families, at whatever BLER.

    write_global_page(Path("global.html"), results)

What is null in the results is named as not defined, and left out of the charts.
"""

from importlib import resources
from pathlib import Path
from typing import Final

from distila.replay.page.document import Page, write_page
from distila.replay.page.number_text import DASH, number
from distila.replay.page.table import Cell, Column, Group, Row, Table, difference_cell
from distila.training.benchmark import charts
from distila.training.benchmark.results import BenchmarkResults
from distila.training.benchmark.run_tables import (
    eyebrow,
    families_table,
    family_cell,
    gain_cell,
    headline_columns,
    headline_footer,
    period_text,
    run_settings_table,
    setups_table,
)
from distila.training.benchmark.verdict import caveats, verdicts
from distila.training.benchmark.view import BenchmarkView, Figure

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


def write_global_page(path: Path, results: BenchmarkResults) -> None:
    """Write the HTML page; it is there whole or not at all.

    Raises:
        ValueError: there was no comparison with OLLA tuned for goodput.
    """
    bench = BenchmarkView.globally_tuned(results)
    if bench is None:
        raise ValueError("no comparison with globally tuned OLLA in these results")
    sentences = verdicts(bench)
    swept = charts.sweep(bench, results.e2_sweep)
    page = Page(
        kind="benchmark",
        title=sentences[0].sentence,
        eyebrow=eyebrow(results, bench),
        verdicts=sentences,
        caveats=caveats(results, bench),
        headline=_headline(bench),
        charts=[*charts.overview(bench), *([] if swept is None else [swept])],
    )
    values = {
        "reference": bench.reference,
        "has_targets": bool(results.targets),
        "one_family": charts.one_family(bench),
        "families": [bench.label(family) for family in bench.families],
        "figures": _figures(bench),
        "about": families_table(bench),
        "setups": setups_table(bench),
        "settings": run_settings_table(results),
    }
    template = resources.files("distila.training").joinpath("benchmark/global.html.j2").read_text("utf-8")
    write_page(path, page, template, values)


def _headline(bench: BenchmarkView) -> Table:
    """Gain by family and policy; for the reference itself its goodput."""
    rows: list[Row] = []
    for family in bench.families:
        goodput = Cell(number(bench.value(family, bench.reference, "goodput"), 3), note="bit/s/Hz")
        gains = [
            gain_cell(bench, family, policy, bench.gain(family, policy), bench.kind(family, policy), "%")
            for policy in bench.others
        ]
        rows.append([family_cell(bench, family, period_text(bench, family)), goodput, *gains])
    label = "Gain by family and policy"
    return Table(headline_columns(bench), rows, headline_footer(bench), "grid", label, "headline")


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
    cells: list[Cell | str] = [
        "reference"
        if is_reference
        else gain_cell(bench, family, policy, bench.gain(family, policy), bench.kind(family, policy))
    ]
    for figure, (_, _, scale, digits) in _COLUMNS.items():
        cells.append(number(bench.value(family, policy, figure, scale), digits))
        if figure == _RESIDUAL:
            change = difference_cell(bench.residual(family, policy), _RESIDUAL_DIGITS, unit="")
            cells.append(DASH if is_reference else change)
    outcome = bench.outcome(family, policy)
    delays = None if outcome is None else outcome.file_delay_ms
    delay = DASH if delays is None else " / ".join(number(ms, 1) for ms in (delays.p50, delays.p95, delays.p99))
    return [policy, *cells, delay]
