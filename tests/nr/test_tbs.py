"""Transport block size and segmentation: hand-worked values, properties, and Sionna's calculation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distila.xapp.nr.mcs import MCS_TABLES
from distila.xapp.nr.tbs import code_blocks, num_re, transport_block_size_bits


def test_num_re() -> None:
    assert num_re(1) == 156
    assert isinstance(num_re(1), int)
    assert num_re(10, num_symbols=14, dmrs_re_per_prb=6) == 1560  # 162 capped to 156
    assert num_re(10, num_symbols=12, dmrs_re_per_prb=12, overhead_re_per_prb=6) == 1260
    assert num_re(np.array([0, 1, 273]), num_symbols=12).tolist() == [0, 132, 36036]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_prb": 1, "num_symbols": 15}, "num_symbols is 15"),
        ({"num_prb": 1, "overhead_re_per_prb": 5}, "0, 6, 12 or 18"),
        ({"num_prb": -1}, "num_prb is -1"),
        ({"num_prb": 1, "num_symbols": 1, "dmrs_re_per_prb": 24}, "dmrs_re_per_prb is 24"),
    ],
)
def test_num_re_rejects(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        num_re(**arguments)


# N_RE, R x 1024, modulation order, layers, TBS, each worked by hand from the steps of 5.1.3.2.
WORKED = [
    # N_info 36.6 -> N' 32 -> 32
    (156, 120, 2, 1, 32),
    # N_info 9.1 -> N' = max(24, 8) -> 24
    (156, 30, 2, 1, 24),
    # N_info 3120 x 0.30078 x 2 = 1876.9; n = 10 - 6 = 4; N' = 16 x 117 = 1872; the entry after 1864 is 1928
    (3120, 308, 2, 1, 1928),
    # N_info 8112 x 0.92578 x 6 = 45059.6; n = 15 - 5 = 10; N' = 1024 x round(43.98) = 45056;
    # C = ceil(45080 / 8424) = 6; TBS = 48 x ceil(45080 / 48) - 24 = 48 x 940 - 24
    (8112, 948, 6, 1, 45096),
    # R <= 1/4: N_info 42588 x 0.1171875 x 2 = 9981.6; n = 13 - 5 = 8; N' = 256 x round(38.9) = 9984;
    # C = ceil(10008 / 3816) = 3; TBS = 24 x ceil(10008 / 24) - 24 = 10008 - 24
    (42588, 120, 2, 1, 9984),
    # 3824 < N' <= 8424, one code block: N_info 8112 x 0.30078125 x 2 = 4879.9; n = 12 - 5 = 7;
    # N' = 128 x round(37.94) = 4864; TBS = 8 x ceil(4888 / 8) - 24
    (8112, 308, 2, 1, 4864),
    # Just above 3824: N_info 3840 -> N' = max(3840, 64 x round(59.625)) = 3840 -> TBS 8 x ceil(3864 / 8) - 24
    (3840, 512, 2, 1, 3840),
    # Largest of all: 273 PRB, 256QAM 948/1024, 4 layers (the known 1277992)
    (273 * 156, 948, 8, 4, 1277992),
]


@pytest.mark.parametrize(("re", "rate_1024", "order", "layers", "expected"), WORKED)
def test_tbs_worked_by_hand(re: int, rate_1024: float, order: int, layers: int, expected: int) -> None:
    assert transport_block_size_bits(re, rate_1024 / 1024, order, layers) == expected


def test_ties_round_up() -> None:
    # (N_info - 24) / 2^n = 32.5 exactly: N_info = 24 + 128 x 32.5 = 4184, n = 12 - 5 = 7. Up: 33 x 128 =
    # 4224.
    assert transport_block_size_bits(4184, 0.5, 2) == 4224
    assert transport_block_size_bits(4184 - 1, 0.5, 2) == 4096


def test_tbs_broadcasts_and_is_zero_without_resources() -> None:
    table = MCS_TABLES[1]
    tbs = transport_block_size_bits(
        num_re(np.arange(5))[:, None], table.code_rate[None, :], table.modulation_order[None, :]
    )
    assert tbs.shape == (5, 29)
    assert tbs.dtype == np.int64
    assert np.all(tbs[0] == 0)
    assert np.all(tbs[1:] >= 24)
    assert transport_block_size_bits(100, 0.5, 2).shape == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((-1, 0.5, 2), "num_re is -1"),
        ((100, 490, 4), "R x 1024"),
        ((100, np.array([0.5, np.nan]), 4), "code_rate is nan"),
        ((100, 0.5, 0), "modulation_order is 0"),
        ((100, 0.5, 2, 5), "num_layers is 5"),
    ],
)
def test_tbs_rejects(arguments: tuple[float, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        transport_block_size_bits(*arguments)


def test_code_blocks_worked_by_hand() -> None:
    cases = [
        # tbs, R, blocks, size
        (24, 0.1, 1, 40),  # 16-bit CRC
        (3824, 0.9, 1, 3840),
        (3840, 0.9, 1, 3864),  # 24-bit CRC from here
        (8424, 0.5, 1, 8448),  # the largest single block of base graph 1
        (8456, 0.5, 2, 4264),  # (8456 + 24) / 2 + 24
        (3824, 0.2, 1, 3840),  # base graph 2
        (3840, 0.2, 2, 1956),  # base graph 2 splits above 3840: (3840 + 24) / 2 + 24
        (45096, 0.9258, 6, 7544),
        (1277992, 0.9258, 152, 8432),
    ]
    for tbs, rate, blocks, size in cases:
        assert tuple(int(x) for x in code_blocks(tbs, rate)) == (blocks, size), (tbs, rate)


def test_code_blocks_rejects() -> None:
    with pytest.raises(ValueError, match="tbs_bits is 0"):
        code_blocks(np.array([24, 0]), 0.5)
    with pytest.raises(ValueError, match="integer type"):
        code_blocks(24.5, 0.5)
    with pytest.raises(ValueError, match="code_rate is 490"):
        code_blocks(24, 490)


def _random_allocations(count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(20240)
    table = random.integers(1, 4, count)
    mcs = np.array([random.integers(0, MCS_TABLES[t].num_mcs) for t in table])
    symbols = random.integers(2, 15, count)
    return {
        "order": np.array([MCS_TABLES[t].modulation_order[m] for t, m in zip(table, mcs, strict=True)]),
        "rate": np.array([MCS_TABLES[t].code_rate[m] for t, m in zip(table, mcs, strict=True)]),
        "prb": random.integers(1, 276, count),
        "symbols": symbols,
        "dmrs": np.minimum(random.choice([4, 6, 12, 18, 24], count), 12 * symbols - 6),
        "overhead": random.choice([0, 6], count),
        "layers": random.integers(1, 5, count),
    }


def test_equals_sionna_on_random_allocations() -> None:
    pytest.importorskip("sionna", reason="compares with calculate_tb_size of sionna-no-rt")
    import torch
    from sionna.phy.nr.utils import calculate_tb_size

    a = _random_allocations(30_000)
    re = np.array(
        [
            num_re(int(p), int(s), int(d), int(o))
            for p, s, d, o in zip(a["prb"], a["symbols"], a["dmrs"], a["overhead"], strict=True)
        ]
    )
    use = re > 0
    tbs = transport_block_size_bits(re[use], a["rate"][use], a["order"][use], a["layers"][use])
    blocks, size = code_blocks(tbs, a["rate"][use])

    def tensor(name: str) -> torch.Tensor:
        return torch.as_tensor(a[name][use], dtype=torch.int32)

    theirs = calculate_tb_size(
        modulation_order=tensor("order"),
        target_coderate=torch.as_tensor(a["rate"][use], dtype=torch.float32),
        num_prbs=tensor("prb"),
        num_ofdm_symbols=tensor("symbols"),
        num_dmrs_per_prb=tensor("dmrs"),
        num_ov=tensor("overhead"),
        num_layers=tensor("layers"),
        return_cw_length=False,
    )
    assert use.sum() > 10_000
    for ours, their, what in zip((tbs, size, blocks), theirs, ("TBS", "code block size", "blocks"), strict=False):
        wrong = np.flatnonzero(ours != their.numpy())
        assert wrong.size == 0, (what, [{k: v[use][i] for k, v in a.items()} for i in wrong[:3]])


@settings(max_examples=200, deadline=None)
@given(
    table=st.sampled_from([1, 2, 3]),
    prb=st.integers(1, 275),
    symbols=st.integers(2, 14),
    layers=st.integers(1, 4),
)
def test_segmentation_properties(table: int, prb: int, symbols: int, layers: int) -> None:
    mcs = MCS_TABLES[table]
    tbs = transport_block_size_bits(num_re(prb, symbols), mcs.code_rate, mcs.modulation_order, layers)
    blocks, size = code_blocks(tbs, mcs.code_rate)
    assert np.all(tbs % 8 == 0)
    # Every bit of the block, its CRC and the code block CRCs are carried, with nothing to spare.
    crc = np.where(tbs > 3824, 24, 16)
    assert np.array_equal(blocks * size, tbs + crc + np.where(blocks > 1, 24 * blocks, 0))
    assert np.all((size >= 40) & (size <= np.where(mcs.code_rate <= 0.25, 3840, 8448)))
    # Above R = 1/4, where all rows are segmented alike, the size follows spectral efficiency.
    by_efficiency = np.argsort(mcs.spectral_efficiency, kind="stable")
    by_efficiency = by_efficiency[mcs.code_rate[by_efficiency] > 0.25]
    assert np.all(np.diff(tbs[by_efficiency]) >= 0)
    # More PRBs never carry less.
    more = transport_block_size_bits(num_re(prb + 1, symbols), mcs.code_rate, mcs.modulation_order, layers)
    assert np.all(more >= tbs)
