"""The observation table: every column of a report that a policy may read, in one place.

A `Column` says what a number is, in which range it lies, how it travels on E2, who measures it, and whether the
simulator has it. Everything else about columns derives from `TABLE`: the order of `KpiReport.measured`, the codec's
limits, the fields it reads, the units in a bundle's manifest, the columns of KPI logs, the bounds of the Gymnasium
environment, and both observation matrices (`distila.xapp.policy.columns`, `distila.training.sim.report`).

To add a column: a line here, a field in `schemas/e2sm_v1.proto` (then `make proto`), and its value where reports are
made: the DU stand-in (`replay/du.py`) and the simulator (`training/sim/simulator.py`).
"""

from dataclasses import dataclass
from typing import Final, Literal

from distila.xapp.nr.mcs import NUM_MCS

Kind = Literal["measured", "node setting"]
"""``measured``: the node measures or counts it. ``node setting``: how the node is configured, if it says so."""

MAX_COUNT: Final = 2**24
"""The highest count of one report period; more would be no count of one period, and would lose precision in float32."""

HARQ_OUTCOMES: Final = ("ack", "nack", "dtx", "residual")
"""What HARQ feedback is counted by, in the order of `KpiReport.harq_counts`."""

HARQ_COLUMNS: Final = tuple(f"harq_{outcome}" for outcome in HARQ_OUTCOMES)
"""The columns of these counts over all MCS."""

COUNTED_PER_MCS: Final = ("ack", "nack")
"""Outcomes of first transmissions that policies may read for each MCS."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a report.

    Attributes:
        name: as bundles, the Gymnasium environment and KPI logs have it.
        unit: unit and meaning, as it goes into a bundle's manifest.
        low, high: the valid range, both included. A value outside of it is taken as not measured.
        measured_by: where the number comes from.
        kind: see `Kind`.
        wire_field: the field of UeReport that carries it; None: derived from others (HARQ counts, means, the header).
        wire_steps: steps of the wire field in one unit, 100 for a field in 0.01 dB.
        may_be_absent: a report can lack it; then it is NaN. On the wire its field is optional.
        in_simulator: whether the simulator's reports have it: always, sometimes (NaN where a scenario says so), never.
        counted: it counts events of the report period, of which there is at most one in a slot.
        policy_input: a bundle may ask for it.
        in_kpi_log: KPI logs have it (`distila.replay.kpi_log`).
    """

    name: str
    unit: str
    low: float
    high: float
    measured_by: str
    kind: Kind = "measured"
    wire_field: str | None = None
    wire_steps: int = 1
    may_be_absent: bool = True
    in_simulator: Literal["always", "sometimes", "never"] = "always"
    counted: bool = False
    policy_input: bool = True
    in_kpi_log: bool = False


TABLE: Final[tuple[Column, ...]] = (
    Column("cqi", "index 0..15 of the UE's CQI table", 0, 15, "UE",
           wire_field="cqi", in_simulator="sometimes", in_kpi_log=True),
    Column("cqi_age_slots", "slots since the UE measured it", 0, 1e6, "DU MAC",
           wire_field="cqi_age_slots", in_simulator="sometimes"),
    Column("sinr_db", "dB, effective, as the node estimates it", -60, 80, "DU PHY",
           wire_field="sinr_cdb", wire_steps=100, in_simulator="never", in_kpi_log=True),
    Column("ri", "rank 1..8", 1, 8, "UE",
           wire_field="ri", in_kpi_log=True),
    Column("dl_buffer_bytes", "bytes", 0, 1e12, "DU RLC",
           wire_field="dl_buffer_bytes", in_simulator="sometimes", in_kpi_log=True),
    Column("prbs", "PRBs of the latest allocation", 0, 275, "DU scheduler",
           wire_field="prbs", in_kpi_log=True),
    Column("native_mcs", "MCS that the DU would use now", 0, NUM_MCS - 1, "DU link adaptation",
           wire_field="native_mcs"),
    Column("retx_ack", "retransmissions in the period after which the block was decoded", 0, MAX_COUNT, "DU HARQ",
           wire_field="retx_ack", counted=True),
    Column("retx_nack", "retransmissions in the period after which the block was not decoded", 0, MAX_COUNT, "DU HARQ",
           wire_field="retx_nack", counted=True),
    Column("retx_mcs_mean", "mean MCS of these retransmissions; 0 without any", 0, NUM_MCS - 1, "DU HARQ"),
    Column("combining", "of retransmissions: 1 chase, 2 incremental redundancy", 1, 2, "DU setting",
           kind="node setting", wire_field="combining", in_simulator="sometimes"),
    Column("max_transmissions", "HARQ transmissions of a block that the node allows, 1..8", 1, 8, "DU setting",
           kind="node setting", wire_field="max_transmissions", in_simulator="sometimes"),
    Column("retx_mcs_sum", "sum of the MCS of these retransmissions", 0, NUM_MCS * MAX_COUNT, "DU HARQ",
           wire_field="retx_mcs_sum", policy_input=False),
    Column("cqi_table", "TS 38.214 CQI table 1..3", 1, 3, "RRC configuration",
           kind="node setting", wire_field="cqi_table", may_be_absent=False),
    Column("mcs_table", "TS 38.214 MCS table 1..3", 1, 3, "RRC configuration",
           kind="node setting", wire_field="mcs_table", may_be_absent=False),
    # 0 in the first report of a simulation alone; what comes over E2 is at least 1.
    Column("period_slots", "slots that the report covers", 0, 1e6, "E2 subscription", may_be_absent=False),
    Column("harq_ack", "first transmissions with ACK in the period", 0, MAX_COUNT, "DU HARQ",
           counted=True, in_kpi_log=True),
    Column("harq_nack", "first transmissions with NACK in the period", 0, MAX_COUNT, "DU HARQ",
           counted=True, in_kpi_log=True),
    Column("harq_dtx", "first transmissions without detected feedback in the period", 0, MAX_COUNT, "DU HARQ",
           counted=True, in_kpi_log=True),
    Column("harq_residual", "transport blocks dropped in the period after their last transmission", 0, MAX_COUNT,
           "DU HARQ", counted=True, in_kpi_log=True),
    Column("harq_mcs_mean", "mean MCS of the period's first transmissions with ACK or NACK; 0 without any",
           0, NUM_MCS - 1, "DU HARQ"),
    *(
        Column(f"harq_{outcome}_mcs_{mcs}", f"first transmissions at MCS {mcs} with {outcome.upper()} in the period",
               0, MAX_COUNT, "DU HARQ", counted=True)
        for outcome in COUNTED_PER_MCS
        for mcs in range(NUM_MCS)
    ),
)  # fmt: skip
"""All columns, in the order in which people read them."""

COLUMNS: Final = {column.name: column for column in TABLE}
"""The table by name."""

REPORTED: Final = tuple(column for column in TABLE if column.wire_field is not None and column.may_be_absent)
"""The columns that E2 carries as optional fields of a UE, in the order of `KpiReport.measured`."""

MEASURED: Final = tuple(column.name for column in REPORTED)
"""Names of the columns of `KpiReport.measured`, in order."""

ALWAYS_THERE: Final = tuple(column.name for column in TABLE if not column.may_be_absent)
"""Columns that every report has; `KpiReport` has an attribute for each."""

UNITS: Final = {column.name: column.unit for column in TABLE if column.policy_input}
"""Every column that a bundle may name, with its unit."""
