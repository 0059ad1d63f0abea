"""`distila policy`: look at a policy bundle, and check it."""

import sys
from typing import Annotated

import numpy as np
import typer

from distila.xapp.commands import SUMMARIES
from distila.xapp.commands.application import application
from distila.xapp.commands.terminal import print_json, print_records, print_table, stdout
from distila.xapp.errors import InputError
from distila.xapp.policy.benchmark_figures import BenchmarkRun, group_title, interval_text, timing_title
from distila.xapp.policy.bundle import BUNDLES, Bundle, load_bundle, run_times_us
from distila.xapp.policy.check import PolicyCheck, tested_shape
from distila.xapp.policy.shape_report import ShapeReport
from distila.xapp.policy.shape_text import choices_table, findings, sparkline, unknown_table

app = application(SUMMARIES["policy"].text, no_args_is_help=True)

_Bundle = Annotated[str, typer.Argument(help="Directory of a bundle, or the name of one that ships with distila.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def info(bundle: _Bundle, json: _Json = False) -> None:
    """Print what a bundle says about itself."""
    loaded = load_bundle(bundle)
    facts = _facts(loaded)
    if json:
        print_json({**facts, "manifest": loaded.manifest.model_dump(mode="json", exclude={"golden"})})
        return
    manifest = loaded.manifest
    rows = [[name.replace("_", " "), str(value)] for name, value in facts.items()]
    rows += [[f"latency [us]: {name}", str(value)] for name, value in manifest.latency_us.items()]
    rows += [[f"other figure: {name}", str(value)] for name, value in manifest.other_figures.items()]
    nested = [name for name, value in manifest.training.items() if isinstance(value, dict)]
    rows += [[f"training: {name}", str(value)] for name, value in manifest.training.items() if name not in nested]
    if nested:
        rows.append(["more about the training", f"{', '.join(nested)} (printed with --json)"])
    print_table(f"{manifest.name} {manifest.version}: {manifest.description}", ["what", "value"], rows)
    for run in manifest.benchmark.values():
        title = timing_title(run.e2_period_ms, run.e2_delay_ms)
        sizes = f"{run.links} links of {run.duration_ms / 1000:g} s, {len(run.seeds)} seeds, {run.split} split"
        columns = ["", "gain over OLLA [%]", "first-transmission BLER", "residual BLER"]
        print_table(f"benchmark, {title}; {sizes}", columns, _figures(run))


@app.command()
def check(
    bundle: _Bundle,
    json: _Json = False,
    runs: Annotated[int, typer.Option(min=10, help="Timed calls of the graph for each batch size.")] = 2000,
    strict: Annotated[
        bool, typer.Option(help="Exit with status 1 if a shape test fails, or could not be run here.")
    ] = False,
) -> None:
    """Check digest, contract, shapes and golden vectors, time the graph on this machine, and test the policy's shape.

    If the bundle breaks the contract, prints one line that says what is wrong, and exits with status 1. The shape tests
    ask how the choice moves with CQI, NACKs and unknown columns, in states that episodes reach: what they find
    is printed, and changes the exit status with --strict only.
    """
    path = BUNDLES.find(bundle)
    try:
        loaded = load_bundle(path)
    except InputError as error:
        print(f"rejected: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    latency = {f"{ues}_ue": _time_us(loaded, ues, runs) for ues in (1, 10, 100)}
    checks = ["sha256", "contract", "tensor shapes", f"{len(loaded.manifest.golden.action)} golden vectors"]
    shape, not_run = tested_shape(loaded)
    result = PolicyCheck.model_validate(
        {
            **_facts(loaded),
            "checks_passed": checks,
            "latency_us": latency,
            "shape": shape,
            "shape_passed": shape.passed,
            "shape_not_run": not_run,
        }
    )
    if json:
        print(result.json_text(), end="")
    else:
        rows = [[name, "passed"] for name in checks]
        rows += [
            [f"session.run, {name.replace('_ue', ' UE')}", f"p50 {us['p50']:.1f} us, p99 {us['p99']:.1f} us"]
            for name, us in latency.items()
        ]
        print_table(f"{loaded.path}", ["check", "result"], rows)
        _print_shape(shape, not_run)
    if strict and (not_run or not shape.passed):
        raise typer.Exit(1)


def _print_shape(shape: ShapeReport, not_run: str | None) -> None:
    stdout.print("shape of the policy's choice, in states that episodes reach", style="bold")
    print_records([list(finding) for finding in findings(shape, not_run or "")])
    stdout.print()
    choices = shape.cqi_order.typical
    print_table(*choices_table(choices))
    print_records([["policy", sparkline(choices.mcs)], ["OLLA", sparkline(choices.olla_mcs)]])
    stdout.print()
    if shape.unknown_columns is not None and shape.unknown_columns.cases:
        print_table(*unknown_table(shape.unknown_columns))


def _figures(run: BenchmarkRun) -> list[list[str]]:
    """Rows of a run: the mean gains over groups of families, then each family."""
    rows = [
        [f"mean over {group_title(group)}", interval_text(average), "", ""] for group, average in run.averages.items()
    ]
    for name, figures in run.families.items():
        bler = "-" if figures.first_tx_bler is None else f"{figures.first_tx_bler:.2f}"
        residual = "-" if figures.residual_bler is None else f"{figures.residual_bler:.1e}"
        rows.append([name, interval_text(figures.gain_vs_olla_pct), bler, residual])
    return rows


def _facts(bundle: Bundle) -> dict[str, object]:
    manifest = bundle.manifest
    return {
        "path": str(bundle.path),
        "contract": manifest.contract,
        "graph_bytes": bundle.graph_bytes,
        "sha256": manifest.sha256,
        "columns": len(manifest.columns),
        "state_size": manifest.state_size,
        "actions": len(manifest.actions),
        "mcs_tables": list(manifest.mcs_tables),
    }


def _time_us(bundle: Bundle, ues: int, runs: int) -> dict[str, float]:
    """p50 and p99 of one call of the graph [us], on the golden reports repeated to the batch size."""
    golden = bundle.manifest.golden
    report = np.array([[np.nan if x is None else x for x in row] for row in golden.report], np.float32)
    state = np.array(golden.state, np.float32).reshape(len(report), -1)
    pick = np.arange(ues) % len(report)
    return run_times_us(bundle, report[pick], state[pick], runs)
