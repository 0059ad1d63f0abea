"""Report sequences recorded from closed-loop episodes, by which a policy's memory is brought into real states.

The file that ships, ``recordings.npz``, is made by `distila.replay.record_reports` from episodes of several kinds of
node; it has every column of the observation table that the DU stand-in reports, for UEs of all three MCS tables. It
needs neither replay nor simulator to be read, so that `distila policy check` runs wherever the xApp does.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from distila.xapp.errors import InputError
from distila.xapp.kpi.observations import COLUMNS, MEASURED
from distila.xapp.kpi.report import NO_UE_ID, UNNUMBERED, KpiReport
from distila.xapp.nr.arrays import Float64Array, IntArray
from distila.xapp.shipped import package_folder

RECORDINGS: Final = package_folder("distila.xapp.policy") / "recordings.npz"
"""The recordings that ship."""

_ABSENT: Final = -1  # in the file, of a value that is not measured; no recorded column is negative
_PARTS: Final = ("period_slots", "cqi_table", "mcs_table", "measured", "harq_at", "harq_counts")


@dataclass(frozen=True)
class Recording:
    """The reports of one episode: one cell, the same UEs in every report.

    Attributes:
        name: the kind of node, and who decided: ``usual, OLLA decides``.
        period_slots: slots between two reports.
        cqi_table, mcs_table: [ue], 1..3.
        measured: [report, ue, column of `MEASURED`], NaN = not measured.
        harq_at: [entry, 3], report, UE and MCS of HARQ feedback, ascending.
        harq_counts: [entry, 4], ACK, NACK, DTX and residual losses.
    """

    name: str
    period_slots: int
    cqi_table: IntArray
    mcs_table: IntArray
    measured: Float64Array
    harq_at: IntArray
    harq_counts: Float64Array

    @classmethod
    def of(cls, name: str, reports: list[KpiReport]) -> "Recording":
        """The recording of reports that all have the same UEs, each measuring HARQ."""
        first = reports[0]
        at = [
            np.stack([np.full(len(report.harq_ue), index), report.harq_ue, report.harq_mcs], axis=1)
            for index, report in enumerate(reports)
        ]
        return cls(
            name=name,
            period_slots=first.period_slots,
            cqi_table=first.cqi_table,
            mcs_table=first.mcs_table,
            measured=np.stack([report.measured for report in reports]),
            harq_at=np.concatenate(at),
            harq_counts=np.concatenate([report.harq_counts for report in reports]),
        )

    def __len__(self) -> int:
        """Number of reports."""
        return len(self.measured)

    @property
    def num_ues(self) -> int:
        """Number of UEs."""
        return len(self.mcs_table)

    def reports(self) -> Iterator[KpiReport]:
        """The reports in order, of all UEs."""
        ends = np.searchsorted(self.harq_at[:, 0], np.arange(len(self) + 1))
        for index, measured in enumerate(self.measured):
            entries = slice(ends[index], ends[index + 1])
            yield KpiReport(
                cell_id=self.name,
                sequence=UNNUMBERED,
                sfn=0,
                slot=0,
                timestamp_us=0,
                period_slots=self.period_slots,
                rnti=np.arange(1, self.num_ues + 1),
                ue_id=np.full(self.num_ues, NO_UE_ID),
                cqi_table=self.cqi_table,
                mcs_table=self.mcs_table,
                measured=measured,
                total_first_tx=np.zeros(self.num_ues),
                harq_ue=self.harq_at[entries, 1],
                harq_mcs=self.harq_at[entries, 2],
                harq_counts=self.harq_counts[entries],
            )


def write_recordings(path: Path, recordings: Iterable[Recording]) -> None:
    """Write recordings to a file; the same recordings give the same bytes.

    Raises:
        InputError: a measured value is no whole number of its column's steps on the wire, or negative.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    for recording in recordings:
        columns = {}
        for place, name in enumerate(MEASURED):
            values = recording.measured[:, :, place]
            if np.isnan(values).all():
                continue
            known = values[~np.isnan(values)]
            if (known < 0).any() or (known != np.round(known)).any():
                raise InputError(f"recording {recording.name}: {name}: not all values are whole numbers from 0")
            # UE by UE, because a UE's values change little from report to report.
            columns[name] = np.nan_to_num(values.T, nan=_ABSENT).astype(np.int32)
        order = np.lexsort((recording.harq_at[:, 0], recording.harq_at[:, 1]))
        parts = {
            "period_slots": np.array(recording.period_slots),
            "cqi_table": recording.cqi_table.astype(np.int8),
            "mcs_table": recording.mcs_table.astype(np.int8),
            "names": np.array(list(columns)),
            "measured": np.stack(list(columns.values())),
            "harq_at": recording.harq_at[order].astype(np.int16).T,
            "harq_counts": recording.harq_counts[order].astype(np.int16).T,
        }
        arrays |= {f"{recording.name}/{part}": array for part, array in parts.items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # mypy takes them for allow_pickle


def load_recordings(path: Path = RECORDINGS) -> tuple[Recording, ...]:
    """Read recordings from a file; those that ship by default.

    Raises:
        InputError: there is no such file, or it holds no recordings.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            names = list(dict.fromkeys(key.partition("/")[0] for key in data.files))
            return tuple(
                _recording(name, {part: data[f"{name}/{part}"] for part in (*_PARTS, "names")}) for name in names
            )
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"{path}: not a file of recorded reports: {error}") from None


def _recording(name: str, parts: dict[str, IntArray]) -> Recording:
    stored = parts["measured"]  # [column, ue, report]
    _, ues, reports = stored.shape
    measured = np.full((reports, ues, len(MEASURED)), np.nan)
    for column, values in zip(parts["names"].tolist(), stored, strict=True):
        if column in COLUMNS:
            measured[:, :, MEASURED.index(column)] = np.where(values == _ABSENT, np.nan, values).T
    at = parts["harq_at"].T.astype(np.int64)
    order = np.lexsort((at[:, 2], at[:, 1], at[:, 0]))
    return Recording(
        name=name,
        period_slots=int(parts["period_slots"]),
        cqi_table=parts["cqi_table"].astype(np.int64),
        mcs_table=parts["mcs_table"].astype(np.int64),
        measured=measured,
        harq_at=at[order],
        harq_counts=parts["harq_counts"].T.astype(np.float64)[order],
    )
