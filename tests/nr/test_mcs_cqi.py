"""MCS and CQI tables against values printed in TS 38.214, and the mappings between them."""

import numpy as np
import pytest

from distila.xapp.nr.bler import SmoothBler, tbler
from distila.xapp.nr.cqi import (
    CQI_TABLES,
    DEFAULT_NUM_RE,
    cqi_for_sinr_db,
    cqi_thresholds_db,
    mcs_for_cqi,
)
from distila.xapp.nr.mcs import MCS_TABLES, checked_mcs
from distila.xapp.nr.tbs import transport_block_size_bits

# (table, MCS, modulation order, R x 1024, spectral efficiency as printed)
MCS_ROWS = [
    (1, 0, 2, 120, 0.2344),
    (1, 9, 2, 679, 1.3262),
    (1, 10, 4, 340, 1.3281),
    (1, 16, 4, 658, 2.5703),
    (1, 17, 6, 438, 2.5664),
    (1, 28, 6, 948, 5.5547),
    (2, 0, 2, 120, 0.2344),
    (2, 4, 2, 602, 1.1758),
    (2, 5, 4, 378, 1.4766),
    (2, 10, 4, 658, 2.5703),
    (2, 11, 6, 466, 2.7305),
    (2, 19, 6, 873, 5.1152),
    (2, 20, 8, 682.5, 5.3320),
    (2, 26, 8, 916.5, 7.1602),
    (2, 27, 8, 948, 7.4063),
    (3, 0, 2, 30, 0.0586),
    (3, 14, 2, 602, 1.1758),
    (3, 15, 4, 340, 1.3281),
    (3, 20, 4, 616, 2.4063),
    (3, 21, 6, 438, 2.5664),
    (3, 28, 6, 772, 4.5234),
]

# (table, CQI, modulation order, R x 1024, efficiency as printed)
CQI_ROWS = [
    (1, 1, 2, 78, 0.1523),
    (1, 6, 2, 602, 1.1758),
    (1, 7, 4, 378, 1.4766),
    (1, 9, 4, 616, 2.4063),
    (1, 10, 6, 466, 2.7305),
    (1, 15, 6, 948, 5.5547),
    (2, 1, 2, 78, 0.1523),
    (2, 3, 2, 449, 0.8770),
    (2, 4, 4, 378, 1.4766),
    (2, 7, 6, 466, 2.7305),
    (2, 11, 6, 873, 5.1152),
    (2, 12, 8, 711, 5.5547),
    (2, 15, 8, 948, 7.4063),
    (3, 1, 2, 30, 0.0586),
    (3, 8, 2, 602, 1.1758),
    (3, 9, 4, 378, 1.4766),
    (3, 12, 6, 466, 2.7305),
    (3, 15, 6, 772, 4.5234),
]


@pytest.mark.parametrize(("table", "mcs", "order", "rate_1024", "efficiency"), MCS_ROWS)
def test_mcs_row(table: int, mcs: int, order: int, rate_1024: float, efficiency: float) -> None:
    row = MCS_TABLES[table]
    assert row.modulation_order[mcs] == order
    assert row.code_rate[mcs] * 1024 == rate_1024
    assert row.spectral_efficiency[mcs] == pytest.approx(efficiency, abs=6e-5)


def test_mcs_table_sizes_and_index() -> None:
    assert {index: table.num_mcs for index, table in MCS_TABLES.items()} == {1: 29, 2: 28, 3: 29}
    assert all(table.index == index for index, table in MCS_TABLES.items())


def test_mcs_spectral_efficiency_dips_only_where_the_standard_says() -> None:
    dips = {i: np.flatnonzero(np.diff(t.spectral_efficiency) <= 0).tolist() for i, t in MCS_TABLES.items()}
    assert dips == {1: [16], 2: [], 3: []}
    for table in MCS_TABLES.values():
        assert np.all(np.diff(table.modulation_order) >= 0)


def test_tables_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        MCS_TABLES[1].code_rate[0] = 0.5
    with pytest.raises(ValueError, match="read-only"):
        CQI_TABLES[1].code_rate[1] = 0.5


def test_mcs_tables_equal_sionnas() -> None:
    pytest.importorskip("sionna", reason="compares with the tables of sionna-no-rt")
    import torch
    from sionna.phy.nr.utils import decode_mcs_index

    for index, table in MCS_TABLES.items():
        order, rate = decode_mcs_index(
            torch.arange(table.num_mcs, dtype=torch.int32), table_index=index, is_pusch=False
        )
        np.testing.assert_array_equal(order.numpy(), table.modulation_order)
        np.testing.assert_array_equal(rate.numpy(), table.code_rate.astype(np.float32))


@pytest.mark.parametrize(("mcs", "words"), [(29, "0 to 28"), (-1, "is -1"), (1.5, "integer")])
def test_bad_mcs_is_rejected(mcs: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checked_mcs(1, mcs)


@pytest.mark.parametrize(("table", "cqi", "order", "rate_1024", "efficiency"), CQI_ROWS)
def test_cqi_row(table: int, cqi: int, order: int, rate_1024: int, efficiency: float) -> None:
    row = CQI_TABLES[table]
    assert row.modulation_order[cqi] == order
    assert row.code_rate[cqi] * 1024 == rate_1024
    assert row.spectral_efficiency[cqi] == pytest.approx(efficiency, abs=6e-5)


@pytest.mark.parametrize("table", [1, 2, 3])
def test_cqi_tables_are_complete(table: int) -> None:
    row = CQI_TABLES[table]
    assert row.code_rate.shape == row.modulation_order.shape == (16,)
    assert row.code_rate[0] == row.modulation_order[0] == 0
    assert np.all(np.diff(row.spectral_efficiency) > 0)
    for cqi in range(1, 16):
        # The thresholds rely on it: each CQI row is a row of some MCS table.
        assert any(
            np.any((t.modulation_order == row.modulation_order[cqi]) & (t.code_rate == row.code_rate[cqi]))
            for t in MCS_TABLES.values()
        )


def test_mcs_for_cqi_known_mapping() -> None:
    # Table 1 with table 1: every CQI from 2 on has an MCS of its own modulation and code rate.
    expected = [0, 0, 0, 2, 4, 6, 8, 11, 13, 15, 18, 20, 22, 24, 26, 28]
    assert mcs_for_cqi(1, 1).tolist() == expected
    assert mcs_for_cqi(3, 3).tolist() == [0, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28]
    # CQI 15 of table 1 (5.5547) lies between MCS 20 (5.3320) and equals MCS 21 (5.5547) of table 2.
    assert mcs_for_cqi(1, 2)[15] == 21
    assert mcs_for_cqi(2, 1)[15] == 28


@pytest.mark.parametrize("cqi_table", [1, 2, 3])
@pytest.mark.parametrize("mcs_table", [1, 2, 3])
def test_mcs_for_cqi_rule(cqi_table: int, mcs_table: int) -> None:
    mcs = mcs_for_cqi(cqi_table, mcs_table)
    limit = CQI_TABLES[cqi_table].spectral_efficiency
    efficiency = MCS_TABLES[mcs_table].spectral_efficiency
    assert np.all(np.diff(mcs) >= 0)
    for cqi in range(16):
        assert mcs[cqi] == 0 or efficiency[mcs[cqi]] <= limit[cqi]
        assert np.all(efficiency[mcs[cqi] + 1 :] > limit[cqi])


@pytest.mark.parametrize("table", [1, 2, 3])
def test_thresholds_meet_their_definition(table: int) -> None:
    model = SmoothBler.load()
    thresholds = cqi_thresholds_db(table, model)
    assert thresholds[0] == -np.inf
    assert np.all(np.isfinite(thresholds[1:]))
    assert np.all(np.diff(thresholds[1:]) > 0.5)
    # Highest CQI of each table is also a row of the MCS table with its number.
    row = MCS_TABLES[table]
    last = row.num_mcs - 1
    tbs = transport_block_size_bits(DEFAULT_NUM_RE, row.code_rate[last], row.modulation_order[last])
    assert tbler(model, table, last, tbs, thresholds[15]) == pytest.approx(0.1, abs=1e-6)


def test_thresholds_move_with_the_target() -> None:
    model = SmoothBler.load()
    assert np.all(cqi_thresholds_db(3, model, target=1e-5)[1:] > cqi_thresholds_db(3, model)[1:])


def test_thresholds_continue_below_what_the_model_has() -> None:
    class NoLowRates:
        """The shipped model without its low-rate rows."""

        def bler(self, mcs_table: int, mcs: object, code_block_size_bits: object, sinr_db: object) -> np.ndarray:
            known = MCS_TABLES[mcs_table].code_rate[np.asarray(mcs)] > 0.24
            value = SmoothBler.load().bler(mcs_table, mcs, code_block_size_bits, sinr_db)
            return np.where(known, value, 1.0)

    thresholds = cqi_thresholds_db(1, NoLowRates())
    complete = cqi_thresholds_db(1, SmoothBler.load())
    np.testing.assert_allclose(thresholds[4:], complete[4:])
    assert np.all(np.isfinite(thresholds[1:]))
    assert np.all(np.diff(thresholds[1:]) > 0)
    np.testing.assert_allclose(thresholds[1:4], complete[1:4], atol=0.6)


def test_thresholds_reject_a_model_without_curves() -> None:
    class AlwaysLost:
        def bler(self, mcs_table: int, mcs: object, code_block_size_bits: object, sinr_db: object) -> np.ndarray:
            return np.ones(np.broadcast_shapes(np.shape(mcs), np.shape(sinr_db)))

    with pytest.raises(ValueError, match="for no CQI"):
        cqi_thresholds_db(1, AlwaysLost())


def test_cqi_for_sinr() -> None:
    thresholds = np.concatenate([[-np.inf], np.arange(15.0)])
    sinr = np.array([[-np.inf, -0.1, 0.0], [0.9, 14.0, np.inf]])
    assert cqi_for_sinr_db(sinr, thresholds).tolist() == [[0, 0, 1], [1, 15, 15]]
    assert cqi_for_sinr_db(3.5, thresholds).shape == ()
    with pytest.raises(ValueError, match="NaN"):
        cqi_for_sinr_db(np.nan, thresholds)
    with pytest.raises(ValueError, match="ascending"):
        cqi_for_sinr_db(0.0, thresholds[::-1])


@pytest.mark.parametrize("table", [0, 4])
def test_unknown_table_is_rejected(table: int) -> None:
    with pytest.raises(ValueError, match=f"cqi_table is {table}"):
        mcs_for_cqi(table, 1)
    with pytest.raises(ValueError, match=f"mcs_table is {table}"):
        mcs_for_cqi(1, table)
