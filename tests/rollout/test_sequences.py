"""Estimates against the textbook, and sequences that hold at every look, whatever the units are like."""

import numpy as np
import pytest

from distila.xapp.rollout.sequences import Moments, boundary, estimate, radius, student


def test_the_difference_of_two_ratios_is_what_the_delta_method_says():
    rng = np.random.default_rng(1)
    arms = []
    for mean in (0.22, 0.2):
        under = rng.gamma(3, 1, 400)
        arms.append(np.stack([under * (mean + 0.05 * rng.standard_normal(400)), under], axis=1))
    found = estimate(Moments.of(arms[0]), Moments.of(arms[1]), "absolute")
    ratios = [arm[:, 0].sum() / arm[:, 1].sum() for arm in arms]
    variances = [
        np.sum((arm[:, 0] - ratio * arm[:, 1]) ** 2) / arm[:, 1].sum() ** 2 * 400 / 399
        for arm, ratio in zip(arms, ratios, strict=True)
    ]
    # The floor for rare events is far below that.
    assert found.difference == pytest.approx(ratios[0] - ratios[1])
    assert found.error == pytest.approx(np.sqrt(sum(variances)), rel=0.02) or found.error > np.sqrt(sum(variances))
    relative = estimate(Moments.of(arms[0]), Moments.of(arms[1]), "relative")
    assert relative.difference == pytest.approx(ratios[0] / ratios[1] - 1)
    resampled = []
    for _ in range(800):
        one, other = (arm[rng.integers(0, 400, 400)] for arm in arms)
        resampled.append((one[:, 0].sum() / one[:, 1].sum()) / (other[:, 0].sum() / other[:, 1].sum()) - 1)
    assert relative.error == pytest.approx(np.std(resampled), rel=0.12)


def test_covariates_remove_variation_that_the_arm_cannot_influence():
    rng = np.random.default_rng(2)
    plain, adjusted = [], []
    for _ in range(200):
        arms = []
        for effect in (1.05, 1.0):
            promise = rng.lognormal(0, 0.5, 60)
            under = rng.uniform(50, 150, 60)
            arms.append(np.stack([under * promise * effect * rng.normal(1, 0.05, 60), under, under * promise], axis=1))
        moments = [Moments.of(arm) for arm in arms]
        adjusted.append(estimate(*moments, "relative"))
        plain.append(estimate(*(Moments.of(arm[:, :2]) for arm in arms), "relative"))
    assert np.mean([one.difference for one in adjusted]) == pytest.approx(0.05, abs=0.01)
    assert np.std([one.difference for one in adjusted]) < 0.25 * np.std([one.difference for one in plain])
    assert np.mean([one.error for one in adjusted]) == pytest.approx(
        np.std([one.difference for one in adjusted]), rel=0.2
    )


def test_moments_of_replicas_add_up():
    vectors = np.random.default_rng(3).random((50, 3))
    parts = Moments.of(vectors[:20]) + Moments.of_rows(Moments.of(vectors[20:]).rows())
    np.testing.assert_allclose(parts.matrix, Moments.of(vectors).matrix)
    assert parts.units == 50
    np.testing.assert_allclose(parts.sums, vectors.sum(axis=0))


def test_undefined_figures_are_none():
    good = Moments.of(np.random.default_rng(4).random((20, 2)))
    nothing = Moments.of(np.zeros((20, 2)))
    nan = Moments.of(np.full((20, 2), np.nan))
    for other in (nothing, nan):
        assert estimate(good, other, "relative") is None
        assert estimate(other, good, "absolute") is None
    no_failures = Moments.of(np.stack([np.zeros(20), np.ones(20)], axis=1))
    assert estimate(good, no_failures, "relative") is None, "nothing is a multiple of zero"


def test_no_event_at_all_is_not_certainty():
    silent = Moments.of(np.stack([np.zeros(20), np.full(20, 10.0)], axis=1))
    found = estimate(silent, silent, "absolute")
    assert found.difference == 0
    assert found.error == pytest.approx(np.sqrt(2 / 202 / 200), rel=0.1), "one in two hundred might have been"


def test_the_boundary_is_tightest_where_it_is_tuned_and_students_t_is_wider():
    at = [boundary(1000.0, 0.01, tuned) for tuned in (10.0, 1000.0, 100_000.0)]
    assert at[1] < min(at[0], at[2])
    assert at[1] > 2.33, "wider than a single look needs"
    assert student(2.326, 10) == pytest.approx(2.764, abs=0.002)  # 1 % of t with ten degrees of freedom
    assert student(2.326, 1e9) == pytest.approx(2.326)


@pytest.mark.parametrize("kind", ["independent", "lasting differences", "heavy tails", "autocorrelated"])
def test_looking_at_every_interval_keeps_the_error_rate(kind):
    """Two arms alike, 60 looks: the share of runs that are ever beyond the boundary stays below alpha."""
    rng = np.random.default_rng(5)
    runs, units, looks, alpha = 600, 40, 60, 0.05
    beyond = 0
    for _ in range(runs):
        noise = rng.standard_normal((2, units, looks))
        if kind == "lasting differences":
            noise = 0.3 * noise + rng.standard_normal((2, units, 1))
        elif kind == "heavy tails":
            noise = rng.standard_t(3, (2, units, looks))
        elif kind == "autocorrelated":
            for look in range(1, looks):
                noise[:, :, look] += 0.8 * noise[:, :, look - 1]
        sums = (10 + noise).cumsum(axis=2)
        for look in range(3, looks):
            counts = np.full(units, look + 1.0)
            found = estimate(
                *(Moments.of(np.stack([sums[arm, :, look], counts], axis=1)) for arm in (0, 1)), "relative"
            )
            if found.difference - radius(found, alpha, 0.1) > 0:
                beyond += 1
                break
    assert beyond / runs <= alpha
