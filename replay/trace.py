"""Channel traces: effective SINR over time and the CQI that each UE would report. The input of closed-loop replay.

A trace is a list of UEs and, for each, a sequence of *segments*: an effective SINR, a CQI, and for how many slots both
hold. A simulated fading channel has one segment per slot; a log with a report every second has one segment per report.
On disk it is a Parquet file with one row per segment (any data-frame library opens it), UEs one after another:

=================== ======== =================================================================================
column              type     meaning
=================== ======== =================================================================================
ue                  string   name of the UE, one of ``meta.ues``
slots               int32    length of the segment [slots], at least 1
sinr_db             float    effective SINR over the allocated PRBs [dB]; null: the UE is not scheduled then
cqi                 int8     CQI that the UE would report, 0..15; null: none
logged_mcs          int8     MCS that the source really used, where it is a log
logged_first_tx     int32    first transmissions that the source counted in the segment
logged_first_fail   int32    how many of those failed (NACK or DTX)
=================== ======== =================================================================================

Either all three ``logged_`` columns are there or none.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_serializer

from distila.replay.du_config import DuConfig
from distila.replay.parquet_file import column, index_column, read_table, text_column, write_table
from distila.xapp.errors import InputError
from distila.xapp.nr.arrays import Float32Array, IntArray
from distila.xapp.nr.mcs import MCS_TABLES, NUM_MCS
from distila.xapp.policy.olla import MAX_CQI
from distila.xapp.shipped import Shipped, package_folder

FORMAT = "distila.channel-trace/1"
TRACES = Shipped("channel trace", package_folder("distila.replay", "traces"), "*.trace")
"""Channel traces by file, or by the name of one that ships: ``TRACES.find("urban")``."""
DEFAULT_TRACE = "urban"
NO_CQI = -1
NO_MCS = -1
_COLUMNS = ["ue", "slots", "sinr_db", "cqi"]
_LOGGED_COLUMNS = ["logged_mcs", "logged_first_tx", "logged_first_fail"]


Table = Literal[1, 2, 3]
"""MCS table or CQI table of TS 38.214."""


class UeMeta(BaseModel):
    """Constant properties of one UE of a trace."""

    model_config = ConfigDict(extra="forbid")

    name: str
    prbs: int = Field(ge=1, le=275, description="PRBs of each allocation")
    layers: int = Field(default=1, ge=1, le=4)
    mcs_table: Table = 1
    cqi_table: Table = 1
    speed_kmh: float | None = Field(default=None, ge=0)


class TraceMeta(BaseModel):
    """Name, source and limits of a trace."""

    model_config = ConfigDict(extra="forbid")

    name: str
    slot_us: float = Field(gt=0, description="duration of one slot [us]")
    slot_is: Literal["slot", "transmission opportunity"] = "slot"
    source: str = Field(description="who recorded or generated it, how, licence")
    notes: list[str] = Field(default_factory=list, description="assumptions and limits")
    du: DuConfig = Field(
        default_factory=DuConfig,
        description="settings of the DU stand-in that belong to this cell; a replay takes those that are set here,"
        " unless it is given others",
    )
    ues: list[UeMeta]

    @field_serializer("du")
    def _set_here(self, du: DuConfig) -> dict[str, object]:
        return du.given()


@dataclass(frozen=True)
class LoggedOutcome:
    """Counts of a trace's source, per segment: MCS in use, first transmissions, failures among them."""

    mcs: npt.NDArray[np.int8]  # [segment], NO_MCS = not logged
    first_tx: npt.NDArray[np.int32]  # [segment]
    first_fail: npt.NDArray[np.int32]  # [segment]


@dataclass(frozen=True)
class ChannelTrace:
    """A channel trace in memory; segments of all UEs in one array each, UE after UE.

    ``offset`` [ue + 1] points into the segment arrays: UE ``u`` owns ``offset[u]:offset[u + 1]``.
    ``sinr_db`` is NaN where the UE is not scheduled, ``cqi`` is `NO_CQI` where it reports none.

    Raises:
        InputError: arrays of different length, a UE without a segment, values out of range (names field and value).
    """

    meta: TraceMeta
    offset: IntArray  # [ue + 1]
    slots: npt.NDArray[np.int32]  # [segment]
    sinr_db: Float32Array  # [segment]
    cqi: npt.NDArray[np.int8]  # [segment]
    logged: LoggedOutcome | None = None

    def __post_init__(self) -> None:
        segments = len(self.slots)
        names = [ue.name for ue in self.meta.ues]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"trace {self.meta.name}: two UEs are named {twice!r}")
        if len(self.offset) != self.num_ues + 1 or self.offset[0] != 0 or self.offset[-1] != segments:
            raise InputError(f"trace {self.meta.name}: offset does not span {self.num_ues} UEs and {segments} segments")
        if self.num_ues == 0 or (np.diff(self.offset) < 1).any():
            raise InputError(f"trace {self.meta.name}: every UE needs at least one segment")
        arrays: list[npt.NDArray[Any]] = [self.sinr_db, self.cqi]
        if self.logged is not None:
            arrays += [self.logged.mcs, self.logged.first_tx, self.logged.first_fail]
        if any(len(array) != segments for array in arrays):
            raise InputError(f"trace {self.meta.name}: columns have different lengths")
        _check_range(self.meta.name, "slots", self.slots, 1, np.iinfo(np.int32).max)
        _check_range(self.meta.name, "cqi", self.cqi, NO_CQI, MAX_CQI)
        if self.logged is not None:
            self._check_logged_mcs(self.logged.mcs)
            _check_range(self.meta.name, "logged_first_tx", self.logged.first_tx, 0, np.iinfo(np.int32).max)
            _check_range(self.meta.name, "logged_first_fail", self.logged.first_fail, 0, self.logged.first_tx)
        _check_range(self.meta.name, "sinr_db", self.sinr_db[~np.isnan(self.sinr_db)], -60, 80)

    def _check_logged_mcs(self, mcs: npt.NDArray[np.int8]) -> None:
        """Every logged MCS must be in its UE's table: 28 is one in table 1, and reserved in table 2."""
        table = np.repeat([ue.mcs_table for ue in self.meta.ues], np.diff(self.offset))
        highest = np.array([0, *(MCS_TABLES[one].num_mcs - 1 for one in (1, 2, 3))])[table]
        bad = np.flatnonzero((mcs < NO_MCS) | (mcs > highest))
        if len(bad):
            row = bad[0]
            ue = self.meta.ues[int(np.searchsorted(self.offset, row, side="right")) - 1]
            raise InputError(
                f"trace {self.meta.name}: logged_mcs = {mcs[row]} of UE {ue.name!r} (row {row}) is outside"
                f" 0..{highest[row]} of its MCS table {ue.mcs_table}"
            )

    @property
    def num_ues(self) -> int:
        """Number of UEs."""
        return len(self.meta.ues)

    @property
    def num_slots(self) -> IntArray:
        """Length of each UE's trace in slots, [ue]."""
        return np.add.reduceat(self.slots.astype(np.int64), self.offset[:-1])

    def window(self, start_slot: int, stop_slot: int) -> tuple[Float32Array, npt.NDArray[np.int8], IntArray]:
        """Slots ``start_slot`` to ``stop_slot`` (exclusive) as dense arrays, each [slot, ue].

        Returns:
            Effective SINR [dB] (NaN before a UE's first and after its last slot too), CQI, and the index of the segment
            in force (-1 where there is none).
        """
        count = stop_slot - start_slot
        sinr_db = np.full((count, self.num_ues), np.nan, np.float32)
        cqi = np.full((count, self.num_ues), NO_CQI, np.int8)
        segment = np.full((count, self.num_ues), -1, np.int64)
        slots = np.arange(start_slot, stop_slot)
        for ue in range(self.num_ues):
            first, last = self.offset[ue], self.offset[ue + 1]
            ends = np.cumsum(self.slots[first:last], dtype=np.int64)
            here = slots[: max(0, int(ends[-1]) - start_slot)]
            index = first + np.searchsorted(ends, here, side="right")
            sinr_db[: len(here), ue] = self.sinr_db[index]
            cqi[: len(here), ue] = self.cqi[index]
            segment[: len(here), ue] = index
        return sinr_db, cqi, segment

    def save(self, path: Path) -> None:
        """Write the trace to a Parquet file; all of it or nothing."""
        names = pa.array([ue.name for ue in self.meta.ues])
        rows = np.repeat(np.arange(self.num_ues, dtype=np.int32), np.diff(self.offset))
        columns = {
            "ue": pa.DictionaryArray.from_arrays(pa.array(rows), names),
            "slots": pa.array(self.slots),
            "sinr_db": pa.array(self.sinr_db, mask=np.isnan(self.sinr_db)),
            "cqi": pa.array(self.cqi, mask=self.cqi == NO_CQI),
        }
        if self.logged is not None:
            columns["logged_mcs"] = pa.array(self.logged.mcs, mask=self.logged.mcs == NO_MCS)
            columns["logged_first_tx"] = pa.array(self.logged.first_tx)
            columns["logged_first_fail"] = pa.array(self.logged.first_fail)
        write_table(path, pa.table(columns), FORMAT, self.meta)

    @classmethod
    def load(cls, path: Path) -> "ChannelTrace":
        """Read a trace.

        Raises:
            InputError: one line naming the file and what is wrong with it.
        """
        table, meta = read_table(path, FORMAT, TraceMeta, _COLUMNS)
        has_logged = [name in table.column_names for name in _LOGGED_COLUMNS]
        if any(has_logged) and not all(has_logged):
            raise InputError(
                f"{path}: column {_LOGGED_COLUMNS[has_logged.index(False)]!r} is missing; the logged_ columns need each"
                " other"
            )
        try:
            names = text_column(table, "ue")
            logged = None
            if all(has_logged):
                logged = LoggedOutcome(
                    mcs=index_column(table, "logged_mcs", np.int8, NUM_MCS - 1, NO_MCS),
                    first_tx=column(table, "logged_first_tx", np.int32, 0),
                    first_fail=column(table, "logged_first_fail", np.int32, 0),
                )
            return cls(
                meta=meta,
                offset=_offsets(path, meta, names),
                slots=column(table, "slots", np.int32, 0),
                sinr_db=column(table, "sinr_db", np.float32, np.nan),
                cqi=index_column(table, "cqi", np.int8, MAX_CQI, NO_CQI),
                logged=logged,
            )
        except InputError as error:
            raise InputError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None


def bundled_trace() -> Path:
    """The channel trace that ships with distila (see training/bundled_trace.py)."""
    return TRACES.find(DEFAULT_TRACE)


def _offsets(path: Path, meta: TraceMeta, names: npt.NDArray[np.object_]) -> IntArray:
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]]) if len(names) else np.empty(0, np.int64)
    found = [str(names[start]) for start in starts]
    expected = [ue.name for ue in meta.ues]
    if found != expected:
        odd = next(
            (f"{a!r} instead of {b!r}" for a, b in zip(found, expected, strict=False) if a != b), "a UE is missing"
        )
        raise InputError(f"{path}: column 'ue' does not list the UEs of the metadata in order: {odd}")
    return np.append(starts, len(names)).astype(np.int64)


def _check_range(name: str, field: str, values: npt.NDArray[Any], low: float, high: float | npt.NDArray[Any]) -> None:
    bad = np.flatnonzero((values < low) | (values > high))
    if len(bad):
        most = np.broadcast_to(high, values.shape)[bad[0]]
        raise InputError(f"trace {name}: {field} = {values[bad[0]]} is outside {low}..{most}")
