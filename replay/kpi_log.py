"""KPI logs: what a RAN measured and which MCS it used, report by report. The input of open-loop replay.

On disk a Parquet file with one row per UE and report, in time order:

================= ======== ==========================================================================
column            type     meaning
================= ======== ==========================================================================
timestamp_us      int64    end of the report period, on the source's clock [us]
ue                string   name of the UE, stable over the log
cqi               float    mean CQI reported in the period, 0..15; null: none
sinr_db           float    effective SINR as the node estimates it [dB]; null: not measured
ri                float    rank; null: not measured
mcs               float    mean MCS used in the period; null: nothing was sent
harq_ack          int64    first transmissions acknowledged in the period; null: HARQ not measured
harq_nack         int64    first transmissions with NACK; null with ``harq_ack``
harq_dtx          int64    first transmissions without detected feedback; null with ``harq_ack``
harq_residual     int64    transport blocks dropped after the last transmission; null with ``harq_ack``
dl_buffer_bytes   float    downlink buffer; null: not measured
prbs              float    PRBs of an allocation; null: not measured
================= ======== ==========================================================================
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from distila.replay.parquet_file import column, read_table, text_column, write_table
from distila.xapp.errors import InputError
from distila.xapp.kpi.observations import HARQ_COLUMNS, TABLE
from distila.xapp.nr.arrays import Float64Array, IntArray
from distila.xapp.nr.mcs import MCS_TABLES, NUM_MCS

FORMAT = "distila.kpi-log/1"
_FROM_TABLE = [column for column in TABLE if column.in_kpi_log]
KPI_COLUMNS = [*(column.name for column in _FROM_TABLE), "mcs"]
"""The values of a row: columns of `distila.xapp.kpi.observations`, and the mean MCS that was used."""

# A mean rank below 1 comes from reports that say 0 where the UE reported none.
_RANGES = {column.name: (column.low, column.high) for column in _FROM_TABLE} | {"ri": (0, 8), "mcs": (0, NUM_MCS - 1)}


class KpiLogMeta(BaseModel):
    """What a log is and where it comes from."""

    model_config = ConfigDict(extra="forbid")

    name: str
    source: str = Field(description="who recorded it, licence")
    mcs_table: Literal[1, 2, 3] = 1
    cqi_table: Literal[1, 2, 3] = 1
    period_us: float = Field(gt=0, description="nominal report period [us]")
    slot_us: float = Field(default=500.0, gt=0, description="slot duration of the source [us]")
    notes: list[str] = Field(default_factory=list, description="assumptions and limits")
    ues: list[str]


@dataclass(frozen=True)
class KpiLog:
    """A KPI log in memory; one entry per row in every array, NaN where not measured.

    Raises:
        InputError: a value out of range, HARQ counts that are half measured, or rows out of time order.
    """

    meta: KpiLogMeta
    timestamp_us: IntArray  # [row]
    ue: npt.NDArray[np.int32]  # [row], index into meta.ues
    measured: dict[str, Float64Array]  # name in KPI_COLUMNS -> [row]

    def __post_init__(self) -> None:
        rows = len(self.timestamp_us)
        if len(set(self.meta.ues)) < len(self.meta.ues):
            raise InputError(f"KPI log {self.meta.name}: two UEs have the same name")
        if rows == 0:
            raise InputError(f"KPI log {self.meta.name}: contains no report")
        if sorted(self.measured) != sorted(KPI_COLUMNS) or any(len(a) != rows for a in self.measured.values()):
            raise InputError(f"KPI log {self.meta.name}: needs the columns {', '.join(KPI_COLUMNS)}, all {rows} long")
        if (np.diff(self.timestamp_us) < 0).any():
            raise InputError(f"KPI log {self.meta.name}: timestamp_us goes backwards")
        for name in ("cqi", "mcs", "ri", "sinr_db"):
            (low, high), values = _RANGES[name], self.measured[name]
            of_table = ""
            if name == "mcs":
                high = MCS_TABLES[self.meta.mcs_table].num_mcs - 1
                of_table = f" of MCS table {self.meta.mcs_table}"
            bad = np.flatnonzero((values < low) | (values > high))
            if len(bad):
                value = f"{name} = {values[bad[0]]:g}"
                raise InputError(
                    f"KPI log {self.meta.name}: row {bad[0]}: {value} is outside {low:g}..{high:g}{of_table}"
                )
        absent = np.stack([np.isnan(self.measured[name]) for name in HARQ_COLUMNS])
        if (absent.any(axis=0) != absent.all(axis=0)).any():
            raise InputError(
                f"KPI log {self.meta.name}: {', '.join(HARQ_COLUMNS)} must be measured together or not at all"
            )
        for name in [*HARQ_COLUMNS, "dl_buffer_bytes", "prbs"]:
            if ((self.measured[name] < 0) | np.isinf(self.measured[name])).any():
                raise InputError(f"KPI log {self.meta.name}: {name} is negative or infinite")

    @property
    def num_rows(self) -> int:
        """Number of reports, over all UEs."""
        return len(self.timestamp_us)

    def save(self, path: Path) -> None:
        """Write the log to a Parquet file; all of it or nothing."""
        columns = {
            "timestamp_us": pa.array(self.timestamp_us),
            "ue": pa.DictionaryArray.from_arrays(pa.array(self.ue), pa.array(self.meta.ues)),
        }
        for name in KPI_COLUMNS:
            values = self.measured[name]
            absent = np.isnan(values)
            if name in HARQ_COLUMNS:
                columns[name] = pa.array(np.where(absent, 0, values).astype(np.int64), mask=absent)
            else:
                columns[name] = pa.array(values, mask=absent)
        write_table(path, pa.table(columns), FORMAT, self.meta)

    @classmethod
    def load(cls, path: Path) -> "KpiLog":
        """Read a log.

        Raises:
            InputError: one line naming the file and what is wrong with it.
        """
        table, meta = read_table(path, FORMAT, KpiLogMeta, ["timestamp_us", "ue", *KPI_COLUMNS])
        index = {name: i for i, name in enumerate(meta.ues)}
        try:
            ue = np.array([index[name] for name in text_column(table, "ue")], np.int32)
            measured = {name: column(table, name, np.float64, np.nan) for name in KPI_COLUMNS}
            return cls(meta, column(table, "timestamp_us", np.int64, None), ue, measured)
        except KeyError as error:
            raise InputError(f"{path}: column 'ue' names {error}, which the metadata does not list") from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
