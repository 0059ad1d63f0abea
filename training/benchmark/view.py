"""A benchmark as its reports need it: differences with verdicts, the order of policies, and how each is drawn.

Every policy keeps its colour and its marker everywhere; genies are grey.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from distila.replay.page.palette import AGAINST, GREY, SECOND_GENIE_COLOUR, Look, series_look
from distila.replay.page.verdict import Difference
from distila.training.baselines import GENIES
from distila.training.benchmark.results import (
    BenchmarkResults,
    Comparison,
    FamilyResults,
    GroupAverages,
    PolicyFigures,
)
from distila.xapp.result_file import Estimate

Figure = Literal["goodput", "goodput_p5", "first_tx_bler", "residual_bler", "genie_share_pct", "mean_mcs"]
"""Figures of a policy in a family that are one number."""

_GENIES: Final = (Look(GREY, "x", "dot"), Look(SECOND_GENIE_COLOUR, "x", "dot"))

REAL_TIME, SLOW, MIXED = "real_time", "slow", "mixed"
"""Pace of E2, see `BenchmarkView.pace`; figures of one say nothing about another."""
_REAL_TIME_SLOTS: Final = 2
UNSEEN: Final = "\u2020"
"""Marks the name of a family that is not in training."""


@dataclass(frozen=True)
class BenchmarkView:
    """A comparison of policies as its reports need it."""

    comparison: Comparison
    reference: str
    """name of the policy that the others are compared with"""

    @classmethod
    def of(cls, results: BenchmarkResults) -> "BenchmarkView":
        """The view of a whole result file."""
        return cls(results, results.settings.reference)

    @property
    def families(self) -> dict[str, FamilyResults]:
        """By name, in the order of the results."""
        return self.comparison.families

    @property
    def averages(self) -> dict[str, GroupAverages]:
        """Mean gains by name of the group of families."""
        return self.comparison.averages

    @cached_property
    def policies(self) -> list[str]:
        """The reference, then the others as the results have them, genies last; not every family need have all."""
        names = dict.fromkeys(name for family in self.families.values() for name in family.policies)
        return sorted(names, key=lambda name: (name != self.reference, self.is_genie(name)))

    @property
    def others(self) -> list[str]:
        """All policies but the reference."""
        return [name for name in self.policies if name != self.reference]

    @cached_property
    def looks(self) -> dict[str, Look]:
        """How each policy is drawn."""
        looks: dict[str, Look] = {}
        series = genies = 0
        for name in self.policies:
            if name == self.reference:
                looks[name] = AGAINST
            elif self.is_genie(name):
                looks[name] = _GENIES[genies % len(_GENIES)]
                genies += 1
            else:
                looks[name] = series_look(series)
                series += 1
        return looks

    def is_genie(self, policy: str) -> bool:
        """Whether the policy knows the channel in advance."""
        return any(outcome.base in GENIES for outcome in self._outcomes(policy))

    def is_xapp(self, policy: str) -> bool:
        """Whether the policy gets its reports over E2."""
        return "xapp" in self.seats(policy)

    def seats(self, policy: str) -> list[str]:
        """Where the policy sits; as a rule the same in all families."""
        return list(dict.fromkeys(outcome.seat for outcome in self._outcomes(policy)))

    def _outcomes(self, policy: str) -> list[PolicyFigures]:
        return [family.policies[policy] for family in self.families.values() if policy in family.policies]

    @cached_property
    def by_pace(self) -> dict[str, list[str]]:
        """The families of each pace of E2 that occurs, real-time ones first."""
        paces = {name: self.pace(name) for name in self.families}
        groups = {pace: [name for name in paces if paces[name] == pace] for pace in (REAL_TIME, SLOW, MIXED)}
        return {pace: names for pace, names in groups.items() if names}

    def pace(self, family: str) -> str:
        """Real-time where E2 reports come every slot or two, else slow; mixed where the results have no one period."""
        about = self.families[family]
        if about.e2_period_ms is None or about.slot_us is None:
            return MIXED
        most_us = _REAL_TIME_SLOTS * about.slot_us * (1 + 1e-9)
        return REAL_TIME if 1e3 * about.e2_period_ms <= most_us else SLOW

    def outcome(self, family: str, policy: str) -> PolicyFigures | None:
        """Figures of the policy in the family; None where it did not run."""
        return self.families[family].policies.get(policy)

    def gain(self, family: str, policy: str) -> Difference:
        """Gain over the reference [%]."""
        outcome = self.outcome(family, policy)
        return difference(None if outcome is None else outcome.gain_vs_olla_pct)

    def residual(self, family: str, policy: str) -> Difference:
        """Residual BLER minus the reference's [% points] with its interval."""
        outcome = self.outcome(family, policy)
        change = difference(None if outcome is None else outcome.residual_vs_olla)
        return Difference(100 * change.mean, 100 * change.low, 100 * change.high, less_is_better=True)

    def value(self, family: str, policy: str, figure: Figure, scale: float = 1.0) -> float:
        """One figure, scaled; NaN where there is none."""
        outcome = self.outcome(family, policy)
        return scale * figure_of(None if outcome is None else getattr(outcome, figure))

    def label(self, family: str) -> str:
        """Name of the family, with a mark where it is not in training."""
        return family + (f" {UNSEEN}" if self.families[family].unseen else "")


def difference(estimate: Estimate | None) -> Difference:
    """An estimate as the report kit takes it; None: nothing is known."""
    return Difference.of(None, None) if estimate is None else Difference.of(estimate.mean, estimate.ci95)


def figure_of(value: float | None) -> float:
    """The number; NaN for None."""
    return math.nan if value is None else value
