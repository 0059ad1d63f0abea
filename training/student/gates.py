"""The judgement of a student by its own benchmark: what fails here does not ship."""

from collections.abc import Iterator, Mapping
from typing import Any

from distila.training.student.recipe import Gates


def failures(gates: Gates, graph_bytes: int, benchmarks: Mapping[str, Mapping[str, Any]], policy: str) -> list[str]:
    """What does not pass, a line each; empty: it may ship.

    Args:
        gates: what must be.
        graph_bytes: size of the graph.
        benchmarks: contents of results.json by what was run.
        policy: the student's name in them.
    """
    found = []
    if graph_bytes > gates.graph_bytes:
        found.append(f"the graph has {graph_bytes} bytes, at most {gates.graph_bytes} may be")
    for run, results in benchmarks.items():
        for family, figures in results["families"].items():
            found += [f"{run}, {family}: {what}" for what in _of_family(gates, figures["policies"][policy])]
    return found


def _of_family(gates: Gates, figures: Mapping[str, Any]) -> Iterator[str]:
    low, high = figures["gain_vs_olla_pct"]["ci95"]
    if gates.never_below and high is not None and high < 0:
        yield f"less goodput than OLLA: {low:+.1f} to {high:+.1f} %"
    excess, (least, _) = figures["residual_vs_olla"]["mean"], figures["residual_vs_olla"]["ci95"]
    if excess is not None and least is not None and least > 0 and excess > gates.residual_excess:
        yield f"more blocks given up than under OLLA, by {excess:.1e}; {gates.residual_excess:.1e} is let pass"
