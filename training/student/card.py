"""The model card: how a policy was made, how good it is, and its limits, on one page of Markdown."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from distila.training.benchmark.comparison import TEXTBOOK
from distila.training.benchmark.results import BenchmarkResults, PolicyFigures
from distila.training.distill.distill import DistillConfig
from distila.training.student.recipe import Recipe
from distila.xapp.files import write_text
from distila.xapp.policy.benchmark_figures import group_title, interval_text, timing_title
from distila.xapp.policy.bundle import Bundle
from distila.xapp.policy.shape_report import ShapeReport
from distila.xapp.policy.shape_text import choices_table, findings, unknown_table

CARD_FILE: Final = "card.md"


def write_card(
    path: Path,
    recipe: Recipe,
    bundle: Bundle,
    benchmarks: Iterable[BenchmarkResults],
    failed: Sequence[str],
    shape: ShapeReport,
) -> None:
    """Write the card.

    Args:
        path: the Markdown file.
        recipe: by which the policy was made.
        bundle: the policy.
        benchmarks: results of the benchmark, one for each E2 timing.
        failed: gates that the policy did not pass, see `distila.training.student.gates`.
        shape: the policy's shape, see `distila.xapp.policy.shape`.
    """
    sections = (_head(recipe, bundle), _verdict(failed), _tables(benchmarks), _shape(shape), _making(recipe, bundle))
    text = "\n".join([*itertools.chain(*sections), ""])
    write_text(path, text)


def _head(recipe: Recipe, bundle: Bundle) -> list[str]:
    manifest, latency = bundle.manifest, bundle.manifest.latency_us
    kinds = [action.kind for action in manifest.actions]
    offsets = [action.value for action in manifest.actions if action.kind == "mcs_offset"]
    actions = f"{kinds.count('mcs')} absolute MCS"
    if offsets:
        actions += f", offsets {min(offsets):+d} to {max(offsets):+d} to the DU's own choice"
    return [
        f"# {recipe.name} {recipe.version}",
        "",
        recipe.description,
        "",
        "| | |",
        "|---|---|",
        f"| sha256 of the graph | `{bundle.digest}` |",
        f"| size | {bundle.graph_bytes} bytes |",
        f"| one `session.run`, 1 UE | p50 {latency.get('1_ue_p50')} us, p99 {latency.get('1_ue_p99')} us |",
        f"| one `session.run`, 100 UEs | p50 {latency.get('100_ue_p50')} us, p99 {latency.get('100_ue_p99')} us |",
        f"| inputs | {len(manifest.columns)} report columns, each of which may be missing |",
        f"| memory per UE | {manifest.state_size} numbers |",
        f"| actions | {actions} |",
        f"| MCS tables (TS 38.214) | {', '.join(map(str, manifest.mcs_tables))} |",
        "",
    ]


def _verdict(failed: Sequence[str]) -> list[str]:
    if not failed:
        return ["The policy passed its benchmark.", ""]
    return ["**The policy did not pass its benchmark and must not ship:**", "", *(f"- {line}" for line in failed), ""]


def _tables(benchmarks: Iterable[BenchmarkResults]) -> list[str]:
    lines = ["## Figures", ""]
    lines += [
        "Gain in goodput over OLLA in the DU, tuned for goodput at whatever BLER that takes [%], with its 95 %"
        " interval, on test seeds. A dagger (†) marks families that are not in training. *At equal BLER* is the"
        " policy's gain over OLLA of the BLER target nearest to the policy's BLER; `!` marks a gain that is bought with"
        " a higher BLER than OLLA's highest target comes to. The last two columns show the policy's figure and OLLA's.",
    ]
    for results in benchmarks:
        settings = results.settings
        size = f"{settings.links} links of {settings.duration_ms / 1000:g} s, {len(settings.seeds)} seeds"
        title = timing_title(settings.e2_period_ms, settings.e2_delay_ms)
        reference = settings.reference
        compared = results.against_tuned
        ran = next(iter(compared.families.values())).policies
        policies = [name for name in ran if name not in (reference, TEXTBOOK)]
        lines += ["", f"### {title[0].upper()}{title[1:]} ({size})", ""]
        heads = [*policies, f"{policies[0]} at equal BLER", "first-tx BLER / OLLA", "residual BLER / OLLA"]
        lines += [f"| family | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
        for name, family in compared.families.items():
            cells = [interval_text(family.policies[policy].gain_vs_olla_pct) for policy in policies]
            ours, theirs = family.policies[policies[0]], family.policies[reference]
            first = " / ".join("-" if x is None else f"{x:.2f}" for x in (ours.first_tx_bler, theirs.first_tx_bler))
            lost = " / ".join("-" if x is None else f"{x:.1e}" for x in (ours.residual_bler, theirs.residual_bler))
            cells.append(_equal_bler(ours))
            mark = " †" if family.unseen else ""
            lines += [f"| `{name}`{mark} | {' | '.join(cells)} | {first} | {lost} |"]
        for group, average in compared.averages.items():
            cells = [interval_text(average.policies[policy]) for policy in policies]
            cells.append(interval_text(average.equal_bler[policies[0]]) if average.equal_bler else "-")
            lines += [f"| *mean over {group_title(group)}* | {' | '.join(cells)} | | |"]
    return [*lines, ""]


def _equal_bler(figures: PolicyFigures) -> str:
    gain = figures.equal_bler_gain
    return "-" if gain is None else interval_text(gain) + (" !" if gain.kind == "bought_with_bler" else "")


def _shape(shape: ShapeReport) -> list[str]:
    title, columns, rows = choices_table(shape.cqi_order.typical)
    lines = [
        "## Shape of the choice",
        "",
        "What `distila policy check` found (docs/policy-bundle.md says what is tested):",
        "",
        "| test | result | found |",
        "|---|---|---|",
        *(f"| {' | '.join(finding)} |" for finding in findings(shape)),
        "",
        f"{title[0].upper()}{title[1:]}:",
        "",
        _row(columns),
        "|---" * len(columns) + "|",
        *map(_row, rows),
        "",
    ]
    if shape.unknown_columns is not None and shape.unknown_columns.cases:
        title, columns, rows = unknown_table(shape.unknown_columns)
        lines += [
            f"{title[0].upper()}{title[1:]}:",
            "",
            _row(columns),
            "|---" * len(columns) + "|",
            *map(_row, rows),
            "",
        ]
    return lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace(chr(10), ' ') for cell in cells)} |"


def _making(recipe: Recipe, bundle: Bundle) -> list[str]:
    config = DistillConfig.model_validate(bundle.manifest.training["config"])
    scenarios = ", ".join(f"`{name}`" for name in dict.fromkeys(config.scenarios))
    return [
        "## How it was made",
        "",
        f"`distila student build --recipe {recipe.name}` trains a privileged teacher (configuration "
        f"`{recipe.teacher}`) and distils it (configuration `{recipe.student}`) into a network with hidden layers "
        f"{list(config.network.hidden)}, over {config.episodes} episodes of {config.links} links and "
        f"{config.slots} slots. The {config.driver} chooses the MCS in these episodes. Scenarios: {scenarios}.",
        "",
        "## Limits",
        "",
        "- The policy was trained and measured in simulation (docs/simulator.md), where BLER curves, HARQ combining "
        "and channels are models. Try it in shadow mode or on a small share of UEs first.",
        "- The policy maximises goodput. Its first transmissions fail more often than OLLA's where a retransmission "
        "costs less than a lower MCS, so it is not meant for latency-critical slices.",
        "- Other MCS tables, CQI tables, carriers and numerologies than those above were not tested.",
    ]
