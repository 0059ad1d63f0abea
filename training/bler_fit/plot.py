"""Picture of the fitted BLER curves over Sionna's points, one panel per MCS table and code block size."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from distila.training.sionna_bler import SimulatedRow
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.nr.mcs import MCS_TABLES


def draw(model: SmoothBler, rows: dict[tuple[int, int], SimulatedRow], path: Path) -> None:
    """Write the picture to ``path``; rows without points are filled in by rule and drawn dashed."""
    sizes = [24, 100, 500, 1000, 2000, 8448]
    sinr_db = np.linspace(-16.0, 30.0, 1400)
    figure, axes = plt.subplots(3, len(sizes), figsize=(30, 15), sharex=True, sharey=True)
    for panels, (index, table) in zip(axes, MCS_TABLES.items(), strict=True):
        for panel, size in zip(panels, sizes, strict=True):
            panel.set_title(f"MCS table {index}, code block {size} bits")
            for mcs in range(table.num_mcs):
                colour = plt.get_cmap("turbo")(mcs / table.num_mcs)
                row = rows.get((index, mcs))
                measured = row is not None and size in row.cbs_bits
                style = "-" if measured else "--"
                panel.plot(sinr_db, model.bler(index, mcs, size, sinr_db), style, color=colour, linewidth=0.8)
                if row is not None and measured:
                    bler = row.bler[row.cbs_bits == size][0]
                    panel.plot(row.snr_db, bler, ".", color=colour, markersize=4)
            panel.set_xlabel("SINR (dB)")
            panel.set_ylabel("BLER")
            panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=60)
    plt.close(figure)
