"""The policy's network: a new UE is zeros, NaN stays outside, SINR estimates do as SALAD's law says; the bundle is it.

Constants are held against the simulator's own curves (`distila.training.sim.report.Curves`), and bundles against the
network on reports that it gets as a policy in the simulator, which is what it will be asked in service.
"""

from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from pydantic import ValidationError

from distila.training.benchmark.policies import BundlePolicy
from distila.training.network.config import NetworkConfig
from distila.training.network.export import agreement, export_bundle, latency_us, sample_inputs, stored
from distila.training.network.filters import (
    BLER_RATES,
    COLUMNS,
    START_DB,
    PolicyNetwork,
    cqi_line,
    cqi_sinr_db,
    mcs_line,
)
from distila.training.network.network import MOST, SHARE_HIGH, SHARE_LOW, mcs_facts
from distila.training.network.policy import NetworkPolicy
from distila.training.sim.report import matrix
from distila.xapp.errors import InputError
from distila.xapp.kpi.observations import UNITS
from distila.xapp.kpi.report import MCS_OFFSET
from distila.xapp.nr.bler import SmoothBler, tbler
from distila.xapp.nr.mcs import NUM_MCS, mcs_table
from distila.xapp.nr.tbs import num_re, transport_block_size_bits
from distila.xapp.policy.benchmark_figures import BenchmarkRun
from distila.xapp.policy.bundle import GRAPH_FILE, MAX_GRAPH_BYTES, load_bundle

SMALL = NetworkConfig(hidden=(24, 24))
COUNT = len(SMALL.rates_db)


def a_network(seed=0, **config):
    torch.manual_seed(seed)
    return PolicyNetwork(NetworkConfig(**{"hidden": (24, 24), **config}))


@pytest.fixture(scope="module")
def taught():
    """A network that knows the curves at its estimates: 150 steps on made-up reports. Decides sensibly, not well.

    Rounded, so that as a policy it is what its bundle is.
    """
    network = a_network(head="value")
    report, state = (torch.from_numpy(array) for array in sample_inputs(network, 1000, seed=5))
    with torch.no_grad():
        x, _ = network.features(report, state)
    centre = torch.from_numpy(mcs_facts(1)[0]).float()
    with_cqi, without = (network.feature_names.index(name) for name in ("cqi_and_above_cqi_1", "sinr_1"))
    has_cqi = report[:, [network.columns.index("cqi")]] > 0
    sinr_db = 10 * torch.where(has_cqi, x[:, [with_cqi]], x[:, [without]]) + START_DB
    decoded = torch.sigmoid(sinr_db - centre)
    share = (decoded - SHARE_LOW) / (SHARE_HIGH - SHARE_LOW)
    target = torch.cat([share, 1 - decoded, 1 - decoded], dim=1)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(150):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network.mlp(x), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return stored(network)


def reports(network, count=1, per_mcs=None, **columns):
    """Reports [count, R] without feedback but that of ``per_mcs``, {mcs: (acks, nacks)}; the rest not measured."""
    report = torch.full((count, len(network.columns)), torch.nan)
    for index, name in enumerate(network.columns):
        if name.startswith("harq_"):
            report[:, index] = 0
    feedback = [(mcs, *outcomes) for mcs, outcomes in (per_mcs or {}).items()]
    if feedback:
        mcs, acks, nacks = np.array(feedback).T
        mean = (mcs * (acks + nacks)).sum() / (acks + nacks).sum()
        columns |= {"harq_ack": acks.sum(), "harq_nack": nacks.sum(), "harq_mcs_mean": mean}
    for name, value in columns.items():
        report[:, network.columns.index(name)] = torch.as_tensor(value, dtype=torch.float32)
    return report


def after(network, *sequence, state=None):
    """State after reports."""
    state = network.zero_state(len(sequence[0])) if state is None else state
    with torch.no_grad():
        for report in sequence:
            _, state = network.features(report, state)
    return state


def centre_db(mcs):
    """SINR at which the network takes an MCS of table 1 to fail every other time."""
    slope, first = mcs_line(1)
    return first + slope * np.asarray(mcs, float)


def feature(network, name, report, state=None):
    with torch.no_grad():
        x, _ = network.features(report, network.zero_state(len(report)) if state is None else state)
    return x[:, network.feature_names.index(name)]


# --- what it is built from ---


@pytest.mark.parametrize("table", [1, 2, 3])
def test_an_mcs_fails_every_other_time_at_its_centre(table):
    centre_db, rate = mcs_facts(table)
    rows = mcs_table(table)
    bits = transport_block_size_bits(num_re(52), rows.code_rate, rows.modulation_order)
    failed = tbler(SmoothBler.load(), table, np.arange(rows.num_mcs), bits, centre_db)
    np.testing.assert_allclose(failed, 0.5, atol=1e-6)
    np.testing.assert_allclose(rate * num_re(52), bits)


@pytest.mark.parametrize(("mcs", "cqi"), [(1, 1), (2, 2), (3, 3)])
def test_centres_rates_and_cqi_are_those_of_the_simulators_curves(mcs, cqi):
    link = pytest.importorskip("distila.training.sim.link")
    pytest.importorskip("sionna")
    curves = link.link_tables(mcs, cqi, ((52, 1),), SmoothBler.load(), torch.device("cpu")).curves
    centre_db, rate = mcs_facts(mcs)
    np.testing.assert_allclose(centre_db, curves.threshold_db(0.5), atol=curves.step_db)
    np.testing.assert_allclose(rate, curves.rate, rtol=1e-6)
    sinr_db, threshold = cqi_sinr_db(cqi), curves.cqi_threshold_db.numpy()
    assert (sinr_db > threshold).all()
    assert (sinr_db[:-1] < threshold[1:]).all()


@pytest.mark.parametrize(("table", "mcs_off_db", "cqi_off_db"), [(1, 1.1, 0.4), (2, 3.6, 3.3), (3, 1.1, 0.4)])
def test_mcs_and_cqi_lie_about_on_straight_lines(table, mcs_off_db, cqi_off_db):
    centre, cqi_db = mcs_facts(table)[0], cqi_sinr_db(table)[1:]
    (slope, first), (cqi_slope, cqi_0) = mcs_line(table), cqi_line(table)
    np.testing.assert_allclose(first + slope * np.arange(len(centre)), centre, atol=mcs_off_db)
    np.testing.assert_allclose(cqi_0 + cqi_slope * np.arange(1, 16), cqi_db, atol=cqi_off_db)


def test_it_reads_known_columns_and_has_an_action_per_mcs():
    for table in (1, 2, 3):
        network = a_network(mcs_table=table)
        assert set(network.columns) <= set(UNITS)
        assert [(a.kind, a.value) for a in network.actions] == [("mcs", m) for m in range(mcs_table(table).num_mcs)]
        score, state = network(reports(network, 3), network.zero_state(3))
        assert score.shape == (3, len(network.actions))
        assert state.shape == (3, network.state_size)


def test_offsets_are_actions_around_none():
    network = a_network(actions="mcs_offset", max_offset=3)
    assert [(a.kind, a.value) for a in network.actions] == [("mcs_offset", v) for v in range(-3, 4)]
    report = reports(network, 2, cqi=9)
    x, _ = network.features(report, network.zero_state(2))
    assert torch.equal(network.rated(network.mlp(x), report), network.mlp(x))


def test_a_score_for_an_mcs_is_its_rate_times_the_share_that_is_expected():
    network = a_network(head="value", residual_price=3.0, failure_price=0.5)
    report, state = (torch.from_numpy(array) for array in sample_inputs(network, 50))
    score, _ = network(report, state)
    share = score / torch.from_numpy(mcs_facts(1)[1]).float()
    expected, failure, residual = network.expected(network.mlp(network.features(report, state)[0]))
    torch.testing.assert_close(share, expected - 0.5 * failure - 3 * residual)


def test_forward_is_features_then_score():
    network = a_network()
    report, state = (torch.from_numpy(array) for array in sample_inputs(network, 50))
    score, next_state = network(report, state)
    x, same_state = network.features(report, state)
    assert x.shape == (50, len(network.feature_names))
    assert torch.equal(score, network.rated(network.mlp(x), report))
    assert torch.equal(next_state, same_state)


def test_features_have_nothing_to_train():
    network = a_network()
    x, next_state = network.features(reports(network, cqi=9), network.zero_state(1))
    assert not x.requires_grad
    assert not next_state.requires_grad
    assert [name for name, _ in network.named_parameters()] == [name for name, _ in network.mlp.named_parameters("mlp")]


@pytest.mark.parametrize("rates_db", [(0.4,), (0.1, 1.0), (0.1, 0.3, 0.9)])
def test_any_number_of_estimates_will_do(rates_db):
    network = a_network(rates_db=rates_db, cqi_rates_db=rates_db)
    state = after(network, reports(network, per_mcs={10: (1, 0)}))
    assert network.sinr_db(state).shape == (1, len(rates_db))
    assert torch.isfinite(network(reports(network), state)[0]).all()


def test_without_hidden_layers_it_is_linear():
    assert [type(layer) for layer in a_network(hidden=()).mlp] == [torch.nn.Linear]


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden": (8, 0)},
        {"rates_db": ()},
        {"rates_db": (0.2, 0.1)},
        {"rates_db": (0.0, 0.1)},
        {"rates_db": (float("nan"),)},
        {"cqi_rates_db": ()},
        {"cqi_rates_db": (0.2, 0.1)},
        {"variability_rates": (0.0,)},
        {"mcs_table": 4},
        {"actions": "native"},
        {"max_offset": 0},
        {"depth": 3},
    ],
)
def test_senseless_settings_are_rejected(wrong):
    with pytest.raises(ValidationError):
        NetworkConfig(**wrong)


# --- memory and what is missing ---


def test_zeros_are_a_new_ue():
    network = a_network()
    state = network.zero_state(2)
    assert torch.equal(network.sinr_db(state), torch.full((2, COUNT), START_DB))
    # A report that says nothing teaches nothing.
    assert torch.equal(after(network, reports(network, 2)), state)
    for name in ("bler_0", "above_cqi", "sinr_1_step"):
        assert (feature(network, name, reports(network, 2)) == 0).all()


def test_ues_do_not_touch_each_other():
    network = a_network()
    report, state = (torch.from_numpy(array) for array in sample_inputs(network, 20))
    both = network(report, state)
    alone = network(report[7:8], state[7:8])
    for one, other in zip(both, alone, strict=True):
        torch.testing.assert_close(one[7:8], other)


@pytest.mark.parametrize("column", range(len(COLUMNS)))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, -5.0])
def test_nothing_unmeasured_or_senseless_gets_out(column, value):
    network = a_network()
    report, state = (torch.from_numpy(array) for array in sample_inputs(network, 40))
    report[:, column] = value
    for _ in range(3):
        x, state = network.features(report, state)
        assert torch.isfinite(network.rated(network.mlp(x), report)).all()
        assert torch.isfinite(x).all()
        assert torch.isfinite(state).all()
        assert float(x.abs().max()) < (4 * MOST if COLUMNS[column] == "combining" else 200)


def test_memory_stays_finite_under_feedback_without_end():
    network = a_network()
    for mcs, outcomes, edge in ((28, (200, 0), centre_db(28)), (0, (0, 200), centre_db(0))):
        state = after(network, *[reports(network, per_mcs={mcs: outcomes}, period_slots=200)] * 300)
        np.testing.assert_allclose(network.sinr_db(state), edge, atol=5.5)


# --- CQI ---


@pytest.mark.parametrize("table", [1, 2, 3])
def test_estimates_above_cqi_begin_at_the_cqi_and_follow_it(table):
    network = a_network(cqi_table=table)
    slope, first = cqi_line(table)
    report = reports(network, 15, cqi=torch.arange(1, 16))
    for state in (None, after(network, reports(network, 15, cqi=3))):
        for name in ("cqi", *(f"cqi_and_above_cqi_{index}" for index in range(3))):
            found = 10 * feature(network, name, report, state) + START_DB
            np.testing.assert_allclose(found, first + slope * np.arange(1, 16), atol=0.05)


def test_cqi_leaves_memory_to_feedback():
    network = a_network()
    assert torch.equal(after(network, reports(network, cqi=9), reports(network, cqi=3)), network.zero_state(1))


def test_no_cqi_is_cqi_0_without_an_age():
    network = a_network()
    none, lowest = (network.features(reports(network, **cqi), network.zero_state(1))[0] for cqi in ({}, {"cqi": 0}))
    assert torch.equal(none, lowest)
    assert not torch.equal(none, network.features(reports(network, cqi=0, cqi_age_slots=4), network.zero_state(1))[0])


def test_an_older_cqi_has_a_higher_age_up_to_an_end():
    network = a_network()
    ages = torch.tensor([0.0, 1, 10, 100, 300, 4000])
    found = feature(network, "age", reports(network, 6, cqi=9, cqi_age_slots=ages)).diff()
    assert (found[:-1] > 0).all()
    assert found[-1] == 0


# --- feedback ---


@pytest.mark.parametrize("mcs", [0, 5, 14, 28])
def test_ack_raises_and_nack_lowers_each_estimate_and_larger_steps_more(mcs):
    network = a_network()
    start = torch.zeros(1, network.state_size)
    start[:, :COUNT] = float(centre_db(mcs)) - START_DB
    risen = network.sinr_db(after(network, reports(network, per_mcs={mcs: (1, 0)}), state=start))
    fallen = network.sinr_db(after(network, reports(network, per_mcs={mcs: (0, 1)}), state=start))
    now = network.sinr_db(start)
    assert (risen > now).all()
    assert (fallen < now).all()
    assert ((risen - now).diff(dim=1) > 0).all()
    torch.testing.assert_close(risen - now, now - fallen, rtol=0.02, atol=1e-5)


def test_the_slowest_estimate_follows_salads_update_rule_to_first_order():
    network = a_network(rates_db=(0.01,))
    start_db, mcs = START_DB, 14
    centre = centre_db(mcs)
    step = network.sinr_db(after(network, reports(network, per_mcs={mcs: (1, 0)}))) - start_db
    np.testing.assert_allclose(step, 0.01 / (1 + np.exp(start_db - centre)), rtol=0.03)


def test_feedback_that_was_expected_teaches_little():
    network = a_network()
    for mcs, outcomes in ((0, (1, 0)), (28, (0, 1))):
        state = after(network, reports(network, per_mcs={mcs: outcomes}))
        np.testing.assert_allclose(network.sinr_db(state), START_DB, atol=0.01)


AGAIN = ["again_sinr_0", "again_sinr_1", "cqi_and_again_above_cqi_0", "cqi_and_again_above_cqi_1"]


@pytest.mark.parametrize("name", AGAIN)
def test_feedback_of_retransmissions_moves_the_sinr_estimate_by_their_mcs(name):
    network = a_network()

    def feature_after(**columns):
        return float(feature(network, name, reports(network, cqi=7, **columns)))

    still = feature_after()
    sufficed = [feature_after(retx_ack=1, retx_mcs_mean=mcs) for mcs in (12, 14, 16)]
    failed = [feature_after(retx_nack=1, retx_mcs_mean=mcs) for mcs in (12, 14, 16)]
    assert still < sufficed[0] < sufficed[1] < sufficed[2], "the higher the MCS, the more it tells that it sufficed"
    assert failed[0] < failed[1] < failed[2] < still, "and the less that it did not"
    assert feature_after(harq_nack=1, harq_mcs_mean=12) == still, "first transmissions are no news of the second"


def test_retransmissions_leave_the_estimates_of_first_transmissions_alone():
    network = a_network()
    state = after(network, reports(network, retx_ack=3, retx_nack=1, retx_mcs_mean=12))
    np.testing.assert_array_equal(network.sinr_db(state), START_DB)


@pytest.mark.parametrize("period", [1, 20])
@pytest.mark.parametrize("true_db", [-2.0, 6.3, 15.0])
def test_estimates_converge_to_the_sinr_of_a_still_channel(true_db, period):
    """Acknowledged by the law that they assume, at the MCS they would choose and its neighbours."""
    network = a_network(rates_db=(0.1, 0.4))
    rng, centre, links = np.random.default_rng(1), centre_db(range(29)), 64
    state = network.zero_state(links)
    seen = []
    for index in range(1200 // period):
        best = np.abs(centre - network.sinr_db(state).numpy()[:, 1, None]).argmin(axis=1)
        mcs = np.clip(best + rng.integers(-1, 2, links), 0, 28)
        acks = rng.binomial(period, 1 / (1 + np.exp(centre[mcs] - true_db)))
        report = reports(network, links, period_slots=period)
        for name, value in (("harq_ack", acks), ("harq_nack", period - acks), ("harq_mcs_mean", mcs)):
            report[:, network.columns.index(name)] = torch.from_numpy(value).float()
        state = after(network, report, state=state)
        if index * period >= 600:
            seen.append(network.sinr_db(state).numpy())
    # Of many links and slots; a single estimate wanders, the faster the more.
    np.testing.assert_allclose(np.mean(seen, axis=(0, 1)), true_db, atol=0.25)
    assert np.std(seen, axis=(0, 1))[0] < 0.6


@pytest.mark.parametrize(("acks", "nacks"), [(18, 2), (10, 10), (20, 0), (2, 18)])
@pytest.mark.parametrize("mcs", [10, 14, 17, 20])
def test_a_period_of_20_is_about_20_single_reports(mcs, acks, nacks):
    network = a_network(rates_db=(0.05, 0.1, 0.2, 0.4), cqi_rates_db=(0.05, 0.1, 0.2, 0.4))
    order = np.random.default_rng(0).permutation([1] * acks + [0] * nacks)
    single = [reports(network, per_mcs={mcs: (int(ack), 1 - int(ack))}, period_slots=1, cqi=9) for ack in order]
    period = [reports(network, per_mcs={mcs: (acks, nacks)}, period_slots=20, cqi=9)]
    one_by_one, at_once = after(network, *single * 3), after(network, *period * 3)
    ways_db = one_by_one[:, :8].abs()
    # Long ways take longer at once, and the order of feedback matters to what is fast.
    assert ((at_once - one_by_one)[:, :8].abs() <= 0.3 + 0.4 * ways_db).all()
    for index, tolerance in enumerate((0.05, 0.15)):
        name = f"bler_{index}"
        share = [torch.sigmoid(2 * feature(network, name, reports(network), state)) for state in (at_once, one_by_one)]
        assert abs(float(share[0] - share[1])) < tolerance, name


def test_a_period_with_much_feedback_ends_where_the_feedback_agrees():
    network = a_network()
    for acks, nacks in ((180, 20), (100, 100), (20, 180)):
        state = after(network, *[reports(network, per_mcs={14: (acks, nacks)}, period_slots=200)] * 12)
        found = network.sinr_db(state)[0]
        np.testing.assert_allclose(found, centre_db(14) + np.log(acks / nacks), atol=0.15)


@pytest.mark.parametrize(("acks", "nacks"), [(200, 0), (0, 200)])
@pytest.mark.parametrize("mcs", [0, 14, 28])
def test_no_report_throws_an_estimate_far(mcs, acks, nacks):
    network = a_network(rates_db=(0.05, 1.6), cqi_rates_db=(0.05, 1.6))
    state = after(network, reports(network, per_mcs={mcs: (acks, nacks)}, period_slots=200, cqi=9))
    assert float(state.abs().max()) < 6


def test_several_mcs_in_a_period_count_as_their_mean():
    network = a_network()
    several = after(network, reports(network, per_mcs={12: (5, 1), 16: (3, 3)}))
    torch.testing.assert_close(several, after(network, reports(network, per_mcs={14: (8, 4)})))


def test_log_odds_of_an_ack_are_those_of_its_share():
    network = a_network()
    state = after(network, *[reports(network, per_mcs={10: (3, 1)}, period_slots=4)] * 150)
    for index in range(len(BLER_RATES)):
        share = torch.sigmoid(2 * feature(network, f"bler_{index}", reports(network), state))
        np.testing.assert_allclose(share, 0.75, atol=0.01)


def test_a_moving_channel_keeps_fast_and_slow_apart():
    network = a_network()
    moving = ([reports(network, per_mcs={22: (1, 0)})] * 20 + [reports(network, per_mcs={4: (0, 1)})] * 20) * 3
    still = [reports(network, per_mcs={14: (1, 0)}), reports(network, per_mcs={14: (0, 1)})] * 60
    quiet = feature(network, "sinr_1_step", reports(network), after(network, *still)).abs()
    assert feature(network, "sinr_1_step", reports(network), after(network, *moving)).abs() > 2 * quiet


@pytest.mark.parametrize("ways", [("fast_slow_up_0", "fast_slow_down_0"), ("cqi_slow_up_0", "cqi_slow_down_0")])
def test_variability_sinks_where_the_difference_of_estimates_moves(ways):
    """In the mean of both signs, so that a constant difference does not count as variability."""
    network = a_network()
    still = [reports(network, cqi=9, per_mcs={14: (1, 0)}), reports(network, cqi=9, per_mcs={14: (0, 1)})] * 150
    moving = [reports(network, cqi=12, per_mcs={22: (1, 0)})] * 40 + [reports(network, cqi=5, per_mcs={5: (0, 1)})] * 40
    quiet, restless = (after(network, *sequence) for sequence in (still, moving * 5))
    found = [np.mean([float(feature(network, way, reports(network), s)) for way in ways]) for s in (quiet, restless)]
    assert found[1] < found[0] - 0.3


def test_memory_works_without_variability():
    network = a_network(variability_rates=())
    assert network.state_size == a_network().state_size - 4
    assert not [name for name in network.feature_names if name.startswith(("fast_slow", "cqi_slow"))]
    score, state = network(reports(network, 2, per_mcs={9: (1, 0)}, cqi=7), network.zero_state(2))
    assert torch.isfinite(score).all()
    assert torch.isfinite(state).all()


# --- as a bundle ---


@pytest.fixture(scope="module")
def bundle(taught, tmp_path_factory):
    return export_bundle(taught, tmp_path_factory.mktemp("bundles") / "taught", "taught", "1", {"seed": 0})


@pytest.mark.parametrize(
    "config", [{}, {"actions": "mcs_offset"}, {"mcs_table": 2, "cqi_table": 2}, {"rates_db": (0.3,), "hidden": ()}]
)
def test_a_bundle_decides_as_its_network(tmp_path, config):
    network = a_network(seed=3, **config)
    run = BenchmarkRun(links=8, duration_ms=500, seeds=[0], split="test", families={})
    bundle = export_bundle(network, tmp_path / "b", "b", "1", {"seed": 3}, {"own_e2_timing": run})
    assert agreement(network, bundle, *sample_inputs(network, 3000, seed=9))[:2] == (3000, 0)
    manifest = load_bundle(tmp_path / "b").manifest
    assert (manifest.columns, manifest.state_size) == (network.columns, network.state_size)
    assert manifest.actions == network.actions
    assert manifest.mcs_tables == [network.config.mcs_table]
    assert manifest.training["seed"] == 3
    assert NetworkConfig(**manifest.training["network"]) == network.config
    assert manifest.benchmark == {"own_e2_timing": run}
    assert set(manifest.latency_us) == {"1_ue_p50", "1_ue_p99", "100_ue_p50", "100_ue_p99"}


def test_golden_vectors_include_columns_that_are_not_measured(bundle, taught):
    golden = bundle.manifest.golden
    report = np.array([[np.nan if x is None else x for x in row] for row in golden.report])
    assert np.isnan(report[0]).all()
    assert (
        np.isnan(report).any(axis=0)[[taught.columns.index(n) for n in ("cqi", "ri", "native_mcs", "harq_ack")]].all()
    )
    assert (~np.isnan(report)).any(axis=0).all()
    assert not np.any(golden.state[0])
    assert len(set(golden.action)) > 3


def test_a_large_network_fits_and_a_larger_one_is_rejected(tmp_path):
    for width, most in ((32, 12_500), (48, 17_000), (64, 23_000), (160, MAX_GRAPH_BYTES)):
        assert export_bundle(a_network(hidden=(width, width)), tmp_path / "b", "b", "1", {}).graph_bytes < most
    with pytest.raises(InputError, match="bytes, a policy has at most"):
        export_bundle(a_network(hidden=(240, 240)), tmp_path / "b", "b", "1", {})
    assert load_bundle(tmp_path / "b").graph_bytes < MAX_GRAPH_BYTES


@pytest.mark.parametrize(("head", "most"), [("logit", 18), ("value", 30)])
def test_the_graph_is_few_operations_once_it_is_loaded(tmp_path, head, most):
    bundle = export_bundle(a_network(head=head), tmp_path / "b", "b", "1", {})
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(bundle.path / GRAPH_FILE), options, providers=["CPUExecutionProvider"])
    operations = [node.op_type for node in onnx.load(tmp_path / "loaded.onnx").graph.node]
    assert len(operations) <= most
    assert not {"Cast", "MatMul", "Transpose"} & set(operations), "constants are worked out when the graph is loaded"
    assert latency_us(bundle, *sample_inputs(a_network(), 100), runs=20)["1_ue_p50"] > 0


def test_matrices_are_stored_as_float16(bundle):
    graph = onnx.load(bundle.path / GRAPH_FILE).graph
    kinds = {constant.data_type for constant in graph.initializer if len(constant.dims) == 2}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_a_network_as_stored_is_a_rounded_copy():
    network = a_network(seed=4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rounded = stored(network)
    for name, value in rounded.mlp.named_parameters():
        torch.testing.assert_close(value, before[f"mlp.{name}"], rtol=1e-3, atol=1e-6)
        assert torch.equal(value, value.half().float()) or value.ndim == 1
    assert any(not torch.equal(value, before[f"mlp.{name}"]) for name, value in rounded.mlp.named_parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    report, state = (torch.from_numpy(array) for array in sample_inputs(network, 3000))
    same = network(report, state)[0].argmax(dim=1) == stored(network)(report, state)[0].argmax(dim=1)
    assert same.float().mean() > 0.99


def test_disagreement_is_found(bundle, taught):
    other = a_network(seed=8)
    report, state = sample_inputs(taught, 200)
    found = agreement(other, bundle, report, state)
    assert found.compared == 200
    assert found.differ > 100
    assert found.worst_score > 0.01


def test_a_bundle_that_decides_otherwise_is_not_written(tmp_path, monkeypatch):
    from distila.training.network import export

    other = export.onnx_graph(a_network(seed=8))
    monkeypatch.setattr(export, "onnx_graph", lambda network: other)
    with pytest.raises(RuntimeError, match="decisions differ between torch and ONNX"):
        export_bundle(a_network(seed=1), tmp_path / "b", "b", "1", {})
    assert not (tmp_path / "b").exists()


def test_a_tie_is_no_difference():
    network = a_network(actions="mcs_offset", hidden=())
    torch.nn.init.zeros_(network.mlp[0].weight)
    torch.nn.init.zeros_(network.mlp[0].bias)
    report, state = sample_inputs(network, 200)

    def decides_3(report, state):
        score, next_state = (
            tensor.detach().numpy() for tensor in network(torch.from_numpy(report), torch.from_numpy(state))
        )
        return score, np.full(len(report), 3), next_state

    assert agreement(network, SimpleNamespace(run=decides_3), report, state) == (200, 0, 200, 0, 0)
    with torch.no_grad():
        network.mlp[0].bias[5] = 1e-4
    assert agreement(network, SimpleNamespace(run=decides_3), report, state)[:3] == (200, 200, 0)


# --- in the simulator ---

SCENES = {
    "plain": {},
    "no_cqi": {"cqi": {"share": 0}},
    "some_cqi_and_traffic": {
        "channels": [{"model": "TDL-C", "speed_kmh": 60}],
        "interference": {"share": 0.5},
        "link": {"prbs": {"choice": [52, 13]}, "prb_hold_slots": 50, "dtx_probability": 0.03},
        "cqi": {"share": 0.5},
        "traffic": {"full_buffer_share": 0.5, "file_bytes": 20000, "files_per_s": 30},
    },
    "slow_e2": {"e2": {"period_slots": 20, "delay_slots": 10}},
}


class Recorder:
    """Policy that decides as the network and keeps what it was asked; ``beside`` is asked the same."""

    def __init__(self, network, beside=None):
        self.name, self._policy, self._beside = "recorder", NetworkPolicy(network), beside
        self.reports, self.states, self.decisions = [], [], []

    def start(self, cell, generator):
        self._policy.start(cell, generator)
        if self._beside:
            self._beside.start(cell, generator)

    def decide(self, report):
        decision = self._policy.decide(report)
        self.reports.append(self._policy.report.numpy())
        self.states.append(self._policy.state.numpy())
        theirs = self._beside.decide(report) if self._beside else decision
        self.decisions.append((decision, theirs))
        return decision


@pytest.fixture(scope="module")
def simulate(tmp_path_factory):
    """Runs a policy in one of `SCENES`."""
    pytest.importorskip("sionna")
    from distila.training.baselines import baseline
    from distila.training.sim.conditions import Banks, Conditions
    from distila.training.sim.scenario import Scenario
    from distila.training.sim.simulator import Simulator
    from distila.training.sim.split import Split

    banks = Banks(4, 256, 0, tmp_path_factory.mktemp("banks"))

    def run(policy, scene, links, count, seed=0, **changes):
        settings = {"name": "made_up", "channels": [{"model": "TDL-A", "speed_kmh": 10}], **SCENES[scene], **changes}
        scenario = Scenario.model_validate(settings)
        slots = count * scenario.longest_report_period_slots
        conditions = Conditions(scenario, links, Split.TEST, seed, slots + 1, banks=banks)
        simulator = Simulator(conditions, native=baseline("olla"))
        policy.start(conditions.cell(), conditions.generator("policy"))
        for _ in range(count):
            simulator.step(policy.decide(simulator.report))
        return simulator

    return run


@pytest.mark.parametrize("scene", SCENES)
def test_the_bundle_decides_as_the_network_all_along_a_run(taught, bundle, simulate, scene):
    """Each with its own memory, so that rounding would add up if it could; the network's decisions are carried out."""
    recorder = Recorder(taught, BundlePolicy(bundle))
    simulator = simulate(recorder, scene, links=64, count=100)
    ours, theirs = (torch.stack([pair[index].value for pair in recorder.decisions]) for index in (0, 1))
    assert int((ours != theirs).sum()) <= 1, "but for a tie, see `compare`"
    assert recorder.decisions[0][0].kind == recorder.decisions[0][1].kind
    assert len(ours.unique()) > 5
    assert simulator.counters.goodput.mean() > 0.5


def test_offsets_decide_the_same_too(simulate, tmp_path):
    network = stored(a_network(seed=2, actions="mcs_offset", max_offset=2))
    recorder = Recorder(network, BundlePolicy(export_bundle(network, tmp_path / "b", "b", "1", {})))
    simulate(recorder, "some_cqi_and_traffic", links=64, count=60)
    for ours, theirs in recorder.decisions:
        assert ours.kind == theirs.kind == MCS_OFFSET
        assert torch.equal(ours.value, theirs.value)
        assert ours.value.abs().max() <= 2


def test_the_simulators_mean_mcs_is_that_of_its_counts(taught, simulate):
    report = simulate(NetworkPolicy(taught), "slow_e2", links=32, count=12).report
    per_mcs = [f"harq_{kind}_mcs_{mcs}" for kind in ("ack", "nack") for mcs in range(NUM_MCS)]
    mean, counts = matrix(report, ["harq_mcs_mean", *per_mcs]).split([1, len(per_mcs)], dim=1)
    total = counts.sum(dim=1)
    expected = (counts * (torch.arange(len(per_mcs)) % NUM_MCS)).sum(dim=1) / total.clamp(min=1)
    assert total.max() > 1
    torch.testing.assert_close(mean[:, 0], expected)


def test_another_mcs_table_is_rejected(taught, simulate):
    with pytest.raises(InputError, match="made for MCS table 1, the scenario has 2"):
        simulate(NetworkPolicy(taught), "plain", links=4, count=1, link={"mcs_table": 2})


def compare(taught, bundle, simulate, links, count):
    """Agreement over all scenes: compared, differ, equal scores."""
    total = np.zeros(3, int)
    mcs = set()
    for scene in SCENES:
        recorder = Recorder(taught)
        simulate(recorder, scene, links, count, seed=7)
        found = agreement(taught, bundle, np.concatenate(recorder.reports), np.concatenate(recorder.states))
        assert found.worst_state < 1e-3
        total += found[:3]
        mcs |= set(torch.cat([pair[0].value for pair in recorder.decisions]).tolist())
    assert len(mcs) > NUM_MCS // 2
    return total.tolist()


def test_100_000_recorded_reports_get_the_same_decision(taught, bundle, simulate):
    compared, differ, equal_scores = compare(taught, bundle, simulate, links=256, count=100)
    assert (compared, differ) == (102_400, 0)
    assert equal_scores <= 5


@pytest.mark.slow
def test_a_million_recorded_reports_get_the_same_decision(taught, bundle, simulate):
    compared, differ, equal_scores = compare(taught, bundle, simulate, links=512, count=500)
    assert (compared, differ) == (1_024_000, 0)
    assert equal_scores <= 50
