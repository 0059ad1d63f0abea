"""The decision loop: one indication in, one control message out; order, memory and counts are kept."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kpi_reports import kpi_report

from distila.schemas import e2sm_v1_pb2 as pb
from distila.xapp.e2.codec import Identity, decode_control, decode_indication_header, encode_indication
from distila.xapp.kpi.observations import MEASURED
from distila.xapp.kpi.report import MCS, NATIVE, NO_UE_ID
from distila.xapp.loop import DecisionLoop, LoopConfig
from distila.xapp.policy.bundle import load_bundle
from distila.xapp.policy.guard import GuardConfig

OLLA = load_bundle("olla")
NO_DEADLINE = GuardConfig(deadline_us=None)
CQI = MEASURED.index("cqi")


def make_loop(**config):
    return DecisionLoop(OLLA, LoopConfig(**config), NO_DEADLINE)


def report(sequence=1, rnti=(0x4601,), *, cqi=7.0, **settings):
    """A report whose UEs measured the CQI (one for all, or one each; NaN = not), and had feedback at MCS 10."""
    return kpi_report(sequence, rnti, period_slots=4, cqi=cqi, **settings)


def wire(one):
    return encode_indication(one, Identity())


def test_one_indication_in_one_control_message_out():
    loop = make_loop(arm="blue", valid_for_periods=3, valid_for_extra_slots=5)
    asked = report(77, [9, 5, 7], ue_id=[4, NO_UE_ID, 2], cqi=[3, 9, 15])
    answer = decode_control(*loop.step(*wire(asked)))
    assert (answer.cell_id, answer.answers_sequence, answer.sfn, answer.slot) == ("cell", 77, 77, 17)
    assert answer.timestamp_us == 77000
    assert answer.rnti.tolist() == [9, 5, 7]
    assert answer.ue_id.tolist() == [4, NO_UE_ID, 2]
    assert answer.kind.tolist() == [MCS] * 3
    assert answer.value[0] < answer.value[1] < answer.value[2], "the better the channel, the higher the MCS"
    assert answer.arms == [("blue", OLLA.digest)]
    assert answer.valid_for_slots == 3 * 4 + 5, "three report periods of four slots, and five"
    stats = loop.stats
    assert (stats.indications, stats.decisions, stats.native) == (1, 3, 0)
    assert stats.noticed == {"ue_new": 3}
    assert not stats.dropped
    assert all(recorder.count == 1 for recorder in stats.latency.values())


def order(*reports, loop=None):
    """Which of the reports are decided on, and what was counted."""
    loop = loop or make_loop()
    decided = [loop.step(*wire(one)) is not None for one in reports]
    noticed = {reason: count for reason, count in loop.stats.noticed.items() if reason != "ue_new"}
    return decided, dict(loop.stats.dropped), noticed


@pytest.mark.parametrize(
    ("second", "decided", "dropped", "noticed"),
    [
        (report(11, timestamp_us=2000), True, {}, {}),
        (report(10, timestamp_us=1000), False, {"duplicate": 1}, {}),
        (report(9, timestamp_us=900), False, {"out_of_order": 1}, {}),
        (report(14, timestamp_us=2000), True, {}, {"indications_missed": 3}),
        (report(11, timestamp_us=900), True, {}, {"time_backwards": 1}),
        (report(1, timestamp_us=2000), True, {}, {"node_restart": 1}),
        (report(9, timestamp_us=900, cell="other"), True, {}, {}),  # every cell has an order of its own
    ],
)
def test_order_of_indications(second, decided, dropped, noticed):
    assert order(report(10, timestamp_us=1000), second) == ([True, decided], dropped, noticed)


def test_after_a_restart_the_node_counts_on_from_there():
    reports = [
        report(10, timestamp_us=1000),
        report(1, timestamp_us=2000),
        report(2, timestamp_us=3000),
        report(2, timestamp_us=3000),
    ]
    assert order(*reports) == ([True, True, True, False], {"duplicate": 1}, {"node_restart": 1})


def test_a_dropped_report_does_not_reset_the_order():
    reports = [report(10), report(5), report(10), report(11)]
    assert order(*reports) == ([True, False, False, True], {"out_of_order": 1, "duplicate": 1}, {})


def test_the_cell_without_reports_for_longest_is_forgotten():
    loop = make_loop(cell_capacity=2)
    reports = [report(9, cell="a"), report(9, cell="b"), report(10, cell="a"), report(9, cell="c")]
    assert order(*reports, loop=loop)[2] == {"cell_evicted": 1}
    assert loop.step(*wire(report(9, cell="a"))) is None, "a was heard after b and is known"
    assert loop.step(*wire(report(9, cell="b"))) is not None


def test_without_any_measurement_the_ue_is_left_to_the_du():
    loop = make_loop()
    answer = loop.decide(report(1, [5, 6], cqi=[np.nan, 9]))
    assert answer.kind.tolist() == [NATIVE, MCS]
    assert (loop.stats.decisions, loop.stats.native) == (2, 1)
    assert loop.stats.guarded == {"no_measurement": 1}


def test_a_report_without_ues_is_not_answered():
    assert order(report(1, []), report(2)) == ([False, True], {"no_ue": 1}, {})


def test_more_ues_than_the_table_holds_are_not_decided_on():
    loop = make_loop(ue_capacity=3)
    decided, dropped, _ = order(report(1, [1, 2, 3, 4]), report(2, [1, 2, 3]), loop=loop)
    assert (decided, dropped) == ([False, True], {"too_many_ues": 1})


def mcs(loop, one):
    answer = loop.decide(one)
    assert answer.kind.tolist() == [MCS] * len(one.rnti)
    return answer.value.tolist()


def test_lost_feedback_shows_in_the_counters():
    loop = make_loop()
    loop.decide(report(1, total_first_tx=100, ack=3))
    loop.decide(report(2, total_first_tx=110, ack=8, nack=2))
    assert "harq_feedback_missed" not in loop.stats.noticed
    loop.decide(report(3, total_first_tx=120, ack=3))
    assert loop.stats.noticed["harq_feedback_missed"] == 7


def test_a_counter_that_jumps_back_is_a_new_ue():
    loop = make_loop()
    fresh = mcs(loop, report(1, [5, 6], total_first_tx=100, cqi=9))
    for sequence in range(2, 10):
        punished = mcs(loop, report(sequence, [5, 6], total_first_tx=90 + 10 * sequence, nack=5, ack=5))
    assert punished[0] < fresh[0]
    assert mcs(loop, report(10, [5, 6], total_first_tx=[3, 190], ack=[3, 5], nack=[0, 5], cqi=9))[0] >= fresh[0]
    assert loop.stats.noticed["ue_counter_restart"] == 1
    assert mcs(loop, report(11, [5, 6], total_first_tx=[3, 190], cqi=9))[1] < fresh[1], (
        "the other UE is still the old one"
    )


@pytest.mark.parametrize("cell", ["cell", "other"])
def test_an_evicted_ue_starts_anew(cell):
    loop = make_loop(ue_capacity=2)
    fresh = mcs(loop, report(1, [5], cqi=9))
    for sequence in range(2, 10):
        punished = mcs(loop, report(sequence, [5], cqi=9, total_first_tx=9 * sequence, nack=4, ack=5))
    assert punished < fresh
    assert mcs(loop, report(10, [5], cqi=9)) == punished
    loop.decide(report(11, [6, 7], cell=cell))
    assert loop.stats.noticed["ue_evicted"] == 1
    assert mcs(loop, report(12, [5], cqi=9)) == fresh
    assert loop.stats.noticed["ue_new"] == 4


def test_the_ue_unseen_for_longest_makes_room():
    loop = make_loop(ue_capacity=2)
    for sequence, cell in enumerate(["a", "b", "a", "c", "a"], start=1):
        loop.decide(report(sequence, [5], cell=cell))
    assert loop.stats.noticed["ue_new"] == 3, "b's UE made room for c's; a's was seen after it"


def test_a_ue_with_a_stable_id_keeps_its_memory_when_its_rnti_changes():
    loop = make_loop()
    fresh = mcs(loop, report(1, [5], ue_id=[70], cqi=9))
    for sequence in range(2, 10):
        punished = mcs(loop, report(sequence, [5], ue_id=[70], cqi=9, total_first_tx=9 * sequence, nack=4, ack=5))
    assert mcs(loop, report(10, [8, 5], ue_id=[70, 71], cqi=9)) == punished + fresh


@pytest.mark.parametrize("by", ["rnti", "ue_id"])
def test_a_hundred_thousand_ues_pass_through_bounded_memory(by):
    """The oldest go, the newest stay with their memory, and so does one UE that is in every report."""
    loop, capacity, batch = make_loop(ue_capacity=300), 300, 100
    alone = make_loop()
    rng = np.random.default_rng(5)
    for sequence in range(1, 1001):
        cell = "cell" if sequence <= 500 or by == "ue_id" else "other"
        number = 2 + np.arange(batch) + batch * ((sequence - 1) % (500 if by == "rnti" else 1000))
        rnti = [1, *(number if by == "rnti" else 2 + np.arange(batch))]
        ids = NO_UE_ID if by == "rnti" else [1, *number]
        counts = {"cqi": rng.integers(4, 12, batch + 1), "nack": rng.integers(0, 3, batch + 1)}
        both = {"cell": cell, "ack": 5, "total_first_tx": 1000 * sequence}
        answer = loop.decide(report(sequence, rnti, ue_id=ids, **both, **counts))
        first = {name: value[:1] for name, value in counts.items()}
        expected = alone.decide(report(sequence, [1], **both, **first))
        assert (answer.kind[0], answer.value[0]) == (expected.kind[0], expected.value[0])
        assert len(loop._ues) <= capacity
    assert loop._ues.memories[0].state.shape[0] == capacity
    seen = 100_000 + (1 if by == "ue_id" else 2)
    assert loop.stats.noticed["ue_new"] == seen
    assert loop.stats.noticed["ue_evicted"] == seen - capacity
    loop.decide(report(1001, number, cell=cell, ue_id=NO_UE_ID if by == "rnti" else number))
    assert loop.stats.noticed["ue_new"] == seen, "the newest are still known"


def test_the_decision_for_a_ue_does_not_depend_on_other_ues():
    """UEs of two cells, absent now and then, in any order: each gets what it would get with a loop to itself."""
    rng = np.random.default_rng(3)
    together, alone = make_loop(), {}
    for sequence in range(1, 61):
        for cell in ("a", "b"):
            rnti = rng.permutation(np.arange(1, 13))[: rng.integers(1, 13)] if sequence % 3 else np.arange(1, 13)
            cqi, ack, nack = (rng.integers(low, high, len(rnti)) for low, high in ((1, 16), (0, 2), (0, 9)))
            cqi = np.where(rng.random(len(rnti)) < 0.3, np.nan, cqi)
            total = np.where(rng.random(len(rnti)) < 0.1, 0, 1000.0 * sequence)
            answer = together.decide(
                report(sequence, rnti, cell=cell, cqi=cqi, ack=ack, nack=nack, total_first_tx=total)
            )
            for row, who in enumerate(rnti):
                own = alone.setdefault((cell, who), make_loop())
                each = {"cqi": cqi[row], "ack": ack[row], "nack": nack[row], "total_first_tx": total[row]}
                expected = own.decide(report(sequence, [who], cell=cell, **each))
                assert (answer.kind[row], answer.value[row]) == (expected.kind[0], expected.value[0])
    assert len(alone) == 24
    assert together.stats.guarded == sum((own.stats.guarded for own in alone.values()), start=Counter())
    assert together.stats.guarded["breaker"] > 0
    assert together.stats.noticed["ue_counter_restart"] > 0


def test_a_late_decision_is_not_used():
    now_us = [0]
    loop = DecisionLoop(OLLA, guard_config=GuardConfig(deadline_us=500), clock_ns=lambda: now_us[0] * 1000)
    now_us[0] = 500
    in_time = decode_control(*loop.step(*wire(report(1, [5, 6])), received_ns=0))
    now_us[0] = 501
    late = decode_control(*loop.step(*wire(report(2, [5, 6])), received_ns=0))
    assert in_time.kind.tolist() == [MCS, MCS]
    assert late.kind.tolist() == [NATIVE, NATIVE]
    assert loop.stats.guarded == {"deadline": 2}
    assert (loop.stats.indications, loop.stats.decisions, loop.stats.native) == (2, 4, 2)


def test_without_a_time_of_receipt_the_deadline_counts_from_the_call():
    clock = iter(range(0, 10**9, 400_000))
    loop = DecisionLoop(OLLA, guard_config=GuardConfig(deadline_us=500), clock_ns=lambda: next(clock))
    assert loop.decide(report(1)).kind.tolist() == [NATIVE], "deciding takes several looks at the clock of 400 us each"


# --- whatever comes in ---

FUZZED = make_loop(ue_capacity=8)


@st.composite
def octets(draw):
    """Header and message of a valid indication, damaged or not, or noise."""
    rnti = draw(st.lists(st.integers(1, 20), max_size=10, unique=True))
    total = draw(st.sampled_from([np.nan, 0, 10, 2**53]))
    one = report(
        draw(st.integers(1, 30)), rnti, timestamp_us=draw(st.integers(0, 30)), total_first_tx=total, nack=draw(SMALL)
    )
    header, message = wire(replace(one, cell_id=draw(st.sampled_from("ab"))))
    return damage(draw, header), damage(draw, message)


SMALL = st.integers(0, 2**24 - 1)
DAMAGE = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=3)


def damage(draw, data):
    kind = draw(st.sampled_from(["none", "none", "overwrite", "cut", "noise"]))
    if kind == "noise":
        return draw(st.binary(max_size=60))
    if kind == "cut":
        return data[: draw(st.integers(0, len(data)))]
    changed = bytearray(data)
    for at, value in draw(DAMAGE) if kind == "overwrite" and data else []:
        changed[at % len(data)] = value
    return bytes(changed)


def counted(loop):
    return loop.stats.indications + loop.stats.dropped.total()


@settings(max_examples=400)
@given(octets())
def test_every_indication_is_answered_or_counted_as_dropped(data):
    before, indications = counted(FUZZED), FUZZED.stats.indications
    control = FUZZED.step(*data)
    assert counted(FUZZED) == before + 1
    assert (control is not None) == (FUZZED.stats.indications == indications + 1)
    if control is not None:
        answer = decode_control(*control)
        assert np.isin(answer.kind, [NATIVE, MCS]).all()
        assert ((answer.value >= 0) & (answer.value <= 28)).all()


def test_a_report_period_that_no_decision_can_outlive_is_answered_or_dropped():
    loop = make_loop()
    header = pb.IndicationHeader.FromString(wire(report())[0])
    header.report_period_slots = 2**32 - 1
    control = loop.step(header.SerializeToString(), wire(report())[1])
    assert counted(loop) == 1
    assert control is None or decode_control(*control).valid_for_slots <= 2**32 - 1


def test_reports_of_a_node_that_restarts_with_an_earlier_clock_are_accepted():
    loop = make_loop()
    loop.decide(report(1000, timestamp_us=10**15))
    decided = [loop.decide(report(sequence, timestamp_us=1000 * sequence)) is not None for sequence in range(1, 21)]
    assert decided == [False] * 7 + [True] * 13, "late ones do not keep coming in order"
    assert loop.stats.dropped == {"out_of_order": 7}
    assert loop.stats.noticed["node_restart"] == 1


def test_late_indications_here_and_there_are_no_restart():
    loop = make_loop()
    for sequence in range(10, 40):
        assert loop.decide(report(sequence)) is not None
        assert loop.decide(report(sequence - 9)) is None
    assert loop.stats.dropped == {"out_of_order": 30}


def test_feedback_beyond_the_running_total_is_counted():
    loop = make_loop()
    loop.decide(report(1, total_first_tx=100, ack=1))
    loop.decide(report(2, total_first_tx=101, ack=4))
    assert loop.stats.noticed["harq_beyond_total"] == 3


def test_a_header_that_is_decoded_already_gives_the_same_control_message():
    plain, decoded = make_loop(), make_loop()
    for sequence in range(1, 4):
        header, message = wire(report(sequence, ack=3, nack=1))
        answer = plain.step(header, message)
        assert answer is not None
        assert decoded.step_decoded(decode_indication_header(header), message) == answer
    assert decoded.step_decoded(decode_indication_header(header), b"\xff") is None
    assert decoded.stats.dropped == {"malformed_message": 1}
