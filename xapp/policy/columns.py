"""How a report is laid out for a policy bundle: `Layout`.

A bundle's manifest names its columns, out of `distila.xapp.kpi.observations`. `Layout` turns a `KpiReport` into the
float32 matrix [ue, column] that the bundle's graph expects, in raw units, NaN where not measured.
"""

from collections.abc import Sequence

import numpy as np
from numpy import count_nonzero

from distila.xapp.errors import InputError
from distila.xapp.kpi.observations import ALWAYS_THERE, COUNTED_PER_MCS, HARQ_COLUMNS, MEASURED, UNITS
from distila.xapp.kpi.report import ACK, NACK, RETX_ACK, RETX_MCS_SUM, RETX_NACK, KpiReport
from distila.xapp.nr.arrays import Float32Array
from distila.xapp.nr.mcs import NUM_MCS


class Layout:
    """The columns of one bundle.

    Args:
        columns: names out of `distila.xapp.kpi.observations.UNITS`, in the order of the graph's ``report`` input.

    Raises:
        InputError: an unknown or repeated column.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        for name in columns:
            if name not in UNITS:
                known = ", ".join(column for column in UNITS if "_mcs_" not in column or column.endswith("_mean"))
                raise InputError(f"column {name!r} is unknown, known are {known}, harq_*_mcs_*")
        twice = next((name for name in columns if list(columns).count(name) > 1), None)
        if twice is not None:
            raise InputError(f"column {twice!r} is named twice")
        self.columns = tuple(columns)
        where = {name: index for index, name in enumerate(columns)}
        # Pairs (where the matrix takes it, where the source has it); plain lists make the cheapest fancy index.
        self._measured = [(where[name], i) for i, name in enumerate(MEASURED) if name in where]
        self._sums = [(where[name], i) for i, name in enumerate(HARQ_COLUMNS) if name in where]
        self._others = [(where[name], name) for name in ALWAYS_THERE if name in where]
        # Matrix column of (count, MCS) ; the column after the last stands for what is not asked for.
        self._per_mcs = np.array(
            [where.get(f"harq_{name}_mcs_{mcs}", len(columns)) for name in COUNTED_PER_MCS for mcs in range(NUM_MCS)]
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
            decided = report.harq_counts[:, ACK] + report.harq_counts[:, NACK]
            total = np.bincount(report.harq_ue, report.harq_mcs * decided, minlength=report.num_ues)
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
