"""Whether unknown columns make a policy worse than OLLA: short closed-loop episodes in which columns are not reported.

The policy meets each kind of node (`distila.replay.node_kinds`) with every column that the node reports, with each
column that may be absent unknown alone, with CQI or HARQ feedback unknown after a quarter of the episode, and with many
unknown together. Beside it the OLLA bundle that ships meets the same: the same channels, random draws and unknown
columns. All of it is one run for each kind of node, in which every UE is there once for each condition.

Both decide through the decision loop, whose guard leaves a UE of which nothing is measured to the DU; its breaker is
switched off.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from distila.replay.closed_loop import run
from distila.replay.node_kinds import KINDS, UNBROKEN, NodeKind, channels, ues_on
from distila.xapp.kpi.observations import COLUMNS, MEASURED
from distila.xapp.kpi.report import NATIVE, Decisions, KpiReport
from distila.xapp.loop import DecisionLoop
from distila.xapp.nr.arrays import BoolArray, IntArray
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.policy.bundle import Bundle, load_bundle
from distila.xapp.policy.shape import REFERENCE
from distila.xapp.policy.shape_report import UnknownCase, UnknownColumns

UES: Final = 12
SLOTS: Final = 1200
_HARQ: Final = "HARQ feedback"
_CAME_FROM: Final = {"retx_mcs_mean": "retx_mcs_sum"}  # column of a bundle, and the reported one that it derives from


@dataclass(frozen=True)
class _Condition:
    """What is unknown of some UEs: names of reported columns, and `_HARQ`; from the start, or after a quarter."""

    name: str
    hidden: frozenset[str]
    later: bool = False

    def of_olla(self) -> "_Condition":
        """The condition of OLLA beside it: what of it OLLA reads."""
        return _Condition("", self.hidden & {"cqi", _HARQ}, self.later)


def unknown_columns(
    bundle: Bundle,
    kinds: Iterable[NodeKind] = KINDS,
    ues: int = UES,
    num_slots: int = SLOTS,
    seed: int = 0,
) -> UnknownColumns:
    """Run the episodes and compare.

    Args:
        bundle: the policy.
        kinds: of node, one run for each.
        ues: UEs of each condition, on the MCS tables that the policy was made for, in turn.
        num_slots: length of a run.
        seed: of the channels' CQI errors and of the random draws.
    """
    conditions = _conditions(bundle)
    all_known, cases = [], []
    for kind in kinds:
        known, *unknown = _run(bundle, kind, conditions, ues, num_slots, seed)
        all_known.append(known)
        cases += unknown
    return UnknownColumns.of(all_known, cases)


def _conditions(bundle: Bundle) -> list[_Condition]:
    """All known; each column that may be absent, alone; and many together."""
    hidden: dict[str, str] = {}
    for name in bundle.manifest.columns:
        if name.startswith("harq_"):
            hidden[_HARQ] = _HARQ  # measured or not as a whole
        elif COLUMNS[name].may_be_absent:
            hidden[name] = _CAME_FROM.get(name, name)
    together: dict[str, set[str]] = {
        **{f"all but {name}": {name} for name in ("cqi", _HARQ) if name in hidden},
        "all": set(),
    }
    return [
        _Condition("", frozenset()),
        *(_Condition(name, frozenset([source])) for name, source in hidden.items()),
        *(_Condition(f"{name}, later", frozenset([name]), later=True) for name in ("cqi", _HARQ) if name in hidden),
        *(
            _Condition(name, frozenset(source for one, source in hidden.items() if one not in kept))
            for name, kept in together.items()
            if len(hidden) > 1 + len(kept)
        ),
    ]


def _run(
    bundle: Bundle, kind: NodeKind, conditions: list[_Condition], ues: int, num_slots: int, seed: int
) -> list[UnknownCase]:
    """One run with all conditions of the policy, then those of OLLA, ``ues`` UEs each."""
    olla = list(dict.fromkeys(condition.of_olla() for condition in conditions))
    together = [*conditions, *olla]
    mcs_tables = ues_on(bundle.manifest.mcs_tables, ues)
    trace = channels(kind, mcs_tables, num_slots, seed, copies=len(together))
    controller = _TwoPolicies(
        bundle,
        load_bundle(REFERENCE),
        len(conditions) * ues,
        [condition for condition in together for _ in range(ues)],
        num_slots // 4 // kind.du.period_slots,
    )
    record, _ = run(trace, SmoothBler.load(), kind.du, seed=seed, controller=controller, copies=len(together))
    bits, first_tx, first_fail = (
        series.sum(axis=1).reshape(-1, ues).sum(axis=1) for series in (record.bits, record.first_tx, record.first_fail)
    )
    bler = first_fail / np.maximum(first_tx, 1)
    overridden = controller.overridden.reshape(-1, ues).mean(axis=1) / max(controller.reports, 1)
    cases = []
    for index, condition in enumerate(conditions):
        reference = len(conditions) + olla.index(condition.of_olla())
        case = UnknownCase(
            node=kind.name,
            unknown=condition.name,
            gain_vs_olla_pct=100 * (float(bits[index] / bits[reference]) - 1),
            first_tx_bler=float(bler[index]),
            olla_first_tx_bler=float(bler[reference]),
            overridden_share=float(overridden[index]),
        )
        cases.append(case)
    return cases


class _TwoPolicies:
    """A controller: the first UEs are the policy's, the others OLLA's; of each UE some columns are unknown.

    Args:
        bundle, olla: the policy and OLLA.
        of_policy: number of UEs of the policy.
        conditions: [ue], what is unknown.
        later_from: number of the report from which that of later conditions is unknown.

    Attributes:
        reports: how many there were.
        overridden: [ue], decisions that were no ``native``.
    """

    def __init__(
        self, bundle: Bundle, olla: Bundle, of_policy: int, conditions: list[_Condition], later_from: int
    ) -> None:
        ues = np.arange(len(conditions))
        self._parts = [
            (DecisionLoop(bundle, guard_config=UNBROKEN), ues[:of_policy]),
            (DecisionLoop(olla, guard_config=UNBROKEN), ues[of_policy:]),
        ]
        self._hidden: BoolArray = np.array([[name in one.hidden for name in MEASURED] for one in conditions])
        self._without_harq: BoolArray = np.array([_HARQ in one.hidden for one in conditions])
        self._later: BoolArray = np.array([one.later for one in conditions])
        self._later_from = later_from
        self.reports = 0
        self.overridden: IntArray = np.zeros(len(conditions), np.int64)

    def exchange(self, report: KpiReport | None) -> Iterable[Decisions]:
        """See `distila.replay.closed_loop.Controller`."""
        if report is None:
            return ()
        applies = ~self._later | (self.reports >= self._later_from)
        self.reports += 1
        without_harq = self._without_harq & applies
        entries = ~without_harq[report.harq_ue]
        known = replace(
            report,
            measured=np.where(self._hidden & applies[:, None], np.nan, report.measured),
            total_first_tx=np.where(without_harq, np.nan, report.total_first_tx),
            harq_ue=report.harq_ue[entries],
            harq_mcs=report.harq_mcs[entries],
            harq_counts=report.harq_counts[entries],
        )
        answers = []
        for loop, ues in self._parts:
            decisions = loop.decide(known.part(ues))
            if decisions is not None:
                self.overridden[ues] += decisions.kind != NATIVE
                answers.append(decisions)
        return answers

    def outcome(self, decisions: Decisions, outcome: Counter[str]) -> None:
        """See `distila.replay.closed_loop.Controller`."""
