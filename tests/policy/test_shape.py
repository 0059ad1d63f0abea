"""Shape tests: what passes, what fails, and the counts; on real ONNX policies made by hand, and on those that ship."""

from pathlib import Path

import numpy as np
import pytest

from distila.xapp.errors import InputError
from distila.xapp.kpi.observations import MEASURED
from distila.xapp.policy import check
from distila.xapp.policy.bundle import Bundle, load_bundle
from distila.xapp.policy.recordings import RECORDINGS, Recording, load_recordings, write_recordings
from distila.xapp.policy.shape import shape_of
from distila.xapp.policy.shape_report import ShapeReport, UnknownCase, UnknownColumns
from distila.xapp.policy.shape_text import choices_table, findings, sparkline, unknown_table

PAIRS = 16 * 15 // 2
KINDS = ("usual", "fresh_cqi", "two_transmissions", "poor_combining", "no_cqi", "slow_e2")


def toy(path: Path, *given: object, **more: object) -> Bundle:
    pytest.importorskip("onnx", reason="builds ONNX graphs")
    from toy_policies import toy_policy

    return toy_policy(path / "toy", *given, **more)  # type: ignore[arg-type]


def results(shape: ShapeReport) -> tuple[bool, bool, bool]:
    return shape.cqi_order.passed, shape.nack_order.passed, shape.cqi_drop.passed


def found(shape: ShapeReport, row: int) -> str:
    return findings(shape)[row].found


# ---------------------------------------------------------------- policies that pass


def test_olla_passes() -> None:
    shape = shape_of(load_bundle("olla"))
    assert shape.passed
    assert results(shape) == (True, True, True)
    drop = shape.cqi_drop
    assert (drop.answered_share, drop.fall_mcs) == (1.0, drop.olla_fall_mcs), "the reference is OLLA itself"
    assert shape.unknown_columns is None, "it needs episodes"


def test_a_policy_that_rises_with_cqi_and_falls_with_nacks_passes(tmp_path: Path) -> None:
    shape = shape_of(toy(tmp_path))
    assert results(shape) == (True, True, True)
    assert (shape.cqi_order.falling, shape.cqi_order.worst) == (0, None)
    assert shape.cqi_order.typical.cqi == tuple(range(16))
    in_between = np.array(shape.cqi_order.typical.mcs[4:13])
    assert (np.diff(in_between) == 2).all(), "the choice over CQI is that of the table, less a constant"
    assert shape.nack_order.nack_for_ack.cases > 500
    assert 7 <= (shape.cqi_drop.fall_mcs or 0) <= 8, "four steps of CQI are 8 MCS, less where they end at 0 or 27"


def test_a_constant_choice_is_in_order_but_answers_no_drop(tmp_path: Path) -> None:
    assert results(shape_of(toy(tmp_path, [13] * 16, per_nack=0))) == (True, True, False)


def test_a_policy_that_leaves_all_to_the_du_passes(tmp_path: Path) -> None:
    shape = shape_of(toy(tmp_path, kind="native"))
    assert results(shape) == (True, True, True)
    assert set(shape.cqi_order.typical.mcs) == {shape.cqi_order.typical.native_mcs}, "which is held"


def test_a_policy_without_memory_passes(tmp_path: Path) -> None:
    bundle = toy(tmp_path, memory=False)
    assert bundle.manifest.state_size == 0
    assert results(shape_of(bundle)) == (True, True, True)


# ---------------------------------------------------------------- a fresh, higher CQI


def test_a_reversed_weight_of_cqi_fails_in_every_case(tmp_path: Path) -> None:
    shape = shape_of(toy(tmp_path, [20 - cqi for cqi in range(16)], per_nack=0))
    order = shape.cqi_order
    assert not order.passed
    assert order.cases == order.states * PAIRS
    assert (order.falling, order.falling_share) == (order.cases, 1.0)
    assert order.worst is not None
    assert (order.worst.change, order.worst.from_mcs, order.worst.to_mcs) == ("CQI 0 to CQI 15", 20, 5)
    assert order.typical.mcs == tuple(range(20, 4, -1))
    assert set(order.falling_share_by_recording.values()) == {1.0}
    assert "100.0 %" in found(shape, 0)


def test_one_dip_is_one_case_in_each_state(tmp_path: Path) -> None:
    of_cqi = [0, 2, 4, 6, 8, 10, 12, 14, 13, 16, 18, 20, 22, 24, 26, 27]
    order = shape_of(toy(tmp_path, of_cqi, per_nack=0)).cqi_order
    assert (order.passed, order.falling) == (False, order.states)
    assert order.worst is not None
    assert (order.worst.change, order.worst.from_mcs, order.worst.to_mcs) == ("CQI 7 to CQI 8", 14, 13)


def test_an_offset_is_added_to_the_mcs_of_the_du(tmp_path: Path) -> None:
    shape = shape_of(toy(tmp_path, [14] * 8 + [13] * 8, per_nack=0, kind="mcs_offset"))
    order = shape.cqi_order
    native = order.typical.native_mcs
    assert order.typical.mcs == tuple([native] * 8 + [native - 1] * 8)
    assert 0.9 * 64 * order.states < order.falling <= 64 * order.states, "fewer where the DU is at MCS 0 already"
    rising = toy(tmp_path, [8 + cqi for cqi in range(16)], per_nack=0, kind="mcs_offset")
    assert results(shape_of(rising)) == (True, True, True)


def test_the_choice_is_bounded_by_the_ues_mcs_table(tmp_path: Path) -> None:
    shape = shape_of(toy(tmp_path, [25 + cqi // 8 for cqi in range(16)], kind="mcs_offset", mcs_tables=[2]))
    assert max(shape.cqi_order.typical.mcs) <= 27, "table 2 ends at MCS 27"


def test_a_policy_without_cqi_cannot_answer_it(tmp_path: Path) -> None:
    shape = shape_of(toy(tmp_path, columns=["harq_nack", "harq_ack"], of_cqi=[13] * 16))
    assert not shape.cqi_order.reads_cqi
    assert results(shape) == (True, True, False)
    assert found(shape, 0) == "the policy does not read CQI"


# ---------------------------------------------------------------- NACKs


def test_a_choice_that_rises_with_nacks_fails(tmp_path: Path) -> None:
    few_nacks = [one for one in load_recordings() if not one.name.startswith("slow_e2")]
    shape = shape_of(toy(tmp_path, range(16), per_nack=1), few_nacks)
    order = shape.nack_order
    assert results(shape) == (True, False, True)
    for cases in (order.more_nacks, order.nack_for_ack):
        assert (cases.rising, cases.rising_share) == (cases.cases, 1.0)
        assert cases.worst is not None
        assert cases.worst.to_mcs - cases.worst.from_mcs == 1, "one NACK in each comparison"
    assert order.retx_nack_for_ack.rising == 0, "it does not read retransmissions"
    assert "a NACK" in found(shape, 1)


def test_a_report_of_one_slot_gets_no_second_feedback(tmp_path: Path) -> None:
    every_slot = [one for one in load_recordings() if one.name.startswith("usual")]
    order = shape_of(toy(tmp_path, per_nack=1), every_slot).nack_order
    feedback = sum(report.harq_sums[:, :2].sum() for report in every_slot[0].reports())
    assert order.more_nacks.cases < order.nack_for_ack.cases, "only where the recorded slot had no feedback"
    assert feedback > 0


# ---------------------------------------------------------------- a drop of CQI


def test_a_policy_that_answers_one_report_late_fails(tmp_path: Path) -> None:
    shape = shape_of(toy(tmp_path, one_report_late=True, per_nack=0))
    assert results(shape) == (True, True, False)
    assert (shape.cqi_drop.answered_share, shape.cqi_drop.fall_mcs) == (0.0, 0.0)
    assert (shape.cqi_drop.olla_fall_mcs or 0) > 5


def test_a_fall_of_a_tenth_of_ollas_is_not_enough(tmp_path: Path) -> None:
    shape = shape_of(toy(tmp_path, [10 + cqi // 4 for cqi in range(16)], per_nack=0))
    assert shape.cqi_drop.answered_share == 1.0
    assert (shape.cqi_drop.fall_mcs, shape.cqi_drop.passed) == (1.0, False)


# ---------------------------------------------------------------- the recordings


def test_the_recordings_that_ship_hold_all_kinds_and_tables() -> None:
    recordings = load_recordings()
    assert RECORDINGS.stat().st_size < 150_000
    assert [one.name for one in recordings] == [f"{kind}, OLLA decides" for kind in KINDS]
    for one in recordings:
        assert set(one.mcs_table.tolist()) == {1, 2, 3}
        known = ~np.isnan(one.measured).all(axis=(0, 1))
        expected = {"ri", "prbs", "native_mcs", "retx_ack", "combining", "max_transmissions", "cqi", "cqi_age_slots"}
        if "no_cqi" in one.name:
            expected -= {"cqi", "cqi_age_slots"}
        assert expected <= {name for name, has in zip(MEASURED, known, strict=True) if has}
        nacks = one.harq_counts[:, 1].sum() / one.harq_counts[:, :2].sum()
        assert 0.02 < nacks < 0.5, "there is something to learn from"


def test_recordings_are_read_back_as_they_were(tmp_path: Path) -> None:
    before = load_recordings()
    write_recordings(tmp_path / "a.npz", before)
    after = load_recordings(tmp_path / "a.npz")
    for one, other in zip(before, after, strict=True):
        assert (one.name, one.period_slots) == (other.name, other.period_slots)
        for name in ("cqi_table", "mcs_table", "measured", "harq_at", "harq_counts"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    write_recordings(tmp_path / "b.npz", after)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_recording_of_reports_gives_the_same_reports() -> None:
    (one, *_) = load_recordings()
    again = Recording.of(one.name, list(one.reports()))
    np.testing.assert_array_equal(again.measured, one.measured)
    np.testing.assert_array_equal(again.harq_at, one.harq_at)
    np.testing.assert_array_equal(again.harq_counts, one.harq_counts)


@pytest.mark.parametrize("content", [None, b"no recording"])
def test_a_file_that_holds_no_recordings_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "r.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)) as error:
        load_recordings(path)
    assert "\n" not in str(error.value)


def test_only_ues_on_the_policys_tables_count(tmp_path: Path) -> None:
    everything, some = (shape_of(toy(tmp_path, mcs_tables=tables)) for tables in ([1, 2, 3], [2]))
    assert some.cqi_order.states * 3 == everything.cqi_order.states
    assert some.cqi_order.typical.mcs_table == 2
    first = [one for one in load_recordings() if one.name.startswith("usual")]
    on_1 = Recording(**{**vars(first[0]), "mcs_table": np.ones(first[0].num_ues, np.int64)})
    with pytest.raises(InputError, match=r"mcs_tables = 2: no recorded UE"):
        shape_of(toy(tmp_path, mcs_tables=[2]), [on_1])


# ---------------------------------------------------------------- what is said


def case(gain: float, unknown: str = "prbs", node: str = "usual") -> UnknownCase:
    return UnknownCase(
        node=node,
        unknown=unknown,
        gain_vs_olla_pct=gain,
        first_tx_bler=0.4,
        olla_first_tx_bler=0.1,
        overridden_share=1.0,
    )


def test_unknown_columns_are_passed_down_to_the_margin() -> None:
    known = [case(-40, "")]
    assert UnknownColumns.of(known, [case(3), case(-5)]).passed
    failed = UnknownColumns.of(known, [case(3), case(-5.1)])
    assert (failed.passed, failed.worst) == (False, case(-5.1))
    assert UnknownColumns.of(known, []).passed, "nothing can be unknown"


def test_the_report_says_pass_and_fail_in_words(tmp_path: Path) -> None:
    shape = shape_of(toy(tmp_path, per_nack=1))
    assert [finding.result for finding in findings(shape)] == ["passed", "FAILED", "passed", "not run"]
    assert findings(shape, "because")[3] == ("with columns unknown, at most 5 % below OLLA", "not run", "because")
    whole = shape.model_copy(update={"unknown_columns": UnknownColumns.of([case(8, "")], [case(-9)])})
    assert findings(whole)[3].result == "FAILED"
    assert "-9.0 % of goodput with prbs unknown" in findings(whole)[3].found
    assert not whole.passed
    assert whole.unknown_columns is not None
    _, columns, rows = unknown_table(whole.unknown_columns)
    assert columns == ["unknown", "usual"]
    assert rows == [
        ["none", "+8.0"],
        ["none: first-tx BLER", "0.40"],
        ["none: the same of OLLA", "0.10"],
        ["prbs", "-9.0"],
    ]


def test_the_choice_over_cqi_is_a_table_and_a_line() -> None:
    title, columns, rows = choices_table(shape_of(load_bundle("olla")).cqi_order.typical)
    assert "latest CQI 9" in title
    assert columns[1:] == [str(cqi) for cqi in range(16)]
    assert rows[0][1:] == rows[1][1:], "OLLA beside OLLA"
    assert sparkline((0, 14, 28)) == "▁▄█"


def test_without_the_replay_the_result_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        name = "shape"

        def load(self) -> None:
            raise ModuleNotFoundError("no pyarrow", name="pyarrow")

    monkeypatch.setattr(check, "entry_points", lambda group: [Missing()])
    shape, not_run = check.tested_shape(load_bundle("olla"))
    assert not_run == "needs the package 'pyarrow': pip install 'distila[replay]'"
    assert shape.unknown_columns is None
    monkeypatch.setattr(check, "entry_points", lambda group: [])
    assert "install distila again" in (check.tested_shape(load_bundle("olla"))[1] or "")
