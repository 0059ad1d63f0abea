"""Arms: several policies side by side, each for its own UEs.

An `Engine` runs one bundle for the decision loop, an `Arm` is the name that its decisions carry, a `Lineup` holds the
present arms and assigns UEs to them. Arms with the same bundle share an engine, and so one call of the graph.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy import count_nonzero

from distila.xapp.kpi.report import MCS, MCS_OFFSET, NATIVE, KpiReport
from distila.xapp.nr.arrays import BoolArray, Float32Array, IntArray
from distila.xapp.policy.bundle import Bundle
from distila.xapp.policy.columns import Layout
from distila.xapp.policy.guard import Guard, Limits
from distila.xapp.policy.ue_table import UeMemory

_numbers = itertools.count(1)
_KINDS = {"native": NATIVE, "mcs": MCS, "mcs_offset": MCS_OFFSET}


class Engine:
    """Runs one bundle: its columns, the meaning of its actions, its guard, and the memory of its UEs.

    The graph is run once here, on the caller's thread: ONNX Runtime plans its memory on first use, which the first UE
    should not wait for.

    Args:
        bundle: the policy.
        limits: on the decisions that may be sent.
        ue_capacity: rows of the memory.

    Attributes:
        number: unique in the process, from 1.
    """

    def __init__(self, bundle: Bundle, limits: Limits, ue_capacity: int) -> None:
        manifest = bundle.manifest
        self.number = next(_numbers)
        self.bundle = bundle
        self.memory = UeMemory(ue_capacity, manifest.state_size)
        self._layout = Layout(manifest.columns)
        self._guard = Guard(limits, manifest.mcs_tables, manifest.columns)
        self._kind_of_action = np.array([_KINDS[action.kind] for action in manifest.actions])
        self._value_of_action = np.array([action.value for action in manifest.actions])
        bundle.run(np.zeros((1, len(manifest.columns)), np.float32), np.zeros((1, manifest.state_size), np.float32))

    def matrix(self, report: KpiReport) -> Float32Array:
        """The report as the graph expects it, float32 [ue, column]."""
        return self._layout.matrix(report)

    def infer(self, matrix: Float32Array, rows: IntArray, noticed: Counter[str]) -> tuple[Float32Array, IntArray]:
        """Scores [ue, action] and greedy action [ue]; the UEs' memory moves on by one report."""
        score, action, next_state = self.bundle.run(matrix, self.memory.state[rows])
        # A state that is not finite would spoil every later decision of the UE: reset it instead.
        finite = np.isfinite(next_state)
        if count_nonzero(finite) < finite.size:
            lost = np.asarray(~finite.all(axis=1))
            next_state = np.where(lost[:, None], np.float32(0), next_state)
            noticed["state_not_finite"] += int(lost.sum())
        self.memory.state[rows] = next_state
        return score, action

    def guarded(
        self, report: KpiReport, score: Float32Array, action: IntArray, rows: IntArray, guarded: Counter[str]
    ) -> tuple[IntArray, IntArray, IntArray]:
        """Kind and value of the decisions as they may be sent, and the kind that the policy chose; [ue] each."""
        proposed = self._kind_of_action[action]
        kind, value = self._guard.check(
            report, score, proposed, self._value_of_action[action], self.memory, rows, guarded
        )
        return kind, value, proposed


@dataclass(frozen=True)
class Arm:
    """A name that decisions carry, and the engine that makes them; without an engine the DU decides by itself."""

    name: str
    engine: Engine | None

    @property
    def digest(self) -> str:
        """sha256 of the bundle's graph; empty without one."""
        return "" if self.engine is None else self.engine.bundle.digest


Assign = Callable[[KpiReport], IntArray]
"""Gives the arm of each UE of a report, [ue], as index into the lineup's arms; depends on the UEs' identity only."""


@dataclass(frozen=True)
class Lineup:
    """The present arms. Arm 0 is the default, the champion.

    Attributes:
        arms: those whose decisions are sent.
        assign: gives the arm of each UE; None: arm 0 for all.
        shadows: arms that decide on every UE too, but whose decisions are never sent.
    """

    arms: tuple[Arm, ...]
    assign: Assign | None = None
    shadows: tuple[Arm, ...] = ()

    @property
    def engines(self) -> list[Engine]:
        """Every engine that runs, without duplicates."""
        found = [arm.engine for arm in (*self.arms, *self.shadows) if arm.engine is not None]
        return list(dict.fromkeys(found))


@dataclass(frozen=True, eq=False)
class CellAssignment:
    """The arm and the engine of each UE of a cell, as of its latest report; computed once, used until the UEs change.

    Attributes:
        rows: [ue], rows of the UEs in the table; the same array object that `UeTable.rows` returned.
        units: [ue], see `UeTable.units`.
        arm: [ue], index into the lineup's arms; None: all of arm 0.
        groups: engines with the UEs that they decide on, as indices; None in place of indices: all of them.
    """

    lineup: Lineup
    rows: IntArray
    units: IntArray
    arm: IntArray | None
    groups: tuple[tuple[Engine, IntArray | None], ...]

    @classmethod
    def of(cls, lineup: Lineup, rows: IntArray, units: IntArray, arm: IntArray | None) -> "CellAssignment":
        """Assign the UEs of a cell to the engines of their arms."""
        where: dict[Engine, list[IntArray]] = {}
        for number in [0] if arm is None else np.unique(arm).tolist():
            engine = lineup.arms[number].engine
            if engine is not None:
                mine = np.arange(len(rows)) if arm is None else np.flatnonzero(arm == number)
                where.setdefault(engine, []).append(mine)
        groups = []
        for engine, parts in where.items():
            index = np.sort(np.concatenate(parts))
            groups.append((engine, None if len(index) == len(rows) else index))
        return cls(lineup, rows, units, arm, tuple(groups))


@dataclass(slots=True)
class Decided:
    """What a `Meter` gets of one indication; arrays are [ue].

    Attributes:
        report: the indication.
        assignment: the arm of each UE.
        withheld: which decisions the guard replaced by native or missed their deadline; None: none.
        engine_us: how long inference and guard of each of the assignment's groups took [us].
    """

    report: KpiReport
    assignment: CellAssignment
    withheld: BoolArray | None
    engine_us: Sequence[float]


class Meter(Protocol):
    """Counts what each arm does. Called on the decision loop's thread, so it only stores its arguments."""

    def record(self, decided: Decided) -> None:
        """Called after each indication that was decided on."""
        ...

    def shadowed(
        self, arm: Arm, report: KpiReport, kind: IntArray, value: IntArray, live_kind: IntArray, live_value: IntArray
    ) -> None:
        """Called after each decision of a shadow arm: its kind and value [ue], and those that were sent."""
        ...
