"""Rollouts: what is kept of them, whose label is whose, exploration, what is hidden, figures, refusals."""

from dataclasses import replace

import pytest
import torch

from distila.training.baselines import baseline, tuned_settings
from distila.training.learning.rollout import RolloutPlan, collect
from distila.training.network.config import NetworkConfig
from distila.training.network.filters import PolicyNetwork
from distila.training.sim.conditions import Banks, Conditions
from distila.training.sim.report import MCS, MCS_OFFSET, Decision, matrix
from distila.training.sim.simulator import Simulator
from distila.training.sim.split import Split
from distila.xapp.kpi.link_metrics import RATIOS

pytest.importorskip("sionna")
pytestmark = pytest.mark.usefixtures("no_fading")

LINKS = 6
SLOW_E2 = {"period_slots": 10, "delay_slots": 5}
BURSTS = {"share": 1, "rise_db": 15, "burst_slots": 12}
"""Interference that comes and goes, so that slots differ."""


@pytest.fixture
def plan(scenario):
    def make(settings=None, **changes):
        given = RolloutPlan(scenario(**(settings or {})), LINKS, 60, 0, Banks(rows=2, slots=64))
        return replace(given, **changes)

    return make


def a_network(seed=0, head="value", **settings):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PolicyNetwork(NetworkConfig(hidden=(8,), head=head, **settings))


def always(action, **settings):
    """A network that prefers one of its actions, by number, whatever is reported."""
    network = a_network(**settings)
    count = len(network.actions)
    with torch.no_grad():
        for parameter in network.mlp[-1].parameters():
            parameter.zero_()
        network.mlp[-1].bias[:count] = -20
        network.mlp[-1].bias[action] = 20
    return network


def simulated(plan):
    """The conditions of a rollout, and a simulator of them with the DU's own link adaptation."""
    most_slots = plan.slots + plan.scenario.longest_report_period_slots
    given = Conditions(plan.scenario, plan.links, plan.split, plan.seed, most_slots, banks=plan.banks)
    return given, Simulator(given, native=baseline("olla", **tuned_settings("olla")))


@pytest.fixture
def decisions(monkeypatch):
    """The decisions that the simulator was given."""
    found = []
    step = Simulator.step
    monkeypatch.setattr(Simulator, "step", lambda self, decision: (found.append(decision), step(self, decision))[1])
    return found


def equal(one, other):
    return torch.equal(one.nan_to_num(-99), other.nan_to_num(-99))


# --- tables and kinds of node ---

TABLES = {
    "snr_db": {"uniform": [0, 38]},
    "nodes": {
        "table_2": {"share": 1, "link": {"mcs_table": 2}},
        "table_3": {"share": 1, "link": {"mcs_table": 3}, "cqi": {"period_slots": 1, "delay_slots": 0}},
        "mixed": {"share": 1, "link": {"mcs_table": 2, "max_transmissions": 1}, "cqi": {"table": 1}},
    },
}


@pytest.mark.parametrize("actions", ["mcs", "both"])
@pytest.mark.parametrize(("kind", "tables"), [("table_2", (2, 2)), ("table_3", (3, 3)), ("mixed", (2, 1))])
def test_reports_say_which_tables_a_node_has_and_decisions_stay_within_them(plan, decisions, actions, kind, tables):
    network = always(28, actions=actions)  # the highest MCS of table 1; table 2 ends at 27
    given = plan()
    given = replace(
        given, scenario=given.scenario.model_validate({**given.scenario.model_dump(), **TABLES}).kinds[kind]
    )
    columns = [*network.columns, "mcs_table", "cqi_table"]
    found = collect(given, network, action_values=True, columns=columns)
    assert found.rows[..., -2].unique().tolist() == [tables[0]]
    assert found.rows[..., -1].unique().tolist() == [tables[1]]
    assert {int(decision.value.max()) for decision in decisions} == {28 if tables[0] == 3 else 27}
    for label in found.labels.values():
        assert label.shape[2] == len(network.actions)
        assert label.isfinite().all()
    if tables[0] == 2:  # the MCS above the table is worth what its highest is
        share = found.labels["share"]
        assert torch.equal(share[..., 28], share[..., 27])


# --- what is kept ---


def test_the_same_plan_brings_the_same(plan):
    given = plan({"interference": BURSTS}, exploration=0.3, native_unknown=0.3)
    one, same, other = (collect(p, a_network(), action_values=True) for p in (given, given, replace(given, seed=1)))
    assert equal(one.rows, same.rows)
    assert torch.equal(one.steps, same.steps)
    assert one.labels.keys() == same.labels.keys() == {"share", "failure", "residual"}
    assert all(torch.equal(one.labels[name], same.labels[name]) for name in one.labels)
    assert one.figures == same.figures
    assert not equal(one.rows, other.rows)


def test_neither_the_callers_random_state_nor_the_network_is_touched(plan):
    network = a_network()
    before, weights = torch.random.get_rng_state(), [p.clone() for p in network.parameters()]
    collect(plan(exploration=0.5), network, action_values=True)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(p, q) and p.grad is None for p, q in zip(network.parameters(), weights, strict=True))


@pytest.mark.parametrize(("e2", "steps"), [({}, 60), (SLOW_E2, 6), ({"period_slots": 7}, 9)])
def test_rows_are_the_reports_that_the_driver_answered(plan, e2, steps):
    network, given = a_network(seed=3), plan({"e2": e2})
    found = collect(given, network)
    _, simulator = simulated(given)
    state, rows = network.zero_state(LINKS), []
    while simulator.slot < 60:
        row = matrix(simulator.report, network.columns)
        rows.append(row)
        with torch.no_grad():
            score, state = network(row, state)
        simulator.step(Decision.absolute(score.argmax(dim=1)))
    assert found.rows.shape == (steps, LINKS, len(network.columns))
    assert equal(found.rows, torch.stack(rows))
    assert found.scenario == "steady"
    counters = simulator.counters
    assert found.figures["goodput"] == pytest.approx(float(counters.goodput.mean()))
    nacks, decided = float(counters.first_nack.sum()), float((counters.first_nack + counters.first_ack).sum())
    assert found.figures["first_tx_bler"] == pytest.approx(nacks / decided)
    assert found.figures["residual_bler"] == pytest.approx(float(counters.residual.sum()) / decided)


def test_where_nothing_was_sent_there_are_no_error_rates(plan):
    nothing = {"full_buffer_share": 0, "files_per_s": 1e-6}
    delays = [f"block_delay_ms_{name}" for name in ("p50", "p95", "p99")]
    expected = {"goodput": 0, **dict.fromkeys((*RATIOS, *delays)), "stalled_slot_share": 0}
    assert collect(plan({"traffic": nothing}), a_network()).figures == expected


def test_on_slot_is_called_with_the_slot_reached(plan):
    found = []
    collect(plan({"e2": SLOW_E2}), a_network(), on_slot=found.append)
    assert found == [10, 20, 30, 40, 50, 60]


def test_the_split_is_the_plans(plan):
    one, other = (collect(plan(split=split), a_network()) for split in (Split.TRAIN, Split.VALIDATION))
    assert not equal(one.rows, other.rows)


# --- labels ---


@pytest.mark.parametrize(("period", "delay"), [(1, 0), (1, 3), (10, 5), (4, 9)])
def test_a_label_belongs_to_the_report_that_was_answered(plan, period, delay):
    """Without retransmissions the residual is the error rate, over the sampled slots of the answer."""
    settings = {"e2": {"period_slots": period, "delay_slots": delay}, "link": {"max_transmissions": 1}}
    given = plan({**settings, "interference": BURSTS})
    found = collect(given, a_network(), action_values=True)
    conditions, _ = simulated(given)
    failed = {}
    for slot in range(60):
        conditions.enter(slot)
        failed[slot] = conditions.true_tbler(slot)[0]
    assert len(found.steps) > 3
    assert found.steps.dtype == torch.int64
    assert torch.equal(found.labels["failure"], found.labels["residual"]), "without retransmissions they are one"
    labels = (found.labels[name] for name in ("share", "residual"))
    for step, share, residual in zip(found.steps.tolist(), *labels, strict=True):
        begin = step * period + delay
        sampled = [failed[slot] for slot in range(begin, begin + period) if slot % 4 == 0]
        assert torch.allclose(residual, torch.stack(sampled).mean(dim=0), atol=1e-5)
        assert torch.allclose(share, 1 - residual, atol=1e-5)
    assert float((found.labels["residual"].amax(0) - found.labels["residual"].amin(0)).max()) > 0.5, "slots differ"


def test_the_drivers_expected_value_of_its_best_action_is_the_value_of_time(plan):
    """Every block fails all the time but the last; what it costs is what the driver expects meanwhile."""
    conditions = {"snr_db": 40, "link": {"max_transmissions": 2, "harq_rtt_slots": 4, "bler_shift_db": 42}}
    driver = always(3)
    with torch.no_grad():
        value = float(driver(torch.zeros(1, len(driver.columns)), driver.zero_state(1))[0][0, 3])
    assert value == pytest.approx(float(driver.rate[3]))
    found = collect(plan(conditions), driver, action_values=True)
    given, _ = simulated(plan(conditions))
    given.enter(0)
    sinr_db, row, combining = given.sinr_db_of_each_mcs(0), given.rows(0), given.combining
    both_db = combining.effective_sinr_db(row, combining.add(combining.first(sinr_db), 2, sinr_db), 2)
    # The second transmission fails as a block that has both of them does.
    once = given.tbler_at(sinr_db, row)[0]
    twice = once * given.tbler_at(both_db, row)[0]
    expected = (1 - twice - once * value / driver.rate).clamp(-2, 1)
    assert torch.allclose(found.labels["share"], expected.expand_as(found.labels["share"]), atol=1e-4)


@pytest.mark.parametrize("kind", ["mcs", "mcs_offset", "both"])
def test_there_is_a_label_for_every_action(plan, kind):
    network = a_network(actions=kind, max_offset=2)
    found = collect(plan({"e2": SLOW_E2}), network, action_values=True)
    count = {"mcs": 29, "mcs_offset": 5, "both": 34}[kind]
    for name in ("share", "failure", "residual"):
        assert found.labels[name].shape == (len(found.steps), LINKS, count)
        assert found.labels[name].dtype == torch.float32


@pytest.mark.parametrize("every", [1, 3])
def test_a_teachers_labels_are_its_own_scores_of_the_same_rows(plan, every):
    teacher = a_network(seed=9, head="logit", rates_db=(0.1, 0.5))
    given = plan(label_every_slots=every, exploration=0.2, native_unknown=0.5)
    found = collect(given, a_network(), teacher=teacher)
    state, scores = teacher.zero_state(LINKS), []
    for row in found.rows:
        with torch.no_grad():
            score, state = teacher(row, state)
        scores.append(score)
    assert found.steps.tolist() == list(range(0, 60, every))
    assert found.labels.keys() == {"teacher_score"}
    assert torch.equal(found.labels["teacher_score"], torch.stack(scores)[found.steps])


@pytest.mark.parametrize(
    ("period", "slots", "steps"),
    [
        (1, 4, list(range(0, 60, 4))),
        (10, 4, [0, 1, 2, 3, 4, 5]),
        (10, 20, [0, 2, 4]),
        (6, 10, [0, 2, 4, 6, 8]),
    ],
)
def test_so_many_slots_at_least_lie_between_two_labels(plan, period, slots, steps):
    given = plan({"e2": {"period_slots": period}}, label_every_slots=slots)
    assert collect(given, a_network(), teacher=a_network(seed=1)).steps.tolist() == steps


class SlotNumber:
    """An algorithm that always chooses the number of the slot."""

    name = "slot number"

    def start(self, cell, generator):
        self.links = cell.num_links

    def decide(self, report):
        return Decision.absolute(torch.full((self.links,), report.slot % 29))


def test_an_algorithms_labels_are_its_answers_to_the_same_reports(plan):
    found = collect(plan({"e2": SLOW_E2}, label_every_slots=20), a_network(), algorithm=SlotNumber())
    assert found.steps.tolist() == [0, 2, 4]
    assert found.labels["algorithm_choice"].dtype == torch.int64
    assert found.labels["algorithm_choice"].tolist() == [[slot % 29] * LINKS for slot in (0, 20, 40)]


def test_an_algorithms_choice_stands_beside_the_action_values_of_the_same_step(plan):
    found = collect(
        plan({"e2": {"period_slots": 2, "delay_slots": 3}}), a_network(), action_values=True, algorithm=SlotNumber()
    )
    assert found.labels["algorithm_choice"].shape == found.labels["share"].shape[:2]
    assert found.labels["algorithm_choice"][:, 0].tolist() == [2 * step % 29 for step in found.steps.tolist()]


def test_the_genie_is_an_algorithm_that_knows_the_slot(plan):
    given = plan({"interference": BURSTS})
    found = collect(given, a_network(), algorithm=baseline("genie"))
    conditions, _ = simulated(given)
    best = []
    for slot in range(60):
        conditions.enter(slot)
        failed, bits = conditions.true_tbler(slot)
        best.append((bits - bits * failed).argmax(dim=1))
    assert torch.equal(found.labels["algorithm_choice"], torch.stack(best)[found.steps])


def test_no_label_is_asked_for(plan):
    assert collect(plan(), a_network(head="logit")).labels == {}


def test_a_rollout_that_is_too_short_for_a_label_brings_none(plan):
    found = collect(plan(slots=8), a_network(), action_values=True, algorithm=SlotNumber())
    assert len(found.steps) == len(found.labels["share"]) == len(found.labels["algorithm_choice"]) == 0
    assert found.labels["share"].shape == (0, LINKS, 29)
    assert found.steps.dtype == found.labels["algorithm_choice"].dtype == torch.int64


# --- exploration ---


@pytest.mark.parametrize(
    ("best", "kind", "values"),
    [
        (0, MCS, range(4)),
        (15, MCS, range(12, 19)),
        (28, MCS, range(25, 29)),
        (29, MCS_OFFSET, range(-4, 0)),
        (33, MCS_OFFSET, range(-3, 4)),
        (37, MCS_OFFSET, range(1, 5)),
    ],
)
def test_exploration_stays_within_reach_and_within_a_kind_of_action(plan, decisions, best, kind, values):
    collect(plan(links=40, exploration=1.0, exploration_reach=3), always(best, actions="both"))
    kinds, found = (torch.stack([getattr(d, name) for d in decisions]) for name in ("kind", "value"))
    assert set(kinds.flatten().tolist()) == {kind}
    assert set(found.flatten().tolist()) == set(values)


def test_so_many_decisions_are_moved(plan, decisions):
    collect(plan(links=300, exploration=0.3, exploration_reach=1), always(10))
    moved = torch.stack([decision.value for decision in decisions]) - 10
    assert float((moved != 0).float().mean()) == pytest.approx(0.3 * 2 / 3, abs=0.01)
    assert float(moved.float().mean()) == pytest.approx(0, abs=0.01)


def test_without_exploration_decisions_are_the_drivers_own_of_these_rows(plan, decisions):
    driver = a_network(seed=5, actions="both")
    found = collect(plan(native_unknown=0.5), driver)
    state = driver.zero_state(LINKS)
    for row, decision in zip(found.rows, decisions, strict=True):
        with torch.no_grad():
            score, state = driver(row, state)
        best = [driver.actions[index] for index in score.argmax(dim=1)]
        kind = torch.as_tensor(decision.kind).expand(LINKS).tolist()
        assert kind == [MCS if action.kind == "mcs" else MCS_OFFSET for action in best]
        assert decision.value.tolist() == [action.value for action in best]


# --- what the DU would do ---


def native(experience):
    return experience.rows[..., a_network().columns.index("native_mcs")]


def test_the_du_has_its_own_choice_beneath(plan):
    found = native(collect(plan(), always(5)))
    assert not found.isnan().any()
    assert len(found.unique()) > 3


@pytest.mark.parametrize(
    ("setting", "columns"),
    [
        ("native_unknown", ["native_mcs"]),
        ("retx_unknown", ["retx_ack", "retx_nack", "retx_mcs_mean"]),
        ("combining_unknown", ["combining"]),
    ],
)
def test_some_links_never_report_optional_settings_of_the_node(plan, setting, columns):
    found = collect(plan(links=200, **{setting: 0.3}), always(5))
    where = [a_network().columns.index(name) for name in columns]
    hidden = found.rows[..., where].isnan()
    assert torch.equal(hidden, hidden[:1, :, :1].expand_as(hidden))
    hidden = hidden[0, :, 0]
    assert float(hidden.float().mean()) == pytest.approx(0.3, abs=0.1)
    complete = collect(plan(links=200), always(5))
    others = [index for index in range(len(a_network().columns)) if index not in where]
    assert equal(found.rows[..., others], complete.rows[..., others])
    assert equal(found.rows[..., where][:, ~hidden], complete.rows[..., where][:, ~hidden])


def test_no_link_reports_the_dus_own_choice(plan):
    assert native(collect(plan(native_unknown=1.0), always(5))).isnan().all()


# --- refusals ---


def test_a_teacher_of_other_actions_is_rejected(plan):
    with pytest.raises(ValueError, match="the teacher's actions are not the driver's"):
        collect(plan(), a_network(), teacher=a_network(actions="both"))


def test_action_values_and_a_teacher_at_once_are_rejected(plan):
    with pytest.raises(ValueError, match="action values and a teacher label different decisions"):
        collect(plan(), a_network(), action_values=True, teacher=a_network(seed=1))


def test_a_driver_that_does_not_expect_values_is_rejected(plan):
    with pytest.raises(ValueError, match="its head is logit"):
        collect(plan(), a_network(head="logit"), action_values=True)


def test_labels_are_finite(plan):
    settings = {"cqi": {"share": 0.5}, "snr_db": {"uniform": [-20, 45]}, "link": {"dtx_probability": 0.2}}
    found = collect(plan(settings, native_unknown=0.5), a_network(actions="both"), action_values=True)
    for label in found.labels.values():
        assert torch.isfinite(label).all()
