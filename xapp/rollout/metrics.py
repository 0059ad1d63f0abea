"""The rollout's metrics for Prometheus, read only when they are scraped."""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from distila.xapp.rollout.controller import RolloutController
from distila.xapp.rollout.plan import CONTROL
from distila.xapp.rollout.verdict import Verdict

STATUSES: Final = ("none", "running", "paused", "held", "promoted", "rolled_back", "aborted")


class RolloutCollector(Collector):
    """Gauges and counters of one replica's rollout.

    ``registry.register(RolloutCollector(controller))`` with the xApp's own registry.
    """

    def __init__(self, controller: RolloutController) -> None:
        self._controller = controller

    def describe(self) -> list[Metric]:
        """Empty: which metrics there are depends on the plan."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The present metrics."""
        seen = self._controller.status()
        status = GaugeMetricFamily("distila_rollout_status", "1 for the status the rollout is in", labels=["status"])
        for name in STATUSES:
            status.add_metric([name], float(seen.status == name))
        yield status
        yield GaugeMetricFamily("distila_rollout_ready", "1: the rollout works on this replica", seen.ready)
        trouble = GaugeMetricFamily(
            "distila_rollout_trouble", "1: this part keeps the rollout from working", labels=["what"]
        )
        for what in ("store", "bundle", "internal"):
            trouble.add_metric([what], float(what in seen.trouble))
        yield trouble
        yield CounterMetricFamily(
            "distila_rollout_store_losses",
            "How often the store became unreachable",
            value=self._controller.store_losses,
        )
        transitions = CounterMetricFamily("distila_rollout_transitions", "Audit entries seen", labels=["what"])
        for what, count in sorted(self._controller.transitions.items()):
            transitions.add_metric([what], count)
        yield transitions
        if seen.status == "none":
            return
        plan = [seen.plan]
        for name, text, value in (
            ("stage", "Number of the stage, from 0", seen.stage),
            ("interval", "Evaluations since the start", seen.interval),
            ("version", "Commits, and entries of the audit log", seen.version),
        ):
            gauge = GaugeMetricFamily(f"distila_rollout_{name}", text, labels=["plan"])
            gauge.add_metric(plan, float(value))
            yield gauge
        share = GaugeMetricFamily("distila_rollout_share_percent", "Share of the units", labels=["plan", "arm"])
        for arm, percent in seen.share_pct.items():
            share.add_metric([*plan, arm], percent)
        yield share
        for name, text, counts in (
            ("exposure", "Unit intervals counted, over all replicas", seen.exposure),
            ("units", "Units seen in this stage, over all replicas", seen.units_in_stage),
        ):
            gauge = GaugeMetricFamily(f"distila_rollout_{name}", text, labels=["plan", "arm"])
            for arm, count in counts.items():
                gauge.add_metric([*plan, arm], count)
            yield gauge
        yield from _findings(plan, seen.verdict)
        shadow = CounterMetricFamily(
            "distila_rollout_shadow", "Decisions of shadow arms, never sent", labels=["plan", "arm", "what"]
        )
        for arm, counts in seen.shadow.items():
            for what in ("decisions", "native", "same"):
                shadow.add_metric([*plan, arm, what], counts.get(what, 0))
        yield shadow


def _findings(plan: list[str], verdict: Verdict | None) -> Iterator[Metric]:
    labels = ["plan", "arm", "metric"]
    value = GaugeMetricFamily("distila_rollout_metric", "Value of a metric", labels=labels)
    bounds = {
        name: GaugeMetricFamily(f"distila_rollout_{name}", text, labels=labels)
        for name, text in (
            ("difference", "Challenger minus control, adjusted"),
            ("low", "Lower end of the confidence sequence"),
            ("high", "Upper end of the confidence sequence"),
            ("harm", "1: the whole confidence sequence is worse by more than the margin"),
        )
    }
    for finding in [] if verdict is None else verdict.findings:
        names = [*plan, finding.challenger, finding.metric]
        if finding.value is not None and finding.control is not None:
            value.add_metric(names, finding.value)
            value.add_metric([*plan, CONTROL, finding.metric], finding.control)
        for name, bound in (("difference", finding.difference), ("low", finding.low), ("high", finding.high)):
            if bound is not None:
                bounds[name].add_metric(names, bound)
        bounds["harm"].add_metric(names, float(finding.state == "harm"))
    yield value
    yield from bounds.values()
