"""What a benchmark shows, in sentences: one for the best policy of each seat, and what limits them."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from distila.replay.page.number_text import DASH
from distila.replay.page.verdict import Difference, Kind, VerdictLine
from distila.training.benchmark.results import BenchmarkResults, BenchmarkSettings
from distila.training.benchmark.view import MIXED, REAL_TIME, SLOW, UNSEEN, BenchmarkView, difference

SEATS: Final = {"du": "in the DU", "xapp": "xApp"}
PACES: Final = {REAL_TIME: "real-time E2", SLOW: "slow E2", MIXED: f"E2 period {DASH}"}
_PACE_MEANS: Final = {
    REAL_TIME: "a report every slot or two",
    SLOW: "a report less often than that",
    MIXED: "a period that differs between seeds or is not known",
}


def verdicts(bench: BenchmarkView) -> list[VerdictLine]:
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
    nothing = VerdictLine("nothing-decided", f"No policy was compared with {bench.reference}.")
    return list(dict.fromkeys(found)) or [nothing]


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
        worse = [family for family in bench.families if bench.residual(family, policy).kind == "worse"]
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


def counts(bench: BenchmarkView, policy: str, families: Sequence[str]) -> Counter[Kind]:
    """Number of families by whether the policy is better, worse or neither there."""
    return Counter(bench.gain(family, policy).kind for family in families)


def _verdict_on_best(
    bench: BenchmarkView, policies: list[str], families: list[str], pace: str = ""
) -> list[VerdictLine]:
    """The verdict on the best of these policies; empty if none of them ran in these families."""
    policies = [name for name in policies if any(bench.outcome(family, name) for family in families)]
    if not policies:
        return []
    return [_verdict(bench, max(policies, key=lambda name: _rank(bench, name, families)), families, pace)]


def _rank(bench: BenchmarkView, policy: str, families: list[str]) -> tuple[int, float]:
    count = counts(bench, policy, families)
    means = [gain.mean for f in families if not math.isnan((gain := bench.gain(f, policy)).mean)]
    return count["better"] - count["worse"], sum(means) / len(means) if means else -math.inf


def _verdict(bench: BenchmarkView, policy: str, families: list[str], pace: str) -> VerdictLine:
    seat = " and ".join(SEATS.get(seat, seat) for seat in bench.seats(policy))
    who = f"{policy} ({seat}, {PACES[pace]})" if pace else f"{policy} ({seat})"
    if len(families) == 1:
        return _in_one_family(bench, who, policy, families[0])
    count = counts(bench, policy, families)
    better, worse = count["better"], count["worse"]
    unclear = len(families) - better - worse
    number = str(better) if better else "none"
    sentence = f"{who} has significantly more goodput than {bench.reference} in {number} of {len(families)} families"
    sentence += f" and significantly less in {worse}." if worse else ". It is not significantly worse in any of them."
    if unclear:
        sentence += f" In {unclear} the difference is not significant."
    mean = _mean_over(bench, policy, families)
    kind: Kind = "better" if better > worse else "worse" if worse > better else mean.kind
    if mean.kind == "nothing-decided":
        return VerdictLine(kind, sentence)
    return VerdictLine(kind, f"{sentence} Its mean gain over these families is {mean.mean_text(1)}.", _interval(mean))


def _mean_over(bench: BenchmarkView, policy: str, families: list[str]) -> Difference:
    """Mean gain over the very families; unknown where no group has them."""
    for group in bench.averages.values():
        if set(group.families) == set(families):
            return difference(group.policies.get(policy))
    return difference(None)


def _in_one_family(bench: BenchmarkView, who: str, policy: str, family: str) -> VerdictLine:
    gain = bench.gain(family, policy)
    if gain.kind == "nothing-decided":
        sentence = f"{who} cannot be compared with {bench.reference} in {family}: there is no interval."
        return VerdictLine(gain.kind, sentence)
    sentences: dict[Kind, str] = {
        "better": f"{who} has {gain.size_text(1)} more goodput than {bench.reference} in {family}.",
        "worse": f"{who} has {gain.size_text(1)} less goodput than {bench.reference} in {family}.",
        "no-difference": f"{who} and {bench.reference} do not differ significantly in {family}: {gain.mean_text(1)}.",
    }
    return VerdictLine(gain.kind, sentences[gain.kind], _interval(gain))


def _interval(gain: Difference) -> str:
    return f"95 % interval {gain.interval_text(1)}"


def _timing(settings: BenchmarkSettings) -> list[str]:
    """A sentence where E2 does not have the timing of the families."""
    given = {"period": settings.e2_period_ms, "delay": settings.e2_delay_ms}
    parts = [f"an E2 {what} of {value:g} ms" for what, value in given.items() if value is not None]
    return [f"All families were run with {' and '.join(parts)} instead of their own."] if parts else []
