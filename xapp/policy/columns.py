"""The vocabulary of report columns: what a policy bundle may ask for, and how a report is laid out for it.

A bundle names its columns in its manifest; `Layout` turns a `KpiReport` into the float32 matrix [ue, column] that its
graph expects, in raw units, NaN where not measured. Adding a column here is the only way to give policies a new input.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy import count_nonzero

from distila.xapp.errors import InputError
from distila.xapp.kpi.report import (
    ACK,
    DTX,
    MEASURED,
    NACK,
    NUM_MCS,
    RESIDUAL,
    RETX_ACK,
    RETX_MCS_SUM,
    RETX_NACK,
    KpiReport,
)
from distila.xapp.nr.arrays import Float32Array

UNITS: Final[dict[str, str]] = {
    "cqi": "index 0..15 of the UE's CQI table",
    "cqi_age_slots": "slots since the UE measured it",
    "sinr_db": "dB, effective, as the node estimates it",
    "ri": "rank 1..8",
    "dl_buffer_bytes": "bytes",
    "prbs": "PRBs of the latest allocation",
    "native_mcs": "MCS that the DU would use now",
    "retx_ack": "retransmissions in the period after which the block was decoded",
    "retx_nack": "retransmissions in the period after which it was not",
    "retx_mcs_mean": "mean MCS of these retransmissions; 0 without any",
    "combining": "of retransmissions: 1 chase, 2 incremental redundancy",
    "cqi_table": "TS 38.214 CQI table 1..3",
    "mcs_table": "TS 38.214 MCS table 1..3",
    "period_slots": "slots that the report covers",
    "harq_ack": "first transmissions acknowledged in the period",
    "harq_nack": "first transmissions refused in the period",
    "harq_dtx": "first transmissions without detected feedback in the period",
    "harq_residual": "transport blocks given up in the period",
    "harq_mcs_mean": "mean MCS of the period's first transmissions, acknowledged or refused; 0 without any",
    **{f"harq_ack_mcs_{m}": f"first transmissions at MCS {m} acknowledged in the period" for m in range(NUM_MCS)},
    **{f"harq_nack_mcs_{m}": f"first transmissions at MCS {m} refused in the period" for m in range(NUM_MCS)},
}
"""Every column a bundle may name, with its unit."""

_SUMS: Final = {"harq_ack": ACK, "harq_nack": NACK, "harq_dtx": DTX, "harq_residual": RESIDUAL}


class Layout:
    """The columns of one bundle.

    Args:
        columns: names out of `UNITS`, in the order of the graph's ``report`` input.

    Raises:
        InputError: an unknown or repeated column.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        for name in columns:
            if name not in UNITS:
                raise InputError(f"column {name!r} is unknown, known are {', '.join(list(UNITS)[:15])}, harq_*_mcs_*")
        twice = next((name for name in columns if list(columns).count(name) > 1), None)
        if twice is not None:
            raise InputError(f"column {twice!r} is named twice")
        self.columns = tuple(columns)
        where = {name: index for index, name in enumerate(columns)}
        # Pairs (where the matrix takes it, where the source has it); plain lists make the cheapest fancy index.
        self._measured = [(where[name], i) for i, name in enumerate(MEASURED) if name in where]
        self._sums = [(where[name], i) for name, i in _SUMS.items() if name in where]
        self._others = [(where[name], name) for name in ("cqi_table", "mcs_table", "period_slots") if name in where]
        # Matrix column of (count, MCS) ; the column after the last stands for what is not asked for.
        self._per_mcs = np.array(
            [where.get(f"harq_{name}_mcs_{mcs}", len(columns)) for name in ("ack", "nack") for mcs in range(NUM_MCS)]
        ).reshape(2, NUM_MCS)
        per_mcs = self._per_mcs[self._per_mcs < len(columns)].tolist()
        self._has_per_mcs = bool(per_mcs)
        self._mcs_mean = where.get("harq_mcs_mean")
        self._harq = [column for column, _ in self._sums] + per_mcs
        if self._mcs_mean is not None:
            self._harq.append(self._mcs_mean)
        self._retx_mcs_mean = where.get("retx_mcs_mean")

    def matrix(self, report: KpiReport) -> Float32Array:
        """The report as the graph expects it, float32 [ue, column]."""
        width = len(self.columns)
        matrix = np.zeros((report.num_ues, width), np.float32)
        for column, source in self._measured:
            matrix[:, column] = report.measured[:, source]
        if self._retx_mcs_mean is not None:
            again = report.measured[:, RETX_ACK] + report.measured[:, RETX_NACK]
            matrix[:, self._retx_mcs_mean] = report.measured[:, RETX_MCS_SUM] / np.maximum(again, 1)
        for column, name in self._others:
            matrix[:, column] = getattr(report, name)
        for column, source in self._sums:
            matrix[:, column] = report.harq_sums[:, source]
        if self._mcs_mean is not None:
            heard = report.harq_counts[:, ACK] + report.harq_counts[:, NACK]
            total = np.bincount(report.harq_ue, report.harq_mcs * heard, minlength=report.num_ues)
            matrix[:, self._mcs_mean] = total / np.maximum(report.harq_sums[:, ACK] + report.harq_sums[:, NACK], 1)
        if self._has_per_mcs:
            for count, targets in zip((ACK, NACK), self._per_mcs, strict=True):
                column_of_entry = targets[report.harq_mcs]
                entries = np.flatnonzero(column_of_entry < width)
                if len(entries):
                    where = (report.harq_ue[entries], column_of_entry[entries])
                    if report.one_entry_per_ue:
                        matrix[where] = report.harq_counts[entries, count]
                    else:
                        np.add.at(matrix, where, report.harq_counts[entries, count])
        if self._harq and count_nonzero(report.harq_measured) < report.num_ues:
            matrix[np.flatnonzero(~report.harq_measured)[:, None], self._harq] = np.nan
        return matrix
