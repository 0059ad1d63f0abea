"""What both pages of a benchmark say about the run: its size, families, seats, and the settings of every policy."""

from dataclasses import replace
from typing import Final

from distila.replay.page.number_text import DASH, counted, number, setting, significant
from distila.replay.page.table import Cell, Column, Row, Table, difference_cell, settings_table
from distila.replay.page.verdict import Difference, Kind
from distila.training.benchmark.averages import distinct
from distila.training.benchmark.results import BenchmarkResults, GroupAverages
from distila.training.benchmark.verdict import COUNTED, PACES, SEATS, count_text, counts, decided_text
from distila.training.benchmark.view import MIXED, BenchmarkView
from distila.xapp.policy.benchmark_figures import group_title

_NOTHING: Final = Cell("decided nothing", note="the DU's OLLA", kind="nothing-decided")


def eyebrow(results: BenchmarkResults, bench: BenchmarkView) -> str:
    """What was run, in one line."""
    settings = results.settings
    parts = ["distila benchmark", counted(len(bench.families), "family", "families")]
    parts.append(counted(len(bench.policies), "policy", "policies"))
    parts.append(f"{settings.links:,} links of {settings.duration_ms / 1000:g} s")
    if len(settings.seeds) > 1:
        parts.append(counted(len(settings.seeds), "seed"))
    return " · ".join(parts)


def seat_text(bench: BenchmarkView, policy: str) -> str:
    """Where the policy decides."""
    return " / ".join(SEATS.get(seat, seat) for seat in bench.seats(policy)) or DASH


def family_cell(bench: BenchmarkView, family: str, note: str = "") -> Cell:
    """A family as the head of a row."""
    about = bench.families[family]
    return Cell(family, badge="unseen" if about.unseen else "", note=note, title=about.description)


def gain_cell(bench: BenchmarkView, family: str, policy: str, gain: Difference, kind: Kind, unit: str = "") -> Cell:
    """A policy's gain in a family, which is not its own where it decided nothing."""
    return _NOTHING if family in bench.undecided(policy) else difference_cell(gain, unit=unit, kind=kind)


def mean_cell(bench: BenchmarkView, group: GroupAverages, policy: str) -> Cell:
    """A policy's mean gain over a group of families, and over how many if it did not decide in all."""
    over = group.figures[policy].decided_in if policy in group.figures else len(group.families)
    if not over:
        return _NOTHING
    cell = difference_cell(bench.mean_gain(group, policy), kind=bench.mean_kind(group, policy))
    return cell if over == len(group.families) else replace(cell, note=f"{cell.note}\nover {decided_text(over)}")


def headline_columns(bench: BenchmarkView) -> list[Column]:
    """A column for the family, then one for each policy, in its colour and with where it decides."""
    columns = [Column("family", text=True)]
    for policy in bench.policies:
        role = ", reference" if policy == bench.reference else ", genie" if bench.is_genie(policy) else ""
        columns.append(Column(policy, colour=bench.looks[policy].colour, note=f"{seat_text(bench, policy)}{role}"))
    return columns


def headline_footer(bench: BenchmarkView) -> list[Row]:
    """Mean gains, a row for each group of families; then how many families are better, worse and neither, a row for
    real-time E2 and one for slow E2, never their sum."""
    rows: list[Row] = [
        [
            Cell(f"mean over {group_title(name)}", note=counted(len(group.families), "family", "families")),
            "",
            *(mean_cell(bench, group, policy) for policy in bench.others),
        ]
        for name, group in distinct(bench.averages).items()
    ]
    for pace, families in bench.by_pace.items():
        title = Cell(f"{PACES[pace]}, {counted(len(families), 'family', 'families')}", note=COUNTED)
        rows.append([title, "", *(count_text(counts(bench, policy, families)) for policy in bench.others)])
    return rows


def period_text(bench: BenchmarkView, family: str) -> str:
    """The family's E2 period."""
    if bench.pace(family) == MIXED:
        return PACES[MIXED]
    return f"E2 period {significant(bench.families[family].e2_period_ms)} ms"


def families_table(bench: BenchmarkView) -> Table:
    """What each family is."""
    columns = [Column("family", text=True), Column("slot", "ms"), Column("E2 period", "ms"), Column("E2 delay", "ms")]
    columns += [Column("links"), Column("links with files", "%"), Column("description", text=True)]
    rows: list[Row] = [
        [
            family_cell(bench, name),
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


def setups_table(bench: BenchmarkView) -> Table:
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
        head = Cell(policy, colour=bench.looks[policy].colour, note=seat_text(bench, policy))
        total = number(sum(elapsed_s) if elapsed_s else None, 1)
        for place, (text, names) in enumerate(shared.items()):
            families = "all" if len(shared) == 1 else ", ".join(names)
            settings = Cell(text, code=True) if text else "none"
            rows.append([head if place == 0 else "", families, settings, total if place == 0 else ""])
    return Table(columns, rows, style="list", label="Settings of each policy")


def run_settings_table(results: BenchmarkResults) -> Table:
    """How the benchmark was run."""
    values = {"distila": results.distila, "size": "quick" if results.quick else "full"}
    values |= {name: setting(value) for name, value in results.settings.model_dump(exclude_none=True).items()}
    return settings_table(values.items())
