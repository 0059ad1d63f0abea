"""What decisions were worth: the formula, the slots that it is told of, offsets, and what it means in the simulator.

Most conditions are made up. A transmission at slot ``t`` adds ``channel(t)`` to what the decoder has in store, and a
transmission of MCS ``m`` fails with probability ``2 ** -(store / (1 + m))``, whatever came of those before it.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distila.training.learning.action_values import ActionValues
from distila.training.network.network import SHARE_HIGH, SHARE_LOW
from distila.training.sim.conditions import Banks, Conditions
from distila.training.sim.report import MCS, Decision
from distila.training.sim.simulator import RE_PER_PRB_SLOT, Simulator
from distila.training.sim.split import Split
from distila.xapp.policy.bundle import Action

LINKS = 2
RATE = [0.5, 1.0, 2.0, 4.0]
NUM_MCS = len(RATE)


class Sums:
    """A store is one number, the sum of what was received."""

    def first(self, sinr_db):
        return sinr_db[..., None]

    def add(self, store, transmission, sinr_db, efficiency):
        return (store if efficiency is None else store * efficiency[..., None]) + sinr_db[..., None]

    def effective_sinr_db(self, row, store, transmission, efficiency):
        return store[..., 0]


class MadeUp:
    """As much of `Conditions` as `ActionValues` asks for."""

    def __init__(self, rtt=2, most=3, period=1, delay=0, channel=lambda slot: 1.0, row=lambda slot: 0, rate=RATE):
        self.harq_rtt_slots, self.max_transmissions = rtt, most
        self.report_period_slots, self.decision_delay_slots = period, delay
        self.tables = SimpleNamespace(curves=SimpleNamespace(rate=torch.tensor(rate)))
        self.channel, self.row, self.num_mcs = channel, row, len(rate)
        self.combining, self.combines_fully, self.rank_changes = Sums(), True, False

    def sinr_db_of_each_mcs(self, slot):
        return torch.full((LINKS, self.num_mcs), float(self.channel(slot)))

    def rows(self, slot):
        return (self.row(slot) + torch.arange(self.num_mcs)).expand(LINKS, -1)

    def tbler_at(self, sinr_db, row):
        return torch.exp2(-sinr_db / (1 + row))


def mcs_actions(count=NUM_MCS):
    return [Action(kind="mcs", value=mcs) for mcs in range(count)]


def offset_actions(most):
    return [Action(kind="mcs_offset", value=value) for value in range(-most, most + 1)]


def labels_of(conditions, slots, actions=None, value=lambda slot: 0.0, native=lambda slot: [0] * LINKS):
    """Labels by the slot of the report that they are for."""
    values = ActionValues(conditions, actions or mcs_actions())
    found = []
    for slot in range(slots):
        found += values.enter(slot, torch.tensor(native(slot)))
        if slot % conditions.report_period_slots == 0:
            values.decided(slot, torch.tensor(value(slot)).expand(LINKS))
    assert len({label.answered for label in found}) == len(found)
    return {label.answered: label for label in found}


# --- the formula ---


def test_the_formula_by_hand():
    """MCS 0: transmissions fail with 1/2, 1/4, 1/8, a block after each of them with their product so far.

    A new block returns 0.25.
    """
    label = labels_of(MadeUp(), 10, value=lambda slot: 0.25)[0]
    brought = 0.5 * 63 / 64
    cost = (1 / 2 + 1 / 8) * 0.25
    assert label.share[:, 0].tolist() == pytest.approx([(brought - cost) / 0.5] * LINKS)
    assert label.failure[:, 0].tolist() == pytest.approx([1 / 2] * LINKS)
    assert label.residual[:, 0].tolist() == pytest.approx([1 / 64] * LINKS)
    p = [2 ** (-k / 4) for k in (1, 1 + 2, 1 + 2 + 3)]  # of MCS 3
    assert label.share[0, 3] == pytest.approx((4 * (1 - p[2]) - (p[0] + p[1]) * 0.25) / 4)
    assert label.share.shape == label.residual.shape == (LINKS, 4)
    assert label.share.dtype == label.residual.dtype == torch.float32


def test_a_retransmission_meets_the_channel_and_costs_the_value_of_its_own_slot():
    """Period 4, delay 3: the answer to slot 4 is in force in 7 to 10, so the sampled slot is 8; again in 12 and 16."""
    channel = {8: 0.5, 12: 2.0, 16: 4.0}
    value = {8: 0.1, 12: 0.3, 4: 9.0, 16: 9.0, 0: 9.0}
    conditions = MadeUp(rtt=4, period=4, delay=3, channel=lambda slot: channel.get(slot, 0.0))
    label = labels_of(conditions, 24, value=lambda slot: value.get(slot, 9.0))[4]
    p = [2 ** -(stores / 3) for stores in (0.5, 0.5 + 2.5, 0.5 + 2.5 + 6.5)]  # of MCS 2
    # In slot 12 the answer to slot 8 is in force, in slot 16 that to slot 12.
    assert label.share[0, 2] == pytest.approx((2 * (1 - p[2]) - p[0] * 0.1 - p[1] * 0.3) / 2)
    assert label.residual[0, 2] == pytest.approx(p[2])


def test_without_retransmissions_there_is_nothing_to_pay():
    label = labels_of(MadeUp(most=1), 4, value=lambda slot: 100.0)[0]
    p = torch.tensor([2 ** (-1 / (1 + mcs)) for mcs in range(4)])
    assert torch.allclose(label.share, 1 - p.expand(LINKS, -1))
    assert torch.allclose(label.residual, p.expand(LINKS, -1))


def test_a_block_keeps_the_allocation_of_its_first_transmission():
    """Allocations change with the slot; each has a row further on in the tables."""
    label = labels_of(MadeUp(most=2, row=lambda slot: slot), 15)[10]
    assert label.residual[0, 1] == pytest.approx(2 ** -((1 + 2) / (1 + 10 + 1)))


def test_what_the_decoder_has_forgotten_counts_less():
    given = MadeUp(most=2)
    given.combines_fully, given.combining_efficiency = False, torch.tensor([0.0, 0.5])
    label = labels_of(given, 6)[0]
    assert label.residual[:, 0].tolist() == pytest.approx([2 ** -(1 + 1), 2 ** -(1 + 1.5)])


def test_links_have_values_of_their_own():
    given = MadeUp(most=2)
    values = ActionValues(given, mcs_actions())
    found = []
    for slot in range(6):
        found += values.enter(slot, torch.zeros(LINKS, dtype=torch.int64))
        values.decided(slot, torch.tensor([0.0, 0.2]))
    assert found[0].share[:, 0].tolist() == pytest.approx([7 / 8, (0.5 * 7 / 8 - 0.2 / 2) / 0.5])


@pytest.mark.parametrize(("value", "share"), [(1000.0, SHARE_LOW), (-1000.0, SHARE_HIGH)])
def test_values_are_clipped(value, share):
    label = labels_of(MadeUp(), 10, value=lambda slot: value)[0]
    assert label.share.tolist() == [[share] * 4] * LINKS


# --- the slots in which an answer is in force ---


def slot_by_slot(period, delay, rtt):
    """Conditions where a block that begins in slot t fails with probability 2 ** -(t / 64), and is not sent again."""
    return MadeUp(rtt, 1, period, delay, channel=lambda slot: slot / 64, rate=[1.0])


@pytest.mark.parametrize(
    ("period", "delay", "rtt", "answered", "slots"),
    [
        (1, 0, 1, 3, [3]),
        (1, 4, 1, 3, [7]),
        (4, 3, 1, 4, [7, 8, 9, 10]),
        (4, 0, 1, 8, [8, 9, 10, 11]),
        (4, 9, 1, 4, [13, 14, 15, 16]),
        (1, 0, 8, 4, [4]),
        (1, 3, 8, 5, [8]),
        (2, 1, 4, 6, [8]),
        (4, 3, 8, 4, [8]),
        (10, 5, 8, 10, [16, 20, 24]),
        (10, 5, 6, 10, [15, 18, 21, 24]),
        (10, 5, 7, 10, list(range(15, 25))),
        (10, 5, 14, 10, [16, 18, 20, 22, 24]),
        (3, 0, 4, 15, [16]),
    ],
)
def test_the_value_of_an_answer_is_the_mean_over_sampled_slots(period, delay, rtt, answered, slots):
    """Of the slots in which it is in force, every n-th is sampled; n <= 4 divides the round trip."""
    label = labels_of(slot_by_slot(period, delay, rtt), 40, mcs_actions(1))[answered]
    failed = np.mean([2 ** -(slot / 64) for slot in slots])
    assert label.residual.tolist() == pytest.approx(np.full((LINKS, 1), failed), rel=1e-5)
    assert label.share.tolist() == pytest.approx(np.full((LINKS, 1), 1 - failed), rel=1e-4)


def test_an_answer_that_no_sampled_slot_falls_to_gets_no_label():
    assert list(labels_of(slot_by_slot(1, 0, 8), 13, mcs_actions(1))) == [0, 4, 8]
    assert list(labels_of(slot_by_slot(3, 0, 4), 30, mcs_actions(1))) == [0, 3, 6, 12, 15, 18, 24]


def test_a_label_comes_as_soon_as_the_last_block_is_done():
    """Answer 0 is in force in slots 0 to 3; a block of slot 2 is sent for the last time in 2 + 2 * 2."""
    assert list(labels_of(MadeUp(period=4), 8)) == []
    assert list(labels_of(MadeUp(period=4), 9)) == [0]


@pytest.mark.parametrize(("period", "delay"), [(1, 0), (1, 3), (4, 0), (4, 3), (4, 9)])
def test_labels_and_the_simulator_agree_on_when_an_answer_is_in_force(no_fading, scenario, monkeypatch, period, delay):
    e2 = {"period_slots": period, "delay_slots": delay}
    given = Conditions(
        scenario(e2=e2, link={"harq_rtt_slots": 1}), 2, Split.TRAIN, 0, 64, banks=Banks(rows=2, slots=64)
    )
    used = {}
    chosen = Simulator._chosen
    slots = []

    def watched(self):
        found = chosen(self)
        if self._in_force is not None:
            used.setdefault(int(found[0]) * period, []).append(len(slots))
        slots.append(0)
        return found

    monkeypatch.setattr(Simulator, "_chosen", watched)
    native = SimpleNamespace(
        name="native", start=lambda *_: None, decide=lambda report: Decision.absolute(torch.zeros(2, dtype=torch.int64))
    )
    simulator = Simulator(given, native=native)
    while simulator.slot < 28:
        simulator.step(Decision(MCS, torch.full((2,), simulator.slot // period)))
    labels = labels_of(slot_by_slot(period, delay, 1), 28, mcs_actions(1))
    assert len(labels) > 3
    for answered, label in labels.items():
        assert label.residual[0, 0] == pytest.approx(np.mean([2 ** -(slot / 64) for slot in used[answered]]))


@settings(max_examples=60, deadline=None)
@given(
    rtt=st.integers(1, 12),
    most=st.integers(1, 5),
    period=st.integers(1, 12),
    delay=st.integers(0, 12),
    value=st.floats(-5, 5),
)
def test_every_answer_with_a_sampled_slot_is_labelled_once_and_in_order(rtt, most, period, delay, value):
    slots = delay + 4 * period + (most + 1) * rtt + 4
    channel = np.random.default_rng(rtt + 13 * period).uniform(0, 3, slots)
    conditions = MadeUp(rtt, most, period, delay, channel=lambda slot: channel[slot])
    actions = mcs_actions() + offset_actions(2)
    found = labels_of(conditions, slots, actions, value=lambda slot: value, native=lambda slot: [slot % 4, 2])
    every = max(n for n in (1, 2, 3, 4) if rtt % n == 0)
    done = range(0, slots - (most - 1) * rtt - every - period, every)
    in_force = [slot - delay - (slot - delay) % period for slot in done if slot >= delay]
    assert set(in_force) <= set(found)
    assert list(found) == sorted(found)
    for label in found.values():
        assert label.answered % period == 0
        assert ((label.share >= SHARE_LOW) & (label.share <= SHARE_HIGH)).all()
        assert ((label.residual >= 0) & (label.residual <= 1)).all()
        assert label.share.shape == (LINKS, 9)


def test_nothing_is_remembered_that_is_no_longer_needed():
    conditions = MadeUp(rtt=8, most=4, period=1, delay=5)
    values = ActionValues(conditions, mcs_actions())
    for slot in range(400):
        values.enter(slot, torch.zeros(LINKS, dtype=torch.int64))
        values.decided(slot, torch.zeros(LINKS))
    for known in (values._expected, values._native, values._blocks, values._sums):
        assert len(known) < 60


# --- offsets ---


def test_the_value_of_an_offset_is_that_of_the_mcs_it_makes_of_the_dus_own_choice():
    """It moves what the DU uses in each slot; its rate is that of the MCS that it gave when the report was made."""
    conditions = MadeUp(rtt=1, most=1, period=2, channel=lambda slot: 1 + slot % 2)
    label = labels_of(conditions, 6, offset_actions(2), native=lambda slot: [0, 2 + slot % 2])[2]

    def brought(mcs, store):
        return RATE[mcs] * (1 - 2 ** -(store / (1 + mcs)))

    def share(used, nominal):
        return min(1.0, (brought(used[0], 1) + brought(used[1], 2)) / 2 / RATE[nominal])

    # The first link's own choice is 0 throughout, the other's 2 and then 3; no MCS is below 0 or above 3.
    expected = [
        [share(used, used[0]) for used in ((0, 0), (0, 0), (0, 0), (1, 1), (2, 2))],
        [share(used, used[0]) for used in ((0, 1), (1, 2), (2, 3), (3, 3), (3, 3))],
    ]
    assert label.share.numpy() == pytest.approx(np.array(expected), rel=1e-5)
    assert label.residual[1, 2] == pytest.approx((2 ** -(1 / 3) + 2 ** -(2 / 4)) / 2)


def test_offsets_pay_for_retransmissions_too():
    label = labels_of(MadeUp(most=2), 6, offset_actions(1), value=lambda slot: 0.4, native=lambda slot: [1, 3])[0]
    absolute = labels_of(MadeUp(most=2), 6, value=lambda slot: 0.4)[0]
    assert torch.equal(label.share[0], absolute.share[0, [0, 1, 2]])
    assert torch.equal(label.share[1], absolute.share[1, [2, 3, 3]])
    assert torch.equal(label.residual[1], absolute.residual[1, [2, 3, 3]])


def test_of_both_kinds_absolute_mcs_come_first():
    both, mcs, offsets = (
        labels_of(MadeUp(period=3), 9, actions, value=lambda slot: 0.3, native=lambda slot: [1, slot % 4])[0]
        for actions in (mcs_actions() + offset_actions(2), mcs_actions(), offset_actions(2))
    )
    assert torch.equal(both.share, torch.cat([mcs.share, offsets.share], dim=1))
    assert torch.equal(both.residual, torch.cat([mcs.residual, offsets.residual], dim=1))


def test_only_some_mcs_may_be_actions():
    some = [Action(kind="mcs", value=2), Action(kind="mcs", value=0)]
    assert torch.equal(labels_of(MadeUp(), 10, some)[0].share, labels_of(MadeUp(), 10)[0].share[:, [2, 0]])


@pytest.mark.parametrize(
    "actions", [[*offset_actions(1), *mcs_actions()], [Action(kind="native", value=0), *mcs_actions()]]
)
def test_other_actions_are_rejected(actions):
    with pytest.raises(ValueError, match="MCS first, then offsets, and nothing else"):
        ActionValues(MadeUp(), actions)


# --- what it means in the simulator ---


def constant_mcs(scenario, mcs, **link):
    """An MCS all along on a steady channel of 6 dB, up to 3 transmissions.

    Returns:
        As shares: its goodput and the lost blocks, as counted; and both from `ActionValues`, where a new block returns
        that goodput.
    """
    links, slots = 96, 6144  # so many that it does not count what is under way at the end
    link = {"max_transmissions": 3, "bler_slope": 0.2, **link}
    conditions = [
        Conditions(scenario(snr_db=6, link=link), links, Split.TRAIN, 0, slots, banks=Banks(rows=2, slots=64))
        for _ in range(2)
    ]
    native = SimpleNamespace(
        name="constant", start=lambda *_: None, decide=lambda report: Decision.absolute(torch.full((links,), mcs))
    )
    simulator = Simulator(conditions[0], native=native)
    simulator.run(slots)
    tables, counters = simulator.tables, simulator.counters
    bits = float(tables.tbs_bits[mcs])
    goodput = float(counters.goodput.mean()) / (bits / float(tables.prbs[mcs]) / RE_PER_PRB_SLOT)
    delivered, lost = float(counters.bits.sum()) / bits, float(counters.residual.sum())

    values = ActionValues(conditions[1], mcs_actions(tables.max_mcs + 1))
    found = []
    for slot in range(32):
        conditions[1].enter(slot)
        found += values.enter(slot, torch.zeros(links, dtype=torch.int64))
        values.decided(slot, torch.full((links,), goodput * float(tables.curves.rate[mcs])))
    return goodput, lost / (delivered + lost), float(found[0].share[0, mcs]), float(found[0].residual[0, mcs])


@pytest.mark.parametrize(
    "link",
    [
        {"combining": "chase"},
        {"combining": "ir"},
        {"combining": "ideal"},
        {"combining": "ir", "combining_efficiency": 0.5},
        {"combining": "ir", "combining_efficiency": 0},
    ],
    ids=lambda link: "-".join(str(value) for value in link.values()),
)
@pytest.mark.parametrize("mcs", [8, 13, 16, 20])
def test_a_constant_mcs_on_a_steady_channel_has_its_own_goodput_as_value(no_fading, scenario, link, mcs):
    """The fixed point of the average-reward equation; and the residual is the share of blocks that are lost."""
    goodput, lost, share, residual = constant_mcs(scenario, mcs, **link)
    assert share == pytest.approx(goodput, rel=0.01, abs=1e-3)
    assert residual == pytest.approx(lost, rel=0.02, abs=1e-3)


@pytest.mark.parametrize(("mcs", "slope"), [(16, 0.05), (18, 0.2), (18, 0.05)])
def test_so_it_is_where_every_transmission_fails_now_and_then(no_fading, scenario, mcs, slope):
    goodput, lost, share, residual = constant_mcs(scenario, mcs, combining="chase", bler_slope=slope)
    assert residual == pytest.approx(lost, rel=0.05, abs=1e-3)
    assert share == pytest.approx(goodput, rel=0.01, abs=1e-3)
