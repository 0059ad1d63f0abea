"""Rollouts: a network decides in the simulator; its reports are kept, with labels to learn from.

`collect` is a function of its arguments alone, so rollouts may run on any worker (`distila.training.learning.fan_out`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from distila.training.baselines import baseline, tuned_settings
from distila.training.learning.action_values import ActionValues, Label
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
    """share of links whose reports never have the DU's own choice, as with some E2 nodes"""
    retx_unknown: float = 0.0
    """share of links whose reports never count retransmissions"""
    combining_unknown: float = 0.0
    """share of links whose reports never say how the node combines transmissions"""
    label_every_slots: int = 4
    """slots, at least, between decisions that a teacher or an algorithm labels; `ActionValues` has its own period"""


@dataclass
class Experience:
    """The result of one rollout. T decisions, of which S are labelled; L links, A actions, C report columns."""

    scenario: str
    rows: Tensor
    """float32 [T, L, C], the reports, raw units"""
    steps: Tensor
    """int64 [S], which of them the labels belong to"""
    labels: dict[str, Tensor] = field(default_factory=dict)
    """those that were asked for: ``share``, ``failure`` and ``residual`` (`ActionValues`), ``teacher_score``: float32
    [S, L, A]; ``algorithm_choice`` (the MCS of a reference algorithm): int64 [S, L]"""
    figures: dict[str, float | None] = field(default_factory=dict)
    """see `distila.training.sim.simulator.Counters.figures`; exploration included"""


def collect(
    plan: RolloutPlan,
    driver: Network,
    action_values: bool = False,
    teacher: Network | None = None,
    algorithm: Policy | None = None,
    on_slot: OnSlot = lambda slot: None,
    columns: list[str] | None = None,
) -> Experience:
    """Let a network decide, and label its reports.

    Args:
        plan: what to simulate.
        driver: the network whose decisions are carried out.
        action_values: label with `ActionValues`; the driver must expect values (`head: value`).
        teacher: label with this network's scores; it gets the same reports and has a memory of its own.
        algorithm: label with the MCS that this reference algorithm would choose.
        on_slot: called with the slot that has been reached.
        columns: of the reports that are kept; None: the driver's.

    Raises:
        ValueError: a teacher with other actions or together with action values, or a driver that does not expect
            values where action values are asked for.
    """
    if teacher is not None and teacher.actions != driver.actions:
        raise ValueError("the teacher's actions are not the driver's")
    if action_values and teacher is not None:
        raise ValueError("action values and a teacher label different decisions; ask for one of them")
    if action_values and driver.config.head != "value":
        raise ValueError(f"action values need a driver that expects values; its head is {driver.config.head}")
    scenario = plan.scenario
    # The first report at or after the last slot still belongs to the rollout.
    most_slots = plan.slots + scenario.longest_report_period_slots
    conditions = Conditions(scenario, plan.links, plan.split, plan.seed, most_slots, banks=plan.banks)
    cell = conditions.cell()
    native = _NativeWithLabels(
        baseline("olla", **tuned_settings("olla")), ActionValues(conditions, driver.actions) if action_values else None
    )
    simulator = Simulator(conditions, native=native)
    explorer = _Explorer(plan, driver.actions, conditions.generator("exploration"))
    if algorithm is not None:
        algorithm.start(cell, conditions.generator("advisor"))  # the name seeds the generator: it must not change
    columns = driver.columns if columns is None else columns
    reported = PartialReports(plan, conditions)
    state = driver.zero_state(plan.links)
    teacher_state = teacher.zero_state(plan.links) if teacher is not None else state
    answers = Answers(driver.actions, cell.max_mcs)
    label_every = -(-plan.label_every_slots // conditions.report_period_slots)
    rows: list[Tensor] = []
    labelled: list[int] = []
    teacher_scores: list[Tensor] = []
    choices: list[Tensor] = []
    while simulator.slot < plan.slots:
        report = simulator.report
        row = reported(report, driver.columns)
        with torch.no_grad():
            score, state = driver(row, state)
            best = score.max(dim=1)
            due = not action_values and len(rows) % label_every == 0
            if teacher is not None:
                teacher_row = row if teacher.columns == driver.columns else reported(report, teacher.columns)
                teacher_score, teacher_state = teacher(teacher_row, teacher_state)
                if due:
                    teacher_scores.append(teacher_score)
        if action_values:
            native.decided(report.slot, best.values)
        if algorithm is not None:
            choices.append(algorithm.decide(report).value)
        if due:
            labelled.append(len(rows))
        rows.append(row if columns == driver.columns else reported(report, columns))
        simulator.step(answers.decision(explorer.moved(best.indices)))
        on_slot(simulator.slot)
    labels: dict[str, Tensor] = {}
    if action_values:
        found = native.labels
        labelled = [label.answered // conditions.report_period_slots for label in found]
        for name in ("share", "failure", "residual"):
            labels[name] = _stacked([getattr(label, name) for label in found], plan.links, driver)
    if teacher is not None:
        labels["teacher_score"] = _stacked(teacher_scores, plan.links, driver)
    if algorithm is not None:
        labels["algorithm_choice"] = (
            torch.stack([choices[step] for step in labelled])
            if labelled
            else torch.empty((0, plan.links), dtype=torch.int64)
        )
    return Experience(
        scenario.name,
        torch.stack(rows),
        torch.tensor(labelled, dtype=torch.int64),
        labels,
        simulator.counters.figures(),
    )


class PartialReports:
    """Reports as a policy gets them: those of some links lack what some E2 nodes do not report."""

    def __init__(self, plan: RolloutPlan, conditions: Conditions) -> None:
        self._not_reported = [
            (columns, torch.rand(plan.links, generator=generator, device=generator.device) < share)
            for columns, share, generator in (
                (("native_mcs",), plan.native_unknown, conditions.generator("native unknown")),
                (("retx_ack", "retx_nack", "retx_mcs_mean"), plan.retx_unknown, conditions.generator("retx unknown")),
                (("combining",), plan.combining_unknown, conditions.generator("combining unknown")),
            )
        ]

    def __call__(self, report: Report, columns: list[str]) -> Tensor:
        """The report as the network expects it, float32 [link, column]."""
        row = matrix(report, columns)
        for names, links in self._not_reported:
            for name in names:
                row[links, columns.index(name)] = torch.nan
        return row


class _NativeWithLabels:
    """The DU's own link adaptation. It is called in every slot, so it keeps `ActionValues` in step with them."""

    def __init__(self, native: Policy, action_values: ActionValues | None) -> None:
        self.name = native.name
        self._native, self._action_values = native, action_values
        self.labels: list[Label] = []

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Begin."""
        self._native.start(cell, generator)

    def decide(self, report: Report) -> Decision:
        """What the DU itself would do."""
        decision = self._native.decide(report)
        if self._action_values is not None:
            self.labels += self._action_values.enter(report.slot, decision.value)
        return decision

    def decided(self, slot: int, value: Tensor) -> None:
        """See `ActionValues.decided`."""
        assert self._action_values is not None
        self._action_values.decided(slot, value)


class _Explorer:
    """Moves a share of the decisions to an action near them."""

    def __init__(self, plan: RolloutPlan, actions: list[Action], generator: torch.Generator) -> None:
        self._share, self._reach, self._generator = plan.exploration, plan.exploration_reach, generator
        kinds = [action.kind for action in actions]
        self._low = torch.tensor([kinds.index(kind) for kind in kinds])
        self._high = torch.tensor([len(kinds) - 1 - kinds[::-1].index(kind) for kind in kinds])

    def moved(self, action: Tensor) -> Tensor:
        """The actions carried out; both int64 [link]."""
        if not self._share:
            return action
        at_random = torch.rand(action.shape, generator=self._generator) < self._share
        by = torch.randint(-self._reach, self._reach + 1, action.shape, generator=self._generator)
        return (action + by * at_random).clamp_(self._low[action], self._high[action])


def _stacked(parts: list[Tensor], links: int, network: Network) -> Tensor:
    return torch.stack(parts) if parts else torch.empty(0, links, len(network.actions))
