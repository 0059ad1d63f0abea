"""Shape tests with episodes: unknown columns against OLLA, the policy's own episodes, and the recordings that ship."""

from pathlib import Path

import numpy as np
import pytest

from distila.replay.node_kinds import KINDS, channels
from distila.replay.policy_shape import whole_shape
from distila.replay.record_reports import own_episodes, record
from distila.replay.unknown_columns import unknown_columns
from distila.xapp.policy.bundle import Bundle, load_bundle
from distila.xapp.policy.shape import shape_of

USUAL = KINDS[0]


def toy(path: Path, *given: object, **more: object) -> Bundle:
    pytest.importorskip("onnx", reason="builds ONNX graphs")
    from toy_policies import toy_policy

    return toy_policy(path / "toy", *given, **more)  # type: ignore[arg-type]


def test_olla_is_as_good_as_olla_to_the_bit_whatever_is_unknown() -> None:
    result = unknown_columns(load_bundle("olla"), num_slots=300)
    assert result.passed
    assert {case.unknown for case in result.cases} == {
        "cqi",
        "cqi, later",
        "HARQ feedback",
        "HARQ feedback, later",
        "all",
    }
    assert {case.gain_vs_olla_pct for case in (*result.all_known, *result.cases)} == {0.0}
    assert [case.node for case in result.all_known] == [kind.name for kind in KINDS]


def test_a_ue_of_which_nothing_is_measured_is_left_to_the_du() -> None:
    result = unknown_columns(load_bundle("olla"), [USUAL], num_slots=200)
    shares = {case.unknown: case.overridden_share for case in result.cases}
    assert shares["all"] == 0
    assert shares["cqi"] == 1


def test_a_policy_that_needs_prbs_fails_without_them(tmp_path: Path) -> None:
    # The CQI table of the bundled trace's UEs has an MCS of about twice the CQI.
    result = unknown_columns(toy(tmp_path, prbs_unknown=-20, per_nack=0), [USUAL], num_slots=400)
    gains = {case.unknown: case.gain_vs_olla_pct for case in result.cases}
    assert set(gains) >= {"cqi", "prbs", "HARQ feedback", "all but cqi", "all but HARQ feedback", "all"}
    assert not result.passed
    assert result.worst is not None
    assert gains["prbs"] < -50
    assert gains["HARQ feedback"] > -10, "it decides by CQI and PRBs"
    careful = unknown_columns(toy(tmp_path, prbs_unknown=0, per_nack=0), [USUAL], num_slots=400)
    assert {case.unknown: case.gain_vs_olla_pct for case in careful.cases}["prbs"] == pytest.approx(
        careful.all_known[0].gain_vs_olla_pct, abs=1e-9
    ), "what a policy does not use may be unknown"


def test_a_column_may_become_unknown_during_an_episode() -> None:
    result = unknown_columns(load_bundle("olla"), [KINDS[1]], num_slots=400)
    bler = {case.unknown: case.first_tx_bler for case in (*result.all_known, *result.cases)}
    assert len({bler[""], bler["cqi"], bler["cqi, later"]}) == 3, "three conditions, three behaviours"


def test_a_policy_for_another_mcs_table_is_tested_on_it(tmp_path: Path) -> None:
    shape = whole_shape(toy(tmp_path, mcs_tables=[2]))
    assert shape.cqi_order.typical.mcs_table == 2
    assert shape.unknown_columns is not None
    assert all(case.overridden_share == 1 for case in shape.unknown_columns.all_known), "the guard lets it decide"


def test_the_students_choice_falls_with_a_higher_cqi_as_its_card_says() -> None:
    shape = whole_shape(load_bundle("student"))
    order = shape.cqi_order
    assert not order.passed
    assert 0.1 < order.falling_share < 0.5
    assert not shape.passed
    assert shape.unknown_columns is not None
    card = (load_bundle("student").path / "card.md").read_text()
    assert "| a fresh, higher CQI never lowers the MCS | FAILED |" in card


def test_own_episodes_are_of_the_policys_choices(tmp_path: Path) -> None:
    kinds = KINDS[:2]
    bundle = toy(tmp_path, [9] * 16, per_nack=0)
    episodes = own_episodes(bundle, kinds, reports=60)
    assert [one.name for one in episodes] == [f"{kind.name}, policy decides" for kind in kinds]
    for one in episodes:
        late = one.harq_at[one.harq_at[:, 0] > 40]
        assert set(late[:, 2].tolist()) == {9}
    assert shape_of(bundle, episodes).cqi_order.falling == 0


def test_the_same_seed_records_the_same_reports() -> None:
    class Native:
        def exchange(self, report: object) -> tuple[()]:
            return ()

        def outcome(self, decisions: object, outcome: object) -> None: ...

    one, same, other = (record(USUAL, "DU", Native(), np.array([1, 2]), reports=50, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.measured, same.measured)
    np.testing.assert_array_equal(one.harq_at, same.harq_at)
    assert not np.array_equal(one.harq_counts, other.harq_counts) or not np.array_equal(one.harq_at, other.harq_at)


def test_copies_of_ues_have_the_same_channel_and_cqi() -> None:
    trace = channels(USUAL, np.array([1, 2, 3]), 40, seed=1, copies=2)
    sinr_db, cqi, _ = trace.window(0, 40)
    np.testing.assert_array_equal(sinr_db[:, :3], sinr_db[:, 3:])
    np.testing.assert_array_equal(cqi[:, :3], cqi[:, 3:])
    assert [ue.mcs_table for ue in trace.meta.ues] == [1, 2, 3, 1, 2, 3]
