"""The headline page of a benchmark: gains at equal BLER, the frontiers, and what each policy costs in BLER and delay.

write_frontier_page(Path("report.html"), results)
"""

from dataclasses import replace
from importlib import resources
from pathlib import Path

from distila.replay.page.document import Page, write_page
from distila.replay.page.number_text import DASH, number
from distila.replay.page.table import Cell, Column, Group, Row, Table, difference_cell
from distila.replay.page.verdict import Kind
from distila.training.benchmark.averages import distinct
from distila.training.benchmark.frontier_charts import frontiers
from distila.training.benchmark.results import BenchmarkResults, GroupAverages, PolicyFigures
from distila.training.benchmark.run_tables import (
    eyebrow,
    families_table,
    family_cell,
    gain_cell,
    headline_columns,
    headline_footer,
    period_text,
    run_settings_table,
    seat_text,
    setups_table,
)
from distila.training.benchmark.verdict import caveats, verdicts
from distila.training.benchmark.view import BenchmarkView, difference
from distila.xapp.policy.benchmark_figures import group_title


def write_frontier_page(path: Path, results: BenchmarkResults) -> None:
    """Write the HTML page of results that have BLER targets; it is there whole or not at all."""
    views, bench = BenchmarkView.at_targets(results), BenchmarkView.headline(results)
    sentences = verdicts(bench)
    page = Page(
        kind="benchmark",
        title=sentences[0].sentence,
        eyebrow=eyebrow(results, bench),
        verdicts=sentences,
        caveats=caveats(results, bench),
        headline=_headline(bench),
        charts=frontiers(views),
    )
    values = {
        "reference": bench.reference,
        "target": bench.target,
        "has_global": results.globally_tuned is not None,
        "means": [(_mean_title(name, bench), _means(bench, group)) for name, group in distinct(bench.averages).items()],
        "figures": [(target, _figures(view)) for target, view in views.items()],
        "about": families_table(bench),
        "setups": setups_table(bench),
        "settings": run_settings_table(results),
    }
    template = resources.files("distila.training").joinpath("benchmark/frontier.html.j2").read_text("utf-8")
    write_page(path, page, template, values)


def _headline(bench: BenchmarkView) -> Table:
    """Gain at equal BLER by family and policy, and the BLER reached; for the reference itself its goodput."""
    rows: list[Row] = []
    for family in bench.families:
        goodput = Cell(
            number(bench.value(family, bench.reference, "goodput"), 3),
            "bit/s/Hz",
            _bler_note(bench, family, bench.reference),
        )
        gains = [_gain_cell(bench, family, policy) for policy in bench.others]
        rows.append([family_cell(bench, family, period_text(bench, family)), goodput, *gains])
    label = "Gain at equal BLER by family and policy"
    return Table(headline_columns(bench), rows, headline_footer(bench), "grid", label, "headline")


def _gain_cell(bench: BenchmarkView, family: str, policy: str) -> Cell:
    cell = gain_cell(bench, family, policy, bench.gain(family, policy), bench.kind(family, policy), "%")
    if family in bench.undecided(policy):
        return cell
    return replace(cell, note=f"{cell.note}\n{_bler_note(bench, family, policy)}")


def _bler_note(bench: BenchmarkView, family: str, policy: str) -> str:
    return f"BLER {number(bench.value(family, policy, 'first_tx_bler', 100), 1)} %"


def _mean_title(group: str, bench: BenchmarkView) -> str:
    title = group_title(group)
    return f"{title[0].upper()}{title[1:]}: means at a target of {bench.target} %"


def _means(bench: BenchmarkView, group: GroupAverages) -> Table:
    """Mean gains and costs of each policy over a group of families."""
    columns = [
        Column("policy", text=True),
        Column("gain at equal BLER", "%"),
        Column("gain at the same target", "%"),
        Column("first-tx BLER", "%"),
        Column("block delay p95", "ms"),
        Column("residual BLER", "%"),
        Column("bought", "families"),
        Column("decided in", "families"),
    ]
    rows: list[Row] = []
    for policy in bench.policies:
        figures = group.figures[policy]
        equal: Cell | str = "reference"
        same: Cell | str = "reference"
        if policy != bench.reference:
            same_target = difference(group.policies.get(policy))
            bought = any(bench.same_target_kind(f, policy) == "bought-with-bler" for f in group.families)
            equal = difference_cell(bench.mean_gain(group, policy), unit="", kind=bench.mean_kind(group, policy))
            kind: Kind = "bought-with-bler" if bought and same_target.kind == "better" else same_target.kind
            same = difference_cell(same_target, unit="", kind=kind)
        rows.append(
            [
                Cell(policy, colour=bench.looks[policy].colour, note=seat_text(bench, policy)),
                equal,
                same,
                number(_percent(figures.first_tx_bler), 2),
                number(figures.block_delay_p95_ms, 2),
                number(_percent(figures.residual_bler), 3),
                number(figures.bought_with_bler),
                f"{figures.decided_in} of {len(group.families)}",
            ]
        )
    return Table(columns, rows, style="grid", label="Mean gains and costs")


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _figures(bench: BenchmarkView) -> Table:
    """All figures of all policies at one target, family by family."""
    columns = [
        Column("policy", text=True),
        Column("goodput", "bit/s/Hz"),
        Column("gain at equal BLER", "%"),
        Column("gain at the same target", "%"),
        Column("first-tx BLER", "%"),
        Column("minus reference", "points"),
        Column("transmissions per block"),
        Column("retransmission share", "%"),
        Column("residual BLER", "%"),
        Column("block delay p50 / p95 / p99", "ms"),
        Column("stalled slots", "%"),
        Column("decided", "%"),
        Column("mean MCS"),
    ]
    rows: list[Row] = []
    for name, family in bench.families.items():
        rows.append(Group(name, badge="unseen" if family.unseen else ""))
        rows += [_figures_of(bench, name, policy, found) for policy, found in family.policies.items()]
    return Table(columns, rows, style="grid", label=f"All figures at a target of {bench.target} %")


def _figures_of(bench: BenchmarkView, family: str, policy: str, found: PolicyFigures) -> Row:
    is_reference = policy == bench.reference
    excess = difference(found.bler_vs_olla)
    delays = found.block_delay_ms
    return [
        policy,
        number(found.goodput, 3),
        "reference"
        if is_reference
        else gain_cell(bench, family, policy, bench.gain(family, policy), bench.kind(family, policy)),
        DASH
        if is_reference
        else gain_cell(
            bench, family, policy, bench.same_target_gain(family, policy), bench.same_target_kind(family, policy)
        ),
        number(_percent(found.first_tx_bler), 2),
        DASH if is_reference else Cell(f"{100 * excess.mean:+.2f}" if excess.kind != "nothing-decided" else DASH),
        number(found.transmissions_per_block, 3),
        number(_percent(found.retransmission_share), 2),
        number(_percent(found.residual_bler), 3),
        DASH if delays is None else " / ".join(number(ms, 2) for ms in (delays.p50, delays.p95, delays.p99)),
        number(_percent(found.stalled_slot_share), 2),
        number(_percent(found.decided_share), 0),
        number(found.mean_mcs, 2),
    ]
