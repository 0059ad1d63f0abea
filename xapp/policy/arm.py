"""Arms: several policies side by side, each for its own UEs.

An `Engine` is a bundle as the decision loop runs it, an `Arm` the name under which decisions go out, a `Lineup` the
arms of the moment and who belongs to which. Arms of one bundle share an engine, and so one call of the graph.
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
    """One bundle at work: its columns, what its actions mean, its guard, and the memory of its UEs.

    The graph is run once here, on the caller's thread: ONNX Runtime plans its memory on first use, which the first UE
    should not wait for.

    Args:
        bundle: the policy.
        limits: on what may go out.
        ue_capacity: rows of the memory.

    Attributes:
        number: from 1, no two engines of a process have the same.
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
        # A state that is not finite would poison every later decision of the UE: forget it instead.
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
        """Kind and value of the decisions as they may go out, and the kind that the policy wanted; [ue] each."""
        wanted = self._kind_of_action[action]
        kind, value = self._guard.check(
            report, score, wanted, self._value_of_action[action], self.memory, rows, guarded
        )
        return kind, value, wanted


@dataclass(frozen=True)
class Arm:
    """A name that decisions carry, and what decides; no engine: no override, the DU's own link adaptation decides."""

    name: str
    engine: Engine | None

    @property
    def digest(self) -> str:
        """sha256 of the bundle's graph; empty without one."""
        return "" if self.engine is None else self.engine.bundle.digest


Assign = Callable[[KpiReport], IntArray]
"""Which arm each UE of a report belongs to, [ue], indices into the lineup's arms. Depends on who the UEs are only."""


@dataclass(frozen=True)
class Lineup:
    """The arms of the moment. Arm 0 is the default one, the champion.

    Attributes:
        arms: those that decide.
        assign: who belongs to which; None: all UEs to arm 0.
        shadows: decide on every UE beside its arm, and are never sent.
    """

    arms: tuple[Arm, ...]
    assign: Assign | None = None
    shadows: tuple[Arm, ...] = ()

    @property
    def engines(self) -> list[Engine]:
        """Every engine that runs, once."""
        found = [arm.engine for arm in (*self.arms, *self.shadows) if arm.engine is not None]
        return list(dict.fromkeys(found))


@dataclass(frozen=True, eq=False)
class Seating:
    """Who sits where, for the UEs of one cell as of its latest report: worked out once, used until the UEs change.

    Attributes:
        rows: [ue], rows of the UEs in the table; the very array that `UeTable.rows` handed out.
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
    def of(cls, lineup: Lineup, rows: IntArray, units: IntArray, arm: IntArray | None) -> "Seating":
        """Put the UEs of a cell to the engines of their arms."""
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
    """What a `Meter` is told of one indication; arrays [ue].

    Attributes:
        report: the indication.
        seating: who belonged to which arm.
        kept_back: decisions that the guard did not let out, or that missed their deadline; None: none.
        engine_us: how long inference and guard of each of the seating's groups took [us].
    """

    report: KpiReport
    seating: Seating
    kept_back: BoolArray | None
    engine_us: Sequence[float]


class Meter(Protocol):
    """Keeps account of what each arm does. Called in the decision loop's thread, so it must only take note."""

    def record(self, decided: Decided) -> None:
        """One indication was decided on."""
        ...

    def shadowed(
        self, arm: Arm, report: KpiReport, kind: IntArray, value: IntArray, live_kind: IntArray, live_value: IntArray
    ) -> None:
        """A shadow arm decided: kind and value, [ue]; and what was sent in truth."""
        ...
