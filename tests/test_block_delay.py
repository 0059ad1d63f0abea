"""Block delay: its percentiles against blocks that are counted one by one."""

import numpy as np
import pytest

from distila.xapp.kpi.block_delay import (
    BlockDelays,
    BlockTiming,
    block_delay_percentiles,
    delays_by_slots,
    delays_by_transmissions,
)

RTT, MOST, RLC_SLOTS = 8, 4, 80
FAILURE = (0.4, 0.3, 0.5, 0.6)
"""Of the first transmission, of the second where that failed, and so on."""


def blocks_one_by_one(rng, blocks, timing):
    """Transmissions of each block (0: lost), and the delay of each that is delivered [slots]."""
    outcomes, delays = [], []
    for _ in range(blocks):
        delay = 0
        first = True
        while True:
            sent = next((n for n in range(1, MOST + 1) if rng.random() >= FAILURE[n - 1]), 0)
            if first:
                outcomes.append(sent)
                first = False
            if sent:
                delays.append(delay + (sent - 1) * timing.harq_rtt_slots + 1)
                break
            if timing.rlc == "um":
                break
            delay += (MOST - 1) * timing.harq_rtt_slots + 1 + timing.rlc_delay_slots
    return np.array(outcomes), np.array(delays)


@pytest.mark.parametrize("rlc", ["am", "um"])
def test_percentiles_are_those_of_blocks_counted_one_by_one(rlc):
    timing = BlockTiming(RTT, MOST, rlc, RLC_SLOTS)
    outcomes, delays = blocks_one_by_one(np.random.default_rng(1), 40_000, timing)
    counts = np.bincount(outcomes, minlength=9)
    found = block_delay_percentiles(counts[1:].astype(float), float(counts[0]), timing)
    expected = np.percentile(delays, [50, 95, 99], method="inverted_cdf")
    assert found == pytest.approx(expected)
    # A residual BLER of 3.6 % puts the 99th percentile beyond RLC's delay in acknowledged mode only.
    assert (found.p99 > RLC_SLOTS) == (rlc == "am")


def test_without_failures_every_block_takes_one_slot():
    only_first = np.array([100.0, 0, 0, 0, 0, 0, 0, 0])
    assert block_delay_percentiles(only_first, 0.0, BlockTiming(16, 4)) == (1, 1, 1)


@pytest.mark.parametrize(("rtt", "p95"), [(1, 2), (8, 9), (16, 17)])
def test_a_retransmission_costs_a_round_trip(rtt, p95):
    counts = np.array([90.0, 10, 0, 0, 0, 0, 0, 0])
    assert block_delay_percentiles(counts, 0.0, BlockTiming(rtt, 4)) == (1, p95, p95)


def test_one_transmission_in_acknowledged_mode_waits_for_rlc():
    counts = np.array([80.0, 0, 0, 0, 0, 0, 0, 0])
    timing = BlockTiming(8, 1, "am", 80)
    # 80 % are delivered at once, 96 % after one loss, 99.2 % after two.
    assert block_delay_percentiles(counts, 20.0, timing) == (1, 1 + 81, 1 + 2 * 81)


def test_no_block_delivered():
    nothing = np.zeros(8)
    assert np.isnan(block_delay_percentiles(nothing, 0.0, BlockTiming(8, 4))).all()
    assert np.isnan(block_delay_percentiles(nothing, 5.0, BlockTiming(8, 4, "um"))).all()
    assert np.isinf(block_delay_percentiles(nothing, 5.0, BlockTiming(8, 4, "am", 80))).all()


def test_hardly_any_block_delivered_takes_many_losses():
    timing = BlockTiming(8, 1, "am", 19)
    # Half of the blocks are delivered within k losses: 1 - 0.97 ** (k + 1) >= 0.5 from k = 22 on.
    assert block_delay_percentiles(np.array([3.0]), 97.0, timing).p50 == 22 * 20 + 1


def test_a_histogram_of_delays_without_waiting_gives_the_same():
    timing = BlockTiming(RTT, MOST, "am", RLC_SLOTS)
    counts = np.array([700.0, 200, 60, 30, 0, 0, 0, 0])
    histogram = np.zeros(64)
    histogram[1 : 1 + 8 * 4 : 8] = counts[:4]
    by_slots = delays_by_slots(histogram, 10.0, timing)
    assert by_slots.percentiles() == block_delay_percentiles(counts, 10.0, timing)


def test_runs_with_other_slot_durations_are_put_together_in_ms():
    slow = delays_by_transmissions(np.array([50.0, 50]), 0.0, BlockTiming(8, 2)).scaled(1.0)
    fast = delays_by_transmissions(np.array([100.0, 0]), 0.0, BlockTiming(8, 2)).scaled(0.25)
    assert BlockDelays.together([slow, fast]).percentiles() == (0.25, 9, 9)
    assert BlockDelays.together([slow]).percentiles() == (1, 9, 9)
    assert np.isnan(BlockDelays.together([]).percentiles()).all()
