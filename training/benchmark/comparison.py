"""From the episodes of one family to its figures: at each BLER target, and with all baselines tuned for goodput.

A *column* is a policy under the name that tables show. At a target ``olla`` is OLLA tuned to hold that target, and so
is every other policy that takes one; a policy without a target is the same run under every target. ``olla@10%``, the
textbook's OLLA, is a column everywhere.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from distila.training.benchmark.averages import Resamples, average_gains
from distila.training.benchmark.episode import Episode
from distila.training.benchmark.figures import gain_resamples, policy_figures, used_links, with_genie_share
from distila.training.benchmark.frontier import Frontier
from distila.training.benchmark.policies import REFERENCE, PolicySpec, parse_policy
from distila.training.benchmark.results import Comparison, FamilyResults, PolicyFigures
from distila.training.benchmark.view import BenchmarkView
from distila.training.sim.scenario import Scenario
from distila.xapp.nr.arrays import BoolArray

TEXTBOOK: Final = "olla@10%"
"""OLLA at the target that textbooks and papers give it, with the settings that are best at it."""
TEXTBOOK_TARGET: Final = 0.1
BOOTSTRAP_SEED: Final = 20251

Columns = dict[str, PolicySpec]
"""Policies by the name that tables show."""
Runs = Callable[[Scenario, PolicySpec], list[Episode]]
"""Episodes of a policy in a scenario, one per seed."""


def columns_at(policies: Sequence[PolicySpec], target: float | None, textbook: bool) -> Columns:
    """What is compared at a BLER target; None: every baseline tuned for goodput, at whatever BLER.

    Args:
        policies: as they were asked for; the reference comes first, asked for or not.
        target: first-transmission BLER.
        textbook: whether there is a column for the textbook's OLLA.
    """
    reference = parse_policy(REFERENCE)
    # At its own target it is the reference itself, which need not run twice.
    given = [
        reference,
        *([replace(reference.at_target(TEXTBOOK_TARGET), name=TEXTBOOK)] if textbook else []),
        *policies,
    ]
    columns = {spec.name: spec for spec in given}
    if target is not None:
        columns = {name: spec.at_target(target) for name, spec in columns.items()}
    if textbook:
        columns[TEXTBOOK] = replace(columns[TEXTBOOK], name=REFERENCE)
    return columns


@dataclass(frozen=True)
class Compared:
    """Everything that is compared in a benchmark.

    Attributes:
        at_targets: columns by target, ascending.
        globally_tuned: columns of the comparison with OLLA tuned for goodput; None: there is none.
    """

    at_targets: Mapping[float, Columns]
    globally_tuned: Columns | None

    @classmethod
    def of(cls, policies: Sequence[PolicySpec], targets: Sequence[float], globally_tuned: bool) -> "Compared":
        """What policies and targets make of it."""
        textbook = bool(targets)
        at_targets = {target: columns_at(policies, target, textbook) for target in sorted(targets)}
        return cls(at_targets, columns_at(policies, None, textbook) if globally_tuned else None)

    @property
    def specs(self) -> list[PolicySpec]:
        """Every policy that runs, each once."""
        every = [*self.at_targets.values(), *([] if self.globally_tuned is None else [self.globally_tuned])]
        return list(dict.fromkeys(spec for columns in every for spec in columns.values()))

    def results(self, scenarios: Sequence[Scenario], runs: Runs) -> tuple[dict[float, Comparison], Comparison | None]:
        """The figures at each target, and those with all baselines tuned for goodput."""
        families = {scenario.name: _Family(scenario, self, runs) for scenario in scenarios}
        at_targets = {target: _comparison(families, target, columns) for target, columns in self.at_targets.items()}
        tuned = None if self.globally_tuned is None else _comparison(families, None, self.globally_tuned)
        return at_targets, tuned


class _Family:
    """The episodes of one family, and what all of its comparisons share."""

    def __init__(self, scenario: Scenario, compared: Compared, runs: Runs) -> None:
        self.scenario = scenario
        self.episodes = {spec: runs(scenario, spec) for spec in compared.specs}
        self.used: BoolArray = used_links(self.episodes.values())
        # Other numbers for every family: the same ones would make their resamples depend on each other.
        self.seed = (BOOTSTRAP_SEED, zlib.crc32(scenario.name.encode()))
        # The textbook's OLLA is a point, too, whatever the targets: OLLA must not gain over OLLA.
        olla_specs = [columns[name] for columns in compared.at_targets.values() for name in (REFERENCE, TEXTBOOK)]
        olla = [self.episodes[spec] for spec in dict.fromkeys(olla_specs)]
        self.frontier = Frontier(olla, self.used, self.seed) if olla else None
        self.equal_bler = (
            {} if self.frontier is None else {spec: self.frontier.gain(own) for spec, own in self.episodes.items()}
        )

    def figures(self, columns: Columns) -> dict[str, PolicyFigures]:
        """Figures by column; the reference is the column of that name."""
        reference = self.episodes[columns[REFERENCE]]
        return {
            name: policy_figures(
                spec,
                self.scenario.name,
                self.episodes[spec],
                reference,
                self.used,
                BOOTSTRAP_SEED,
                self.equal_bler[spec][0] if self.equal_bler else None,
            )
            for name, spec in columns.items()
        }

    def resamples(self, columns: Columns) -> tuple[Resamples, Resamples]:
        """Gains over the reference, and at equal BLER, in resamples, by column."""
        reference = self.episodes[columns[REFERENCE]]
        gains = {
            name: gain_resamples(self.episodes[spec], reference, self.used, self.seed) for name, spec in columns.items()
        }
        equal = {name: self.equal_bler[spec][1] for name, spec in columns.items() if self.equal_bler}
        return gains, equal

    def results(self, policies: dict[str, PolicyFigures], reference: PolicySpec) -> FamilyResults:
        """The family with these figures."""
        episodes = self.episodes[reference]
        return FamilyResults(
            description=self.scenario.description,
            unseen=self.scenario.unseen,
            slot_us=_same([episode.slot_us for episode in episodes]),
            e2_period_ms=_same([episode.period_slots * episode.slot_us / 1e3 for episode in episodes]),
            e2_delay_ms=_same([episode.delay_slots * episode.slot_us / 1e3 for episode in episodes]),
            mcs_table=_same([episode.mcs_table for episode in episodes]),
            links=sum(len(episode.bits) for episode in episodes),
            bursty_share=round(sum(episode.bursty_share for episode in episodes) / len(episodes), 3),
            policies=policies,
        )


def _comparison(families: Mapping[str, _Family], target: float | None, columns: Columns) -> Comparison:
    results: dict[str, FamilyResults] = {}
    gains: dict[str, Resamples] = {}
    equal: dict[str, Resamples] = {}
    for name, family in families.items():
        figures = family.figures(columns)
        # The genie has no target: what it gains over OLLA of one is no measure of anything.
        results[name] = family.results(with_genie_share(figures) if target is None else figures, columns[REFERENCE])
        gains[name], equal[name] = family.resamples(columns)
    bench = BenchmarkView(Comparison(families=results), REFERENCE)
    return Comparison(families=results, averages=average_gains(bench, gains, equal))


def _same(values: list[float]) -> float | None:
    """What all have in common; None where a scenario draws it and the seeds drew differently."""
    return values[0] if len(set(values)) == 1 else None
