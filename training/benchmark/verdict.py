"""What a benchmark shows, in sentences: one for the best policy of each seat, and what limits them."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from distila.replay.page.number_text import DASH, number
from distila.replay.page.verdict import Difference, Kind, VerdictLine
from distila.training.benchmark.frontier import COARSE_ABOVE
from distila.training.benchmark.results import BenchmarkResults, BenchmarkSettings
from distila.training.benchmark.view import MIXED, REAL_TIME, SLOW, UNSEEN, BenchmarkView, difference

SEATS: Final = {"du": "in the DU", "xapp": "xApp"}
PACES: Final = {REAL_TIME: "real-time E2", SLOW: "slow E2", MIXED: f"E2 period {DASH}"}
COUNTED: Final = "better · bought with BLER · worse · none of these"
"""What the numbers of `count_text` count."""
_PACE_MEANS: Final = {
    REAL_TIME: "a report every slot or two",
    SLOW: "a report less often than that",
    MIXED: "a period that differs between seeds or is not known",
}


def verdicts(bench: BenchmarkView) -> list[VerdictLine]:
    """The outcome in a sentence or two for the best policy of each seat, xApp first; genies do not compete.

    First of all stands what decided nothing in most families: nothing else that is said about it matters. For the
    xApp's seat there is one verdict for each pace of E2, because a result with real-time E2 says nothing about a slower
    loop. Where the comparison has a BLER target, gains are at equal BLER.
    """
    contestants = [name for name in bench.others if not bench.is_genie(name)]
    found = [
        VerdictLine("nothing-decided", sentence)
        for name in contestants
        if 2 * len(bench.undecided(name)) > len(bench.families)
        for sentence in undecided(bench, name)
    ]
    for pace, families in bench.by_pace.items():
        found += _verdict_on_best(bench, [name for name in contestants if bench.is_xapp(name)], families, pace)
    in_du = [name for name in contestants if "du" in bench.seats(name)]
    found += _verdict_on_best(bench, in_du, list(bench.families))
    nothing = VerdictLine("nothing-decided", f"No policy was compared with {bench.reference}.")
    return list(dict.fromkeys(found)) or [nothing]


def undecided(bench: BenchmarkView, policy: str) -> list[str]:
    """A sentence for each MCS table of the families in which a policy decided nothing."""
    by_table: dict[int | None, list[str]] = {}
    for family in bench.undecided(policy):
        unknown = bench.undecided_because(family, policy) == "mcs_table"
        by_table.setdefault(bench.families[family].mcs_table if unknown else None, []).append(family)
    return [
        f"{policy} decided nothing in {', '.join(names)}"
        + ("" if table is None else f": it does not know their MCS table, {table}")
        + ". Every MCS there was the DU's own choice, and the figures are those of the DU's OLLA."
        for table, names in by_table.items()
    ]


def caveats(results: BenchmarkResults, bench: BenchmarkView) -> list[str]:
    """What limits the verdicts, a sentence each."""
    lines = [sentence for policy in bench.others for sentence in undecided(bench, policy)]
    if results.quick:
        lines.append("This was a quick run, with fewer links and less time than the full benchmark. Do not quote it.")
    if bench.target is not None:
        lines += _beyond_targets(bench) + _coarse_references(results, bench)
    unseen = [name for name, family in bench.families.items() if family.unseen]
    if unseen:
        lines.append(f"No training configuration contains the families marked {UNSEEN}: {', '.join(unseen)}.")
    if any(bench.is_xapp(name) for name in bench.others):
        paces = "; ".join(f"{PACES[pace]} means {_PACE_MEANS[pace]}" for pace in bench.by_pace)
        lines.append(f"{paces[0].upper()}{paces[1:]}. The E2 period affects only policies in the xApp.")
    lines += _timing(results.settings)
    for policy in bench.others:
        own = bench.decided(policy, list(bench.families))
        worse = [family for family in own if bench.residual(family, policy).kind == "worse"]
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
    """Number of families by what the policy's gain shows there."""
    return Counter(bench.kind(family, policy) for family in families)


def count_text(count: Counter[Kind]) -> str:
    """Families that are better, bought with BLER, worse, and none of these, in this order."""
    named: tuple[Kind, ...] = ("better", "bought-with-bler", "worse")
    return " · ".join(
        str(number) for number in (*(count[kind] for kind in named), count.total() - sum(count[k] for k in named))
    )


def bought_text(bench: BenchmarkView, policy: str, families: Sequence[str]) -> str:
    """What the policy's gains in these families were bought with: ``36 to 63 % against 20 to 31 %``."""
    ours = [100 * bench.value(family, policy, "first_tx_bler") for family in families]
    theirs = [100 * bench.reference_bler(family, policy) for family in families]
    return f"{_range_text(ours)} against {_range_text(theirs)}"


def decided_text(families: int) -> str:
    """What a mean is over that leaves out families: ``the 3 families in which it decided``."""
    return f"the {'one family' if families == 1 else f'{families} families'} in which it decided"


def _range_text(values: Sequence[float]) -> str:
    low, high = number(min(values), 1), number(max(values), 1)
    return f"{low} %" if low == high else f"{low} to {high} %"


def _beyond_targets(bench: BenchmarkView) -> list[str]:
    """A sentence for each policy that no target of OLLA could be compared with at equal BLER in some family."""
    lines = []
    for policy in bench.others:
        families = bench.beyond_targets(policy)
        if families and not bench.is_genie(policy):
            where = "every family" if len(families) == len(bench.families) else ", ".join(families)
            lines.append(
                f"No target of {bench.reference} comes to the BLER of {policy} in {where}:"
                f" {bought_text(bench, policy, families)}. There it is compared with the nearest target."
            )
    return lines


def _coarse_references(results: BenchmarkResults, bench: BenchmarkView) -> list[str]:
    """A sentence for each policy whose gains in some families are over a line between far points of OLLA."""
    lines = []
    for policy in bench.others:
        if bench.is_genie(policy):
            continue
        families = bench.coarse_references(policy)
        if families:
            where = "every family" if len(families) == len(bench.families) else ", ".join(families)
            lines.append(
                f"The reference of {policy} at equal BLER is coarse in {where}: it lies on a straight line between two"
                f" BLERs of {bench.reference} that differ by more than a factor of {COARSE_ABOVE:g}, so {policy}"
                " may look better there than it is. More --targets make it finer."
            )
        others = {
            target: len(view.coarse_references(policy))
            for target, view in BenchmarkView.at_targets(results).items()
            if target != bench.target and view.coarse_references(policy) not in ([], families)
        }
        if others:
            where = ", ".join(f"{target} % (families: {number})" for target, number in others.items())
            lines.append(f"The reference of {policy} is as coarse at a target of {where}.")
    return lines


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
    means = [gain.mean for f in bench.decided(policy, families) if not math.isnan((gain := bench.gain(f, policy)).mean)]
    return count["better"] - count["worse"], sum(means) / len(means) if means else -math.inf


def _verdict(bench: BenchmarkView, policy: str, families: list[str], pace: str) -> VerdictLine:
    seat = " and ".join(SEATS.get(seat, seat) for seat in bench.seats(policy))
    who = f"{policy} ({seat}, {PACES[pace]})" if pace else f"{policy} ({seat})"
    if len(families) == 1:
        return _in_one_family(bench, who, policy, families[0])
    count, at = counts(bench, policy, families), _at(bench)
    better, worse, bought = count["better"], count["worse"], count["bought-with-bler"]
    where = f"{better or 'none'} of {len(families)} families"
    sentence = f"{who} has"
    if without := [family for family in bench.undecided(policy) if family in families]:
        unknown = all(bench.undecided_because(family, policy) == "mcs_table" for family in without)
        sentence = f"{who} decided nothing in {len(without)} of {len(families)} families"
        sentence += ", whose MCS table it does not know. It has" if unknown else ". It has"
        where = f"{better or 'none'} of the others"
    sentence += f" significantly more goodput than {bench.reference}{at} in {where}"
    sentence += f" and significantly less in {worse}." if worse else ". It is not significantly worse in any of them."
    if bought:
        those = [family for family in families if bench.kind(family, policy) == "bought-with-bler"]
        blers = bought_text(bench, policy, those)
        sentence += f" In {bought} its gain is bought with a higher first-transmission BLER: {blers}."
    if unclear := count["no-difference"]:
        sentence += f" In {unclear} the difference is not significant."
    if nothing := count["nothing-decided"] - len(without):
        sentence += f" In {nothing} nothing can be said."
    mean = _mean_over(bench, policy, families)
    kind: Kind = "better" if better > worse else "worse" if worse > better else mean.kind
    if bought > better and worse <= bought:
        kind = "bought-with-bler"
    if mean.kind == "nothing-decided":
        return VerdictLine(kind, sentence)
    including = ", those bought with BLER included," if bought else ""
    over = "these families" if not without else decided_text(len(families) - len(without))
    return VerdictLine(
        kind, f"{sentence} Its mean gain{at} over {over}{including} is {mean.mean_text(1)}.", _interval(mean)
    )


def _at(bench: BenchmarkView) -> str:
    return "" if bench.target is None else " at equal BLER"


def _mean_over(bench: BenchmarkView, policy: str, families: list[str]) -> Difference:
    """Mean gain over the very families; unknown where no group has them."""
    for group in bench.averages.values():
        if set(group.families) == set(families):
            return bench.mean_gain(group, policy)
    return difference(None)


def _in_one_family(bench: BenchmarkView, who: str, policy: str, family: str) -> VerdictLine:
    gain, kind, at = bench.gain(family, policy), bench.kind(family, policy), _at(bench)
    reference = bench.reference
    if kind == "nothing-decided":
        if family in bench.undecided(policy):
            return VerdictLine(kind, f"{who} decided nothing in {family}: every MCS was the DU's own choice.")
        return VerdictLine(kind, f"{who} cannot be compared with {reference} in {family}: there is no interval.")
    more = f"{who} has {gain.size_text(1)} more goodput than {reference}"
    sentences: dict[Kind, str] = {
        "better": f"{more}{at} in {family}.",
        "bought-with-bler": (
            f"{more} in {family}, bought with a higher first-transmission BLER: {bought_text(bench, policy, [family])}."
        ),
        "worse": f"{who} has {gain.size_text(1)} less goodput than {reference}{at} in {family}.",
        "no-difference": f"{who} and {reference} do not differ significantly{at} in {family}: {gain.mean_text(1)}.",
    }
    return VerdictLine(kind, sentences[kind], _interval(gain))


def _interval(gain: Difference) -> str:
    return f"95 % interval {gain.interval_text(1)}"


def _timing(settings: BenchmarkSettings) -> list[str]:
    """A sentence where E2 does not have the timing of the families."""
    given = {"period": settings.e2_period_ms, "delay": settings.e2_delay_ms}
    parts = [f"an E2 {what} of {value:g} ms" for what, value in given.items() if value is not None]
    return [f"All families were run with {' and '.join(parts)} instead of their own."] if parts else []
