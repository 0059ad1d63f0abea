"""The decision loop with several arms: each UE is decided on by its own, and changing them disturbs nobody else."""

import threading
from dataclasses import fields

import numpy as np
import pytest
from kpi_reports import kpi_report

from distila.xapp.e2.codec import Identity, decode_control, encode_indication
from distila.xapp.errors import InputError
from distila.xapp.kpi.observations import MEASURED
from distila.xapp.kpi.report import MCS, NATIVE, KpiReport
from distila.xapp.loop import DecisionLoop, LoopConfig
from distila.xapp.policy.arm import Arm, Lineup
from distila.xapp.policy.bundle import load_bundle
from distila.xapp.policy.guard import GuardConfig
from distila.xapp.policy.olla import OllaConfig

OLLA = load_bundle("olla")
NO_DEADLINE = GuardConfig(deadline_us=None)
CQI = MEASURED.index("cqi")


def report(sequence=1, rnti=(0x4601,), *, cqi=7.0, **settings):
    """A report whose UEs measured the CQI (one for all, or one each; NaN = not), and had feedback at MCS 10."""
    return kpi_report(sequence, rnti, period_slots=4, cqi=cqi, **settings)


@pytest.fixture(scope="module")
def timid(tmp_path_factory):
    """OLLA that aims at far fewer failures: another graph, and lower MCS after the first NACK."""
    olla_bundle = pytest.importorskip("distila.training.olla_bundle", reason="exports with onnx", exc_type=ImportError)
    return olla_bundle.export_olla(
        OllaConfig(target_bler=0.001, step_on_nack=0.3), tmp_path_factory.mktemp("bundle") / "timid"
    )


def odd_rntis(one):
    return one.rnti % 2


def make(lineup=None, **config):
    loop = DecisionLoop(OLLA, LoopConfig(**config), NO_DEADLINE)
    if lineup is not None:
        loop.deploy(lineup(loop))
    return loop


def two_arms(bundle, assign=odd_rntis):
    return lambda loop: Lineup((loop.lineup.arms[0], Arm("new", bundle and loop.engine(bundle))), assign)


def reports(count, rntis, **fields):
    rng = np.random.default_rng(1)
    for sequence in range(1, count + 1):
        nack = rng.integers(0, 3, 100)[np.array(rntis)]
        yield report(sequence, rntis, cqi=9, ack=5, nack=nack, total_first_tx=1000.0 * sequence, **fields)


def test_each_ue_gets_the_decision_of_its_arms_policy(timid):
    both, champion, challenger = make(two_arms(timid)), make(), DecisionLoop(timid, guard_config=NO_DEADLINE)
    for one in reports(30, [4, 5, 6, 7, 9]):
        got, old, new = both.decide(one), champion.decide(one), challenger.decide(one)
        odd = one.rnti % 2 == 1
        assert got.value.tolist() == np.where(odd, new.value, old.value).tolist()
        assert got.arm.tolist() == odd.astype(int).tolist()
        assert got.arms == [("policy", OLLA.digest), ("new", timid.digest)]
    assert (old.value != new.value).all(), "the two policies differ, or nothing was shown"


def test_arms_go_out_on_the_wire(timid):
    answer = decode_control(*make(two_arms(timid)).step(*encode_indication(report(1, [4, 5, 7]), Identity())))
    assert answer.arm.tolist() == [0, 1, 1]
    assert [name for name, _ in answer.arms] == ["policy", "new"]


def test_arms_of_one_bundle_share_a_call_of_the_graph():
    loop = make(lambda loop: Lineup((loop.lineup.arms[0], Arm("control", loop.lineup.arms[0].engine)), odd_rntis))
    calls = []
    engine = loop.lineup.arms[0].engine
    loop.decide(report(1, [4, 5]))
    infer = engine.infer
    engine.infer = lambda *args: calls.append(len(args[0])) or infer(*args)
    answer = loop.decide(report(2, [4, 5]))
    assert calls == [2]
    assert answer.arm.tolist() == [0, 1]


def test_the_native_arm_leaves_its_ues_to_the_du():
    loop = make(two_arms(None))
    answer = loop.decide(report(1, [4, 5, 6]))
    assert answer.kind.tolist() == [MCS, NATIVE, MCS]
    assert answer.arms[1] == ("new", "")
    assert not loop.stats.guarded, "it was no intervention of the guard"


def test_a_shadow_decides_and_is_never_sent(timid):
    reported = []

    class Meter:
        def record(self, decided): ...

        def shadowed(self, arm, one, kind, value, live_kind, live_value):
            reported.append((arm.name, value.tolist(), live_value.tolist()))

    loop = make(lambda loop: Lineup(loop.lineup.arms, None, (Arm("shadow", loop.engine(timid)),)))
    loop.meter = Meter()
    plain, alone = make(), DecisionLoop(timid, guard_config=NO_DEADLINE)
    for one in reports(10, [4, 5]):
        answer, expected = loop.decide(one), plain.decide(one)
        assert answer.value.tolist() == expected.value.tolist()
        assert answer.arms == [("policy", OLLA.digest)]
        assert reported.pop() == ("shadow", alone.decide(one).value.tolist(), expected.value.tolist())
    assert loop.stats.guarded == plain.stats.guarded


def test_a_failing_shadow_does_not_affect_the_live_policy(timid):
    loop = make(lambda loop: Lineup(loop.lineup.arms, None, (Arm("shadow", loop.engine(timid)),)))
    loop.lineup.shadows[0].engine.infer = lambda *_: 1 / 0
    assert loop.decide(report(1)).kind.tolist() == [MCS]
    assert loop.stats.noticed["shadow_failed"] == 1


def test_a_shadow_that_goes_live_resets_its_memory_since_its_feedback_was_of_other_decisions(timid):
    loop = make(lambda loop: Lineup(loop.lineup.arms, None, (Arm("new", loop.engine(timid)),)))
    for one in reports(20, [5]):
        if one.sequence == 11:
            loop.deploy(Lineup((loop.lineup.arms[0], loop.lineup.shadows[0]), odd_rntis))
            fresh = DecisionLoop(timid, guard_config=NO_DEADLINE)
        got = loop.decide(one)
        assert one.sequence < 11 or got.value.tolist() == fresh.decide(one).value.tolist()


def test_a_ue_that_changes_its_arm_is_new_to_it_and_the_others_notice_nothing(timid):
    loop, untouched = make(two_arms(timid, lambda one: np.zeros(2, int))), make()
    for one in reports(20, [4, 5]):
        if one.sequence == 11:
            loop.deploy(Lineup(loop.lineup.arms, odd_rntis))
            fresh = DecisionLoop(timid, guard_config=NO_DEADLINE)
        got = loop.decide(one)
        assert got.value[0] == untouched.decide(one).value[0]
        if one.sequence >= 11:
            assert got.value[1] == fresh.decide(one.part(np.array([1]))).value[0]
    # And back again: what the champion knew of it is long out of date.
    loop.deploy(Lineup(loop.lineup.arms))
    back = report(21, [4, 5], cqi=9, total_first_tx=21000.0)
    assert loop.decide(back).value[1] == make().decide(back).value[1]


def test_swap_puts_a_new_policy_in_place_between_two_indications(timid):
    loop, fresh = make(arm="blue"), DecisionLoop(timid, guard_config=NO_DEADLINE)
    for one in reports(20, [4, 5]):
        if one.sequence == 11:
            loop.swap(timid)
            assert loop.bundle is timid
        got = loop.decide(one)
        if one.sequence > 10:
            assert got.value.tolist() == fresh.decide(one).value.tolist(), "the memory of another graph is no use"
            assert got.arms == [("blue", timid.digest)]


def test_swapping_in_the_same_graph_keeps_the_memory():
    loop, plain = make(), make()
    for one in reports(20, [4, 5]):
        if one.sequence == 11:
            loop.swap(OLLA)
        assert loop.decide(one).value.tolist() == plain.decide(one).value.tolist()


def test_swap_names_the_arms_there_are(timid):
    loop = make(two_arms(None))
    loop.swap(timid, "new")
    assert loop.lineup.arms[1].digest == timid.digest
    assert loop.lineup.arms[0].digest == OLLA.digest
    with pytest.raises(InputError, match="'old': no such arm, there are policy, new"):
        loop.swap(timid, "old")


def test_swaps_from_other_threads_never_mix_within_an_indication(timid):
    loop, stop = make(), threading.Event()

    def swap():
        while not stop.is_set():
            for bundle in (timid, OLLA):
                loop.swap(bundle)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        seen = set()
        for one in reports(1500, [4, 5, 6]):
            answer = loop.decide(one)
            assert answer.kind.tolist() == [MCS] * 3
            seen.add(answer.arms[0][1])
    finally:
        stop.set()
        swapper.join()
    assert seen == {OLLA.digest, timid.digest}


def test_a_new_ue_on_an_old_rnti_is_another_unit(timid):
    units = []

    class Meter:
        def record(self, decided):
            units.append(decided.assignment.units.tolist())

        def shadowed(self, *_): ...

    loop = make(two_arms(timid))
    loop.meter = Meter()
    for sequence, total in enumerate([100, 110, 3, 13], start=1):
        loop.decide(report(sequence, [5, 7], ue_id=[-1, 70], ack=10, total_first_tx=[total, 100 + 10 * sequence]))
    first, second, third, fourth = units
    assert first == second
    assert third == fourth
    assert third[0] != first[0]
    assert third[1] == 70, "a stable id stays what it is"


def test_a_part_of_a_report_is_the_report_of_those_ues():
    whole = report(
        7,
        [4, 5, 6, 9],
        ue_id=[-1, 7, -1, 8],
        cqi=[3, np.nan, 5, 6],
        ack=[1, 0, 2, 3],
        nack=[0, 0, 1, 1],
        total_first_tx=9,
    )
    index = np.array([1, 3])
    part = whole.part(index)
    expected = report(7, [5, 9], ue_id=[7, 8], cqi=[np.nan, 6], ack=[0, 3], nack=[0, 1], total_first_tx=9)
    for field in fields(KpiReport):
        np.testing.assert_array_equal(getattr(part, field.name), getattr(expected, field.name), err_msg=field.name)
