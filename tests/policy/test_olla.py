"""OLLA: what its law promises, and that its ONNX bundle and Sionna's OLLA take the same decisions."""

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distila.xapp.errors import InputError
from distila.xapp.nr.cqi import mcs_for_cqi
from distila.xapp.nr.mcs import NUM_MCS
from distila.xapp.policy.bundle import Bundle, load_bundle
from distila.xapp.policy.olla import CqiOlla, OllaConfig, cqi_to_mcs_table

NAN = float("nan")
PAIRS = [(mcs_table, cqi_table) for mcs_table in (1, 2, 3) for cqi_table in (1, 2, 3)]


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def one_ue(mcs_table: int = 1, cqi_table: int = 1, cqi: float | None = 8, **config: float) -> CqiOlla:
    olla = CqiOlla(OllaConfig(**{"step_on_nack": 0.1, **config}), np.array([mcs_table]), np.array([cqi_table]))
    if cqi is not None:
        olla.observe_cqi(floats(cqi))
    return olla


# ---------------------------------------------------------------- the offset


@pytest.mark.parametrize("target", [0.01, 0.1, 0.3])
def test_falls_by_the_step_on_nack_and_rises_by_its_share_on_ack(target: float) -> None:
    olla = one_ue(target_bler=target, step_on_nack=0.5)
    olla.update(np.array([10]), floats(0), floats(1))
    assert olla.offset[0] == pytest.approx(-0.5)
    olla.update(np.array([10]), floats(1), floats(0))
    assert olla.offset[0] == pytest.approx(-0.5 + 0.5 * target / (1 - target), abs=1e-6)
    olla.update(np.array([10]), floats(3), floats(2))
    assert olla.offset[0] == pytest.approx(-1.5 + 4 * 0.5 * target / (1 - target), abs=1e-6)


@pytest.mark.parametrize("target", [0.02, 0.1, 0.25])
def test_rests_where_the_first_transmission_bler_is_the_target(target: float) -> None:
    rng = np.random.default_rng(1)
    ues, slots, warm_up = 50, 6000, 2000
    olla = CqiOlla(OllaConfig(target_bler=target, step_on_nack=0.1), np.full(ues, 1), np.full(ues, 1))
    olla.observe_cqi(np.full(ues, 8, np.float32))
    # A stationary channel: each MCS fails with a probability of its own, 10 % at the 11th.
    bler = 1 / (1 + 9 * np.exp(-(np.arange(NUM_MCS) - 11.0)))
    failed = 0
    for slot in range(slots):
        mcs = olla.mcs()
        nack = (rng.random(ues) < bler[mcs]).astype(np.float32)
        olla.update(mcs, 1 - nack, nack)
        failed += int(nack.sum()) if slot >= warm_up else 0
    assert failed / (ues * (slots - warm_up)) == pytest.approx(target, abs=0.01)


@pytest.mark.parametrize(("mcs_table", "cqi_table"), PAIRS)
def test_no_rise_at_the_top_mcs_and_no_fall_at_mcs_0(mcs_table: int, cqi_table: int) -> None:
    olla = one_ue(mcs_table, cqi_table)
    top = int(mcs_for_cqi(cqi_table, mcs_table)[15])
    olla.update(np.array([top]), floats(5), floats(0))
    olla.update(np.array([0]), floats(0), floats(5))
    assert olla.offset[0] == 0
    olla.update(np.array([top - 1]), floats(1), floats(0))
    assert olla.offset[0] > 0
    olla.update(np.array([1]), floats(0), floats(1))
    assert olla.offset[0] < 0


def test_stays_within_its_bounds() -> None:
    olla = one_ue(max_offset=2.0)
    olla.update(np.array([10]), floats(0), floats(1000))
    assert olla.offset[0] == -2
    olla.update(np.array([10]), floats(10_000), floats(0))
    assert olla.offset[0] == 2


def test_a_first_cqi_brings_a_wandered_offset_back_within_bounds() -> None:
    olla = one_ue(cqi=None, max_offset=2.0)
    olla.update(np.array([10]), floats(0), floats(60))
    assert olla.offset[0] == pytest.approx(-6)
    olla.observe_cqi(floats(12))
    assert olla.offset[0] == -2


@pytest.mark.parametrize(
    ("setting", "value"),
    [("target_bler", 0), ("target_bler", 0.5), ("step_on_nack", 0), ("max_offset", -1), ("initial_cqi", 0)],
)
def test_a_wrong_setting_is_named(setting: str, value: float) -> None:
    with pytest.raises(InputError, match=setting):
        OllaConfig(**{setting: value})


# ---------------------------------------------------------------- the MCS


@pytest.mark.parametrize(("mcs_table", "cqi_table"), PAIRS)
def test_without_offset_the_mcs_is_the_one_of_the_cqi(mcs_table: int, cqi_table: int) -> None:
    for cqi in range(16):
        expected = 0 if cqi == 0 else mcs_for_cqi(cqi_table, mcs_table)[cqi]
        assert one_ue(mcs_table, cqi_table, cqi).mcs()[0] == expected


def test_cqi_0_means_mcs_0_whatever_the_offset() -> None:
    olla = one_ue(cqi=0)
    olla.offset = floats(4)
    assert olla.mcs()[0] == 0


def test_between_two_cqi_the_mcs_is_interpolated_and_rounded_down() -> None:
    low, high = (int(cqi_to_mcs_table()[0, 0, cqi]) for cqi in (6, 7))
    assert high - low >= 2, "or this test shows nothing"
    olla = one_ue(cqi=6)
    for part in np.linspace(0, 1, 41)[:-1]:
        olla.offset = floats(part)
        assert olla.mcs()[0] == int(low + (high - low) * np.float32(part))


def test_a_ue_keeps_its_latest_cqi() -> None:
    olla = one_ue(cqi=11)
    olla.observe_cqi(floats(NAN))
    assert olla.mcs()[0] == mcs_for_cqi(1, 1)[11]


@pytest.mark.parametrize(("mcs_table", "cqi_table"), PAIRS)
def test_without_any_cqi_harq_feedback_alone_covers_the_whole_mcs_range(mcs_table: int, cqi_table: int) -> None:
    olla = one_ue(mcs_table, cqi_table, cqi=None, max_offset=1.0)
    table = mcs_for_cqi(cqi_table, mcs_table)
    assert olla.mcs()[0] == table[7], "starts at initial_cqi"

    def settle(ack: float, nack: float) -> int:
        for _ in range(400):
            olla.update(olla.mcs(), floats(ack), floats(nack))
        return int(olla.mcs()[0])

    assert settle(10, 0) == table[15]
    assert settle(0, 1) == table[1]
    assert settle(10, 0) == table[15]


def test_ues_do_not_touch_each_other() -> None:
    olla = CqiOlla(OllaConfig(step_on_nack=0.1), np.array([1, 2, 3]), np.array([1, 2, 3]))
    olla.observe_cqi(floats(5, NAN, 15))
    olla.update(np.array([5, 5, 5]), floats(0, 0, 0), floats(0, 3, 0))
    assert olla.offset.tolist() == [0, pytest.approx(-0.3), 0]
    assert np.isnan(olla.last_cqi).tolist() == [False, True, False]


# ---------------------------------------------------------------- the bundle takes the same decisions


class OllaBundle:
    """The exported graph, fed by hand: one row per UE."""

    def __init__(self, bundle: Bundle, mcs_table: np.ndarray, cqi_table: np.ndarray) -> None:
        self.bundle, self.columns = bundle, bundle.manifest.columns
        self.fixed = {"mcs_table": mcs_table, "cqi_table": cqi_table}
        self.state = np.zeros((len(mcs_table), bundle.manifest.state_size), np.float32)

    def decide(self, cqi: np.ndarray, ack: np.ndarray, nack: np.ndarray) -> np.ndarray:
        """MCS of every UE; ``ack`` and ``nack`` are [ue, mcs], a row of NaN where HARQ was not measured."""
        values = {"cqi": cqi, **self.fixed, "harq_ack": ack.sum(axis=1), "harq_nack": nack.sum(axis=1)}
        values |= {f"harq_ack_mcs_{m}": ack[:, m] for m in range(NUM_MCS)}
        values |= {f"harq_nack_mcs_{m}": nack[:, m] for m in range(NUM_MCS)}
        report = np.stack([values[name] for name in self.columns], axis=1).astype(np.float32)
        _, action, self.state = self.bundle.run(report, self.state)
        return np.array([self.bundle.manifest.actions[a].value for a in action])


def same_decisions(
    bundle: Bundle, config: OllaConfig, rng: np.random.Generator, ues: int, steps: int, fail: float = 0.15
) -> int:
    """Both forms on one random sequence; returns how many decisions were compared."""
    mcs_table, cqi_table = np.array([PAIRS[i % 9] for i in range(ues)]).T
    graph, olla = OllaBundle(bundle, mcs_table, cqi_table), CqiOlla(config, mcs_table, cqi_table)
    # Some UEs never report a CQI, some seldom.
    how_often = rng.choice([0.0, 0.05, 1.0], ues)
    decided = olla.mcs()
    top = olla.max_mcs
    for step in range(steps):
        cqi = np.where(rng.random(ues) < how_often, rng.integers(0, 16, ues), NAN).astype(np.float32)
        ack, nack = np.zeros((2, ues, NUM_MCS), np.float32)
        # Feedback for the MCS decided last, or for any other that the pair of tables can bring about.
        row, at = np.arange(ues), np.where(rng.random(ues) < 0.7, decided, rng.integers(0, top + 1))
        tx = rng.poisson(rng.choice([1.0, 20.0], ues))
        nack[row, at] = rng.binomial(tx, fail)
        ack[row, at] = tx - nack[row, at]
        olla.update(at, ack[row, at], nack[row, at])
        olla.observe_cqi(cqi)
        decided = olla.mcs()
        silent = (tx == 0) & (rng.random(ues) < 0.3)  # HARQ not measured
        ack[silent] = nack[silent] = NAN
        got = graph.decide(cqi, ack, nack)
        wrong = np.flatnonzero(got != decided)
        assert not len(wrong), f"step {step}, UE {wrong[0]}: graph {got[wrong[0]]}, CqiOlla {decided[wrong[0]]}"
        np.testing.assert_array_equal(graph.state[:, 0], olla.offset)
    return ues * steps


def test_shipped_bundle_decides_as_cqi_olla_over_a_long_run() -> None:
    assert same_decisions(load_bundle("olla"), OllaConfig(), np.random.default_rng(7), 90, 1500) >= 100_000


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[[OllaConfig], Bundle]:
    olla_bundle = pytest.importorskip("distila.training.olla_bundle", reason="exports with onnx", exc_type=ImportError)
    return lambda config: olla_bundle.export_olla(config, tmp_path_factory.mktemp("olla") / "bundle")


@settings(max_examples=25, deadline=None)
@given(
    target=st.floats(0.001, 0.49),
    step=st.floats(0.001, 3),
    max_offset=st.floats(0.1, 15),
    initial_cqi=st.integers(1, 15),
    seed=st.integers(0, 2**32),
    fail=st.floats(0, 1),
)
def test_any_exported_bundle_decides_as_cqi_olla(
    export: Callable[[OllaConfig], Bundle],
    target: float,
    step: float,
    max_offset: float,
    initial_cqi: int,
    seed: int,
    fail: float,
) -> None:
    config = OllaConfig(target, step, max_offset, initial_cqi)
    same_decisions(export(config), config, np.random.default_rng(seed), 18, 60, fail)


def test_feedback_for_several_mcs_in_one_report_counts_by_its_own_mcs() -> None:
    graph = OllaBundle(load_bundle("olla"), np.array([1]), np.array([1]))
    ack, nack = np.zeros((2, 1, NUM_MCS), np.float32)
    ack[0, [28, 10, 0]], nack[0, [28, 10, 0]] = [9, 2, 1], [1, 1, 7]
    graph.decide(floats(8), ack, nack)
    # 2 + 1 acknowledgements below the top MCS, 1 + 1 refusals above MCS 0.
    expected = 3 * OllaConfig().step_on_ack - 2 * OllaConfig().step_on_nack
    assert graph.state[0, 0] == pytest.approx(expected, abs=1e-6)


def test_an_ack_above_the_top_mcs_of_the_pair_does_not_raise_the_offset_in_either_form() -> None:
    graph, olla = OllaBundle(load_bundle("olla"), np.array([2]), np.array([1])), one_ue(2, 1, cqi=10)
    ack, nack = np.zeros((2, 1, NUM_MCS), np.float32)
    ack[0, 25] = 50
    olla.update(np.array([25]), floats(50), floats(0))
    graph.decide(floats(10), ack, nack)
    assert olla.offset[0] == 0
    assert graph.state[0, 0] == olla.offset[0]


# ---------------------------------------------------------------- Sionna's OLLA

needs_sionna = pytest.mark.skipif(
    importlib.util.find_spec("sionna") is None or importlib.util.find_spec("torch") is None,
    reason="compares with sionna.sys.OuterLoopLinkAdaptation: needs torch and sionna-no-rt",
)


@needs_sionna
@pytest.mark.slow
@pytest.mark.parametrize("target", [0.1, 0.02])
@pytest.mark.parametrize(("mcs_table", "lowest_mcs", "highest_mcs"), [(1, 3, 28), (2, 2, 26)])
def test_sinr_olla_decides_as_sionna_does(mcs_table: int, lowest_mcs: int, highest_mcs: int, target: float) -> None:
    import torch
    from sionna.phy.utils import lin_to_db
    from sionna.sys import OuterLoopLinkAdaptation, PHYAbstraction

    from distila.training.sinr_olla import SinrInnerLoop, SinrOlla
    from distila.training.sionna_bler import SionnaBler
    from distila.xapp.nr.mcs import MCS_TABLES
    from distila.xapp.nr.tbs import transport_block_size_bits

    rng = np.random.default_rng(3)
    ues, steps = 24, 300
    table = MCS_TABLES[mcs_table]
    num_re = rng.integers(50, 20_000, ues)
    tbs_bits = transport_block_size_bits(num_re[:, None], table.code_rate, table.modulation_order)
    # Sionna has no rows below `lowest_mcs`, and takes that where no MCS meets the target. Its row 27 of table 2 does
    # not come down to a BLER of 0.1 within the SNR that it was simulated for.
    inner = SinrInnerLoop(SionnaBler.load(), mcs_table, tbs_bits, target, lowest_mcs)
    ours = SinrOlla(OllaConfig(target_bler=target, step_on_nack=0.5, max_offset=5.0), inner, ues)
    theirs = OuterLoopLinkAdaptation(
        PHYAbstraction(), num_ut=ues, bler_target=target, delta_up=0.5, offset_min=-5.0, offset_max=5.0
    )
    seen = set()
    for step in range(steps):
        sinr = torch.tensor(10 ** (rng.uniform(-8, 36, ues) / 10), dtype=torch.float32)
        harq = rng.choice([-1, 0, 1], ues, p=[0.2, 0.8 * target, 0.8 * (1 - target)])  # none, NACK, ACK
        # Sionna counts PUSCH as category 0 and PDSCH as 1; it takes off what we add.
        expected = theirs(
            torch.tensor(num_re), torch.tensor(harq), sinr, mcs_table_index=mcs_table, mcs_category=1
        ).numpy()
        ours.update((harq == 1).astype(np.float32), (harq == 0).astype(np.float32))
        got = ours.mcs(lin_to_db(sinr).numpy())
        np.testing.assert_array_equal(ours.offset_db, -theirs.offset.numpy())
        assert got.tolist() == expected.tolist(), f"step {step}"
        seen |= set(got.tolist())
    assert seen == set(range(lowest_mcs, highest_mcs + 1)), "every MCS that Sionna can come to was decided"
