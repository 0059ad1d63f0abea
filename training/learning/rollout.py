"""A policy drives the simulator, and what was seen, and what can be learnt from it, is kept.

`collect` is a function of its arguments alone, so rollouts may run anywhere (`distila.training.learning.fan_out`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from distila.training.baselines import baseline, tuned_settings
from distila.training.learning.worth import Label, Worth
from distila.training.network.network import Network
from distila.training.network.policy import Answers
from distila.training.sim.conditions import Banks, Conditions
from distila.training.sim.report import Cell, Decision, Policy, Report, matrix
from distila.training.sim.scenario import Scenario
from distila.training.sim.simulator import Simulator
from distila.training.sim.split import Split
from distila.xapp.policy.bundle import Action

OnSlot = Callable[[int], None]


@dataclass(frozen=True)
class RolloutPlan:
    """What is simulated; picklable."""

    scenario: Scenario
    links: int
    slots: int
    seed: int
    banks: Banks
    split: Split = Split.TRAIN
    exploration: float = 0.0
    """share of decisions that are moved at random"""
    exploration_reach: int = 2
    """by how many MCS or steps of an offset, at most"""
    native_unknown: float = 0.0
    """share of links whose reports never tell the DU's own choice, as those of some E2 nodes do not"""
    retx_unknown: float = 0.0
    """and share of those whose reports never count retransmissions"""
    combining_unknown: float = 0.0
    """and of those whose reports never tell how the node combines"""
    label_every_slots: int = 4
    """slots, at least, between two decisions that a teacher or an algorithm labels; `Worth` has its own pace"""


@dataclass
class Experience:
    """What one rollout brought. T decisions, of which S were labelled; L links, A actions, C report columns."""

    scenario: str
    rows: Tensor
    """float32 [T, L, C], the reports, raw units"""
    steps: Tensor
    """int64 [S], which of them the labels are of"""
    labels: dict[str, Tensor] = field(default_factory=dict)
    """``share``, ``failure`` and ``residual`` (`Worth`), ``teacher`` (its scores): float32 [S, L, A]; ``advice`` (an
    algorithm's action): int64 [S, L]; as asked for"""
    figures: dict[str, float | None] = field(default_factory=dict)
    """goodput [bit/s/Hz], first-transmission BLER, share of blocks given up; exploration included"""


def collect(
    plan: RolloutPlan,
    driver: Network,
    worth: bool = False,
    teacher: Network | None = None,
    advisor: Policy | None = None,
    on_slot: OnSlot = lambda slot: None,
    columns: list[str] | None = None,
) -> Experience:
    """Let a network decide, and label what it met.

    Args:
        plan: what to simulate.
        driver: whose decisions are carried out.
        worth: label with what each of the driver's actions was worth; the driver must expect worths (`head: value`).
        teacher: label with its scores of the driver's actions; it hears the same reports, with a memory of its own.
        advisor: label with the MCS that this algorithm would answer.
        on_slot: told the slot that has been reached.
        columns: of the reports that are kept; None: the driver's.

    Raises:
        ValueError: a teacher with other actions or beside worth, or a driver that cannot tell what its answers are
            worth.
    """
    if teacher is not None and teacher.actions != driver.actions:
        raise ValueError("the teacher's actions are not the driver's")
    if worth and teacher is not None:
        raise ValueError("worth and a teacher label different decisions; ask for one of them")
    if worth and driver.config.head != "value":
        raise ValueError(f"worth is judged by what the driver expects; its head is {driver.config.head}")
    scenario = plan.scenario
    # The first report at or after the last slot still belongs to the rollout.
    most_slots = plan.slots + int(scenario.e2.period_slots.bounds[1])
    conditions = Conditions(scenario, plan.links, plan.split, plan.seed, most_slots, banks=plan.banks)
    cell = conditions.cell()
    overheard = _Overheard(
        baseline("olla", **tuned_settings("olla")), Worth(conditions, driver.actions) if worth else None
    )
    simulator = Simulator(conditions, native=overheard)
    explorer = _Explorer(plan, driver.actions, conditions.generator("exploration"))
    if advisor is not None:
        advisor.start(cell, conditions.generator("advisor"))
    columns = driver.columns if columns is None else columns
    heard = Hearing(plan, conditions)
    state = driver.zero_state(plan.links)
    teacher_state = teacher.zero_state(plan.links) if teacher is not None else state
    answers = Answers(driver.actions)
    label_every = -(-plan.label_every_slots // conditions.report_period_slots)
    rows: list[Tensor] = []
    labelled: list[int] = []
    taught: list[Tensor] = []
    advised: list[Tensor] = []
    while simulator.slot < plan.slots:
        report = simulator.report
        row = heard(report, driver.columns)
        with torch.no_grad():
            score, state = driver(row, state)
            best = score.max(dim=1)
            due = not worth and len(rows) % label_every == 0
            if teacher is not None:
                told = row if teacher.columns == driver.columns else heard(report, teacher.columns)
                wisdom, teacher_state = teacher(told, teacher_state)
                if due:
                    taught.append(wisdom)
        if worth:
            overheard.decided(report.slot, best.values)
        if advisor is not None:
            advised.append(advisor.decide(report).value)
        if due:
            labelled.append(len(rows))
        rows.append(row if columns == driver.columns else heard(report, columns))
        simulator.step(answers.decision(explorer.moved(best.indices)))
        on_slot(simulator.slot)
    labels: dict[str, Tensor] = {}
    if worth:
        found = overheard.labels
        labelled = [label.answered // conditions.report_period_slots for label in found]
        for name in ("share", "failure", "residual"):
            labels[name] = _stacked([getattr(label, name) for label in found], plan.links, driver)
    if teacher is not None:
        labels["teacher"] = _stacked(taught, plan.links, driver)
    if advisor is not None:
        labels["advice"] = (
            torch.stack([advised[step] for step in labelled])
            if labelled
            else torch.empty((0, plan.links), dtype=torch.int64)
        )
    return Experience(
        scenario.name, torch.stack(rows), torch.tensor(labelled, dtype=torch.int64), labels, _figures(simulator)
    )


class Hearing:
    """Reports as a policy gets them: some links' leave out what some E2 nodes do not tell."""

    def __init__(self, plan: RolloutPlan, conditions: Conditions) -> None:
        self._cell = conditions.cell()
        self._untold = [
            (columns, torch.rand(plan.links, generator=generator, device=generator.device) < share)
            for columns, share, generator in (
                (("native_mcs",), plan.native_unknown, conditions.generator("native unknown")),
                (("retx_ack", "retx_nack", "retx_mcs_mean"), plan.retx_unknown, conditions.generator("retx unknown")),
                (("combining",), plan.combining_unknown, conditions.generator("combining unknown")),
            )
        ]

    def __call__(self, report: Report, columns: list[str]) -> Tensor:
        """The report as the network expects it, float32 [link, column]."""
        row = matrix(report, columns, self._cell.mcs_table, self._cell.cqi_table)
        for names, links in self._untold:
            for name in names:
                row[links, columns.index(name)] = torch.nan
        return row


class _Overheard:
    """The DU's own link adaptation, and beside it `Worth`, as it is the one that is called in every slot."""

    def __init__(self, native: Policy, worth: Worth | None) -> None:
        self.name = native.name
        self._native, self._worth = native, worth
        self.labels: list[Label] = []

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Begin."""
        self._native.start(cell, generator)

    def decide(self, report: Report) -> Decision:
        """What the DU itself would do."""
        decision = self._native.decide(report)
        if self._worth is not None:
            self.labels += self._worth.enter(report.slot, decision.value)
        return decision

    def decided(self, slot: int, value: Tensor) -> None:
        """See `Worth.decided`."""
        assert self._worth is not None
        self._worth.decided(slot, value)


class _Explorer:
    """Moves a decision here and there to one near it, from which more may be learnt."""

    def __init__(self, plan: RolloutPlan, actions: list[Action], luck: torch.Generator) -> None:
        self._share, self._reach, self._luck = plan.exploration, plan.exploration_reach, luck
        kinds = [action.kind for action in actions]
        self._low = torch.tensor([kinds.index(kind) for kind in kinds])
        self._high = torch.tensor([len(kinds) - 1 - kinds[::-1].index(kind) for kind in kinds])

    def moved(self, action: Tensor) -> Tensor:
        if not self._share:
            return action
        at_random = torch.rand(action.shape, generator=self._luck) < self._share
        by = torch.randint(-self._reach, self._reach + 1, action.shape, generator=self._luck)
        return (action + by * at_random).clamp_(self._low[action], self._high[action])


def _stacked(parts: list[Tensor], links: int, network: Network) -> Tensor:
    return torch.stack(parts) if parts else torch.empty(0, links, len(network.actions))


def _figures(simulator: Simulator) -> dict[str, float | None]:
    counters = simulator.counters
    refused, decoded = float(counters.first_nack.sum()), float(counters.first_ack.sum())
    heard = refused + decoded
    return {
        "goodput": float(counters.goodput.mean()),
        "bler": refused / heard if heard else None,
        "residual": float(counters.residual.sum()) / heard if heard else None,
    }
