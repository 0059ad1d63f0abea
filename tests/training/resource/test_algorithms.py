"""Classical algorithms: what they are to each other, and to the optimum."""

import pytest
import torch
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st

from distila.training.resource.algorithms import METHODS, TEACHERS, apply, best_of, find_method, teach
from distila.training.resource.algorithms.fplinq import fplinq, schedule
from distila.training.resource.algorithms.miso import matched_beams, miso_wmmse, rayleigh_miso, under_beams
from distila.training.resource.algorithms.rules import all_on, greedy, strongest_only
from distila.training.resource.algorithms.search import branch_and_bound, brute_force, flip
from distila.training.resource.algorithms.wmmse import all_ones, best_start, check_converged, random_starts, wmmse
from distila.training.resource.problems import SETTINGS, Channels, channels, rayleigh, rayleigh_amplitude, sum_rate
from distila.xapp.errors import InputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def exact(given):
    """In double precision, where two ways to compute the same do not drift apart."""
    return Channels(given.snr.double(), given.weight.double())


def textbook_wmmse(h, v, alpha, iterations):
    """Receiver, weight, transmitter of one instance, scalar by scalar."""
    links = len(v)
    for _ in range(iterations):
        total = [sum(h[i, j] ** 2 * v[j] ** 2 for j in range(links)) + 1 for i in range(links)]
        u = [h[i, i] * v[i] / total[i] for i in range(links)]
        w = [1 / (1 - u[i] * h[i, i] * v[i]) for i in range(links)]
        v = [
            min(
                1.0,
                alpha[i]
                * w[i]
                * u[i]
                * h[i, i]
                / sum(alpha[j] * w[j] * u[j] ** 2 * h[j, i] ** 2 for j in range(links)),
            )
            for i in range(links)
        ]
    return [x**2 for x in v]


# --- WMMSE and FPLinQ ---


def test_wmmse_is_the_textbooks():
    given = exact(rayleigh(1, 5, 10.0, generator()))
    alpha = torch.rand(5, generator=generator(1)).double() + 0.5
    given = Channels(given.snr, alpha.unsqueeze(0))
    h = given.snr[0].sqrt().numpy()
    found = wmmse(given, torch.ones(1, 1, 5).double(), 20)[0, 0]
    assert found.tolist() == pytest.approx(textbook_wmmse(h, [1.0] * 5, alpha.tolist(), 20), abs=1e-9)


@pytest.mark.parametrize("setting", ["rayleigh-10db", "rayleigh-0db", "seed", "d2d-1000m"])
@pytest.mark.parametrize("weighted", [False, True])
def test_wmmse_and_fplinq_are_the_same_iteration(setting, weighted):
    given = exact(SETTINGS[setting](50, 8, generator()))
    if weighted:
        given = Channels(given.snr, torch.rand(50, 8, generator=generator(3)).double() + 0.2)
    start = random_starts(given, 3, generator(1)).double()
    assert (wmmse(given, start) - fplinq(given, start)).abs().max() < 1e-6


def test_the_two_teachers_differ_by_starts_and_by_scheduling():
    given = rayleigh_amplitude(200, 10, generator())
    names = ("wmmse", "fplinq", "wmmse-random", "fplinq-scheduled")
    powers = {name: teach(name, given, generator(1)) for name in names}
    assert (powers["wmmse"] - powers["fplinq"]).abs().max() < 1e-3
    assert (powers["wmmse"] - powers["wmmse-random"]).abs().mean() > 0.05
    assert set(powers["fplinq-scheduled"].unique().tolist()) == {0.0, 1.0}
    assert torch.equal(powers["fplinq-scheduled"], schedule(powers["fplinq"]))


@settings(max_examples=25, deadline=None)
@over(st.integers(1, 7), st.floats(-10, 30), st.integers(0, 2**20))
def test_an_iteration_never_lowers_the_weighted_sum_rate(links, snr_db, seed):
    drawn = rayleigh(4, links, snr_db, generator(seed))
    given = exact(Channels(drawn.snr, torch.rand(4, links, generator=generator(seed + 1)) + 0.1))
    power = random_starts(given, 2, generator(seed)).double()
    for _ in range(5):
        after = wmmse(given, power, 1)
        assert bool((sum_rate(given, after) >= sum_rate(given, power) - 1e-9).all())
        power = after


def test_it_takes_as_many_instances_as_it_is_given_with_the_same_result():
    given = rayleigh(7, 6, 10.0, generator())
    together = wmmse(given, all_ones(given), 30)
    for place in range(7):
        one = given[place : place + 1]
        assert torch.allclose(together[place], wmmse(one, all_ones(one), 30)[0], atol=1e-4)


def test_known_rates_of_the_seeds_setting():
    given = rayleigh_amplitude(4000, 10, generator(5))
    assert sum_rate(given, apply("fplinq", given, generator())).mean().item() == pytest.approx(1.995, abs=0.015)


def test_more_starts_are_no_worse():
    given = rayleigh(100, 10, 10.0, generator())
    few, many = (sum_rate(given, best_of(given, starts, generator(1))).mean() for starts in (1, 20))
    assert many > few


# --- schedules ---


def test_brute_force_finds_what_enumeration_finds():
    given = rayleigh(3, 4, 10.0, generator())
    best = sum_rate(given, brute_force(given)).squeeze(1)
    for number in range(16):
        power = torch.tensor([float(number >> link & 1) for link in range(4)]).expand(3, 1, 4)
        assert bool((sum_rate(given, power).squeeze(1) <= best + 1e-5).all())


def test_nobody_beats_brute_force_among_schedules():
    given = rayleigh(60, 8, 10.0, generator())
    best = sum_rate(given, brute_force(given))
    flipped = apply("fplinq-scheduled-flips", given, generator())
    for power in (all_on(given), greedy(given), strongest_only(given), flipped):
        assert bool((sum_rate(given, power) <= best + 1e-4).all())


def test_brute_force_names_what_it_cannot_do():
    with pytest.raises(InputError, match=r"brute force: 17 links have 2\^17 schedules; it goes up to K = 16"):
        brute_force(rayleigh(1, 17, 10.0, generator()))
    with pytest.raises(InputError, match="brute force: 40 links"):
        find_method("brute-force", 40)


@pytest.mark.parametrize("setting", ["rayleigh-10db", "d2d-1000m"])
@pytest.mark.parametrize("weighted", [False, True])
def test_flips_end_where_no_single_flip_helps(setting, weighted):
    """In products of 1 + SINR as in sums of logarithms, which D2D's rates and weights need."""
    given = SETTINGS[setting](20, 7, generator())
    if weighted:
        given = Channels(given.snr, torch.rand(20, 7, generator=generator(3)) + 0.2)
    start = (torch.rand(20, 2, 7, generator=generator(1)) > 0.5).float()
    found = flip(given, start, 50)
    rate = sum_rate(given, found)
    assert bool((rate >= sum_rate(given, start) - 1e-4).all())
    for link in range(7):
        other = found.clone()
        other[..., link] = 1 - other[..., link]
        assert bool((sum_rate(given, other) <= rate * (1 + 1e-4)).all())


def test_no_flips_change_nothing():
    given = rayleigh(4, 5, 10.0, generator())
    start = (torch.rand(4, 1, 5, generator=generator(1)) > 0.5).float()
    assert torch.equal(flip(given, start, 0), start)


def test_greedy_switches_on_by_strength_what_helps():
    """The strongest two cannot share; the third disturbs nobody."""
    given = channels(torch.tensor([[9.0, 50.0, 0.0], [50.0, 8.0, 0.0], [0.0, 0.0, 1.0]]))
    assert greedy(given)[0, 0].tolist() == [1.0, 0.0, 1.0]
    assert strongest_only(given)[0, 0].tolist() == [1.0, 0.0, 0.0]


# --- the certified optimum ---


@pytest.mark.parametrize("links", [3, 8, 12])
def test_branch_and_bound_of_schedules_is_brute_force(links):
    given = rayleigh(4, links, 10.0, generator())
    best = sum_rate(given, brute_force(given))
    for place in range(4):
        found = branch_and_bound(given[place : place + 1], schedules_only=True, tolerance=1e-6)
        assert found.certified
        assert found.sum_rate == pytest.approx(best[place].item(), rel=1e-5)


def test_the_certificate_of_powers_holds():
    """Nothing that many starts find is above the bound, and the allocation is worth what it says."""
    given = rayleigh(3, 4, 0.0, generator())
    best = sum_rate(given, best_of(given, 100, generator(1)))
    for place in range(3):
        one = given[place : place + 1]
        found = branch_and_bound(one, tolerance=0.01)
        assert found.certified
        assert found.sum_rate <= found.bound <= found.sum_rate * 1.0101
        assert best[place].item() <= found.bound + 1e-5
        assert sum_rate(one, found.power.view(1, 1, -1)).item() == pytest.approx(found.sum_rate, rel=1e-5)


def test_a_search_that_is_cut_short_certifies_nothing_but_its_bound():
    given = rayleigh(1, 8, 10.0, generator())
    short = branch_and_bound(given, tolerance=1e-4, most_boxes=50)
    whole = branch_and_bound(given, schedules_only=True, tolerance=1e-6)
    assert not short.certified
    assert short.bound >= whole.sum_rate - 1e-6


def test_branch_and_bound_takes_one_instance():
    with pytest.raises(InputError, match="2 instances"):
        branch_and_bound(rayleigh(2, 3, 10.0, generator()))


# --- teachers ---


def test_every_teacher_teaches():
    given = rayleigh_amplitude(30, 6, generator())
    for name in TEACHERS:
        power = teach(name, given, generator(1))
        assert power.shape == (30, 1, 6)
        assert bool(((power >= 0) & (power <= 1)).all())


def test_a_teacher_that_did_not_converge_is_one_line():
    given = rayleigh_amplitude(50, 20, generator())
    power = wmmse(given, all_ones(given), 3)
    with pytest.raises(InputError, match=r"teacher wmmse: did not converge for \d+ of 50 instances"):
        check_converged(given, power, "wmmse")
    check_converged(given, wmmse(given, all_ones(given), 100), "wmmse")
    with pytest.raises(InputError, match="its powers are not finite"):
        check_converged(given, power * torch.nan, "wmmse")


@pytest.mark.parametrize("name", ["all-on", "magic", "wmmse-0"])
def test_an_invalid_teacher_is_rejected(name):
    with pytest.raises(InputError, match=f"teacher '{name}': there are wmmse, fplinq"):
        teach(name, rayleigh(2, 3, 0.0, generator()), generator())


def test_methods_by_name():
    given = rayleigh(5, 4, 10.0, generator())
    assert torch.equal(apply("wmmse-100", given, generator()), apply("wmmse", given, generator()))
    for name in METHODS:
        assert apply(name, given, generator()).shape == (5, 1, 4)
    with pytest.raises(InputError, match="method 'wmmse-0': there are wmmse"):
        find_method("wmmse-0", 4)


def test_the_best_start_is_chosen_for_each_instance():
    given = rayleigh(10, 5, 10.0, generator())
    power = torch.rand(10, 6, 5, generator=generator(1))
    assert torch.allclose(sum_rate(given, best_start(given, power)).squeeze(1), sum_rate(given, power).amax(1))


# --- several antennas ---


def test_with_one_antenna_it_is_wmmse():
    h = rayleigh_miso(20, 4, 1, 10.0, generator())
    given = channels(h[..., 0].abs().square())
    found = miso_wmmse(h, iterations=30)[..., 0].abs().square()
    assert torch.allclose(found, wmmse(given, all_ones(given), 30).squeeze(1), atol=1e-3)


def test_beams_keep_their_power_and_never_get_worse():
    h = rayleigh_miso(30, 4, 3, 10.0, generator())
    beams = matched_beams(h)
    on = torch.ones(30, 1, 4)
    before = sum_rate(under_beams(h, beams), on)
    for _ in range(6):
        beams = miso_wmmse(h, beams, 2)
        assert bool((torch.linalg.vector_norm(beams, dim=-1) <= 1 + 1e-4).all())
        after = sum_rate(under_beams(h, beams), on)
        assert bool((after >= before - 1e-3).all())
        before = after


def test_with_several_antennas_wmmse_and_fplinq_differ():
    """FPLinQ sets the powers of beams that it is given; WMMSE turns the beams, and gains by it."""
    h = rayleigh_miso(100, 4, 4, 10.0, generator())
    under = under_beams(h, matched_beams(h))
    scheduled = sum_rate(under, fplinq(under, all_ones(under))).mean()
    turned = sum_rate(under_beams(h, miso_wmmse(h)), torch.ones(100, 1, 4)).mean()
    assert turned > 1.2 * scheduled


def test_an_invalid_miso_channel_is_rejected():
    with pytest.raises(InputError, match="instances x links x links x antennas"):
        miso_wmmse(torch.ones(2, 3, 4, 2, dtype=torch.complex64))
    with pytest.raises(InputError, match="not finite"):
        miso_wmmse(torch.full((1, 2, 2, 2), torch.nan, dtype=torch.complex64))
