"""Prometheus metrics of the xApp, ``distila_...``, read only when they are scraped.

Names and labels are explained in docs/ric.md. The reasons are those of `distila.replay.reasons`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from distila.xapp.stats import LoopStats, LoopSummary

_BY_REASON: Final = {
    "dropped": ("indications", "Indications without a decision."),
    "guarded": ("ue_decisions", "UE decisions that the guard changed, and trips of its breaker."),
    "noticed": ("events", "Irregularities that do not drop an indication."),
    "outcomes": ("ue_decisions", "UE decisions by the outcome that the E2 node reported."),
    "lost": ("messages", "Messages and connections that were lost."),
}


class XappCollector(Collector):
    """Counters of the decision loop and its transport.

    Args:
        loop: counters and latencies of the decision loop.
        stats: gives all counters by group, as `distila.xapp.app.Xapp.stats`.
        policy: gives arm, name, version and digest of the policy in force.
        controls: control requests by result; empty if the transport does not report it.
        states: gauges by name, each read when scraped.
        events: counters by name and event, such as reloads.
    """

    def __init__(
        self,
        loop: LoopStats,
        stats: Callable[[], LoopSummary],
        policy: Callable[[], Mapping[str, str]],
        controls: Mapping[str, int],
        states: Mapping[str, Callable[[], float]],
        events: Mapping[str, Mapping[str, int]],
    ) -> None:
        self._loop = loop
        self._stats = stats
        self._policy = policy
        self._controls = controls
        self._states = states
        self._events = events

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        stats = self._stats()
        for name, text in (
            ("indications", "Indications decided on."),
            ("decisions", "UE decisions made, native ones included."),
            ("native", "UE decisions by which the DU decides itself."),
        ):
            yield CounterMetricFamily(f"distila_{name}", text, getattr(stats, name))
        for group, (what, text) in _BY_REASON.items():
            yield _by_label(f"distila_{group}_{what}", text, "reason", getattr(stats, group))
        yield _by_label("distila_control_requests", "Control requests by result.", "result", dict(self._controls))
        latency = HistogramMetricFamily(
            "distila_latency_seconds", "Time taken by each stage of a decision.", labels=["stage"]
        )
        for stage, recorder in self._loop.latency.items():
            buckets = [(str(edge_us / 1e6), float(count)) for edge_us, count in recorder.cumulative()]
            latency.add_metric([stage], [*buckets, ("+Inf", recorder.total)], recorder.sum_us / 1e6)
        yield latency
        policy = self._policy()
        info = GaugeMetricFamily("distila_policy_info", "The policy that decides.", labels=list(policy))
        info.add_metric(list(policy.values()), 1)
        yield info
        for name, read in self._states.items():
            yield GaugeMetricFamily(f"distila_{name}", name.replace("_", " ").capitalize() + ".", read())
        for name, counts in self._events.items():
            yield _by_label(f"distila_{name}_events", f"Events of {name}, by result.", "result", dict(counts))


def _by_label(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for reason, count in sorted(counts.items()):
        family.add_metric([reason], count)
    return family


def metrics_router(registry: CollectorRegistry) -> APIRouter:
    """``/ric/v1/metrics``, and ``/metrics`` where scrapers look first."""
    router = APIRouter()

    # A plain function: it runs on a thread, and the server stays free while the numbers are put together.
    @router.get("/ric/v1/metrics")
    @router.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
