"""Baselines: the law of each in small cases, and what holds for all of them."""

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from distila.training.baselines import BASELINES, baseline  # noqa: E402
from distila.training.baselines.salad import LEARNING_RATES, sigmoid_fit  # noqa: E402
from distila.training.sim.report import ACK, DTX, NACK, NONE, Cell, Curves, Report  # noqa: E402
from distila.xapp.errors import InputError  # noqa: E402
from distila.xapp.nr.bler import SmoothBler, tbler  # noqa: E402
from distila.xapp.nr.cqi import cqi_thresholds_db  # noqa: E402
from distila.xapp.nr.mcs import mcs_table as table_of  # noqa: E402
from distila.xapp.nr.tbs import num_re, transport_block_size_bits  # noqa: E402
from distila.xapp.policy import olla as numpy_olla  # noqa: E402

LEARNING = ("olla", "srsran-olla", "bler-window", "salad", "thompson")
GENIES = ("genie", "genie-target")
NAN = float("nan")


@functools.cache
def nominal(mcs_table: int = 1, cqi_table: int = 1) -> Curves:
    table, sinr_db = table_of(mcs_table), np.arange(-20, 45, 0.1)
    bits = transport_block_size_bits(num_re(52), table.code_rate, table.modulation_order)
    rates = tbler(SmoothBler.load(), mcs_table, np.arange(table.num_mcs)[:, None], bits[:, None], sinr_db)
    thresholds = cqi_thresholds_db(cqi_table, SmoothBler.load())
    thresholds[0] = 2 * thresholds[1] - thresholds[2]
    tensors = (torch.tensor(values, dtype=torch.float32) for values in (rates, bits / num_re(52), thresholds))
    return Curves(-20.0, 0.1, *tensors)


class Link:
    """Links on a given SINR: every slot a first transmission, feedback after a round trip, CQI now and then."""

    def __init__(self, sinr_db: torch.Tensor, cqi: bool = True, mcs_table: int = 1, cqi_table: int = 1) -> None:
        self.sinr_db = sinr_db if sinr_db.dim() == 2 else sinr_db[None]  # [slot, link]; one row: always the same
        self.curves = nominal(mcs_table, cqi_table)
        self.has_cqi, self.num_links = cqi, self.sinr_db.shape[1]
        cpu = torch.device("cpu")
        self.cell = Cell(self.num_links, cpu, 500.0, mcs_table, cqi_table, self.curves, self.true_tbler)

    def at(self, slot: int) -> torch.Tensor:
        return self.sinr_db[min(slot, len(self.sinr_db) - 1)]

    def true_tbler(self, slot: int) -> tuple[torch.Tensor, torch.Tensor]:
        rates = self.curves.tbler[:, self.curves.index(self.at(slot))].T
        return rates, (self.curves.rate * 1000).expand(self.num_links, -1)

    def cqi(self, slot: int) -> torch.Tensor:
        return (self.curves.cqi_threshold_db[1:, None] <= self.at(slot)).sum(dim=0).to(torch.float32)

    def run(
        self, policy: Any, slots: int, *, period: int = 1, rtt: int = 8, cqi_period: int = 40, seed: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """MCS and outcome of every transmission, [slot, link]."""
        draw = torch.Generator().manual_seed(seed)
        policy.start(self.cell, torch.Generator().manual_seed(seed + 1))
        mcs = torch.zeros((slots, self.num_links), dtype=torch.int64)
        outcome = torch.zeros((slots, self.num_links), dtype=torch.uint8)
        links = torch.arange(self.num_links)
        for slot in range(slots):
            if slot % period == 0:
                reported = range(max(0, slot - period + 1 - rtt), max(0, slot + 1 - rtt))
                measured = slot - slot % cqi_period
                cqi = self.cqi(measured) if self.has_cqi else torch.full((self.num_links,), NAN)
                decision = policy.decide(report(mcs[reported], outcome[reported], cqi, slot, slot - measured))
            mcs[slot] = decision.value
            rates = self.curves.tbler[decision.value, self.curves.index(self.at(slot))]
            failed = torch.rand(self.num_links, generator=draw) < rates
            outcome[slot] = torch.where(failed, NACK, ACK)
            assert len(links) == len(decision.value)
        return mcs, outcome


def report(
    mcs: torch.Tensor, outcome: torch.Tensor, cqi: torch.Tensor | None = None, slot: int = 0, age: float = 0
) -> Report:
    links = mcs.shape[1]
    cqi = torch.full((links,), NAN) if cqi is None else cqi
    columns = {"cqi": cqi, "cqi_age_slots": torch.where(cqi.isnan(), NAN, float(age)), "prbs": 52, "ri": 1}
    return Report(slot, len(mcs), columns, mcs, outcome.to(torch.uint8))


def with_columns(report: Report, **columns: torch.Tensor) -> Report:
    return dataclasses.replace(report, columns={**report.columns, **columns})


def feedback(mcs: int, outcome: int, times: int = 1, links: int = 1, cqi: float = NAN, slot: int = 0) -> Report:
    """A report of so many slots with the same feedback."""
    shape = (times, links)
    return report(torch.full(shape, mcs), torch.full(shape, outcome), torch.full((links,), cqi), slot)


def started(name: str, links: int = 1, sinr_db: float = 10.0, **kwargs: Any) -> Any:
    policy = baseline(name, **kwargs)
    policy.start(Link(torch.full((links,), sinr_db)).cell, torch.Generator().manual_seed(0))
    return policy


def error_rate(outcome: torch.Tensor) -> float:
    return float((outcome == NACK).double().mean())


def random_reports(slots: int, links: int, seed: int, period: int = 1, max_mcs: int = 28) -> list[Report]:
    draw = torch.Generator().manual_seed(seed)
    reports = []
    cqi = torch.full((links,), NAN)
    measured = torch.full((links,), NAN)
    for slot in range(0, slots, period):
        new = torch.rand(links, generator=draw) < 0.05
        cqi = torch.where(new, torch.randint(0, 16, (links,), generator=draw).float(), cqi)
        measured = torch.where(new, float(slot), measured)
        mcs = torch.randint(0, max_mcs + 1, (period, links), generator=draw)
        failed = torch.rand((period, links), generator=draw) * 28 < mcs
        outcome = torch.where(failed, NACK, ACK)
        no_feedback = torch.rand((period, links), generator=draw)
        outcome = torch.where(no_feedback < 0.2, NONE, torch.where(no_feedback < 0.25, DTX, outcome))
        whole = report(mcs, outcome, cqi, slot)
        reports.append(with_columns(whole, cqi_age_slots=slot - measured))
    return reports


def decisions(name: str, reports: list[Report], **given: Any) -> torch.Tensor:
    policy = started(name, reports[0].cqi.shape[0], **given)
    return torch.stack([policy.decide(r).value for r in reports])


# ---------------------------------------------------------------- what holds for all


def test_registry_knows_every_baseline_by_its_name() -> None:
    assert list(BASELINES) == [
        "illa", "olla", "srsran-olla", "bler-window", "salad", "thompson", "genie", "genie-target",
    ]  # fmt: skip
    assert all(baseline(name).name == name for name in BASELINES)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("ola", {}, "baseline 'ola' is unknown; there are illa, olla, srsran-olla"),
        ("olla", {"step": 1.0}, "olla: no setting 'step'; it has target, step_on_nack_db"),
        ("genie", {"target": 0.1}, "genie: no setting 'target'; it has none"),
        ("olla", {"target": 0.5}, r"olla: target = 0.5 is outside \(0, 0.5\)"),
        ("olla", {"target": "high"}, "olla: target = 'high' is not a number"),
        ("olla", {"step_on_nack_db": -1}, "olla: step_on_nack_db = -1 is outside"),
        ("illa", {"initial_sinr_db": NAN}, "illa: initial_sinr_db = nan is outside"),
        ("srsran-olla", {"max_offset": 16.0}, "srsran-olla: max_offset = 16 is outside"),
        ("bler-window", {"lower": 0.2}, "bler-window: lower = 0.2 is not below upper = 0.15"),
        ("bler-window", {"window_ms": 0.0}, "bler-window: window_ms = 0 is outside"),
        ("salad", {"tau_gain": -0.1}, "salad: tau_gain = -0.1 is outside"),
        ("salad", {"teacher_period": 2.5}, "salad: teacher_period = 2.5 is not a number of slots"),
        ("thompson", {"forget": 0.0}, "thompson: forget = 0 is outside"),
        ("thompson", {"target": 0.5}, r"thompson: target = 0.5 is outside \(0, 0.5\)"),
        ("thompson", {"tbler_limit": 1.0}, "thompson: tbler_limit = 1 is outside"),
        ("thompson", {"step_on_nack_db": 0.0}, "thompson: step_on_nack_db = 0 is outside"),
        ("genie-target", {"target": 0.0}, "genie-target: target = 0 is outside"),
    ],
)
def test_bad_input_is_named(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        baseline(name, **given)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("illa", {"cqi_position": 1, "initial_sinr_db": 12}),
        ("olla", {"step_on_nack_db": 1, "max_offset_db": 3, "max_blind_offset_db": 12, "initial_sinr_db": 12}),
        ("srsran-olla", {"step_on_nack": 1, "max_offset": 4, "initial_cqi": 5}),
        ("bler-window", {"window_ms": 5, "memory": 0, "quiet": 2, "initial_mcs": 12, "min_mcs": 3}),
        ("salad", {"probe_probability": 1, "probe_threshold": 0, "initial_sinr_db": 12, "initial_learning_rate": 1}),
        ("thompson", {"diffusion_db": 1, "cqi_std_db": 3, "initial_sinr_db": 12, "initial_std_db": 4}),
    ],
)
def test_whole_numbers_may_be_integers(name: str, given: dict[str, int]) -> None:
    reports = random_reports(200, 30, seed=4)
    as_float = decisions(name, reports, **{key: float(value) for key, value in given.items()})
    assert torch.equal(decisions(name, reports, **given), as_float)


@pytest.mark.parametrize("mcs_table", [1, 2, 3])
@pytest.mark.parametrize("name", BASELINES)
def test_decides_an_mcs_of_the_table_with_and_without_cqi(name: str, mcs_table: int) -> None:
    for cqi in (True, False):
        link = Link(torch.linspace(-15, 40, 12), cqi=cqi, mcs_table=mcs_table, cqi_table=mcs_table)
        mcs, _ = link.run(baseline(name), 120, period=4)
        assert mcs.min() >= 0
        assert mcs.max() <= link.cell.max_mcs


@pytest.mark.parametrize("name", [*LEARNING, *GENIES])
def test_finds_the_channel_without_cqi(name: str) -> None:
    sinr_db = torch.tensor([2.0, 8.0, 14.0, 20.0])
    link = Link(sinr_db.repeat(8), cqi=False)
    # As they come, OpenAirInterface takes 100 ms per MCS, srsRAN's step on ACK is 0.002 CQI.
    given = {"srsran-olla": {"step_on_nack": 0.2}, "bler-window": {"window_ms": 50.0, "memory": 0.5}}.get(name, {})
    mcs, _ = link.run(baseline(name, **given), 3000 if name == "bler-window" else 1500)
    best = link.curves.threshold_db(0.1)
    ideal = (best[:, None] <= sinr_db).sum(dim=0) - 1
    found = mcs[-len(mcs) // 3 :].double().mean(dim=0).view(8, 4).mean(dim=0)
    assert (found - ideal).abs().max() < 2.5


@pytest.mark.parametrize("name", LEARNING)
def test_absent_feedback_and_missed_grants_teach_nothing(name: str) -> None:
    reports = random_reports(100, 50, seed=3)
    without = [dataclasses.replace(r, outcome=torch.where(r.outcome == DTX, NONE, r.outcome)) for r in reports]
    # What stands beside NONE is no MCS.
    without = [dataclasses.replace(r, mcs=torch.where(r.outcome == NONE, -1, r.mcs)) for r in without]
    first, second = started(name, 50), started(name, 50)
    for one, other in zip(reports, without, strict=True):
        assert torch.equal(first.decide(one).value, second.decide(other).value)


@pytest.mark.parametrize("name", BASELINES)
def test_same_generator_same_decisions_and_start_forgets(name: str) -> None:
    policy, link = baseline(name), Link(torch.linspace(0, 25, 30))
    first, _ = link.run(policy, 150)
    again, _ = link.run(policy, 150)
    assert torch.equal(first, again)


@pytest.mark.parametrize("name", [name for name in BASELINES if name not in GENIES])
def test_decisions_on_their_way_do_not_change(name: str) -> None:
    policy = started(name, 40)
    decisions = [(d, d.value.clone()) for d in (policy.decide(r) for r in random_reports(300, 40, seed=5))]
    assert all(torch.equal(decision.value, value) for decision, value in decisions)
    assert all(decision.value.dtype == torch.int64 for decision, _ in decisions)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("olla", ["offset_db"]),
        ("srsran-olla", ["offset"]),
        ("bler-window", ["mcs", "bler"]),
        ("salad", ["sinr_db", "tau", "learning_rate"]),
        ("thompson", ["posterior"]),
    ],
)
def test_report_of_many_slots_teaches_what_its_slots_teach(name: str, state: list[str]) -> None:
    given = {"window_ms": 20.0} if name == "bler-window" else {}
    whole, split = started(name, 30, **given), started(name, 30, **given)
    for many in random_reports(640, 30, seed=9, period=20):
        # A CQI counts from its report on.
        many = with_columns(many, cqi=torch.full((30,), NAN), cqi_age_slots=torch.full((30,), NAN))
        whole.decide(many)
        for slot in range(20):
            one = slice(slot, slot + 1)
            split.decide(dataclasses.replace(many, period_slots=1, mcs=many.mcs[one], outcome=many.outcome[one]))
    assert all(torch.equal(getattr(whole, field), getattr(split, field)) for field in state)


# ---------------------------------------------------------------- inner loop


def test_illa_takes_the_highest_mcs_within_the_target_at_the_cqis_threshold() -> None:
    curves = nominal()
    for target in (0.01, 0.1, 0.5):
        policy = started("illa", 16, target=target)
        mcs = policy.decide(feedback(0, NONE, links=16, cqi=0.0)).value
        assert (mcs == mcs[0]).all()
        each = policy.decide(report(mcs[None], mcs[None] * 0, torch.arange(16.0))).value
        rates = curves.tbler[:, curves.index(curves.cqi_threshold_db)]  # [mcs, cqi]
        highest = [max([m for m in range(29) if rates[m, c] <= target], default=0) for c in range(16)]
        assert each.tolist() == highest


def test_illa_between_thresholds_is_bolder_and_without_cqi_takes_its_initial_sinr() -> None:
    cautious, bold = started("illa"), started("illa", cqi_position=0.5)
    assert bold.decide(feedback(0, NONE, cqi=9)).value > cautious.decide(feedback(0, NONE, cqi=9)).value
    high = started("illa", initial_sinr_db=20.0).decide(feedback(0, NONE)).value
    assert high == (nominal().threshold_db(0.1) <= 20.001).sum() - 1


# ---------------------------------------------------------------- outer loop


@pytest.mark.parametrize("target", [0.01, 0.1, 0.3])
def test_olla_falls_by_the_step_on_nack_and_rises_by_its_share_on_ack(target: float) -> None:
    policy = started("olla", target=target, step_on_nack_db=0.5)
    policy.decide(feedback(10, NACK))
    assert policy.offset_db.item() == pytest.approx(-0.5)
    policy.decide(feedback(10, ACK, times=3))
    assert policy.offset_db.item() == pytest.approx(-0.5 + 1.5 * target / (1 - target), abs=1e-5)


@pytest.mark.parametrize("cqi", [True, False])
@pytest.mark.parametrize("target", [0.02, 0.1, 0.25])
def test_olla_rests_where_the_bler_is_the_target(target: float, cqi: bool) -> None:
    link = Link(torch.linspace(3, 18, 60), cqi=cqi)
    _, outcome = link.run(baseline("olla", target=target, step_on_nack_db=0.3), 4000)
    assert error_rate(outcome[1500:]) == pytest.approx(target, abs=0.01)


def test_olla_offset_rests_at_the_top_and_at_the_bottom() -> None:
    policy = started("olla")
    policy.decide(feedback(28, ACK, times=50))
    assert policy.offset_db.item() == 0
    policy.decide(feedback(0, NACK, times=50))
    assert policy.offset_db.item() == 0
    policy.decide(feedback(28, NACK))
    assert policy.offset_db.item() < 0


def test_olla_offset_is_bounded_more_tightly_with_cqi() -> None:
    policy = started("olla", step_on_nack_db=1.0, max_offset_db=3.0, max_blind_offset_db=12.0)
    policy.decide(feedback(5, NACK, times=30))
    assert policy.offset_db.item() == -12
    policy.decide(feedback(5, NONE, cqi=8))
    policy.decide(feedback(5, NONE, cqi=8))
    assert policy.offset_db.item() == -3


def test_olla_without_step_is_the_inner_loop() -> None:
    reports = random_reports(100, 50, seed=1)
    assert torch.equal(decisions("olla", reports, step_on_nack_db=0.0), decisions("illa", reports))


# ---------------------------------------------------------------- outer loop in the CQI domain


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([1, 2, 3]),
    st.floats(0.005, 0.4),
    st.floats(0.001, 2),
    st.floats(0.5, 15),
    st.integers(1, 15),
)
def test_cqi_olla_decides_as_the_dus(
    seed: int, mcs_table: int, cqi_table: int, target: float, step: float, bound: float, initial: int
) -> None:
    links = 40
    peer = numpy_olla.CqiOlla(
        numpy_olla.OllaConfig(target_bler=target, step_on_nack=step, max_offset=bound, initial_cqi=initial),
        np.full(links, mcs_table),
        np.full(links, cqi_table),
    )
    link = Link(torch.zeros(links), mcs_table=mcs_table, cqi_table=cqi_table)
    policy = baseline("srsran-olla", target=target, step_on_nack=step, max_offset=bound, initial_cqi=initial)
    policy.start(link.cell, torch.Generator())
    for r in random_reports(150, links, seed, max_mcs=link.cell.max_mcs):
        outcome = r.outcome[0].numpy()
        peer.update(r.mcs[0].numpy(), (outcome == ACK).astype(np.float32), (outcome == NACK).astype(np.float32))
        peer.observe_cqi(r.cqi.numpy())
        assert policy.decide(r).value.tolist() == peer.mcs().tolist()
        assert np.array_equal(policy.offset.numpy(), peer.offset)


def test_cqi_olla_rests_where_the_bler_is_the_target() -> None:
    link = Link(torch.linspace(3, 18, 60))
    _, outcome = link.run(baseline("srsran-olla", target=0.1, step_on_nack=0.1), 4000)
    assert error_rate(outcome[1500:]) == pytest.approx(0.1, abs=0.01)


# ---------------------------------------------------------------- every target is reached

AT_TARGET: dict[str, tuple[dict[str, float], float]] = {
    "olla": ({}, 0.01),
    "srsran-olla": ({"step_on_nack": 0.1}, 0.01),
    "salad": ({"tau_gain": 0.005}, 0.02),
    "thompson": ({}, 0.01),
}
"""Settings, and how far the BLER may be from the target on a channel that does not change."""


@pytest.mark.parametrize("target", [0.01, 0.05, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("name", AT_TARGET)
def test_every_outer_loop_reaches_every_target(name: str, target: float) -> None:
    given, tolerance = AT_TARGET[name]
    link = Link(torch.linspace(3, 18, 40))
    _, outcome = link.run(baseline(name, target=target, **given), 5000)
    assert error_rate(outcome[2500:]) == pytest.approx(target, abs=min(tolerance, target))


@pytest.mark.parametrize(("rtt", "period", "cqi"), [(1, 1, False), (16, 1, True), (4, 20, False), (16, 20, True)])
@pytest.mark.parametrize("name", AT_TARGET)
def test_late_and_bundled_feedback_does_not_move_the_bler(name: str, rtt: int, period: int, cqi: bool) -> None:
    given, tolerance = AT_TARGET[name]
    link = Link(torch.linspace(3, 18, 40), cqi=cqi)
    _, outcome = link.run(baseline(name, target=0.1, **given), 4000, rtt=rtt, period=period)
    assert error_rate(outcome[1500:]) == pytest.approx(0.1, abs=tolerance)


def test_salad_holds_a_target_below_the_papers_lowest_error_rate() -> None:
    """With 0.05 as the least that a block counts, one failure in a hundred would raise the estimate without end."""
    policy = started("salad", target=0.01, initial_sinr_db=15.0)
    policy.decide(feedback(4, NACK))
    policy.decide(feedback(4, ACK, times=99))
    assert policy.sinr_db.item() < 15


# ---------------------------------------------------------------- BLER window


def test_bler_window_starts_at_mcs_9_and_rises_once_the_filtered_bler_is_below_lower() -> None:
    policy = started("bler-window")
    # 0.1 * 0.9^n falls below 0.05 with the seventh window of 100 ms, 200 slots each.
    mcs = [int(policy.decide(feedback(9, ACK, times=200)).value) for _ in range(9)]
    assert mcs == [9, 9, 9, 9, 9, 9, 10, 11, 12]
    assert policy.bler.item() == pytest.approx(0.1 * 0.9**9, rel=1e-5)


def test_bler_window_falls_above_upper_and_holds_between() -> None:
    policy = started("bler-window", memory=0.0, window_ms=5.0)

    def window(nacks: int) -> int:
        policy.decide(feedback(9, NACK, times=nacks))
        return int(policy.decide(feedback(9, ACK, times=10 - nacks)).value)

    assert [window(n) for n in (2, 1, 1, 0, 0, 3)] == [8, 8, 8, 9, 10, 9]


def test_bler_window_without_activity_falls_to_the_lowest() -> None:
    policy = started("bler-window", window_ms=5.0, min_mcs=7.0)
    assert [int(policy.decide(feedback(9, NONE, times=10)).value) for _ in range(4)] == [8, 7, 7, 7]
    assert policy.bler.item() == pytest.approx(0.1)
    # Three transmissions are no activity, four are.
    policy = started("bler-window", window_ms=5.0, memory=0.0)
    for acks, mcs in ((3, 8), (4, 9)):
        policy.decide(feedback(9, ACK, times=acks))
        assert policy.decide(feedback(9, DTX, times=10 - acks)).value == mcs


def test_bler_window_stays_within_the_table() -> None:
    policy = started("bler-window", window_ms=5.0, memory=0.0)
    assert [int(policy.decide(feedback(9, ACK, times=10)).value) for _ in range(25)][-1] == 28


# ---------------------------------------------------------------- SALAD


def test_salad_fits_sigmoids_to_the_curves() -> None:
    sinr_db = torch.arange(-10, 30, 0.1, dtype=torch.float64)
    centre, scale = torch.tensor([-2.0, 4.03, 11.37]), torch.tensor([0.3, 0.7, 1.4])
    rates = torch.sigmoid((centre[:, None] - sinr_db) / scale[:, None])
    curves = Curves(-10.0, 0.1, rates.float(), torch.ones(3), torch.zeros(16))
    found_centre, found_scale = sigmoid_fit(curves)
    torch.testing.assert_close(found_centre.float(), centre, atol=0.01, rtol=0)
    torch.testing.assert_close(found_scale.float(), scale, atol=0.01, rtol=0)


def test_salad_step_is_the_gradient_of_the_cross_entropy() -> None:
    policy = started("salad", initial_sinr_db=5.0, initial_learning_rate=0.7)
    centre, scale = sigmoid_fit(nominal())
    scale = scale.clamp(0.5, 2)
    bler = torch.sigmoid((centre - 5) / scale).clamp(0.05, 0.95)[11]
    policy.decide(feedback(11, NACK))
    assert policy.sinr_db.item() == pytest.approx(5 - 0.7 * float((1 - bler) / scale[11]), abs=1e-4)
    policy = started("salad", initial_sinr_db=5.0, initial_learning_rate=0.7)
    policy.decide(feedback(11, ACK))
    assert policy.sinr_db.item() == pytest.approx(5 + 0.7 * float(bler / scale[11]), abs=1e-4)


@pytest.mark.parametrize("cqi", [True, False])
def test_salad_finds_the_sinr(cqi: bool) -> None:
    sinr_db = torch.linspace(2, 18, 50)
    policy = baseline("salad")
    Link(sinr_db, cqi=cqi).run(policy, 1500)
    error = policy.sinr_db - sinr_db
    assert error.mean().abs() < 1
    assert error.abs().mean() < 1.5


def test_salad_follows_a_falling_and_a_rising_sinr() -> None:
    sinr_db = torch.cat((torch.full((600, 1), 15.0), torch.full((400, 1), 5.0), torch.full((400, 1), 15.0)))
    policy = baseline("salad")
    mcs, _ = Link(sinr_db.expand(-1, 50), cqi=False).run(policy, 1400)
    level = mcs.double().mean(dim=1)
    assert level[500:600].mean() - level[700:1000].mean() > 5
    assert level[1200:].mean() - level[700:1000].mean() > 5


@pytest.mark.parametrize("target", [0.1, 0.2])
def test_salad_keeps_the_target_in_the_long_run(target: float) -> None:
    _, outcome = Link(torch.linspace(3, 18, 60)).run(baseline("salad", target=target), 3000)
    assert error_rate(outcome[1000:]) == pytest.approx(target, abs=0.01)


def test_salad_tau_integrates_the_error_and_rests_at_the_ends() -> None:
    policy = started("salad", target=0.1, tau_gain=0.02)
    policy.decide(feedback(10, ACK, times=5))
    assert policy.tau.item() == pytest.approx(0.1 + 0.02 * 0.1 * 5)
    policy.decide(feedback(10, NACK))
    assert policy.tau.item() == pytest.approx(0.11 - 0.02 * 0.9)
    policy.decide(feedback(28, ACK, times=100))
    assert policy.tau.item() == pytest.approx(0.092)
    policy.decide(feedback(10, NACK, times=100))
    assert policy.tau.item() == pytest.approx(0.001)


def test_salad_probes_only_where_errors_stay_out() -> None:
    centre = float(sigmoid_fit(nominal())[0][14])
    # An error rate of 0.27 at MCS 14.
    policy = started("salad", 2000, initial_sinr_db=centre + 0.5, tau_gain=0.0, initial_learning_rate=1e-6)
    usual = policy.decide(feedback(14, NONE, links=2000)).value
    policy.decide(feedback(14, ACK, times=14, links=2000))
    assert torch.equal(policy.decide(feedback(14, NONE, links=2000)).value, usual)
    policy.decide(feedback(14, ACK, links=2000))
    probing = policy.decide(feedback(14, NONE, links=2000)).value > usual
    assert probing.double().mean() == pytest.approx(0.15, abs=0.03)
    # Three errors in 15 are within a quarter of a standard deviation of 0.27.
    policy.decide(feedback(14, NACK, times=3, links=2000))
    assert torch.equal(policy.decide(feedback(14, NONE, links=2000)).value, usual)


def test_salad_teacher_likes_small_steps_on_a_still_channel_and_large_ones_on_a_moving_channel() -> None:
    still = torch.full((900, 40), 10.0)
    slot = torch.arange(900)[:, None]
    moving = 10 + 7 * torch.sin(slot / 25 + torch.arange(40)[None])
    rates = []
    for sinr_db in (still, moving):
        policy = baseline("salad", initial_learning_rate=1.0)
        Link(sinr_db, cqi=False).run(policy, 900, rtt=1)
        assert set(policy.learning_rate.numpy().round(1).tolist()) <= set(np.float32(LEARNING_RATES).round(1).tolist())
        rates.append(float(policy.learning_rate.mean()))
    assert rates[0] < 0.7 < 1 < rates[1]


def test_salad_comes_back_quickly_from_beyond_the_top() -> None:
    sinr_db = torch.cat((torch.full((1200, 1), 45.0), torch.full((200, 1), 12.0))).expand(-1, 30)
    _, outcome = Link(sinr_db, cqi=False).run(baseline("salad"), 1400)
    assert error_rate(outcome[1260:]) < 0.3


# ---------------------------------------------------------------- Thompson sampling


def mean_and_sd(policy: Any) -> tuple[torch.Tensor, torch.Tensor]:
    mass = policy.posterior.double() / policy.posterior.sum(dim=1, keepdim=True)
    mean = mass @ policy.sinr_db
    return mean, (mass @ policy.sinr_db.square() - mean.square()).sqrt()


@pytest.mark.parametrize("cqi", [True, False])
def test_thompson_posterior_concentrates_on_the_sinr(cqi: bool) -> None:
    sinr_db = torch.linspace(2, 18, 50)
    policy = baseline("thompson", diffusion_db=0.05)
    Link(sinr_db, cqi=cqi).run(policy, 600)
    mean, sd = mean_and_sd(policy)
    assert (mean - sinr_db).abs().mean() < 0.6
    assert sd.mean() < 1.5


def test_thompson_ack_and_nack_are_weighed_by_the_curves() -> None:
    policy = started("thompson", diffusion_db=0.0)
    prior, _ = mean_and_sd(policy)
    before = policy.posterior.clone()
    policy.decide(feedback(10, ACK))
    ratio = (policy.posterior / before)[0].double()
    rates = nominal().tbler[10, nominal().index(policy.sinr_db)].double()
    # The curve falls within a bin, whose rate is the mean over its width.
    torch.testing.assert_close(ratio, 0.98 * (1 - rates) + 0.01, atol=0.5, rtol=0)
    assert ((ratio - 0.98 * (1 - rates) - 0.01).abs() > 0.01).sum() <= 2
    policy.decide(feedback(10, NACK))
    policy.decide(feedback(10, NACK))
    assert mean_and_sd(policy)[0] < prior


def test_thompson_forgets_at_the_pace_of_its_random_walk() -> None:
    policy = started("thompson", diffusion_db=0.5, forget=1e-6, initial_std_db=1.0, initial_sinr_db=8.0)
    policy.decide(feedback(10, NONE, times=64))
    mean, sd = mean_and_sd(policy)
    assert mean.item() == pytest.approx(8, abs=0.1)
    assert sd.item() == pytest.approx((1 + 64 * 0.25) ** 0.5, rel=0.05)


def test_thompson_finds_the_new_level_after_a_jump() -> None:
    sinr_db = torch.cat((torch.full((400, 1), 5.0), torch.full((400, 1), 20.0), torch.full((300, 1), 5.0)))
    policy = baseline("thompson")
    mcs, _ = Link(sinr_db.expand(-1, 50), cqi=False).run(policy, 1100)
    level = mcs.double().mean(dim=1)
    assert level[600:800].mean() - level[300:400].mean() > 8
    assert level[900:].mean() < level[600:800].mean() - 8


def test_thompson_uses_a_cqi_once() -> None:
    policy = started("thompson", diffusion_db=0.0, forget=1e-6)
    measured = feedback(0, NONE, cqi=12, slot=40)
    policy.decide(measured)
    mean, sd = mean_and_sd(policy)
    thresholds = nominal().cqi_threshold_db
    assert mean.item() == pytest.approx(float(thresholds[12] + thresholds[13]) / 2, abs=1)
    assert sd < 2.5
    once = policy.posterior.clone()
    for slot in (41, 42):
        policy.decide(with_columns(dataclasses.replace(measured, slot=slot), cqi_age_slots=torch.tensor([slot - 40.0])))
    assert torch.equal(policy.posterior, once)
    policy.decide(dataclasses.replace(measured, slot=43))
    assert mean_and_sd(policy)[1] < sd


def test_thompson_outer_loop_moves_as_olla_and_rests_at_the_ends() -> None:
    policy = started("thompson", target=0.1, step_on_nack_db=0.5, max_offset_db=2.0)
    policy.decide(feedback(10, NACK))
    assert policy.offset_db.item() == pytest.approx(-0.5)
    policy.decide(feedback(10, ACK, times=3))
    assert policy.offset_db.item() == pytest.approx(-0.5 + 1.5 / 9, abs=1e-5)
    policy.decide(feedback(28, ACK, times=50))
    assert policy.offset_db.item() == pytest.approx(-0.5 + 1.5 / 9, abs=1e-5)
    policy.decide(feedback(10, NACK, times=50))
    assert policy.offset_db.item() == -2


def test_thompson_with_a_lower_offset_takes_a_lower_mcs() -> None:
    policy = started("thompson", 500, target=0.1, initial_sinr_db=12.0, initial_std_db=1.0)
    levels = []
    for offset_db in (-4.0, 0.0, 4.0):
        policy.offset_db.fill_(offset_db)
        levels.append(float(policy.decide(feedback(0, NONE, links=500)).value.double().mean()))
    assert levels[0] < levels[1] - 3
    assert levels[2] > levels[1] + 3


def test_thompson_without_a_target_is_not_held_by_any() -> None:
    link = Link(torch.linspace(3, 18, 60))
    assert not hasattr(started("thompson"), "offset_db")
    free, held = (error_rate(link.run(baseline("thompson", target=target), 1200)[1][400:]) for target in (None, 0.02))
    assert held < 0.04 < free


def test_thompson_keeps_the_error_rate_within_a_limit() -> None:
    link = Link(torch.linspace(3, 18, 60))
    free, limited = (baseline("thompson", tbler_limit=limit) for limit in (None, 0.05))
    rates = [error_rate(link.run(policy, 800)[1][300:]) for policy in (free, limited)]
    assert rates[1] < 0.06
    assert rates[1] < rates[0]


def test_thompson_comes_near_the_genie() -> None:
    link = Link(torch.linspace(5, 20, 100))
    rate = link.curves.rate.double()
    earned = {}
    for name in ("thompson", "genie"):
        mcs, outcome = link.run(baseline(name), 600)
        earned[name] = float((rate[mcs] * (outcome == ACK))[200:].mean())
    assert earned["thompson"] > 0.85 * earned["genie"]


# ---------------------------------------------------------------- genies


def test_genie_takes_most_bits_and_the_other_the_highest_within_its_target() -> None:
    sinr_db = torch.linspace(-10, 30, 41)
    link = Link(sinr_db)
    rates, bits = link.true_tbler(0)
    mcs, _ = link.run(baseline("genie"), 1)
    assert mcs[0].tolist() == [int(np.argmax((b * (1 - r)).numpy())) for b, r in zip(bits, rates, strict=True)]
    mcs, _ = link.run(baseline("genie-target", target=0.1), 1)
    assert mcs[0].tolist() == [max(np.flatnonzero(r.numpy() <= 0.1), default=0) for r in rates]


def test_genie_follows_the_slot() -> None:
    sinr_db = torch.tensor([[0.0], [25.0], [5.0]])
    mcs, _ = Link(sinr_db).run(baseline("genie"), 3)
    assert mcs[1] > mcs[2] > mcs[0]
