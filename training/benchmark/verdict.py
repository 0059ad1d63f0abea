"""What a benchmark shows, in sentences: one for the best policy of each seat, and what limits them."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from distila.replay.report_charts import DASH, signed
from distila.training.benchmark.results import BenchmarkResults, BenchmarkSettings
from distila.training.benchmark.view import (
    BETTER,
    MIXED,
    REAL_TIME,
    SLOW,
    UNCLEAR,
    UNKNOWN,
    UNSEEN,
    WORSE,
    BenchmarkView,
    Gain,
    gain_of,
)

SEATS: Final = {"du": "in the DU", "xapp": "xApp"}
PACES: Final = {REAL_TIME: "real-time E2", SLOW: "slow E2", MIXED: f"E2 period {DASH}"}
_PACE_MEANS: Final = {
    REAL_TIME: "a report every slot or two",
    SLOW: "a report less often than that",
    MIXED: "a period that differs between seeds or is not known",
}


def verdicts(bench: BenchmarkView) -> list[str]:
    """The outcome in a sentence or two for the best policy of each seat, xApp first; genies do not compete.

    For the xApp's seat there is one verdict for each pace of E2, because a result with real-time E2 says nothing about
    a slower loop.
    """
    contestants = [name for name in bench.others if not bench.is_genie(name)]
    found = []
    for pace, families in bench.by_pace.items():
        found += _verdict_on_best(bench, [name for name in contestants if bench.is_xapp(name)], families, pace)
    in_du = [name for name in contestants if "du" in bench.seats(name)]
    found += _verdict_on_best(bench, in_du, list(bench.families))
    return list(dict.fromkeys(found)) or [f"No policy was compared with {bench.reference}."]


def caveats(results: BenchmarkResults, bench: BenchmarkView) -> list[str]:
    """What limits the verdicts, a sentence each."""
    lines = []
    if results.quick:
        lines.append("This was a quick run, with fewer links and less time than the full benchmark. Do not quote it.")
    unseen = [name for name, family in bench.families.items() if family.unseen]
    if unseen:
        lines.append(f"No training configuration contains the families marked {UNSEEN}: {', '.join(unseen)}.")
    if any(bench.is_xapp(name) for name in bench.others):
        paces = "; ".join(f"{PACES[pace]} means {_PACE_MEANS[pace]}" for pace in bench.by_pace)
        lines.append(f"{paces[0].upper()}{paces[1:]}. The E2 period affects only policies in the xApp.")
    lines += _timing(results.settings)
    for policy in bench.others:
        worse = [family for family in bench.families if bench.residual(family, policy).verdict == WORSE]
        if worse and not bench.is_genie(policy):
            lines.append(
                f"{policy} has a significantly higher residual BLER than {bench.reference} in {', '.join(worse)}."
            )
    genies = [name for name in bench.policies if bench.is_genie(name)]
    if genies:
        knows = "know" if len(genies) > 1 else "knows"
        lines.append(
            f"{' and '.join(genies)} {knows} the channel of the slot in advance, which no real policy can. It is a mark"
            " to compare with, not a limit: it ignores what HARQ gains by combining, so another policy can be better."
        )
    return lines


def counts(bench: BenchmarkView, policy: str, families: Sequence[str]) -> Counter[str]:
    """How many families have each verdict on the policy."""
    return Counter(bench.gain(family, policy).verdict for family in families)


def _verdict_on_best(bench: BenchmarkView, policies: list[str], families: list[str], pace: str = "") -> list[str]:
    """The verdict on the best of these policies; empty if none of them ran in these families."""
    policies = [name for name in policies if any(bench.outcome(family, name) for family in families)]
    if not policies:
        return []
    return [_verdict(bench, max(policies, key=lambda name: _rank(bench, name, families)), families, pace)]


def _rank(bench: BenchmarkView, policy: str, families: list[str]) -> tuple[int, float]:
    count = counts(bench, policy, families)
    means = [gain.mean for f in families if not math.isnan((gain := bench.gain(f, policy)).mean)]
    return count[BETTER] - count[WORSE], sum(means) / len(means) if means else -math.inf


def _verdict(bench: BenchmarkView, policy: str, families: list[str], pace: str) -> str:
    seat = " and ".join(SEATS.get(seat, seat) for seat in bench.seats(policy))
    who = f"{policy} ({seat}, {PACES[pace]})" if pace else f"{policy} ({seat})"
    if len(families) == 1:
        return _in_one_family(bench, who, policy, families[0])
    count = counts(bench, policy, families)
    better, worse, unclear = count[BETTER], count[WORSE], count[UNCLEAR] + count[UNKNOWN]
    number = str(better) if better else "none"
    sentence = f"{who} has significantly more goodput than {bench.reference} in {number} of {len(families)} families"
    sentence += f" and significantly less in {worse}." if worse else ". It is not significantly worse in any of them."
    if unclear:
        sentence += f" In {unclear} the difference is not significant."
    for group in bench.averages.values():
        mean = gain_of(group.policies.get(policy))
        if set(group.families) == set(families) and mean.verdict != UNKNOWN:
            return f"{sentence} Its mean gain over these families is {_in_words(mean)}."
    return sentence


def _in_one_family(bench: BenchmarkView, who: str, policy: str, family: str) -> str:
    gain = bench.gain(family, policy)
    return {
        BETTER: f"{who} has more goodput than {bench.reference} in {family}: {_in_words(gain)}.",
        WORSE: f"{who} has less goodput than {bench.reference} in {family}: {_in_words(gain)}.",
        UNCLEAR: f"{who} and {bench.reference} do not differ significantly in {family}: {_in_words(gain)}.",
        UNKNOWN: f"{who} cannot be compared with {bench.reference} in {family}: there is no interval.",
    }[gain.verdict]


def _in_words(gain: Gain) -> str:
    return f"{signed(gain.mean, 1)} % (95 % interval {signed(gain.low, 1)} to {signed(gain.high, 1)} %)"


def _timing(settings: BenchmarkSettings) -> list[str]:
    """A sentence where E2 does not have the timing of the families."""
    given = {"period": settings.e2_period_ms, "delay": settings.e2_delay_ms}
    parts = [f"an E2 {what} of {value:g} ms" for what, value in given.items() if value is not None]
    return [f"All families were run with {' and '.join(parts)} instead of their own."] if parts else []
