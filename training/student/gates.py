"""Whether a student may ship, by its own benchmark."""

from collections.abc import Iterable, Iterator

from distila.training.benchmark.results import BenchmarkResults, PolicyFigures
from distila.training.student.recipe import Gates
from distila.xapp.policy.benchmark_figures import timing_title


def failures(gates: Gates, graph_bytes: int, benchmarks: Iterable[BenchmarkResults], policy: str) -> list[str]:
    """Every gate that the student does not pass, a line each; empty: it may ship.

    Args:
        gates: conditions for shipping.
        graph_bytes: size of the graph.
        benchmarks: results of the benchmark, one for each E2 timing.
        policy: the student's name in them.
    """
    found = []
    if graph_bytes > gates.graph_bytes:
        found.append(f"the graph has {graph_bytes} bytes; at most {gates.graph_bytes} are allowed")
    for results in benchmarks:
        title = timing_title(results.settings.e2_period_ms, results.settings.e2_delay_ms)
        for family, outcome in results.against_tuned.families.items():
            found += [f"{title}, {family}: {what}" for what in _of_family(gates, outcome.policies[policy])]
    return found


def _of_family(gates: Gates, figures: PolicyFigures) -> Iterator[str]:
    low, high = figures.gain_vs_olla_pct.ci95
    if gates.never_below and high is not None and high < 0:
        yield f"less goodput than OLLA: {low:+.1f} to {high:+.1f} %"
    excess, (least, _) = figures.residual_vs_olla.mean, figures.residual_vs_olla.ci95
    if excess is not None and least is not None and least > 0 and excess > gates.residual_excess:
        yield f"residual BLER is {excess:.1e} above OLLA's; at most {gates.residual_excess:.1e} is allowed"
