"""Buffers and files: arrivals by chance, nothing lost and nothing gained, delays from arrival to the last bit."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distila.training.sim.scenario import TrafficConfig
from distila.training.sim.traffic import Traffic

CPU = torch.device("cpu")
SLOT_US = 500


def traffic(num_links=1, num_slots=1000, rng=None, **config):
    config = TrafficConfig.model_validate({"full_buffer_share": 0, **config})
    return Traffic(config, num_links, num_slots, SLOT_US, rng or np.random.default_rng(0), CPU)


class ArrivalsAt:
    """A generator by which the files of every link arrive in these slots."""

    def __init__(self, *slots):
        self._gaps = np.diff([0, *slots])

    def random(self, count):
        return np.zeros(count)

    def integers(self, low, high, count):
        return np.zeros(count, np.int64)

    def exponential(self, scale, size):
        gaps = np.full(size, 1e9)
        gaps[:, : len(self._gaps)] = self._gaps
        return gaps


def bits(*values):
    return torch.tensor(values, dtype=torch.float32)


def arrivals(given, slots):
    """Bits that arrive in every slot, [slot, link]; nothing is taken."""
    before, found = given.buffer_bits.clone(), []
    for slot in range(slots):
        given.arrive(slot)
        found.append((given.buffer_bits - before).numpy())
        before = given.buffer_bits.clone()
    return np.array(found)


# --- arrivals ---


def test_files_arrive_as_a_poisson_process():
    given = traffic(800, 2000, files_per_s=20, file_bytes=1)
    arrived = arrivals(given, 2000) / 8
    per_link = arrived.sum(axis=0)
    assert per_link.mean() == pytest.approx(20, rel=0.03)  # 1 s
    assert per_link.var() == pytest.approx(20, rel=0.2)
    # Evenly over time, and independent from one half to the other.
    halves = arrived[:1000].sum(axis=0), arrived[1000:].sum(axis=0)
    assert halves[0].mean() == pytest.approx(halves[1].mean(), rel=0.05)
    assert abs(np.corrcoef(*halves)[0, 1]) < 0.1


def test_at_most_one_file_per_slot_and_none_is_lost():
    given = traffic(50, 4000, files_per_s=600, file_bytes=1)  # 0.3 in a slot
    arrived = arrivals(given, 4000) / 8
    assert arrived.max() == 1
    assert arrived.mean() == pytest.approx(0.3, rel=0.02)


def test_files_of_a_link_have_one_size_and_those_of_links_differ():
    given = traffic(100, 4000, files_per_s=20, file_bytes={"log_uniform": [100, 10_000]})
    arrived = arrivals(given, 4000)
    sizes = [set(column[column > 0]) for column in arrived.T]
    assert all(len(size) == 1 for size in sizes)
    values = np.array([size.pop() for size in sizes])
    assert (values % 8 == 0).all()
    assert values.min() >= 800
    assert values.max() <= 80_000
    assert len(set(values)) > 90


def test_no_file_arrives_at_or_after_the_end():
    given = traffic(20, 100, files_per_s=500, file_bytes=1)
    assert arrivals(given, 300)[100:].sum() == 0


def test_same_generator_same_arrivals():
    assert np.array_equal(arrivals(traffic(20), 500), arrivals(traffic(20), 500))


def test_full_buffer_is_infinite_and_stays_so():
    given = traffic(10, full_buffer_share=1)
    assert not given.bursty.any()
    for slot in range(50):
        given.arrive(slot)
        assert (given.take(torch.full((10,), 5000.0)) == 5000).all()
        given.give_back(torch.arange(10), torch.full((10,), 5000.0))
        given.deliver(slot, torch.full((10,), 5000.0))
    assert torch.isinf(given.buffer_bits).all()
    assert all(len(delays) == 0 for delays in given.file_delays_slots(0, 50))


@pytest.mark.parametrize(("share", "low", "high"), [(0, 1, 1), (0.3, 0.65, 0.75), (1, 0, 0)])
def test_share_of_the_links_has_a_full_buffer(share, low, high):
    assert low <= traffic(2000, full_buffer_share=share).bursty.float().mean() <= high


# --- buffers ---


def test_take_gives_what_is_there():
    given = traffic(1, rng=ArrivalsAt(0), file_bytes=1000)
    given.arrive(0)
    assert given.take(bits(6000)).tolist() == [6000]
    assert given.take(bits(6000)).tolist() == [2000]
    assert given.take(bits(6000)).tolist() == [0]


def test_blocks_lost_by_harq_are_sent_again():
    given = traffic(1, rng=ArrivalsAt(0), file_bytes=1000)
    given.arrive(0)
    given.take(bits(8000))
    given.give_back(torch.tensor([0]), bits(5000))
    assert given.take(bits(8000)).tolist() == [5000]


def test_a_file_is_complete_without_the_bits_that_are_lost_for_good():
    given = traffic(1, rng=ArrivalsAt(0), file_bytes=1000)
    for slot in range(10):
        given.arrive(slot)
        given.deliver(slot, bits(3000 if slot in (1, 5) else 0), bits(2000 if slot == 3 else 0))
    assert delays(given) == [6]


operation = st.tuples(st.sampled_from(["send", "deliver", "give back"]), st.integers(0, 5000), st.integers(0, 20))


@given(st.lists(operation, max_size=80), st.integers(1, 40_000), st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_bits_in_are_delivered_or_in_flight_or_in_the_buffer(operations, file_bytes, seed):
    given = traffic(3, 200, np.random.default_rng(seed), file_bytes=file_bytes, files_per_s=400)
    arrived = torch.zeros(3)
    delivered = torch.zeros(3)
    flying: list[torch.Tensor] = []
    for slot, (what, octets, which) in enumerate(operations):
        before = given.buffer_bits.clone()
        given.arrive(slot)
        arrived += given.buffer_bits - before
        if what == "send":
            flying.append(given.take(torch.tensor([8.0 * octets, 8.0, 80.0])))
        elif flying:
            block = flying.pop(which % len(flying))
            if what == "deliver":
                given.deliver(slot, block)
                delivered += block
            else:
                given.give_back(torch.arange(3), block)
        assert (given.buffer_bits >= 0).all()
        assert torch.equal(arrived, delivered + sum(flying, torch.zeros(3)) + given.buffer_bits)


# --- delays ---


def delays(given, from_slot=0, until_slot=1000):
    return given.file_delays_slots(from_slot, until_slot)[0].tolist()


def test_delays_by_hand():
    given = traffic(1, rng=ArrivalsAt(2, 4, 9), file_bytes=1000)
    sent = {2: 6000, 3: 2000, 4: 3000, 7: 5000, 9: 8000}  # bits that arrive in each slot
    for slot in range(12):
        given.arrive(slot)
        given.deliver(slot, bits(sent.get(slot, 0)))
    # One slot if sent at once: 2 to 3, 4 to 7, 9.
    assert delays(given) == [2, 4, 1]


def test_two_files_that_are_done_in_one_slot():
    given = traffic(1, rng=ArrivalsAt(0, 3, 5), file_bytes=1000)
    for slot in range(10):
        given.arrive(slot)
        given.deliver(slot, bits({6: 20_000, 8: 4000}.get(slot, 0)))
    assert delays(given) == [7, 4, 4]


def test_files_are_done_in_turn():
    given = traffic(1, rng=ArrivalsAt(0, 1), file_bytes=1000)
    given.arrive(0)
    given.arrive(1)
    given.deliver(1, bits(7999))
    given.deliver(2, bits(1))
    given.deliver(3, bits(7999))
    given.deliver(4, bits(1))
    assert delays(given) == [3, 4]


def test_only_files_that_arrived_in_the_interval_count():
    given = traffic(1, rng=ArrivalsAt(1, 5, 8), file_bytes=1000)
    for slot in range(20):
        given.arrive(slot)
        given.deliver(slot, bits(8000 if slot in (3, 6, 9) else 0))
    assert delays(given, 0, 20) == [3, 2, 2]
    assert delays(given, 5, 20) == [2, 2]
    assert delays(given, 1, 8) == [3, 2]
    assert delays(given, 12, 20) == []


def test_a_file_that_is_never_done_counts_with_its_wait_so_far():
    given = traffic(1, rng=ArrivalsAt(10), file_bytes=1000)
    for slot in range(100):
        given.arrive(slot)
    assert delays(given, 0, 100)[0] == pytest.approx(90, abs=1)


def test_a_file_that_arrived_in_the_last_slot_has_waited_one_slot():
    given = traffic(1, rng=ArrivalsAt(10, 99), file_bytes=1000)
    for slot in range(100):
        given.arrive(slot)
    assert delays(given, 0, 100) == [90, 1]


def test_a_file_done_after_the_interval_counts_as_not_done():
    given = traffic(1, rng=ArrivalsAt(10), file_bytes=1000)
    for slot in range(100):
        given.arrive(slot)
        given.deliver(slot, bits(8000 if slot == 80 else 0))
    assert delays(given, 0, 100) == [71]
    assert delays(given, 0, 50)[0] <= 41


def test_links_have_their_own_delays():
    given = traffic(3, rng=ArrivalsAt(0), file_bytes=1000)
    given.arrive(0)
    for slot in range(10):
        given.deliver(slot, bits(8000, 4000, 1000))
    assert [d.tolist() for d in given.file_delays_slots(0, 10)] == [[1], [2], [8]]


def test_many_small_files_over_a_long_time_stay_exact():
    given = traffic(1, 20_000, ArrivalsAt(*range(0, 20_000, 2)), file_bytes=1_000_001, files_per_s=1000)
    # 10 000 files of 8 000 008 bits: far beyond what float32 can count.
    slots = 2000
    for slot in range(slots):
        given.arrive(slot)
        for part in (4_000_000, 4_000_008):
            given.deliver(slot, given.take(bits(part)))
    assert set(delays(given, 0, slots)) == {1}
    assert math.isclose(float(given.buffer_bits[0]), 0)
