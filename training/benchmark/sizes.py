"""How large the runs of a benchmark are."""

import math

from pydantic import BaseModel, ConfigDict, Field


class Sizes(BaseModel):
    """How many links a run has, and how long it takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    links: int = Field(default=512, ge=1, description="links per scenario and seed")
    duration_ms: float = Field(default=4000, gt=0, description="simulated time [ms], warm-up included")
    warmup_ms: float = Field(default=250, ge=0, description="first part of the run, which is not counted [ms]")
    bank_rows: int = Field(default=64, ge=1, description="UEs of a fading bank, from which links take their fading")
    bank_slots: int = Field(default=4096, ge=1, description="length of a fading bank [slots]")

    def in_slots(self, slot_us: float, period_slots: int) -> tuple[int, int]:
        """Slots of the warm-up and in all, as multiples of the E2 period, so that every policy has the same."""
        warmup, counted = (
            max(1, math.ceil(ms * 1e3 / slot_us / period_slots)) * period_slots
            for ms in (self.warmup_ms, self.duration_ms - self.warmup_ms)
        )
        return warmup, warmup + counted


class SeededSizes(Sizes):
    """How large the runs are, and how many seeds they have."""

    seeds: int = Field(default=5, ge=1, description="number of seeds")

    @property
    def of_a_run(self) -> Sizes:
        """The sizes alone."""
        return Sizes.model_validate(self.model_dump(include=set(Sizes.model_fields)))
