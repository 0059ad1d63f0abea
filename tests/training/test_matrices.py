"""A policy sees the same in training and in service: both observation matrices are equal on random reports."""

import math
from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from distila.training.gym_env import DEFAULT_COLUMNS  # noqa: E402
from distila.training.sim import report as sim  # noqa: E402
from distila.xapp.e2.codec import Identity, decode_indication, decode_indication_header, encode_indication  # noqa: E402
from distila.xapp.kpi.observations import ALWAYS_THERE, COLUMNS, MEASURED, TABLE, UNITS  # noqa: E402
from distila.xapp.kpi.report import NO_UE_ID, KpiReport, measured_columns  # noqa: E402
from distila.xapp.nr.mcs import NUM_MCS  # noqa: E402
from distila.xapp.policy.columns import Layout  # noqa: E402

SIMPLE = [column for column in TABLE if column.name in MEASURED and not column.name.startswith("retx_")]
MOST = 2**24  # float32, which the simulator has, holds every whole number up to here
links_of = st.shared(st.integers(1, 6), key="links")


@st.composite
def reports(draw):
    """One report, as the simulator has it and as the xApp gets it over E2."""
    links, slots = draw(links_of), draw(st.integers(1, 5))

    def per_link(values):
        return draw(st.lists(values, min_size=links, max_size=links))

    columns = {}
    for column in SIMPLE:
        if column.in_simulator == "never":
            continue
        value = st.integers(int(column.low), int(min(column.high, MOST)))
        absent = st.just(math.nan) if column.in_simulator == "sometimes" else st.nothing()
        # What the node is set to is one value for the cell, what it measures one for each UE.
        columns[column.name] = draw(value | absent) if column.kind == "node setting" else per_link(value | absent)
    ack, nack = per_link(st.integers(0, 40)), per_link(st.integers(0, 40))
    columns |= {"retx_ack": ack, "retx_nack": nack}
    columns["retx_mcs_sum"] = [draw(st.integers(0, (NUM_MCS - 1) * sum(pair))) for pair in zip(ack, nack, strict=True)]
    settings = {name: draw(st.integers(1, 3)) for name in ("cqi_table", "mcs_table")}
    residual = per_link(st.integers(0, 9))
    cells = st.lists(
        st.lists(st.integers(0, NUM_MCS - 1), min_size=links, max_size=links), min_size=slots, max_size=slots
    )
    mcs = np.array(draw(cells))
    outcome = np.array([per_link(st.integers(sim.NONE, sim.DTX)) for _ in range(slots)])
    simulated = sim.Report(
        slot=draw(st.integers(0, 10_000)),
        period_slots=slots,
        columns={
            name: torch.tensor(value, dtype=torch.float32) if isinstance(value, list) else value
            for name, value in (columns | settings | {"harq_residual": residual}).items()
        },
        mcs=torch.as_tensor(mcs),
        outcome=torch.as_tensor(outcome, dtype=torch.uint8),
    )
    entries = {}  # (UE, MCS) -> counts by outcome
    for slot, link in zip(*np.nonzero(outcome), strict=True):
        entries.setdefault((link, mcs[slot, link]), np.zeros(4))[outcome[slot, link] - 1] += 1
    for link, lost in enumerate(residual):
        entries.setdefault((link, draw(st.integers(0, NUM_MCS - 1))), np.zeros(4))[3] += lost
    ue, of_mcs = np.array(sorted(entries)).T
    reported = KpiReport(
        cell_id="cell", sequence=1, sfn=0, slot=0, timestamp_us=0, period_slots=slots,
        rnti=np.arange(1, links + 1), ue_id=np.full(links, NO_UE_ID),
        cqi_table=np.full(links, settings["cqi_table"]), mcs_table=np.full(links, settings["mcs_table"]),
        measured=measured_columns(links, columns), total_first_tx=(outcome != sim.NONE).sum(axis=0).astype(float),
        harq_ue=ue, harq_mcs=of_mcs, harq_counts=np.array([entries[key] for key in sorted(entries)]),
    )  # fmt: skip
    return simulated, reported


@settings(max_examples=200, deadline=None)
@given(reports(), st.permutations(list(UNITS)))
def test_the_matrices_of_simulator_and_xapp_are_equal(pair, columns):
    simulated, reported = pair
    noticed = Counter()
    header, message = encode_indication(reported, Identity())
    received = decode_indication(decode_indication_header(header), message, noticed)
    assert not noticed
    expected = Layout(columns).matrix(received)
    found = sim.matrix(simulated, columns).numpy()
    assert expected.dtype == found.dtype == np.float32
    for place, name in enumerate(columns):
        np.testing.assert_array_equal(found[:, place], expected[:, place], err_msg=name)


def test_an_unknown_column_is_an_error_and_not_a_column_of_nan():
    report = sim.Report(0, 1, {}, torch.zeros((1, 2), dtype=torch.int64), torch.zeros((1, 2), dtype=torch.uint8))
    with pytest.raises(KeyError, match="cqo"):
        sim.matrix(report, ["cqo"])


def test_columns_have_one_name_a_range_and_a_place_in_the_report():
    assert len(COLUMNS) == len(TABLE)
    for column in TABLE:
        assert column.low < column.high < math.inf, column.name
        # On the wire, in the header, or derived from HARQ counts and sums.
        derived = column.name.startswith("harq_") or column.name == "retx_mcs_mean"
        assert (column.name in MEASURED) + (column.name in ALWAYS_THERE) + derived == 1, column.name
    assert set(DEFAULT_COLUMNS) <= set(UNITS)
    assert "sinr_db" not in DEFAULT_COLUMNS, "the simulator never has it"
