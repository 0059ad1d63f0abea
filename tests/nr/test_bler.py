"""BLER curves: closeness to Sionna's points, shape, inverses, and the model that interpolates its tables."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distila.xapp.nr.bler import SmoothBler, curve_bler, curve_sinr_db, sinr_db_for_tbler, tbler
from distila.xapp.nr.mcs import MCS_TABLES
from distila.xapp.nr.tbs import code_blocks

SIZES = [24, 40, 100, 500, 1000, 2000, 3840, 8448]
needs_sionna = pytest.mark.skipif(importlib.util.find_spec("sionna") is None, reason="reads the tables of sionna-no-rt")


@pytest.fixture(scope="module")
def model() -> SmoothBler:
    return SmoothBler.load()


table_mcs = st.sampled_from([(i, m) for i, table in MCS_TABLES.items() for m in range(table.num_mcs)])
size_bits = st.integers(24, 8448)


# ---------------------------------------------------------------- the shipped file


def test_load_is_cached_and_tells_its_origin(model: SmoothBler) -> None:
    assert SmoothBler.load() is model
    assert "sionna" in model.provenance["source"]
    assert "training.bler_fit.fit" in model.provenance["script"]
    assert model.cbs_nodes_bits.tolist() == [24, 100, 500, 1000, 2000, 8448]


def test_shipped_file_is_small() -> None:
    from distila.xapp import nr

    assert (Path(nr.__file__).parent / "bler_curves.npz").stat().st_size < 200_000


def test_file_without_curves_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "wrong.npz"
    np.savez(path, cbs_nodes_bits=np.array([24.0, 8448.0]))
    with pytest.raises(ValueError, match="params_table1"):
        SmoothBler.load(path)


def test_constructor_checks_shapes(model: SmoothBler) -> None:
    with pytest.raises(ValueError, match="must span 24 to 8448"):
        SmoothBler(np.array([24.0, 2000.0]), model.params, {})
    with pytest.raises(ValueError, match="ascending"):
        SmoothBler(model.cbs_nodes_bits[::-1], model.params, {})
    with pytest.raises(ValueError, match=r"table 2 have shape None"):
        SmoothBler(model.cbs_nodes_bits, {1: model.params[1], 3: model.params[3]}, {})
    with pytest.raises(ValueError, match="NaN or inf"):
        SmoothBler(model.cbs_nodes_bits, {**model.params, 1: model.params[1] * np.nan}, {})


# ---------------------------------------------------------------- closeness to the simulated points


@needs_sionna
@pytest.mark.parametrize("size", [24, 100, 500, 1000, 2000])
@pytest.mark.parametrize("table", [1, 2, 3])
def test_within_two_percent_of_sionna(model: SmoothBler, table: int, size: int) -> None:
    from distila.training.sionna_bler import read_tables

    rows = {mcs: row for (index, mcs), row in read_tables().items() if index == table}
    assert len(rows) == {1: 26, 2: 26, 3: 20}[table]
    worst, where = 0.0, ""
    for mcs, row in rows.items():
        error = np.abs(model.bler(table, mcs, size, row.snr_db) - row.bler[row.cbs_bits == size][0])
        if error.max() > worst:
            worst, where = float(error.max()), f"MCS {mcs} at {row.snr_db[error.argmax()]:.2f} dB"
    print(f"table {table}, {size} bits: worst {worst:.4f}, {where}")
    assert worst <= 0.02, f"table {table}, {size} bits: {worst:.4f} at {where}"


def test_shared_rows_agree_between_tables(model: SmoothBler) -> None:
    # Where the tables' points contradict each other the copies may part, but never by much.
    sinr_db = np.arange(-20.0, 35.0, 0.1)
    for a in (1, 2):
        for b in range(a + 1, 4):
            for mcs_a in range(MCS_TABLES[a].num_mcs):
                same = np.flatnonzero(
                    (MCS_TABLES[b].modulation_order == MCS_TABLES[a].modulation_order[mcs_a])
                    & (MCS_TABLES[b].code_rate == MCS_TABLES[a].code_rate[mcs_a])
                )
                for mcs_b in same:
                    for size in SIZES:
                        gap = model.bler(a, mcs_a, size, sinr_db) - model.bler(b, mcs_b, size, sinr_db)
                        assert np.abs(gap).max() < 0.04, (a, mcs_a, b, mcs_b, size)


# ---------------------------------------------------------------- order of the curves, and the filled-in rows


@pytest.mark.parametrize("table", [1, 2, 3])
@pytest.mark.parametrize("size", [200, 300, 500, 1000, 2000, 3840, 8448])
def test_higher_mcs_fails_more_at_every_sinr(model: SmoothBler, table: int, size: int) -> None:
    sinr_db = np.arange(-25.0, 40.0, 0.05)
    bler = model.bler(table, np.arange(MCS_TABLES[table].num_mcs)[:, None], size, sinr_db)
    assert (bler[:-1] - bler[1:]).max() < 2e-3
    for target in (0.5, 0.1, 0.01):
        assert np.all(np.diff(model.sinr_db_for_bler(table, np.arange(MCS_TABLES[table].num_mcs), size, target)) > 0)


@pytest.mark.parametrize("table", [1, 2, 3])
@pytest.mark.parametrize("size", [24, 40, 100])
def test_mcs_order_of_tiny_blocks_up_to_simulation_noise(model: SmoothBler, table: int, size: int) -> None:
    # A tiny block fills whole symbols, so that neighbouring MCS send the same codeword: equal up to noise.
    sinr_db = np.arange(-25.0, 40.0, 0.05)
    bler = model.bler(table, np.arange(MCS_TABLES[table].num_mcs)[:, None], size, sinr_db)
    assert (bler[:-1] - bler[1:]).max() < 0.02


@pytest.mark.parametrize("size", SIZES)
def test_low_rates_follow_the_repetition_rule(model: SmoothBler, size: int) -> None:
    # Below the mother code rate the standard repeats bits: halving the rate is worth 3.01 dB. 30/1024 and
    # 64/1024 lie below it at every code block size.
    centre = model.sinr_db_for_bler(3, np.array([0, 3]), size, 0.5)
    assert centre[1] - centre[0] == pytest.approx(10 * np.log10(64 / 30), abs=0.15 if size < 200 else 0.02)
    # Table 3's first six rows are below the lowest of table 1, which is its row 6.
    low = model.sinr_db_for_bler(3, np.arange(7), size, 0.1)
    assert np.all(np.diff(low) > 0)
    assert low[6] == pytest.approx(float(model.sinr_db_for_bler(1, 0, size, 0.1)), abs=1e-9)


def test_no_curve_beats_the_shannon_limit(model: SmoothBler) -> None:
    for index, table in MCS_TABLES.items():
        mcs = np.arange(table.num_mcs)
        shannon_db = 10 * np.log10(2**table.spectral_efficiency - 1)
        for size in (500, 1000, 2000, 8448):
            gap = model.sinr_db_for_bler(index, mcs, size, 0.1) - shannon_db
            assert np.all((gap > 0.3) & (gap < 4.0)), (index, size, gap)


@pytest.mark.parametrize("table", [1, 2, 3])
def test_longer_blocks_are_steeper(model: SmoothBler, table: int) -> None:
    mcs = np.arange(MCS_TABLES[table].num_mcs)[:, None]
    width_db = model.sinr_db_for_bler(table, mcs, np.array(SIZES), 0.1)
    width_db = width_db - model.sinr_db_for_bler(table, mcs, np.array(SIZES), 0.9)
    assert np.all(np.diff(width_db, axis=1) < 0)


# ---------------------------------------------------------------- properties


@settings(max_examples=300, deadline=None)
@given(row=table_mcs, size=size_bits, centre_db=st.floats(-60, 60), step_db=st.floats(1e-6, 50))
def test_monotone_in_sinr_and_a_probability(row: tuple[int, int], size: int, centre_db: float, step_db: float) -> None:
    sinr_db = centre_db + step_db * np.arange(-20, 21)
    bler = SmoothBler.load().bler(row[0], row[1], size, sinr_db)
    assert np.all((bler >= 0) & (bler <= 1))
    assert np.all(np.diff(bler) <= 0)


@settings(max_examples=300, deadline=None)
@given(row=table_mcs, size=size_bits, target=st.floats(1e-9, 1 - 1e-9))
def test_inverse_round_trip(row: tuple[int, int], size: int, target: float) -> None:
    model = SmoothBler.load()
    sinr_db = model.sinr_db_for_bler(*row, size, target)
    assert np.isfinite(sinr_db)
    assert model.bler(*row, size, sinr_db) == pytest.approx(target, rel=1e-5)


@settings(max_examples=100, deadline=None)
@given(
    row=table_mcs,
    tbs_bytes=st.integers(3, 150_000),
    target=st.floats(1e-6, 0.999),
)
def test_tbler_inverse_round_trip(row: tuple[int, int], tbs_bytes: int, target: float) -> None:
    model = SmoothBler.load()
    sinr_db = sinr_db_for_tbler(model, *row, 8 * tbs_bytes, target)
    assert tbler(model, *row, 8 * tbs_bytes, sinr_db) == pytest.approx(target, rel=1e-4)
    assert tbler(model, *row, 8 * tbs_bytes, sinr_db) <= target


@pytest.mark.parametrize("table", [1, 2, 3])
def test_extreme_sinr(model: SmoothBler, table: int) -> None:
    mcs = np.arange(MCS_TABLES[table].num_mcs)[:, None, None]
    sizes = np.array(SIZES)[:, None]
    sinr_db = np.array([-np.inf, -1e300, -200.0, 200.0, 1e300, np.inf])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bler = model.bler(table, mcs, sizes, sinr_db)
        total = tbler(model, table, mcs, np.array([24, 100_000])[:, None], sinr_db)
        assert np.isnan(model.bler(table, 0, 100, np.nan))
    for value in (bler, total):
        assert np.all(value[..., :3] == 1.0)
        assert np.all(value[..., 3:] < 1e-12)
        assert np.all(value >= 0)


def test_size_between_nodes_lies_between(model: SmoothBler) -> None:
    # Linear in log(size): the geometric mean of two nodes has the mean of their parameters.
    middle = model.params_at(1, 10, np.sqrt(500.0 * 1000.0))
    np.testing.assert_allclose(middle, (model.params_at(1, 10, 500) + model.params_at(1, 10, 1000)) / 2, atol=1e-12)
    np.testing.assert_array_equal(model.params_at(1, 10, 8448), model.params[1][10, -1])


def test_broadcasting(model: SmoothBler) -> None:
    out = model.bler(1, np.arange(29)[:, None, None], np.array([100, 1000])[:, None], np.zeros(7))
    assert out.shape == (29, 2, 7)
    assert out.dtype == np.float64
    assert model.bler(1, 0, 100, 0.0).shape == ()
    assert out[5, 1, 3] == model.bler(1, 5, 1000, 0.0)


def test_curve_form() -> None:
    plain = np.array([3.0, np.log(2.0), 0.0, 0.0])
    np.testing.assert_allclose(curve_bler([3.0, 5.0], plain), [0.5, 1 / (1 + np.e)])
    bent = np.array([3.0, np.log(2.0), 0.7, 0.4])
    assert curve_bler(3.0, bent) == pytest.approx(0.5)
    assert curve_sinr_db(0.5, bent) == pytest.approx(3.0)
    assert curve_sinr_db([0.0, 1.0], bent).tolist() == [np.inf, -np.inf]


def test_tbler_is_one_minus_all_blocks_through(model: SmoothBler) -> None:
    tbs = np.array([1000, 20_000, 200_000])
    blocks, size = code_blocks(tbs, MCS_TABLES[2].code_rate[15])
    assert blocks[-1] > 20
    sinr_db = model.sinr_db_for_bler(2, 15, size, 0.01)
    np.testing.assert_allclose(tbler(model, 2, 15, tbs, sinr_db), 1 - 0.99**blocks)


def test_target_out_of_reach(model: SmoothBler) -> None:
    out = sinr_db_for_tbler(model, 1, 5, 1000, np.array([0.0, 1.0, 0.5]))
    assert out[0] == np.inf
    assert out[1] == -np.inf
    assert np.isfinite(out[2])
    assert sinr_db_for_tbler(model, 1, 28, 1000, 0.1, low_db=-60.0, high_db=0.0) == np.inf


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.bler(4, 0, 100, 0.0), "mcs_table is 4"),
        (lambda m: m.bler(2, 28, 100, 0.0), "mcs is 28; must be 0 to 27"),
        (lambda m: m.bler(1, 0, 23, 0.0), "code_block_size_bits is 23; must be 24 to 8448"),
        (lambda m: m.bler(1, 0, np.array([100, 9000]), 0.0), "is 9000"),
        (lambda m: m.sinr_db_for_bler(1, 0, 100, 1.5), "bler is 1.5"),
        (lambda m: sinr_db_for_tbler(m, 1, 0, 100, -0.1), "tbler is -0.1"),
        (lambda m: sinr_db_for_tbler(m, 1, 0, 100, 0.1, low_db=5.0, high_db=5.0), "below high_db"),
    ],
)
def test_bad_arguments_are_rejected(model: SmoothBler, call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(model)  # type: ignore[operator]


# ---------------------------------------------------------------- the model that interpolates Sionna's tables


@pytest.fixture(scope="module")
def phy_abstraction() -> object:
    pytest.importorskip("sionna", reason="compares with PHYAbstraction of sionna-no-rt")
    from sionna.sys import PHYAbstraction

    return PHYAbstraction()


@pytest.mark.slow
def test_sionna_bler_equals_phy_abstraction(phy_abstraction: object) -> None:
    import torch

    from distila.training.sionna_bler import SionnaBler

    ours = SionnaBler.load()
    random = np.random.default_rng(5)
    checked_missing = 0
    for table in MCS_TABLES:
        count = 20_000
        mcs = random.integers(0, MCS_TABLES[table].num_mcs, count)
        size = random.integers(24, 8449, count)
        # Sionna converts dB to linear and back in float32: stay clear of the ties between two grid points.
        sinr_db = np.round(random.uniform(-10, 35, count), 1) + random.uniform(-0.045, 0.045, count)
        theirs = phy_abstraction.get_bler(  # type: ignore[attr-defined]
            torch.as_tensor(mcs, dtype=torch.int32),
            table,
            1,
            torch.as_tensor(size, dtype=torch.int32),
            torch.as_tensor(10 ** (sinr_db / 10), dtype=torch.float32),
        ).numpy()
        missing = np.isinf(theirs)
        checked_missing += int(missing.sum())
        bler = ours.bler(table, mcs, size, sinr_db)
        assert np.all(bler[missing] == 1.0)
        assert np.abs(bler - theirs)[~missing].max() < 1e-5
    assert checked_missing > 1000


@needs_sionna
def test_sionna_bler_at_the_ends() -> None:
    from distila.training.sionna_bler import SionnaBler

    ours = SionnaBler.load()
    assert ours.bler(1, 10, 1000, [-np.inf, -300.0, 300.0, np.inf]).tolist() == [1.0, 1.0, 0.0, 0.0]
    assert np.all(ours.bler(1, [0, 1, 2], 1000, 30.0) == 1.0)
    np.testing.assert_array_equal(ours.bler(1, 10, 2024, 3.9), ours.bler(1, 10, 8448, 3.9))
    with pytest.raises(ValueError, match="NaN"):
        ours.bler(1, 10, 1000, np.nan)
    # Usable where a BlerModel is asked for; an MCS it lacks is never good enough.
    needed = sinr_db_for_tbler(ours, 1, np.array([0, 10, 28]), 8000, 0.1)
    assert needed[0] == np.inf
    assert np.all(np.isfinite(needed[1:]))


@needs_sionna
def test_smooth_and_sionna_models_agree_on_thresholds() -> None:
    from distila.training.sionna_bler import SionnaBler

    # Sionna interpolates log BLER over steps of up to 1.8 dB, hence the wide margin.
    mcs = np.arange(3, 28)
    smooth = sinr_db_for_tbler(SmoothBler.load(), 1, mcs, 1000, 0.1)
    stepped = sinr_db_for_tbler(SionnaBler.load(), 1, mcs, 1000, 0.1)
    assert np.abs(smooth - stepped).max() < 1.6
