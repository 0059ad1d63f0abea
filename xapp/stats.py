"""Statistics of a decision loop: counts by reason, and latency by stage. Every drop is counted."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from pydantic import BaseModel, Field

from distila.xapp.nr.arrays import Float64Array
from distila.xapp.result_file import ResultModel

Reasons = dict[str, int]
"""Counts by reason; `distila.replay.reasons` explains each."""

STAGES: Final = ("decode", "state", "infer", "guard", "encode", "total")
"""Stages of one decision; ``total`` is from the indication's octets to those of the control message."""


_BUCKETS: Final = 22  # up to two seconds


class Percentiles(ResultModel):
    """Durations [us]; null where nothing was recorded."""

    p50: float | None = Field(description="median [us]")
    p99: float | None = Field(description="99th percentile [us]")
    max: float | None = Field(description="longest [us]")


class LatencyRecorder:
    """The latest samples of one duration [us] in a ring, with maximum, sum and histogram over all of them.

    Args:
        capacity: how many samples percentiles are taken over.

    Attributes:
        count: samples since the start or the latest `clear`.
        max_us: the longest of them.
        total, sum_us: how many samples there ever were, and their sum.
    """

    def __init__(self, capacity: int = 1 << 17) -> None:
        self._ring = np.zeros(capacity, np.float32)
        # By the number of bits of the microseconds: i holds 2 ** (i - 1) us and more, but less than 2 ** i us.
        self._buckets = [0] * (_BUCKETS + 1)
        self.total = 0
        self.sum_us = 0.0
        self.count = 0
        self.max_us = 0.0

    def add(self, duration_us: float) -> None:
        """Record one duration."""
        self._ring[self.count % len(self._ring)] = duration_us
        self.count += 1
        if duration_us > self.max_us:
            self.max_us = duration_us
        self._buckets[min(int(duration_us).bit_length(), _BUCKETS)] += 1
        self.total += 1
        self.sum_us += duration_us

    def cumulative(self) -> list[tuple[int, int]]:
        """Edges [us], powers of two, and how many samples were shorter: never falls, whatever `clear` does."""
        edges, below = [], 0
        for power, count in enumerate(self._buckets[:-1]):
            below += count
            edges.append((2**power, below))
        return edges

    def clear(self) -> None:
        """Forget the samples that percentiles are taken over, as after a warm-up."""
        self.count = 0
        self.max_us = 0.0

    def samples_us(self) -> Float64Array:
        """The samples kept, in no particular order."""
        return self._ring[: min(self.count, len(self._ring))].astype(np.float64)

    def summary(self) -> Percentiles:
        """Percentiles of the samples kept, and the longest since the latest `clear`."""
        if self.count == 0:
            return Percentiles(p50=None, p99=None, max=None)
        p50, p99 = np.percentile(self.samples_us(), [50, 99])
        return Percentiles(p50=round(float(p50), 1), p99=round(float(p99), 1), max=round(self.max_us, 1))


class LoopSummary(BaseModel):
    """Counters and latencies of a decision loop at one time, see `LoopStats`; null: not known from outside the xApp."""

    indications: int = Field(description="indications decided on")
    decisions: int = Field(description="UE decisions sent, native ones included")
    native: int | None = Field(default=None, description="UE decisions by which the DU decides itself")
    dropped: Reasons = Field(default_factory=dict, description="indications without a decision, by reason")
    guarded: Reasons | None = Field(default=None, description="UE decisions that the guard changed, by reason")
    noticed: Reasons | None = Field(
        default=None, description="irregularities that do not drop an indication, by reason"
    )
    outcomes: Reasons | None = Field(default=None, description="UE decisions by the outcome that the E2 node reported")
    latency_us: dict[str, Percentiles] = Field(default_factory=dict, description="duration of each stage [us]")
    lost: Reasons = Field(default_factory=dict, description="messages and connections that were lost, by reason")


@dataclass
class LoopStats:
    """Counters of one decision loop.

    Attributes:
        indications: indications decided on.
        decisions: UE decisions sent, native ones included.
        native: those of them by which the DU decides itself.
        dropped: indications not decided on, by reason.
        guarded: UE decisions the guard changed, by reason (see `distila.xapp.policy.guard`), and trips of its breaker.
        noticed: irregularities that do not drop an indication, by reason: UEs left out, values out of range, gaps.
        outcomes: UE decisions by the outcome that the E2 node reported.
        latency: by stage.
    """

    indications: int = 0
    decisions: int = 0
    native: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    guarded: Counter[str] = field(default_factory=Counter)
    noticed: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    latency: dict[str, LatencyRecorder] = field(default_factory=lambda: {stage: LatencyRecorder() for stage in STAGES})

    def summary(self) -> LoopSummary:
        """The counters and latencies now."""
        return LoopSummary(
            indications=self.indications,
            decisions=self.decisions,
            native=self.native,
            dropped=summed(self.dropped),
            guarded=summed(self.guarded),
            noticed=summed(self.noticed),
            outcomes=summed(self.outcomes),
            latency_us={stage: recorder.summary() for stage, recorder in self.latency.items()},
        )


def summed(*counters: Mapping[str, int]) -> Reasons:
    """The sum of counters, by reason. Each is copied first, because another thread may be counting."""
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(dict(counter))
    return dict(sorted(total.items()))
