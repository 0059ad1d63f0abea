"""Who decided: for how many UE reports the policy set the MCS, and why the others were left to the DU.

    decided = Decided.of(reports=1471, decided=0, withheld={"mcs_table": 1471})
    decided.sentence("student", ([2], [1]))
    # student decided nothing: all 1,471 UE decisions were left to the DU, because the UE uses an MCS table that ...

A replay, a rollout or a benchmark in which the policy decided little says nothing about the policy, so `Decided.few`
asks for this sentence before any figure.

``withheld`` has a reason for each UE report that the policy did not decide: those of the guard and of the E2 node (see
`distila.replay.reasons`), and the three of the group ``withheld`` there.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import Field

from distila.replay.page.number_text import counted, number, percent
from distila.replay.reasons import REASONS, explain
from distila.xapp.result_file import ResultModel
from distila.xapp.stats import Reasons

FEW: Final = 0.5
"""Where the policy decided a smaller share than this, that is the result: most of it was the DU."""
ALL: Final = 0.995
"""From this share on nothing needs to be said."""
_NOT_WITHHELD: Final = ("clamped", "breaker_tripped")
"""What the guard counts without leaving the UE to the DU by it."""
_MODULATION: Final = {1: "64QAM", 2: "256QAM", 3: "64QAM, low rates"}
"""Highest modulation of each MCS table of TS 38.214 clause 5.1.3.1."""
_SHOWN_SHARE: Final = 0.05
"""A reason for a smaller share than this of what was withheld is not in the sentence."""


class Decided(ResultModel):
    """How many UE reports the policy decided, and why it did not decide the others."""

    ue_reports: int = Field(description="reports of one UE each that asked for a decision")
    decided: int = Field(
        description="those answered in time by an MCS, or an offset to the DU's, of the policy: neither left to the DU"
        " nor rejected by it"
    )
    decided_share: float | None = Field(description="decided over ue_reports; null: no report asked for a decision")
    withheld: Reasons = Field(description="UE reports that were left to the DU, by reason")

    @classmethod
    def of(cls, reports: int, decided: int, withheld: Mapping[str, int]) -> "Decided":
        """From counts; reasons with a count of 0 are left out, the most frequent one comes first."""
        by_count = {reason: count for reason, count in Counter(withheld).most_common() if count > 0}
        share = round(decided / reports, 4) if reports else None
        return cls(ue_reports=reports, decided=decided, decided_share=share, withheld=by_count)

    @classmethod
    def by_loop(
        cls,
        *,
        reports: int,
        decided: int,
        native: int,
        guarded: Reasons | None,
        rejected: Mapping[str, int] | None = None,
    ) -> "Decided":
        """From the counters of a decision loop and of the E2 node that it answered.

        Args:
            reports: reports of one UE each that the node sent.
            decided: answers that set an MCS or an offset and were accepted.
            native: answers that left the UE to the DU.
            guarded: what the loop's guard changed, by reason; None: not known.
            rejected: answers that set an MCS or an offset and were rejected by the node, by cause.
        """
        withheld = Counter(rejected or {})
        if guarded is None:
            withheld["not_known"] = native
        else:
            vetoes = {reason: count for reason, count in guarded.items() if reason not in _NOT_WITHHELD}
            withheld.update(vetoes)
            withheld["policy_native"] = max(0, native - sum(vetoes.values()))
        withheld["unanswered"] = max(0, reports - decided - withheld.total())
        return cls.of(reports, decided, withheld)

    @property
    def few(self) -> bool:
        """Whether so little was decided that this is the result."""
        return self.decided_share is not None and self.decided_share < FEW

    @property
    def incomplete(self) -> bool:
        """Whether enough was left to the DU that a reader has to know it."""
        return self.decided_share is not None and self.decided_share < ALL

    def sentence(self, name: str, mcs_tables: tuple[Sequence[int], Sequence[int]] | None = None) -> str:
        """Who decided, in words: how many UE decisions were the policy's, and why the others were not.

        Args:
            name: of the policy.
            mcs_tables: those of the UEs and those that the policy was made for, where both are known.
        """
        left = self.ue_reports - self.decided
        if self.ue_reports == 0:
            return f"{name} decided nothing: no report asked for a decision."
        if not left:
            return f"{name} decided all {number(self.ue_reports)} UE decisions."
        if not self.decided:
            text = f"{name} decided nothing: all {counted(left, 'UE decision')} were left to the DU"
        else:
            only = "only " if self.few else ""
            text = (
                f"{name} decided {only}{number(self.decided)} of {counted(self.ue_reports, 'UE decision')}"
                f" ({percent(self.decided_share)}); the other {number(left)} were left to the DU"
            )
        main = [(reason, count) for reason, count in self.withheld.items() if count >= _SHOWN_SHARE * left]
        if main:
            text += ", because " + "; ".join(_clause(reason, count, len(self.withheld) > 1) for reason, count in main)
        return f"{text}.{self._tables(name, mcs_tables)}"

    def _tables(self, name: str, mcs_tables: tuple[Sequence[int], Sequence[int]] | None) -> str:
        """Which MCS tables do not fit, as a sentence of its own; empty where that is not why."""
        if mcs_tables is None or "mcs_table" not in self.withheld:
            return ""
        there, known = mcs_tables
        return f" The UEs use MCS {_tables_text(there)}; {name} was made for MCS {_tables_text(known)}."


def withheld_meaning(reason: str) -> str:
    """One line on why a UE report was left to the DU: in the words of the guard or of the E2 node."""
    if reason in REASONS["withheld"]:
        return REASONS["withheld"][reason]
    return explain("guarded", reason) or explain("outcomes", reason) or reason


def _clause(reason: str, count: int, with_count: bool) -> str:
    why = withheld_meaning(reason).partition(": left to the DU")[0].partition(": the whole indication")[0]
    return f"{why} ({reason}{f', {number(count)}' if with_count else ''})"


def _tables_text(tables: Sequence[int]) -> str:
    names = [f"{table} ({_MODULATION[table]})" if table in _MODULATION else str(table) for table in tables]
    *others, last = names
    return f"table {last}" if not others else f"tables {', '.join(others)} and {last}"
