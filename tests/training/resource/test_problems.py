"""Interference channels: units, index order, settings, refusals."""

import math

import pytest
import torch
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st

from distila.training.resource.problems import (
    SETTINGS,
    Channels,
    D2dLayout,
    channels,
    d2d,
    interference,
    itu_1411_loss_db,
    link_rates,
    rayleigh,
    rayleigh_amplitude,
    sum_rate,
)
from distila.xapp.errors import InputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- the convention ---


def test_rows_are_receivers_and_columns_transmitters():
    """Transmitter 1 disturbs receiver 0 with SNR 3; receiver 1 hears nothing of transmitter 0."""
    two = channels(torch.tensor([[6.0, 3.0], [0.0, 10.0]]))
    power = torch.tensor([[[1.0, 0.5]]])
    assert interference(two, power).tolist() == [[[1 + 3 * 0.5, 1.0]]]
    assert link_rates(two, power)[0, 0].tolist() == pytest.approx([math.log2(1 + 6 / 2.5), math.log2(1 + 5)])


def test_noise_is_one_and_weights_multiply_rates():
    alone = channels(torch.tensor([[7.0]]), torch.tensor([2.0]))
    assert sum_rate(alone, torch.ones(1, 1, 1)).item() == pytest.approx(2 * math.log2(8))


def test_sum_rates_of_several_powers_of_an_instance_are_computed_at_once():
    given = rayleigh(5, 4, 10.0, generator())
    power = torch.rand(5, 3, 4, generator=generator(1))
    together = sum_rate(given, power)
    for start in range(3):
        assert torch.allclose(together[:, start], sum_rate(given, power[:, start : start + 1])[:, 0])


@settings(max_examples=30, deadline=None)
@over(st.integers(1, 6), st.integers(0, 2**20))
def test_the_order_of_links_does_not_matter(links, seed):
    given = rayleigh(3, links, 10.0, generator(seed))
    power = torch.rand(3, 1, links, generator=generator(seed + 1))
    order = torch.randperm(links, generator=generator(seed + 2))
    permuted = Channels(given.snr[:, order][:, :, order], given.weight[:, order])
    assert torch.allclose(sum_rate(given, power), sum_rate(permuted, power[:, :, order]), atol=1e-4)


def test_interference_keeps_what_is_small_beside_a_strong_link():
    """Taking the link's own power away from the total would leave rounding of 10^9 instead of 2."""
    two = channels(torch.tensor([[1e9, 1.0], [0.0, 1.0]]))
    assert interference(two, torch.ones(1, 1, 2))[0, 0, 0] == 2.0


# --- settings ---


@pytest.mark.parametrize("name", list(SETTINGS))
def test_the_same_seed_gives_the_same_instances(name):
    draw = SETTINGS[name]
    one, same, other = draw(4, 5, generator(1)), draw(4, 5, generator(1)), draw(4, 5, generator(2))
    assert torch.equal(one.snr, same.snr)
    assert not torch.equal(one.snr, other.snr)
    assert one.snr.shape == (4, 5, 5)
    assert bool((one.weight == 1).all()) is ("weighted" not in name)


def test_rayleigh_power_has_the_given_mean():
    assert rayleigh(2000, 10, 10.0, generator()).snr.mean().item() == pytest.approx(10, rel=0.01)
    assert rayleigh(2000, 10, 0.0, generator()).snr.mean().item() == pytest.approx(1, rel=0.01)


def test_the_seeds_gain_is_the_amplitude():
    snr = rayleigh_amplitude(2000, 10, generator()).snr
    assert snr.mean().item() == pytest.approx(math.sqrt(math.pi) / 2, rel=0.01)
    assert snr.square().mean().item() == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize(("links", "rate"), [(12, 1.383), (40, 1.425)])
def test_all_on_gives_what_the_paper_shows_where_its_training_is_stuck(links, rate):
    given = rayleigh_amplitude(2000, links, generator())
    assert sum_rate(given, torch.ones(2000, 1, links)).mean().item() == pytest.approx(rate, abs=0.015)


def test_path_loss_has_two_slopes_that_meet_at_the_break_point():
    layout = D2dLayout()
    break_m = 4 * layout.antenna_height_m**2 / (2.998e8 / layout.carrier_hz)
    at = torch.tensor([break_m / 10, break_m, break_m * 10])
    near, middle, far = itu_1411_loss_db(at, layout).tolist()
    assert middle - near == pytest.approx(20, abs=1e-3)
    assert far - middle == pytest.approx(40, abs=1e-3)
    wavelength_m = 2.998e8 / 2.4e9
    assert middle == pytest.approx(6 + abs(20 * math.log10(wavelength_m**2 / (8 * math.pi * 1.5**2))), abs=1e-3)


def test_d2d_noise_is_that_of_the_literature():
    assert 1 / D2dLayout().snr_scale == pytest.approx(6.295e-15, rel=1e-3)


def test_a_d2d_link_is_as_strong_as_its_distance_allows():
    """Between 2 m and 65 m, with the antenna gain that interference does not have."""
    layout = D2dLayout(fading=False)
    snr_db = 10 * torch.log10(d2d(50, 20, layout, generator()).snr)
    ends = 10 * math.log10(layout.snr_scale) + 2.5 - itu_1411_loss_db(torch.tensor([2.0, 65.0]), layout)
    own = torch.diagonal(snr_db, dim1=1, dim2=2)
    assert own.max() <= ends[0] + 1e-3
    assert own.min() >= ends[1] - 1e-3


# --- bad input ---


@pytest.mark.parametrize(
    ("snr", "says"),
    [
        (torch.ones(3, 4), "1x3x4; must be square"),
        (torch.ones(2, 3, 4), "2x3x4; must be square"),
        (torch.ones(4), "4; must be square"),
        (torch.ones(0, 3, 3), "0x3x3; there is no link in it"),
        (torch.ones(2, 0, 0), "2x0x0; there is no link in it"),
        (torch.tensor([[1.0, -2.0], [1.0, 1.0]]), "[0, 0, 1] is -2; must be finite and not negative"),
        (torch.tensor([[1.0, 2.0], [math.nan, 1.0]]), "[0, 1, 0] is nan"),
        (torch.tensor([[1.0, 2.0], [math.inf, 1.0]]), "[0, 1, 0] is inf"),
    ],
)
def test_an_invalid_channel_is_one_line(snr, says):
    with pytest.raises(InputError) as caught:
        channels(snr, name="mine.npy")
    assert str(caught.value).startswith("mine.npy")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_are_checked_too():
    with pytest.raises(InputError, match=r"weight\[0, 1\] is -1"):
        channels(torch.ones(2, 2), torch.tensor([1.0, -1.0]))


@pytest.mark.parametrize("weight", [torch.ones(3), torch.ones(2, 3), torch.ones(1, 2, 2)])
def test_weights_must_fit(weight):
    with pytest.raises(InputError, match=r"weights are .*; must be 2, or 1x2"):
        channels(torch.ones(2, 2), weight)


def test_parts_of_channels_are_channels():
    given = rayleigh(6, 3, 10.0, generator())
    assert isinstance(given[2:4], Channels)
    assert torch.equal(given[2:4].cross, given.cross[2:4])
