"""A benchmark as its reports need it: differences with verdicts, the order of policies, and how each is drawn.

Every policy keeps its colour and its marker everywhere; genies are grey.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from distila.replay.page.palette import AGAINST, GREY, SECOND_GENIE_COLOUR, Look, series_look
from distila.replay.page.verdict import Difference, Kind
from distila.training.baselines import GENIES
from distila.training.benchmark.results import (
    BenchmarkResults,
    BlockDelays,
    Comparison,
    EqualBlerGain,
    FamilyResults,
    GainKind,
    GroupAverages,
    PolicyFigures,
)
from distila.xapp.result_file import Estimate

Figure = Literal["goodput", "goodput_p5", "first_tx_bler", "residual_bler", "genie_share_pct", "mean_mcs"]
"""Figures of a policy in a family that are one number."""

_GENIES: Final = (Look(GREY, "x", "dot"), Look(SECOND_GENIE_COLOUR, "x", "dot"))

_TEXTBOOK_PCT: Final = "10"
_KINDS: Final[dict[GainKind, Kind]] = {
    "better": "better",
    "worse": "worse",
    "no_difference": "no-difference",
    "nothing_decided": "nothing-decided",
    "bought_with_bler": "bought-with-bler",
}

REAL_TIME, SLOW, MIXED = "real_time", "slow", "mixed"
"""Pace of E2, see `BenchmarkView.pace`; figures of one say nothing about another."""
_REAL_TIME_SLOTS: Final = 2
UNSEEN: Final = "\u2020"
"""Marks the name of a family that is not in training."""


@dataclass(frozen=True)
class BenchmarkView:
    """A comparison of policies as its reports need it.

    Attributes:
        comparison: the figures.
        reference: name of the policy that the others are compared with.
        target: BLER target of the comparison [%]; then `gain` is that at equal BLER. None: there is no target, and
            `gain` is that over the reference, whatever the BLER of either.
    """

    comparison: Comparison
    reference: str
    target: str | None = None

    @classmethod
    def globally_tuned(cls, results: BenchmarkResults) -> "BenchmarkView | None":
        """The comparison with OLLA tuned for goodput; None where there is none."""
        tuned = results.globally_tuned
        return None if tuned is None else cls(tuned, results.settings.reference)

    @classmethod
    def at_targets(cls, results: BenchmarkResults) -> "dict[str, BenchmarkView]":
        """The comparison at each BLER target, by the target in percent, in ascending order."""
        return {target: cls(found, results.settings.reference, target) for target, found in results.targets.items()}

    @classmethod
    def headline(cls, results: BenchmarkResults) -> "BenchmarkView":
        """What the verdicts are about: the target of 10 %, the textbook's, or else the middle one (of two, the lower).

        Without targets it is the only comparison.

        Raises:
            ValueError: the results have no comparison at all.
        """
        views = cls.at_targets(results)
        if views:
            ascending = sorted(views, key=float)
            return views.get(_TEXTBOOK_PCT, views[ascending[(len(ascending) - 1) // 2]])
        tuned = cls.globally_tuned(results)
        if tuned is None:
            raise ValueError("no comparison in these results")
        return tuned

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
        """Gain over the reference [%], at equal BLER where the comparison has a target."""
        return self.same_target_gain(family, policy) if self.target is None else self.equal_bler_gain(family, policy)

    def same_target_gain(self, family: str, policy: str) -> Difference:
        """Gain over the reference [%], whatever BLERs the two reach."""
        outcome = self.outcome(family, policy)
        return difference(None if outcome is None else outcome.gain_vs_olla_pct)

    def equal_bler_gain(self, family: str, policy: str) -> Difference:
        """Gain over OLLA at the BLER that the policy reaches [%]."""
        outcome = self.outcome(family, policy)
        return difference(None if outcome is None else outcome.equal_bler_gain)

    def kind(self, family: str, policy: str) -> Kind:
        """What that gain shows; nothing where the policy decided nothing."""
        outcome = self.outcome(family, policy)
        if outcome is None or not outcome.decided_share:
            return "nothing-decided"
        if self.target is None:
            return self.same_target_kind(family, policy)
        return page_kind("nothing_decided" if outcome.equal_bler_gain is None else outcome.equal_bler_gain.kind)

    def reference_bler(self, family: str, policy: str) -> float:
        """First-transmission BLER of what the gain is over; NaN where there is none."""
        outcome = self.outcome(family, policy)
        if self.target is None or outcome is None:
            return self.value(family, self.reference, "first_tx_bler")
        return figure_of(None if outcome.equal_bler_gain is None else outcome.equal_bler_gain.reference_bler)

    def mean_gain(self, group: GroupAverages, policy: str) -> Difference:
        """Mean gain over a group of families [%], at equal BLER where the comparison has a target."""
        return difference((group.policies if self.target is None else group.equal_bler).get(policy))

    def mean_kind(self, group: GroupAverages, policy: str) -> Kind:
        """What the mean gain shows: bought with BLER where any of its families is."""
        kind = self.mean_gain(group, policy).kind
        bought = any(self.kind(family, policy) == "bought-with-bler" for family in group.families)
        return "bought-with-bler" if bought and kind == "better" else kind

    def same_target_kind(self, family: str, policy: str) -> Kind:
        """What the gain over the reference of the same target shows."""
        outcome = self.outcome(family, policy)
        return "nothing-decided" if outcome is None or not outcome.decided_share else page_kind(outcome.gain_kind)

    def undecided(self, policy: str) -> list[str]:
        """Families in which the policy left every MCS to the DU."""
        return [name for name in self.families if (found := self.outcome(name, policy)) and not found.decided_share]

    def decided(self, policy: str, families: Sequence[str]) -> list[str]:
        """Those of the families whose figures are the policy's own; one where it did not run is not left out."""
        without = set(self.undecided(policy))
        return [family for family in families if family not in without]

    def undecided_because(self, family: str, policy: str) -> str | None:
        """Why the policy could decide nothing in the family; None where it could, or did not run."""
        outcome = self.outcome(family, policy)
        return None if outcome is None else outcome.undecided_because

    def beyond_targets(self, policy: str) -> list[str]:
        """Families in which no target of OLLA comes to the policy's BLER."""
        return [family for family, gain in self._equal_bler_gains(policy).items() if gain.beyond_targets]

    def coarse_references(self, policy: str) -> list[str]:
        """Families in which the policy's BLER lies between two points of OLLA that are far apart."""
        return [family for family, gain in self._equal_bler_gains(policy).items() if gain.coarse_reference]

    def _equal_bler_gains(self, policy: str) -> dict[str, EqualBlerGain]:
        """By family, where the policy decided something."""
        outcomes = {family: self.outcome(family, policy) for family in self.decided(policy, list(self.families))}
        return {
            family: outcome.equal_bler_gain
            for family, outcome in outcomes.items()
            if outcome is not None and outcome.equal_bler_gain is not None
        }

    def block_delay_ms(self, family: str, policy: str) -> BlockDelays | None:
        """Block delay [ms]; None where the policy did not run or nothing was delivered."""
        outcome = self.outcome(family, policy)
        return None if outcome is None else outcome.block_delay_ms

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


def page_kind(kind: GainKind) -> Kind:
    """What a gain shows, as the report kit names it."""
    return _KINDS[kind]


def difference(estimate: Estimate | None) -> Difference:
    """An estimate as the report kit takes it; None: nothing is known."""
    return Difference.of(None, None) if estimate is None else Difference.of(estimate.mean, estimate.ci95)


def figure_of(value: float | None) -> float:
    """The number; NaN for None."""
    return math.nan if value is None else value
