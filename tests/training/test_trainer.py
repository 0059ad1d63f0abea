"""The training loop: the same weights from the same configuration, rounds, logs, resuming, refusals."""

import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from distila.training.learning import episodes, loop, trainer
from distila.training.learning.checkpoint import Checkpoint
from distila.training.learning.log import TrainingLog, read_log
from distila.training.sim.conditions import Banks
from distila.training.sim.split import Split
from distila.training.teachers.privileged import PrivilegedObjective
from distila.xapp.errors import InputError

pytest.importorskip("sionna")
pytestmark = pytest.mark.usefixtures("no_fading")

OUT = Path("out")
REPORTED = {"scenarios": ["reported.yaml"], "slots": 60}


def lines(out="out"):
    """The log, but for what the clock says."""
    return [{name: value for name, value in line.items() if name != "seconds"} for line in read_log(Path(out))]


class Watched(PrivilegedObjective):
    """What it is asked for: plans, with the weights that drive, and batches."""

    def __init__(self, config, nan_after=None):
        super().__init__(config)
        self.plans, self.weights, self.batches, self.progress = [], [], [], []
        self.nan_after = nan_after

    def collect(self, plan, network, on_slot):
        self.plans.append(plan)
        self.weights.append(torch.cat([p.detach().flatten().clone() for p in network.parameters()]))
        return super().collect(plan, network, on_slot)

    def loss(self, network, output, labels, progress):
        self.batches.append(len(output))
        self.progress.append(progress)
        loss = super().loss(network, output, labels, progress)
        return loss * torch.nan if self.nan_after is not None and len(self.batches) > self.nan_after else loss


# --- the loop ---


def test_same_seed_same_weights_and_another_seed_others(tiny, train, same_weights):
    before = torch.random.get_rng_state()
    one, same, other = (train(tiny(seed=seed), out) for seed, out in ((3, "a"), (3, "b"), (4, "c")))
    assert same_weights(one, same)
    assert not same_weights(one, other)
    assert torch.equal(before, torch.random.get_rng_state()), "the caller's random numbers are its own"


def test_training_begins_with_the_seeds_weights(tiny, train, same_weights):
    config = tiny(episodes=1)
    assert same_weights(trainer.new_network(config), trainer.new_network(config))
    assert not same_weights(trainer.new_network(config), trainer.new_network(tiny(seed=1)))
    objective = Watched(config)
    train(config, objective=objective)
    first = torch.cat([p.detach().flatten() for p in trainer.new_network(config).parameters()])
    assert torch.equal(objective.weights[0], first)


def test_scenarios_take_turns_and_every_episode_has_its_own_links(tiny, train):
    config = tiny(scenarios=["steady.yaml", "reported.yaml"], slots=60, episodes=3, exploration=0.2, native_unknown=0.4)
    objective = Watched(config)
    train(config, objective=objective)
    for episode, plan in enumerate(objective.plans):
        assert plan.scenario.name == ("steady", "reported")[episode % 2]
        assert (plan.links, plan.slots, plan.split, plan.seed) == (16, 60, Split.TRAIN, episode)
        assert (plan.exploration, plan.exploration_reach, plan.native_unknown) == (0.2, 2, 0.4)
        assert (plan.banks.rows, plan.banks.slots) == (2, 64)
    assert [line["scenario"] for line in lines()] == ["steady", "reported", "steady"]


def test_a_share_of_the_episodes_combines_by_chase_whatever_the_scenario_says(tiny):
    config = tiny(chase_share=0.3)
    scenarios = episodes.checked_scenarios(config)
    plans = [episodes.plan_episode(config, scenarios, number, Banks(2, 64)) for number in range(400)]
    by_chase = [plan.scenario.link.combining == "chase" for plan in plans]
    assert 0.2 < sum(by_chase) / 400 < 0.4
    assert by_chase == [
        episodes.plan_episode(config, scenarios, number, Banks(2, 64)).scenario.link.combining == "chase"
        for number in range(400)
    ]
    others = {plan.scenario.link.combining for plan, chase in zip(plans, by_chase, strict=True) if not chase}
    assert others == {"ir"}


def test_in_a_round_the_same_weights_drive(tiny, train):
    config = tiny(episodes=5, episodes_per_round=2)
    objective = Watched(config)
    train(config, objective=objective)
    one, two, three, four, five = objective.weights
    assert torch.equal(one, two)
    assert torch.equal(three, four)
    assert not torch.equal(two, three)
    assert not torch.equal(four, five)
    assert [line["episode"] for line in lines()] == [0, 1, 2, 3, 4]
    assert sorted(set(objective.progress)) == pytest.approx([0, 0.4, 0.8])


def test_all_that_was_labelled_is_learnt_from_in_batches_as_often_as_asked(tiny, train):
    config = tiny(episodes=1, batch_size=20, epochs=3)
    objective = Watched(config)
    train(config, objective=objective)
    # Slots 0, 4... are judged; a block's four transmissions take 24 slots, and are known with the next judged slot.
    labelled = 16 * len(range(0, 40 - 24, 4))
    assert sum(objective.batches) == 3 * labelled
    assert max(objective.batches) == 20
    assert len(objective.batches) == 3 * -(-labelled // 20)


def test_a_short_experience_is_learnt_from_more_often(tiny, train, monkeypatch):
    steps = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *given: (steps.append(1), step(*given))[1])
    train(tiny(episodes=1), "once")
    once = len(steps)
    train(tiny(episodes=1, min_batches=2 * once + 1), "often")
    assert len(steps) - once == 3 * once


def test_the_learning_rate_falls_linearly(tiny, train):
    train(tiny(lr=0.01, final_lr_share=0.2))
    assert [line["lr"] for line in lines()] == pytest.approx([0.01, 0.008, 0.006, 0.004])


def test_gradients_are_shortened(tiny, train, monkeypatch):
    limits = set()
    clip = loop.clip_grad_norm_
    monkeypatch.setattr(loop, "clip_grad_norm_", lambda given, limit: (limits.add(limit), clip(given, limit)))
    train(tiny(episodes=1, max_grad_norm=0.25))
    assert limits == {0.25}


def test_another_seed_meets_other_channels_in_every_episode(tiny, train):
    seeds = []
    for seed in (0, 1, 2):
        config = tiny(seed=seed, episodes=2)
        objective = Watched(config)
        train(config, f"{seed}", objective=objective)
        seeds += [plan.seed for plan in objective.plans]
    assert seeds == [0, 1, 1_000_000, 1_000_001, 2_000_000, 2_000_001]


# --- log and progress ---


def test_the_log_has_a_line_of_figures_for_each_episode(tiny, train):
    train(tiny())
    found = read_log(OUT)
    assert [line["episode"] for line in found] == [0, 1, 2, 3]
    for line in found:
        assert line["scenario"] == "steady"
        assert 0 < line["loss"] < 3
        assert 0 <= line["first_tx_bler"] <= 1
        assert 0 <= line["residual_bler"] <= 1
        assert line["goodput"] >= 0
        assert line["seconds"] > 0


def test_tensorboard_gets_its_files_where_it_is_installed(tiny, train):
    pytest.importorskip("tensorboard")
    train(tiny(episodes=1))
    assert list(OUT.glob("events.out.tfevents.*"))


def test_without_tensorboard_there_are_the_lines(tiny, train, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(tiny(episodes=1))
    assert {path.name for path in OUT.iterdir()} == {"checkpoint.pt", "train.jsonl"}


@pytest.mark.parametrize("per_round", [1, 2])
def test_progress_is_reported_in_slots(tiny, train, per_round):
    calls = []
    train(tiny(episodes=2, episodes_per_round=per_round), progress=lambda *numbers: calls.append(numbers))
    done = [slots for slots, _ in calls]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 80)
    assert len(done) > 40
    assert {total for _, total in calls} == {80}


def test_progress_of_banks_is_reported_before_the_episodes(tiny, train):
    calls = []
    train(tiny(episodes=1), on_bank=lambda *numbers: calls.append(numbers), progress=lambda *_: calls.append("slot"))
    assert calls[: calls.index("slot")] == [(0, 1), (1, 1)]


# --- resuming ---


@pytest.fixture
def killed_at(train):
    """A training that ends, as if killed, once so many slots are done."""

    def run(config, slots, out="out"):
        def progress(done, total):
            if done >= slots:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(config, out, progress=progress)

    return run


@pytest.mark.parametrize(
    ("settings", "every", "per_round", "killed_after", "resumed_from"),
    [
        ({}, 1, 1, 2.5, 2),
        ({}, 2, 1, 3.5, 2),
        ({}, 100, 1, 1.5, 0),
        ({}, 1, 2, 3.5, 2),
        ({}, 1, 3, 3.5, 3),
        (REPORTED, 1, 1, 2.5, 2),
        ({"network": {"actions": "both"}, **REPORTED}, 1, 1, 2.5, 2),
        ({"epochs": 2, "algorithm": {}}, 1, 1, 2.5, 2),
    ],
)
def test_resumed_weights_are_those_of_an_uninterrupted_training(
    tiny, train, killed_at, same_weights, settings, every, per_round, killed_after, resumed_from
):
    config = tiny(checkpoint_every=every, episodes_per_round=per_round, **settings)
    whole = train(config, "whole")
    killed_at(config, killed_after * config.slots, "killed")
    calls = []
    resumed = train(config, "killed", resume=True, progress=lambda done, total: calls.append(done))
    assert same_weights(whole, resumed)
    assert calls[0] == resumed_from * config.slots
    assert lines("whole") == lines("killed")


def test_half_a_line_of_a_killed_run_is_dropped(tiny, train, killed_at):
    killed_at(tiny(), 100)
    with (OUT / "train.jsonl").open("a") as file:
        file.write('{"episode": 2, "sc')
    train(tiny(), resume=True)
    assert [line["episode"] for line in lines()] == [0, 1, 2, 3]


def test_a_finished_training_is_not_run_again(tiny, train, same_weights):
    done = train(tiny())
    before = (OUT / "train.jsonl").read_text()
    assert same_weights(done, train(tiny(checkpoint_every=7), resume=True))
    assert (OUT / "train.jsonl").read_text() == before


def test_resuming_what_never_began_begins(tiny, train):
    train(tiny(episodes=1), resume=True)
    assert len(lines()) == 1


# --- refusals ---


@pytest.fixture
def error_line(train):
    """The one line that a training is refused with."""

    def run(config, **settings):
        with pytest.raises(InputError) as caught:
            train(config, **settings)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return run


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"network": {"hidden": [16, 16]}}, "network.hidden was [16], now it is [16, 16]"),
        ({"network": {"residual_price": 3}}, "network.residual_price was 0.0, now it is 3.0"),
        ({"episodes": 5}, "episodes was 4, now it is 5"),
        ({"episodes_per_round": 2}, "episodes_per_round was 1, now it is 2"),
        ({"algorithm": {"beta": 2}}, "algorithm was null, now it is {"),
        ({"scenarios": ["./steady.yaml"]}, 'scenarios was ["steady.yaml"]'),
    ],
)
def test_a_checkpoint_of_another_training_is_rejected(tiny, train, error_line, change, says):
    train(tiny())
    text = error_line(tiny(**change), resume=True)
    assert "out/checkpoint.pt: of another training: " in text
    assert says in text


def test_a_checkpoint_of_another_mcs_table_is_rejected(tiny, train, error_line):
    steady = Path("steady.yaml").read_text()
    Path("other.yaml").write_text(steady.replace("link: {", "link: {mcs_table: 2, "))
    train(tiny())
    config = tiny(scenarios=["other.yaml"], network={"mcs_table": 2, "cqi_table": 2})
    assert "of another training" in error_line(config, resume=True)
    given = tiny().model_dump(mode="json", exclude={"checkpoint_every"})
    given["network"]["mcs_table"] = 2
    with pytest.raises(InputError, match=r"configuration\.network\.mcs_table was 1, now it is 2"):
        Checkpoint(OUT / "checkpoint.pt", {"configuration": given}).load(None, None)


def test_a_checkpoint_of_a_scenario_that_was_changed_is_rejected(tiny, train, error_line):
    train(tiny(episodes=1))
    steady = Path("steady.yaml").read_text()
    Path("steady.yaml").write_text(steady.replace("period_slots: 10", "period_slots: 20"))
    assert "scenario.steady.cqi.period_slots" in error_line(tiny(episodes=1), resume=True)


def test_a_checkpoint_stores_everything_that_the_weights_depend_on(tiny, train, error_line):
    train(tiny(episodes=1), identity={"teachers": ["one"]})
    train(tiny(episodes=1), identity={"teachers": ["one"]}, resume=True)
    assert 'teachers was ["one"], now it is ["two"]' in error_line(
        tiny(episodes=1), identity={"teachers": ["two"]}, resume=True
    )


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: b"hello"])
def test_a_damaged_checkpoint_is_rejected(tiny, train, error_line, damage):
    train(tiny(episodes=1))
    path = OUT / "checkpoint.pt"
    path.write_bytes(damage(path.read_bytes()))
    assert "checkpoint.pt: not a checkpoint" in error_line(tiny(episodes=1), resume=True)


def test_a_checkpoint_in_the_way_is_not_overwritten(tiny, train, error_line):
    train(tiny(episodes=1))
    before = (OUT / "checkpoint.pt").read_bytes()
    assert "--resume" in error_line(tiny(episodes=1))
    assert (OUT / "checkpoint.pt").read_bytes() == before


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_checkpoint(tiny, train, error_line):
    watched = Watched(tiny())
    train(tiny(episodes=2), "good", objective=watched)
    text = error_line(tiny(), objective=Watched(tiny(), nan_after=len(watched.batches)))
    assert "the loss is nan in episode 2, scenario steady" in text
    found = torch.load(OUT / "checkpoint.pt", weights_only=True)
    assert found["episodes"] == 2
    assert all(torch.isfinite(value).all() for value in found["model"].values())


def test_the_log_is_closed_whatever_ends_the_training(tiny, error_line, monkeypatch):
    closed = []
    close = TrainingLog.close
    monkeypatch.setattr(TrainingLog, "close", lambda self: (closed.append(self), close(self)))
    error_line(tiny(), objective=Watched(tiny(), nan_after=0))
    assert closed


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"scenarios": ["unseen_carrier"]}, "unseen_carrier is unseen"),
        ({"scenarios": ["nowhere"]}, "nowhere: no such scenario"),
        ({"network": {"mcs_table": 2}}, "network.mcs_table = 2: scenario steady has 1"),
        ({"network": {"cqi_table": 3}}, "network.cqi_table = 3: scenario steady has 1"),
        ({"slots": 32}, "slots = 32: scenario steady needs 33 or more"),
        ({"scenarios": ["reported.yaml"], "slots": 46}, "slots = 46: scenario reported needs 47 or more"),
        ({"scenarios": ["steady.yaml", "reported.yaml"]}, "slots = 40: scenario reported needs 47 or more"),
    ],
)
def test_what_does_not_fit_is_rejected_before_anything_is_run(tiny, error_line, settings, says):
    assert says in error_line(tiny(**settings))
    assert not OUT.exists()


@pytest.mark.parametrize(
    ("timing", "slots"),
    [
        ("e2: {period_slots: 1, delay_slots: 0}", 33),
        ("e2: {period_slots: 10, delay_slots: 5}", 47),
        ("e2: {period_slots: 4, delay_slots: 9}\nlink: {harq_rtt_slots: 7, max_transmissions: 1}", 21),
        ("e2: {period_slots: 1, delay_slots: 1}\nlink: {harq_rtt_slots: 4}", 22),
    ],
)
def test_the_fewest_slots_are_enough_for_a_decision(tiny, train, error_line, timing, slots):
    Path("steady.yaml").write_text("name: steady\nchannels: [{model: TDL-A}]\n" + timing)
    assert f"needs {slots} or more" in error_line(tiny(slots=slots - 1))
    train(tiny(slots=slots, episodes=1))
    assert lines()[0]["loss"] is not None


def test_a_directory_that_cannot_be_written_to_is_rejected(tiny, train):
    OUT.write_text("a file")
    with pytest.raises(InputError, match=r"^--out .*out: "):
        train(tiny())


def test_the_part_of_the_training_domain_with_table_1_is_a_scenario(tiny, train):
    config = tiny(scenarios=["domain_table1"], slots=1000)
    assert [scenario.name for scenario in episodes.checked_scenarios(config)] == ["domain_table1"]


def test_a_network_of_one_table_is_not_trained_on_a_domain_of_all(tiny, train):
    with pytest.raises(InputError, match=r"^network\.mcs_table = 1: scenario domain \(vendor_macro\) has 1 to 2$"):
        episodes.checked_scenarios(tiny(scenarios=["domain"], slots=1000))


@pytest.mark.parametrize(
    "wrong",
    [{"episodes": 0}, {"epochs": 0}, {"batch_size": 0}, {"exploration": 1.5}, {"scenarios": []}, {"colour": "red"}],
)
def test_senseless_settings_are_rejected(tiny, wrong):
    with pytest.raises(ValidationError):
        tiny(**wrong)
