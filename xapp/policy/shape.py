"""Shape tests: how a policy's choice moves with what it reads, in states that real episodes reach.

`shape_of` brings the policy's memory into many states with the reports of episodes (`distila.xapp.policy.recordings`),
changes one thing in the next report, and compares the choices. It needs the bundle alone, whatever columns it reads. ::

    report = shape_of(load_bundle("student"))
    report.cqi_order.passed, report.cqi_order.falling_share

==================  ==================================================================================================
test                passes where
==================  ==================================================================================================
`CqiOrder`          of two fresh CQI, the higher one never lowers the MCS, all else equal
`NackOrder`         a report with more NACKs, or with a NACK in place of an ACK, never raises the MCS
`CqiDrop`           when a fresh CQI is lower by `DROP_CQI`, the very next choice is lower than without the drop, in at
                    least `MIN_ANSWERED` of the cases in which OLLA's is, and by at least `MIN_FALL` of OLLA's fall on
                    average
`UnknownColumns`    with columns unknown (NaN), goodput is at most `MARGIN_PCT` below that of OLLA under the same
                    conditions
==================  ==================================================================================================

The last one needs episodes in which the policy's choices have consequences: `distila.replay.policy_shape`
runs them, and `distila.xapp.policy.check` finds it where the replay is installed. The recordings that ship are of
OLLA's episodes: states of a policy that runs beside OLLA, as a shadow. The replay adds episodes in which the policy
itself decides.

The MCS of an offset, or of an action that leaves the UE to the DU, is counted from the MCS that the report says the DU
would use. That one is held, as all else is; in `CqiDrop` alone it falls as OLLA's choice does, because there the
question is what the next decision makes of a drop, and the DU's own choice follows it. OLLA is the bundle that ships.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from distila.xapp.errors import InputError
from distila.xapp.kpi.observations import MEASURED
from distila.xapp.kpi.report import ACK, NACK, RETX_ACK, RETX_NACK, KpiReport
from distila.xapp.nr.arrays import BoolArray, Float32Array, Float64Array, IntArray
from distila.xapp.nr.cqi import NUM_CQI
from distila.xapp.nr.mcs import MCS_TABLES
from distila.xapp.policy.bundle import Bundle, load_bundle
from distila.xapp.policy.columns import Layout
from distila.xapp.policy.recordings import Recording, load_recordings
from distila.xapp.policy.shape_report import Change, CqiChoices, CqiDrop, CqiOrder, NackCases, NackOrder, ShapeReport

REFERENCE: Final = "olla"
"""The bundle that policies are compared with."""

STATES_OF_A_UE: Final = 12
"""States in which a recorded UE is looked at, evenly spaced over the last three quarters of its reports."""

DROP_CQI: Final = 4
"""Steps by which CQI falls in the test of `CqiDrop`."""

MIN_ANSWERED: Final = 0.9
MIN_FALL: Final = 0.25
"""What passes `CqiDrop`. A share of OLLA's fall, and not all of it, because the best answer is smaller where the
channel moves as fast as CQI is reported: OLLA moves by 2 MCS a step of CQI everywhere."""

_MORE_NACKS: Final = 3
_ROWS_OF_A_RUN: Final = 4096  # more at once is slower, because intermediate results no longer fit the cache
_CQI, _CQI_AGE, _NATIVE, _MAX_TX = (
    MEASURED.index(name) for name in ("cqi", "cqi_age_slots", "native_mcs", "max_transmissions")
)
_TYPICAL_CQI: Final = 9


def shape_of(bundle: Bundle, recordings: Iterable[Recording] | None = None) -> ShapeReport:
    """Test the shape of a policy, all but `UnknownColumns`.

    Args:
        bundle: the policy.
        recordings: report sequences; UEs on an MCS table that the policy was not made for are left out. The first one
            gives the state whose choice over CQI is shown. None: those that ship.

    Raises:
        InputError: no recorded UE has an MCS table that the policy was made for.
    """
    recordings = load_recordings() if recordings is None else tuple(recordings)
    states = _states(bundle, recordings, bundle.manifest.mcs_tables)
    olla = _states(load_bundle(REFERENCE), recordings, bundle.manifest.mcs_tables)
    over_cqi, olla_over_cqi = _over_cqi(states), _over_cqi(olla)
    return ShapeReport(
        cqi_order=_cqi_order(states, over_cqi, olla_over_cqi),
        nack_order=_nack_order(states),
        cqi_drop=_cqi_drop(states, olla_over_cqi),
    )


@dataclass(frozen=True)
class _Choice:
    """A bundle as a function from reports and memory to an MCS."""

    bundle: Bundle
    layout: Layout
    absolute: BoolArray  # [action], the value is an MCS and no offset
    value: IntArray  # [action]

    @classmethod
    def of(cls, bundle: Bundle) -> "_Choice":
        actions = bundle.manifest.actions
        return cls(
            bundle,
            Layout(bundle.manifest.columns),
            np.array([action.kind == "mcs" for action in actions]),
            np.array([action.value for action in actions]),
        )

    def mcs(self, matrix: Float32Array, state: Float32Array, native_mcs: IntArray, last_mcs: IntArray) -> IntArray:
        """The MCS that a DU would use, [row]; native_mcs and last_mcs, of the UE's table, are [row]."""
        parts = [
            self.bundle.run(matrix[start : start + _ROWS_OF_A_RUN], state[start : start + _ROWS_OF_A_RUN])[1]
            for start in range(0, len(matrix), _ROWS_OF_A_RUN)
        ]
        action = np.concatenate(parts)
        chosen = np.where(self.absolute[action], 0, native_mcs) + self.value[action]
        return np.asarray(np.clip(chosen, 0, last_mcs))


@dataclass(frozen=True)
class _States:
    """States of UEs, each with the report that comes next; arrays are [state]."""

    choice: _Choice
    names: tuple[str, ...]  # of the recordings
    recording: IntArray  # index into names
    matrix: Float32Array  # [state, column]
    memory: Float32Array  # [state, S]
    mcs_table: IntArray
    cqi: Float64Array  # NaN = not measured
    fresh_age: Float64Array  # age of a fresh CQI at this kind of node
    native_mcs: IntArray
    period_slots: IntArray
    one_transmission: BoolArray  # a block is sent once, so that every NACK is a residual loss
    feedback: Float64Array  # [state, 4]: ACK and NACK of first transmissions and of retransmissions
    acked_mcs: IntArray  # MCS of most ACKs; the DU's own choice where there are none

    def __len__(self) -> int:
        return len(self.matrix)

    def mcs(self, matrix: Float32Array, which: IntArray, native_mcs: IntArray | None = None) -> IntArray:
        """The choices on these reports, [row], in the states ``which`` [row]; native_mcs: other ones than recorded."""
        last = np.array([0, *(MCS_TABLES[table].num_mcs - 1 for table in (1, 2, 3))])[self.mcs_table[which]]
        native = self.native_mcs[which] if native_mcs is None else native_mcs
        return self.choice.mcs(matrix, self.memory[which], native, last)

    def change(self, state: int, text: str, before: int, after: int) -> Change:
        return Change(
            recording=self.names[self.recording[state]],
            mcs_table=int(self.mcs_table[state]),
            change=text,
            from_mcs=int(before),
            to_mcs=int(after),
        )

    def column(self, name: str) -> int | None:
        columns = self.choice.layout.columns
        return columns.index(name) if name in columns else None

    def put(self, matrix: Float32Array, name: str, value: IntArray | Float64Array) -> None:
        """Write a column of reports, if the policy reads it."""
        column = self.column(name)
        if column is not None:
            matrix[:, column] = value


def _states(bundle: Bundle, recordings: Sequence[Recording], mcs_tables: Sequence[int]) -> _States:
    """The policy's states in the recorded episodes."""
    choice = _Choice.of(bundle)
    names = tuple(recording.name for recording in recordings)
    parts: list[_States] = []
    for number, recording in enumerate(recordings):
        ues = np.flatnonzero(np.isin(recording.mcs_table, mcs_tables))
        if len(ues):
            parts += _states_of(choice, names, number, recording, ues)
    if not parts:
        tables = ", ".join(map(str, mcs_tables))
        raise InputError(f"{bundle.path}: mcs_tables = {tables}: no recorded UE is on one of them")
    _, _, *arrays = fields(_States)
    return _States(choice, names, *(np.concatenate([getattr(part, array.name) for part in parts]) for array in arrays))


def _states_of(
    choice: _Choice, names: tuple[str, ...], number: int, recording: Recording, ues: IntArray
) -> list[_States]:
    """States of some UEs of one recording: those before each of the reports that are looked at."""
    looked_at = set(np.linspace(len(recording) // 4, len(recording) - 1, STATES_OF_A_UE).astype(int).tolist())
    ages = recording.measured[:, :, _CQI_AGE]
    fresh_age = 0.0 if np.isnan(ages).all() else float(np.nanmin(ages))
    memory = np.zeros((len(ues), choice.bundle.manifest.state_size), np.float32)
    found = []
    for index, whole in enumerate(recording.reports()):
        report = whole.part(ues)
        matrix = choice.layout.matrix(report)
        if index in looked_at:
            native = np.nan_to_num(report.measured[:, _NATIVE]).astype(np.int64)
            again = np.nan_to_num(report.measured[:, (RETX_ACK, RETX_NACK)])
            states = _States(
                choice=choice,
                names=names,
                recording=np.full(len(ues), number),
                matrix=matrix,
                memory=memory,
                mcs_table=report.mcs_table,
                cqi=report.measured[:, _CQI],
                fresh_age=np.full(len(ues), fresh_age),
                native_mcs=native,
                period_slots=np.full(len(ues), recording.period_slots),
                one_transmission=np.asarray(report.measured[:, _MAX_TX] == 1),
                feedback=np.column_stack([report.harq_sums[:, (ACK, NACK)], again]),
                acked_mcs=_acked_mcs(report, native),
            )
            found.append(states)
        _, _, following = choice.bundle.run(matrix, memory)
        # As the decision loop does: a memory that is not finite starts anew.
        memory = np.where(np.isfinite(following).all(axis=1, keepdims=True), following, np.float32(0))
    return found


def _acked_mcs(report: KpiReport, otherwise: IntArray) -> IntArray:
    """MCS with most ACKs of each UE, [ue]; of equal ones the highest."""
    mcs, most = otherwise.copy(), np.zeros(report.num_ues)
    for ue, index, acks in zip(report.harq_ue, report.harq_mcs, report.harq_counts[:, ACK], strict=True):
        if acks and acks >= most[ue]:
            mcs[ue], most[ue] = index, acks
    return mcs


def _over_cqi(states: _States) -> IntArray:
    """The choice with each fresh CQI in place of the report's, [state, CQI]."""
    which = np.repeat(np.arange(len(states)), NUM_CQI)
    cqi = np.tile(np.arange(NUM_CQI), len(states))
    return _with_cqi(states, which, cqi, states.native_mcs[which]).reshape(len(states), NUM_CQI)


def _with_cqi(states: _States, which: IntArray, cqi: IntArray, native_mcs: IntArray) -> IntArray:
    """The choice with a fresh CQI and the DU's own choice in place of the report's, [row]."""
    matrix = states.matrix[which]
    states.put(matrix, "cqi", cqi)
    states.put(matrix, "cqi_age_slots", states.fresh_age[which])
    states.put(matrix, "native_mcs", native_mcs)
    return states.mcs(matrix, which, native_mcs)


def _cqi_order(states: _States, mcs: IntArray, olla_mcs: IntArray) -> CqiOrder:
    low, high = np.triu_indices(NUM_CQI, 1)
    fall = mcs[:, low] - mcs[:, high]  # [state, pair]
    falls = fall > 0
    worst = None
    if falls.any():
        state, pair = np.unravel_index(np.argmax(fall), fall.shape)
        before, after = int(low[pair]), int(high[pair])
        text = f"CQI {before} to CQI {after}"
        worst = states.change(int(state), text, mcs[state, before], mcs[state, after])
    typical = _typical(states, mcs)
    return CqiOrder(
        passed=not falls.any(),
        reads_cqi=states.column("cqi") is not None,
        states=len(states),
        cases=falls.size,
        falling=int(falls.sum()),
        falling_share=float(falls.mean()),
        falling_share_by_recording={
            name: float(falls[states.recording == index].mean())
            for index, name in enumerate(states.names)
            if (states.recording == index).any()
        },
        worst=worst,
        typical=CqiChoices(
            recording=states.names[states.recording[typical]],
            mcs_table=int(states.mcs_table[typical]),
            latest_cqi=None if np.isnan(states.cqi[typical]) else int(states.cqi[typical]),
            native_mcs=int(states.native_mcs[typical]),
            cqi=tuple(range(NUM_CQI)),
            mcs=tuple(mcs[typical].tolist()),
            olla_mcs=tuple(olla_mcs[typical].tolist()),
        ),
    )


def _typical(states: _States, mcs: IntArray) -> int:
    """A state of the first recording with a CQI near `_TYPICAL_CQI`: the one with the median choice of these."""
    distance = np.abs(np.nan_to_num(states.cqi, nan=99) - _TYPICAL_CQI) + 100 * (
        states.recording - states.recording.min()
    )
    near = np.flatnonzero(distance == distance.min())
    by_choice = near[np.argsort(mcs[near, _TYPICAL_CQI], kind="stable")]
    return int(by_choice[len(by_choice) // 2])


def _cqi_drop(states: _States, olla_mcs: IntArray) -> CqiDrop:
    which = np.flatnonzero(states.cqi > DROP_CQI)  # with the drop at least CQI 1
    cqi = states.cqi[which].astype(np.int64)
    theirs = olla_mcs[which, cqi] - olla_mcs[which, cqi - DROP_CQI]
    native = states.native_mcs[which]
    before = _with_cqi(states, which, cqi, native)
    # The DU answers too: its own choice falls as OLLA's does.
    after = _with_cqi(states, which, cqi - DROP_CQI, np.maximum(native - theirs, 0))
    cases = (theirs > 0) & (before > 0)
    ours, theirs = (before - after)[cases], theirs[cases]
    known = len(ours) > 0
    answered, mean, reference = float((ours > 0).mean()) if known else 0.0, 0.0, 1.0
    if known:
        mean, reference = float(ours.mean()), float(theirs.mean())
    return CqiDrop(
        passed=known and answered >= MIN_ANSWERED and mean >= MIN_FALL * reference,
        drop_cqi=DROP_CQI,
        cases=len(ours),
        answered_share=answered if known else None,
        min_answered_share=MIN_ANSWERED,
        fall_mcs=mean if known else None,
        olla_fall_mcs=reference if known else None,
        min_fall_of_olla=MIN_FALL,
    )


def _nack_order(states: _States) -> NackOrder:
    ack, nack, again_ack, _ = states.feedback.T
    room = states.period_slots - ack - nack  # a slot has one feedback at most
    more = []
    for added in range(1, _MORE_NACKS + 1):
        which = np.flatnonzero(room >= added)
        fewer, with_nack = (_with_feedback(states, which, nack=count) for count in (added - 1, added))
        more.append((which, fewer, with_nack))
    # Where no ACK was recorded, the comparison begins with one more ACK.
    which = np.flatnonzero((ack > 0) | (room > 0))
    first = (ack[which] == 0).astype(float)
    swapped = (
        which,
        _with_feedback(states, which, ack=first),
        _with_feedback(states, which, ack=first - 1, nack=1),
    )
    which = np.flatnonzero(~states.one_transmission)
    first = (again_ack[which] == 0).astype(float)
    again = (
        which,
        _with_retransmissions(states, which, first, 0),
        _with_retransmissions(states, which, first - 1, 1),
    )
    cases = (
        _compared(states, more, "one NACK more"),
        _compared(states, [swapped], "a NACK in place of an ACK"),
        _compared(states, [again], "a retransmission with NACK in place of one with ACK"),
    )
    return NackOrder(
        passed=not any(case.rising for case in cases),
        more_nacks=cases[0],
        nack_for_ack=cases[1],
        retx_nack_for_ack=cases[2],
    )


_Comparison = tuple[IntArray, Float32Array, Float32Array]
"""States [row], and the reports before and after the change, [row, column]."""


def _compared(states: _States, comparisons: Sequence[_Comparison], change: str) -> NackCases:
    which = np.concatenate([rows for rows, _, _ in comparisons])
    before = states.mcs(np.concatenate([matrix for _, matrix, _ in comparisons]), which)
    after = states.mcs(np.concatenate([matrix for _, _, matrix in comparisons]), which)
    rise = after - before
    worst = None
    if (rise > 0).any():
        row = int(np.argmax(rise))
        worst = states.change(int(which[row]), change, before[row], after[row])
    share = float((rise > 0).mean()) if len(rise) else 0.0
    return NackCases(cases=len(rise), rising=int((rise > 0).sum()), rising_share=share, worst=worst)


def _with_feedback(states: _States, which: IntArray, ack: Float64Array | int = 0, nack: int = 0) -> Float32Array:
    """Reports with more first transmissions in the period, decoded and not, [row]; a number below 0 takes some away.

    They are at the MCS of most ACKs, and the mean MCS stays, so that nothing but the counts differs.
    """
    matrix = states.matrix[which]
    mcs = states.acked_mcs[which]
    states.put(matrix, "harq_ack", states.feedback[which, 0] + ack)
    states.put(matrix, "harq_nack", states.feedback[which, 1] + nack)
    mean = states.column("harq_mcs_mean")
    if mean is not None:
        none = states.feedback[which, :2].sum(axis=1) == 0  # then there is no mean to keep
        matrix[:, mean] = np.where(none & (ack + nack > 0), mcs, matrix[:, mean])
    residual = states.column("harq_residual")
    if residual is not None:
        matrix[:, residual] += nack * states.one_transmission[which]
    for index, name in enumerate(states.choice.layout.columns):
        outcome, _, at = name.removeprefix("harq_").partition("_mcs_")
        if at.isdigit():
            matrix[:, index] += (mcs == int(at)) * (ack if outcome == "ack" else nack)
    return matrix


def _with_retransmissions(states: _States, which: IntArray, ack: Float64Array, nack: int) -> Float32Array:
    """Reports with more retransmissions in the period, decoded and not, [row]; see `_with_feedback`."""
    matrix = states.matrix[which]
    again_ack, again_nack = states.feedback[which, 2:].T
    states.put(matrix, "retx_ack", again_ack + ack)
    states.put(matrix, "retx_nack", again_nack + nack)
    mean = states.column("retx_mcs_mean")
    if mean is not None:
        matrix[:, mean] = np.where(again_ack + again_nack == 0, states.acked_mcs[which], matrix[:, mean])
    return matrix
