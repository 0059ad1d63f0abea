"""What a benchmark's charts and its page share: its results with verdicts, the order of policies, and how each looks.

Every policy keeps its colour and its marker everywhere; the reference has the colour that stands for what is compared
with in all reports, genies are grey.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

from distila.replay.report_charts import AGAINST_COLOUR, GREY, POLICY_COLOUR
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

# Told apart by most kinds of colour vision, on light and on dark; markers and dashes help where they are not.
_COLOURS: Final = (
    POLICY_COLOUR, "#12937a", "#a05fc4", "#c8436b", "#8a8a12", "#1796b8", "#9a6446", "#5f6fd0", "#5c9a2c", "#b0528f",
)  # fmt: skip
_SYMBOLS: Final = ("circle", "diamond", "square", "triangle-up", "pentagon", "star", "triangle-down", "hexagram")
_DASHES: Final = ("solid", "dash", "dashdot", "longdash")
_GENIE_COLOURS: Final = (f"rgb({GREY})", "#a8906a")

BETTER, WORSE, UNCLEAR, UNKNOWN = "better", "worse", "unclear", "unknown"
REAL_TIME, SLOW, MIXED = "real_time", "slow", "mixed"
"""Pace of E2, see `BenchmarkView.pace`; figures of one say nothing about another."""
_REAL_TIME_SLOTS: Final = 2
UNSEEN: Final = "\u2020"
"""Marks the name of a family that is not in training."""


@dataclass(frozen=True)
class Look:
    """How a policy is drawn wherever it is drawn."""

    colour: str
    symbol: str
    dash: str

    @property
    def line(self) -> dict[str, Any]:
        """For plotly."""
        return {"color": self.colour, "dash": self.dash, "width": 2}


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
        plain_ones = genies = 0
        for name in self.policies:
            if name == self.reference:
                looks[name] = Look(AGAINST_COLOUR, "line-ns", "dot")
            elif self.is_genie(name):
                looks[name] = Look(_GENIE_COLOURS[genies % len(_GENIE_COLOURS)], "x", "dot")
                genies += 1
            else:
                symbol, dash = _SYMBOLS[plain_ones % len(_SYMBOLS)], _DASHES[plain_ones % len(_DASHES)]
                looks[name] = Look(_COLOURS[plain_ones % len(_COLOURS)], symbol, dash)
                plain_ones += 1
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

    def gain(self, family: str, policy: str) -> "Gain":
        """Gain over the reference."""
        outcome = self.outcome(family, policy)
        return gain_of(None if outcome is None else outcome.gain_vs_olla_pct)

    def residual(self, family: str, policy: str) -> "Gain":
        """Residual BLER minus the reference's [% points] with its interval; here worse is what lies above zero."""
        outcome = self.outcome(family, policy)
        change = gain_of(None if outcome is None else outcome.residual_vs_olla)
        return Gain(100 * change.mean, 100 * change.low, 100 * change.high, less_is_better=True)

    def value(self, family: str, policy: str, figure: Figure, scale: float = 1.0) -> float:
        """One figure, scaled; NaN where there is none."""
        outcome = self.outcome(family, policy)
        return scale * figure_of(None if outcome is None else getattr(outcome, figure))

    def label(self, family: str) -> str:
        """Name of the family, with a mark where it is not in training."""
        return family + (f" {UNSEEN}" if self.families[family].unseen else "")


@dataclass(frozen=True)
class Gain:
    """A gain [%], or another difference, with its 95 % interval; NaN where it is not known."""

    mean: float
    low: float
    high: float
    less_is_better: bool = False

    @property
    def verdict(self) -> str:
        """Better or worse only where the whole interval is; an end at zero is not enough."""
        if math.isnan(self.low) or math.isnan(self.high) or math.isnan(self.mean):
            return UNKNOWN
        if self.low > 0:
            return WORSE if self.less_is_better else BETTER
        if self.high < 0:
            return BETTER if self.less_is_better else WORSE
        return UNCLEAR


def gain_of(estimate: Estimate | None) -> Gain:
    """A gain from an estimate; of None all is unknown."""
    if estimate is None:
        return Gain(math.nan, math.nan, math.nan)
    low, high = estimate.ci95
    return Gain(figure_of(estimate.mean), figure_of(low), figure_of(high))


def figure_of(value: float | None) -> float:
    """The number; NaN for None."""
    return math.nan if value is None else value
