"""The guard: each reason of its table, the breaker, and that nothing insane ever passes."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kpi_reports import kpi_report
from pydantic import ValidationError

from distila.xapp.errors import first_error
from distila.xapp.kpi.report import MCS, MCS_OFFSET, NATIVE, KpiReport
from distila.xapp.nr.mcs import MCS_TABLES, NUM_MCS
from distila.xapp.policy.guard import Guard, GuardConfig, Limits, deadline_missed
from distila.xapp.policy.ue_table import UeMemory, UeTable

NAN = float("nan")
ALL_TABLES = [1, 2, 3]


def report(
    num_ues: int = 1,
    *,
    period_slots: int = 1,
    mcs_table: int | Sequence[int] = 1,
    harq: Sequence[tuple[int, int, int, int, int]] = (),
    harq_measured: bool | Sequence[bool] = True,
    **measured: float | Sequence[float],
) -> KpiReport:
    """A report in which only CQI 10 and an empty HARQ are measured, unless told otherwise.

    ``harq`` has entries (ue, mcs, ack, nack, dtx); ``measured`` names columns of `MEASURED`.
    """
    return kpi_report(
        0,
        np.arange(1, num_ues + 1),
        period_slots=period_slots,
        mcs_table=mcs_table,
        total_first_tx=np.where(harq_measured, 0.0, NAN),
        harq=[(*entry, 0) for entry in harq],
        **{"cqi": 10.0, **measured},
    )


class Desk:
    """A guard with the memory of its UEs, and its counts."""

    def __init__(self, mcs_tables: Sequence[int] = ALL_TABLES, **config: object) -> None:
        self.limits = Limits(GuardConfig.model_validate(config))
        self.guard = Guard(self.limits, mcs_tables, ["cqi", "sinr_db"])
        self.memory = UeMemory(64, 1)
        self.table = UeTable(64, [self.memory])
        self.guarded: Counter[str] = Counter()

    def check(self, seen: KpiReport, value=5, kind=MCS, score=None) -> list[tuple[int, int]]:
        """(kind, value) of every UE, as they may go out; ``value`` and ``kind`` for all UEs, or one for each."""
        n = seen.num_ues
        scores = np.zeros((n, 3), np.float32) if score is None else np.array(score, np.float32)
        kinds, values = (np.broadcast_to(np.array(x, np.int64), n).copy() for x in (kind, value))
        rows = self.table.rows(seen, Counter())
        out = self.guard.check(seen, scores, kinds, values, self.memory, rows, self.guarded)
        return list(zip(out[0].tolist(), out[1].tolist(), strict=True))


SILENT = (NATIVE, 0)


# ---------------------------------------------------------------- the table of reasons


def test_a_sane_decision_passes_unchanged_and_uncounted() -> None:
    desk = Desk()
    got = desk.check(report(3), value=[0, 14, -2], kind=[MCS, MCS, MCS_OFFSET])
    assert got == [(MCS, 0), (MCS, 14), (MCS_OFFSET, -2)]
    assert desk.guarded == {}


@pytest.mark.parametrize("bad", [NAN, np.inf, -np.inf])
def test_a_score_that_is_not_finite_leaves_only_that_ue_native(bad: float) -> None:
    desk = Desk()
    assert desk.check(report(2), score=[[0, 1, 2], [0, bad, 2]]) == [(MCS, 5), SILENT]
    assert desk.guarded == {"not_finite": 1}


def test_neither_infinities_of_both_signs_nor_huge_scores_confuse_it() -> None:
    desk = Desk()
    assert desk.check(report(2), score=[[3e38, 3e38, 0], [np.inf, 1, -np.inf]]) == [(MCS, 5), SILENT]
    assert desk.guarded == {"not_finite": 1}


def test_without_channel_quality_and_harq_nothing_is_decided() -> None:
    desk = Desk()
    seen = report(4, cqi=[NAN, 10, NAN, NAN], sinr_db=[NAN, NAN, 3, NAN], harq_measured=[False, False, False, True])
    assert desk.check(seen) == [SILENT, (MCS, 5), (MCS, 5), (MCS, 5)]
    assert desk.guarded == {"no_measurement": 1}


def test_a_cqi_too_old_is_no_ground_unless_something_else_was_measured() -> None:
    desk = Desk(max_cqi_age_slots=100)
    seen = report(
        5,
        cqi_age_slots=[100, 101, 101, 101, NAN],
        sinr_db=[NAN, NAN, 3, NAN, NAN],
        harq_measured=[False, False, False, True, False],
    )
    # The fourth has an old CQI and counts HARQ, but there was never any feedback.
    assert desk.check(seen) == [(MCS, 5), SILENT, (MCS, 5), SILENT, (MCS, 5)]
    assert desk.guarded == {"stale_cqi": 2}


def test_feedback_keeps_an_old_cqi_going_for_as_long_as_a_cqi_may_be_old() -> None:
    desk = Desk(max_cqi_age_slots=100)
    assert desk.check(report(cqi_age_slots=500, harq=[(0, 5, 1, 0, 0)])) == [(MCS, 5)]
    assert desk.check(report(cqi_age_slots=600, period_slots=100)) == [(MCS, 5)]
    assert desk.check(report(cqi_age_slots=601)) == [SILENT]


def test_columns_that_the_policy_does_not_read_do_not_justify_a_decision() -> None:
    desk = Desk()
    desk.guard = Guard(Limits(GuardConfig()), ALL_TABLES, ["cqi"])
    assert desk.check(report(cqi=NAN, sinr_db=20, harq_measured=False)) == [SILENT]
    assert desk.guarded == {"no_measurement": 1}


def test_an_unknown_mcs_table_is_left_to_the_du_even_by_a_policy_for_all() -> None:
    desk = Desk()
    assert desk.check(report(2, mcs_table=[0, 3])) == [SILENT, (MCS, 5)]
    assert desk.guarded == {"mcs_table": 1}


def test_an_mcs_table_that_the_policy_was_not_made_for() -> None:
    desk = Desk(mcs_tables=[2])
    assert desk.check(report(3, mcs_table=[1, 2, 3])) == [SILENT, (MCS, 5), SILENT]
    assert desk.guarded == {"mcs_table": 2}


@pytest.mark.parametrize(("table", "top"), [(1, 28), (2, 27), (3, 28)])
def test_no_mcs_above_the_table_goes_out(table: int, top: int) -> None:
    desk = Desk()
    assert desk.check(report(3, mcs_table=table), value=[top, top + 1, 1000]) == [(MCS, top)] * 3
    assert desk.guarded == {"clamped": 2}


def test_an_absolute_mcs_is_clamped_to_the_configured_range() -> None:
    desk = Desk(min_mcs=4, max_mcs=20)
    assert desk.check(report(5), value=[-1, 3, 4, 20, 21]) == [(MCS, 4), (MCS, 4), (MCS, 4), (MCS, 20), (MCS, 20)]
    assert desk.guarded == {"clamped": 3}


def test_an_offset_is_clamped_both_ways_and_knows_no_range_of_mcs() -> None:
    desk = Desk(min_mcs=4, max_offset=3)
    got = desk.check(report(4), value=[-4, -3, 3, 4], kind=MCS_OFFSET)
    assert got == [(MCS_OFFSET, -3), (MCS_OFFSET, -3), (MCS_OFFSET, 3), (MCS_OFFSET, 3)]
    assert desk.guarded == {"clamped": 2}


def test_the_policys_own_native_is_not_clamped() -> None:
    desk = Desk(min_mcs=4)
    assert desk.check(report(1), value=0, kind=NATIVE) == [SILENT]
    assert desk.guarded == {}


def test_a_ue_counts_once_under_the_first_reason_that_applies() -> None:
    desk = Desk(mcs_tables=[1], max_cqi_age_slots=10)
    # Every row has the trouble of its reason and of all later ones; all ask for an MCS out of range.
    cqi, age = [NAN, NAN, 10, 10, 10], [11, 11, 11, 5, 5]
    seen = report(5, mcs_table=[2, 2, 2, 2, 1], cqi=cqi, cqi_age_slots=age, harq_measured=False)
    got = desk.check(seen, value=99, score=[[NAN] * 3, [0] * 3, [0] * 3, [0] * 3, [0] * 3])
    assert got == [SILENT] * 4 + [(MCS, 28)]
    assert desk.guarded == {"not_finite": 1, "no_measurement": 1, "stale_cqi": 1, "mcs_table": 1, "clamped": 1}


def test_past_the_deadline_every_override_counts() -> None:
    limits, guarded = GuardConfig(deadline_us=100.0), Counter[str]()
    kind = np.array([MCS, MCS_OFFSET, NATIVE, MCS])
    assert not deadline_missed(limits, 100.0, kind, guarded)
    assert guarded == {}
    assert deadline_missed(limits, 100.5, kind, guarded)
    assert guarded == {"deadline": 3}
    assert not deadline_missed(GuardConfig(deadline_us=None), 1e12, kind, guarded), "no deadline, nothing is late"


# ---------------------------------------------------------------- the breaker


def failing(nack: int = 10, ack: int = 0, dtx: int = 0, **more: object) -> KpiReport:
    return report(1, harq=[(0, 5, ack, nack, dtx)], **more)  # type: ignore[arg-type]


def trips(seen: KpiReport, reports: int = 4, kind: int = MCS, value: int = 5, **config: object) -> bool:
    desk = Desk(**{"breaker_failure_rate": 0.6, "breaker_min_tx": 20, "breaker_window_tx": 50, **config})
    for _ in range(reports):
        desk.check(seen, value=value, kind=kind)
    return desk.guarded["breaker"] > 0


def test_the_breaker_waits_for_enough_transmissions() -> None:
    assert not trips(failing(nack=19), reports=1)
    assert trips(failing(nack=20), reports=1)
    assert not trips(failing(nack=4), reports=5), "20 less what faded"
    assert trips(failing(nack=4), reports=8)


def test_the_breaker_trips_above_the_failure_rate_only() -> None:
    assert not trips(failing(nack=60, ack=40))
    assert trips(failing(nack=61, ack=39))
    assert trips(failing(nack=0, dtx=61, ack=39)), "missing feedback is failure"


def test_samples_older_than_the_window_do_not_count() -> None:
    desk = Desk(breaker_window_tx=50)
    for _ in range(10):
        desk.check(failing(nack=0, ack=50))
    assert desk.check(failing(nack=50)) == [SILENT]


@pytest.mark.parametrize(
    ("retx_ack", "retx_nack", "limit", "tripped"),
    [
        (6, 4, 0.5, False),
        (5, 5, 0.5, True),
        (0, 10, 0.5, True),
        (10, 0, 0, True),  # first transmissions alone decide
        (0, 0, 0.5, True),
        (NAN, NAN, 0.5, True),  # the node does not count them
    ],
)
def test_first_transmissions_may_fail_where_retransmissions_suffice(
    retx_ack: float, retx_nack: float, limit: float, tripped: bool
) -> None:
    seen = failing(retx_ack=retx_ack, retx_nack=retx_nack)
    assert trips(seen, breaker_retx_failure_rate=limit) is tripped


def test_retransmissions_older_than_the_window_do_not_count() -> None:
    desk = Desk(breaker_window_tx=50)
    for _ in range(5):
        assert desk.check(failing(retx_ack=10, retx_nack=0)) == [(MCS, 5)]
    assert desk.check(failing(retx_ack=0, retx_nack=50)) == [SILENT]


@pytest.mark.parametrize("native_mcs", [0, 4])
def test_the_breaker_trips_where_the_du_would_go_lower(native_mcs: int) -> None:
    assert trips(failing(native_mcs=native_mcs), value=5)


@pytest.mark.parametrize("native_mcs", [5, 6, 28])
def test_the_breaker_is_no_help_where_the_du_would_not_go_lower(native_mcs: int) -> None:
    assert not trips(failing(native_mcs=native_mcs), value=5)


def test_the_breaker_trips_where_the_du_does_not_say() -> None:
    assert trips(failing(native_mcs=NAN), value=5)


@pytest.mark.parametrize(("offset", "tripped"), [(-1, False), (0, False), (1, True)])
def test_an_offset_goes_higher_than_the_du_where_it_is_positive(offset: int, tripped: bool) -> None:
    assert trips(failing(native_mcs=10), kind=MCS_OFFSET, value=offset) is tripped


def test_a_ue_left_to_the_du_does_not_trip_it() -> None:
    assert not trips(failing(), kind=NATIVE, value=0)


@pytest.mark.parametrize("period_slots", [1, 7, 40, 400, 1000])
def test_the_breaker_holds_for_the_slots_configured_then_lets_go(period_slots: int) -> None:
    desk = Desk(breaker_hold_slots=400)
    assert desk.check(failing(nack=50, period_slots=period_slots)) == [SILENT]
    quiet = report(1, period_slots=period_slots)
    held_reports = -(-400 // period_slots)  # slots 0 to 399, in reports
    for _ in range(held_reports - 1):
        assert desk.check(quiet) == [SILENT]
    for _ in range(5):
        assert desk.check(quiet) == [(MCS, 5)]
    assert desk.guarded == {"breaker_tripped": 1, "breaker": held_reports}


def test_earlier_failures_do_not_trip_the_breaker_again() -> None:
    desk = Desk(breaker_hold_slots=10, breaker_min_tx=20)
    desk.check(failing(nack=50))
    for _ in range(9):
        desk.check(report(1))
    # The first failures after the release are fewer than `breaker_min_tx`: a fresh start, not the old account.
    assert desk.check(failing(nack=19)) == [(MCS, 5)]
    assert desk.check(failing(nack=10)) == [SILENT]
    for _ in range(9):
        desk.check(report(1))
    assert desk.check(failing(nack=5, ack=20)) == [(MCS, 5)], "nor are the old failures set against new successes"
    assert desk.guarded["breaker_tripped"] == 2


def test_the_breaker_of_one_ue_is_no_concern_of_another() -> None:
    desk = Desk()
    seen = report(3, harq=[(0, 5, 30, 0, 0), (1, 5, 0, 30, 0), (2, 5, 30, 0, 0)])
    assert desk.check(seen) == [(MCS, 5), SILENT, (MCS, 5)]
    assert desk.check(report(3)) == [(MCS, 5), SILENT, (MCS, 5)]
    assert desk.guarded == {"breaker_tripped": 1, "breaker": 2}


def test_a_minimum_just_below_the_window_can_still_trip() -> None:
    # With one transmission in each report the fading count approaches the window.
    assert trips(failing(nack=1), reports=300, breaker_min_tx=49, breaker_window_tx=50)


@pytest.mark.parametrize(
    ("native_mcs", "value", "limits", "tripped"),
    [(4, 2, {"min_mcs": 6}, True), (10, 28, {"max_mcs": 6}, False)],  # 6 goes out in both
)
def test_the_breaker_looks_at_what_is_sent(native_mcs: int, value: int, limits: dict, tripped: bool) -> None:
    assert trips(failing(native_mcs=native_mcs), value=value, **limits) is tripped


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"min_mcs": -1}, ["min_mcs"]),
        ({"max_mcs": NUM_MCS}, ["max_mcs"]),
        ({"min_mcs": 10, "max_mcs": 9}, ["min_mcs = 10", "max_mcs = 9"]),
        ({"max_offset": -1}, ["max_offset"]),
        ({"deadline_us": 0}, ["deadline_us"]),
        ({"max_cqi_age_slots": 0}, ["max_cqi_age_slots"]),
        ({"breaker_failure_rate": 1.5}, ["breaker_failure_rate"]),
        ({"breaker_min_tx": 50, "breaker_window_tx": 50}, ["breaker_min_tx = 50", "breaker_window_tx = 50"]),
        ({"breaker_hold_slots": 0}, ["breaker_hold_slots"]),
        ({"max_msc": 3}, ["max_msc"]),
    ],
)
def test_a_wrong_setting_is_named(config: dict[str, object], names: list[str]) -> None:
    with pytest.raises(ValidationError) as error:
        GuardConfig.model_validate(config)
    line = first_error(error.value)
    assert "\n" not in line
    assert all(name in line for name in names), line


# ---------------------------------------------------------------- whatever comes in


def test_limits_may_be_replaced_at_any_time_for_all_cells_or_for_one() -> None:
    desk = Desk(max_mcs=20)
    assert desk.check(report(1), value=25) == [(MCS, 20)]
    desk.limits.replace(GuardConfig(max_mcs=15), {"other": GuardConfig(max_mcs=3)})
    assert desk.check(report(1), value=25) == [(MCS, 15)]
    assert desk.check(dataclasses.replace(report(1), cell_id="other"), value=25) == [(MCS, 3)]


def test_a_cell_that_is_switched_off_is_left_to_the_du() -> None:
    desk = Desk()
    desk.limits.replace(GuardConfig(), {"cell": GuardConfig(enabled=False)})
    assert desk.check(report(3), value=7) == [(NATIVE, 0)] * 3
    assert desk.guarded == {"switched_off": 3}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_decisions_sent_are_within_limits_or_native(data: st.DataObject) -> None:
    min_mcs = data.draw(st.integers(0, 28))
    made_for = data.draw(st.lists(st.sampled_from(ALL_TABLES), min_size=1, unique=True))
    desk = Desk(
        mcs_tables=made_for,
        min_mcs=min_mcs,
        max_mcs=data.draw(st.integers(min_mcs, 28)),
        max_offset=data.draw(st.integers(0, 28)),
        breaker_hold_slots=data.draw(st.integers(1, 50)),
    )
    config = desk.limits.default
    n = data.draw(st.integers(1, 4))

    def per_ue(values: st.SearchStrategy) -> list:
        return data.draw(st.lists(values, min_size=n, max_size=n))

    for _ in range(data.draw(st.integers(1, 3))):
        score = per_ue(st.lists(st.floats(width=32), min_size=3, max_size=3))
        tables = per_ue(st.sampled_from(ALL_TABLES))
        seen = report(
            n,
            period_slots=data.draw(st.integers(1, 100)),
            mcs_table=tables,
            harq=[(u, *row) for u, row in enumerate(per_ue(st.tuples(*[st.integers(0, 28)] * 4)))],
            harq_measured=per_ue(st.booleans()),
            cqi=per_ue(st.sampled_from([NAN, 0.0, 15.0])),
            cqi_age_slots=per_ue(st.sampled_from([NAN, 0.0, 1e9])),
            native_mcs=per_ue(st.sampled_from([NAN, 0.0, 28.0])),
        )
        kinds = per_ue(st.sampled_from([NATIVE, MCS, MCS_OFFSET]))
        values = [0 if kind == NATIVE else data.draw(st.integers(-(2**40), 2**40)) for kind in kinds]
        before = desk.guarded.total() - desk.guarded["breaker_tripped"]
        out = desk.check(seen, value=values, kind=kinds, score=score)
        for ue, (kind, value) in enumerate(out):
            assert kind in (kinds[ue], NATIVE)
            if kind == NATIVE:
                assert value == 0
                continue
            assert np.isfinite(score[ue]).all()
            assert tables[ue] in made_for
            if kind == MCS:
                top = min(config.max_mcs, MCS_TABLES[tables[ue]].num_mcs - 1)
                assert min(config.min_mcs, top) <= value <= top
            else:
                assert abs(value) <= config.max_offset
        changed = sum(got != asked for got, asked in zip(out, zip(kinds, values, strict=True), strict=True))
        counted = desk.guarded.total() - desk.guarded["breaker_tripped"] - before
        assert changed <= counted <= n, "every change is counted, and no UE twice"
