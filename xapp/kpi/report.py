"""What the loop works on: one indication and its answer, as struct-of-arrays.

`KpiReport` is an indication after decoding, `Decisions` a control message before encoding. Row ``i`` of every array
belongs to the ``i``-th UE; NaN stands for *not measured*.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from numpy import count_nonzero

from distila.xapp.errors import InputError
from distila.xapp.kpi.observations import COLUMNS, HARQ_OUTCOMES, MEASURED
from distila.xapp.nr.arrays import BoolArray, Float64Array, IntArray
from distila.xapp.shipped import did_you_mean

RETX_ACK, RETX_NACK, RETX_MCS_SUM = RETX = [MEASURED.index(f"retx_{name}") for name in ("ack", "nack", "mcs_sum")]
"""Columns of `KpiReport.measured` that count retransmissions, and all three of them."""

ACK, NACK, DTX, RESIDUAL = range(len(HARQ_OUTCOMES))
"""Columns of `KpiReport.harq_counts`: first transmissions by their feedback, and residual losses."""

NO_UE_ID: Final = -1

MAX_RNTI: Final = 0xFFFF

UNNUMBERED: Final = -1
"""`KpiReport.sequence` of a report without a number, which is taken as the newest of its cell."""

NATIVE, MCS, MCS_OFFSET = range(3)
"""Kinds of a decision: no override, absolute MCS, offset to the DU's own choice."""

_PLACE: Final = {name: place for place, name in enumerate(MEASURED)}
_PER_REPORT: Final = ("cell_id", "sequence", "sfn", "slot", "timestamp_us", "period_slots", "one_entry_per_ue")
_PER_UE: Final = (
    "rnti",
    "ue_id",
    "cqi_table",
    "mcs_table",
    "measured",
    "total_first_tx",
    "harq_measured",
    "harq_sums",
    "first_tx",
    "first_failed",
)


@dataclass(slots=True)
class KpiReport:
    """One indication of one cell, all its UEs.

    HARQ feedback is sparse: ``harq_ue``, ``harq_mcs``, ``harq_counts`` have one entry per UE *and MCS* with feedback.
    """

    cell_id: str
    sequence: int  # UNNUMBERED = the report has no number
    sfn: int
    slot: int
    timestamp_us: int
    period_slots: int
    rnti: IntArray  # [ue]
    ue_id: IntArray  # [ue], NO_UE_ID = the node has none
    cqi_table: IntArray  # [ue], 1..3
    mcs_table: IntArray  # [ue], 1..3, 0 = one that is unknown
    measured: Float64Array  # [ue, len(MEASURED)]
    total_first_tx: Float64Array  # [ue], first transmissions since attach; NaN = not known
    harq_ue: IntArray  # [entry], row of the UE
    harq_mcs: IntArray  # [entry], 0..28
    harq_counts: Float64Array  # [entry, 4], columns ACK, NACK, DTX, RESIDUAL
    harq_measured: BoolArray = field(init=False)  # [ue]
    harq_sums: Float64Array = field(init=False)  # [ue, 4], counts over all MCS; zeros where there was no feedback
    one_entry_per_ue: bool = field(init=False)  # as when a report covers one slot; then nothing has to be added up
    first_tx: Float64Array = field(init=False)  # [ue], first transmissions with an outcome in the period
    first_failed: Float64Array = field(init=False)  # [ue], those of them that failed: NACK or DTX

    def __post_init__(self) -> None:
        self.harq_measured = ~np.isnan(self.total_first_tx)
        # A node may count feedback without keeping the total.
        self.harq_measured[self.harq_ue] = True
        self.harq_sums = np.zeros((len(self.rnti), 4))
        self.one_entry_per_ue = not count_nonzero(self.harq_ue[1:] <= self.harq_ue[:-1])
        if self.one_entry_per_ue:
            self.harq_sums[self.harq_ue] = self.harq_counts
        else:
            np.add.at(self.harq_sums, self.harq_ue, self.harq_counts)
        self.first_failed = self.harq_sums[:, NACK] + self.harq_sums[:, DTX]
        self.first_tx = self.harq_sums[:, ACK] + self.first_failed

    @classmethod
    def of(
        cls,
        rnti: Sequence[int],
        *,
        cell_id: str = "cell",
        sequence: int | None = None,
        timestamp_us: int = 0,
        period_slots: int = 20,
        cqi_table: int = 1,
        mcs_table: int = 1,
        **measured: npt.ArrayLike,
    ) -> "KpiReport":
        """A report of these UEs with some measurements and no HARQ feedback, for a first try or a test.

        Args:
            rnti: RNTI of each UE, 1 to 65535, each once.
            cell_id: id of the cell.
            sequence: number of the report; a loop drops a report whose number it has seen for the cell, or a higher
                one. None: the report has no number, and every loop takes it as the newest of its cell.
            timestamp_us: time of the report [us].
            period_slots: slots that it covers, 1 or more.
            cqi_table: CQI table of all UEs (TS 38.214), 1 to 3.
            mcs_table: MCS table of all UEs (TS 38.214), 1 to 3.
            measured: columns of `MEASURED` by name, such as ``cqi=[9]`` or ``sinr_db=12.5``, one value for each UE or
                one for all; units and ranges are those of `distila.xapp.kpi.observations.TABLE`. NaN, or a column that
                is not named: not measured.

        Raises:
            InputError: there is no such column, it has another number of values, a value is out of its range, or an
                RNTI is given twice.
        """
        ues = len(rnti)
        _check_range("rnti", np.asarray(rnti), 1, MAX_RNTI)
        if len(set(rnti)) < ues:
            twice = next(one for one in rnti if list(rnti).count(one) > 1)
            raise InputError(f"rnti = {twice}: given twice; a report has one row for each UE")
        if sequence is not None:
            _check_range("sequence", np.array(sequence), 0, 2**63 - 1)
        _check_range("timestamp_us", np.array(timestamp_us), 0, 2**63 - 1)
        _check_range("period_slots", np.array(period_slots), 1, COLUMNS["period_slots"].high)
        for name, table in (("cqi_table", cqi_table), ("mcs_table", mcs_table)):
            _check_range(name, np.array(table), COLUMNS[name].low, COLUMNS[name].high)
        for name, values in measured.items():
            if name not in _PLACE:
                raise InputError(
                    f"{name}: no such measurement{did_you_mean(name, _PLACE)}; there are {', '.join(_PLACE)}"
                )
            if np.shape(values) not in ((), (ues,)):
                raise InputError(f"{name}: {np.size(values)} values for {ues} UEs")
            try:
                numbers = np.asarray(values, np.float64)
            except (TypeError, ValueError):
                raise InputError(f"{name} = {values!r}: not a number, or one for each UE") from None
            _check_range(name, numbers, COLUMNS[name].low, COLUMNS[name].high)
        return cls(
            cell_id=cell_id,
            sequence=UNNUMBERED if sequence is None else sequence,
            sfn=0,
            slot=0,
            timestamp_us=timestamp_us,
            period_slots=period_slots,
            rnti=np.array(rnti, np.int64),
            ue_id=np.full(ues, NO_UE_ID),
            cqi_table=np.full(ues, cqi_table),
            mcs_table=np.full(ues, mcs_table),
            measured=measured_columns(ues, measured),
            total_first_tx=np.full(ues, np.nan),
            harq_ue=np.empty(0, np.int64),
            harq_mcs=np.empty(0, np.int64),
            harq_counts=np.empty((0, 4)),
        )

    @property
    def num_ues(self) -> int:
        """Number of UEs in the report."""
        return len(self.rnti)

    def part(self, index: IntArray) -> "KpiReport":
        """The report of some of its UEs only; ``index`` holds their rows, ascending."""
        new_row = np.full(self.num_ues, -1)
        new_row[index] = np.arange(len(index))
        ue = new_row[self.harq_ue]
        entries = np.flatnonzero(ue >= 0)
        # What was worked out for all of them holds for some, and need not be worked out again.
        part = object.__new__(KpiReport)
        for name in _PER_REPORT:
            setattr(part, name, getattr(self, name))
        for name in _PER_UE:
            setattr(part, name, getattr(self, name)[index])
        part.harq_ue, part.harq_mcs, part.harq_counts = (
            ue[entries],
            self.harq_mcs[entries],
            self.harq_counts[entries],
        )
        return part

    def ue_key(self) -> IntArray:
        """What identifies a UE within its cell, [ue]: its stable id where there is one, otherwise its RNTI."""
        return np.where(self.ue_id == NO_UE_ID, self.rnti, self.ue_id + 0x10000)


def _check_range(name: str, values: IntArray | Float64Array, low: float, high: float) -> None:
    """Raises InputError for the first value outside ``low..high``; NaN passes."""
    outside = values[(values < low) | (values > high)]
    if outside.size:
        raise InputError(f"{name} = {outside[0]:.15g}: outside {low:.15g}..{high:.15g}")


def measured_columns(num_ues: int, values: Mapping[str, npt.ArrayLike]) -> Float64Array:
    """`KpiReport.measured` of some columns by name, each [ue] or one number for all UEs; the others are NaN."""
    measured = np.full((num_ues, len(MEASURED)), np.nan)
    for name, column in values.items():
        measured[:, _PLACE[name]] = column
    return measured


@dataclass(slots=True)
class Decisions:
    """The answer to one indication: what each UE's MCS shall be, for how long, and who decided.

    A kind of 0 leaves the UE to the DU, of 1 sets an absolute MCS (``value`` is its index), of 2 adds ``value`` to the
    MCS that the DU would use.
    """

    cell_id: str
    answers_sequence: int  # of the report; UNNUMBERED = it has none
    sfn: int
    slot: int
    timestamp_us: int  # of the report [us]
    valid_for_slots: int  # from the slot of the report on
    rnti: IntArray  # [ue]
    ue_id: IntArray  # [ue], NO_UE_ID = the node has none
    kind: IntArray  # [ue], NATIVE, MCS or MCS_OFFSET
    value: IntArray  # [ue], the MCS or the offset; 0 where native
    arms: list[tuple[str, str]] = field(default_factory=list)  # (name, policy digest)
    arm: IntArray | None = None  # [ue], index into arms; None: all of arm 0
