"""The loop of all trainings: rounds, learning rate, log, checkpoints, losses that are not finite, names of settings."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import yaml

from distila.training.distill.distill import load_distill
from distila.training.learning import loop
from distila.training.learning.log import read_log
from distila.training.learning.loop import Line, OptimizerConfig, current_names, finite, optimizer_step
from distila.training.network.config import NetworkConfig
from distila.training.resource.study import load_study
from distila.training.resource.train_config import TrainConfig, load_train_config
from distila.training.teachers.dqn_config import DqnConfig, load_dqn
from distila.training.teachers.privileged import load_privileged
from distila.xapp.errors import InputError

pytestmark = pytest.mark.usefixtures("workplace")


@dataclass
class Squares:
    """Learns the squares of its episodes' numbers, one weight for all."""

    config: OptimizerConfig
    total: int = 6
    per_round: int = 1
    unit: str = "episode"
    scale: int = 10
    asked: list = field(default_factory=list)
    prepared: int = 0

    def __post_init__(self):
        self.module = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.module.weight)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=self.config.lr)

    def prepare(self):
        self.prepared += 1

    def jobs(self, numbers, progress):
        self.asked.append((list(numbers), progress))
        return list(numbers)

    @staticmethod
    def collect(job):
        return float(job**2)

    def learn(self, numbers, results, progress):
        lines = []
        for number, target in zip(numbers, results, strict=True):
            loss = (self.module(torch.ones(1)) - target).square().sum()
            lines.append(Line(number, {"loss": finite(loss, f"episode {number}", self.config.lr)}))
            optimizer_step(loss, self.optimizer, self.config.max_grad_norm)
        return lines

    def run(self, out="out", **settings):
        path = None if out is None else Path(out)
        loop.run(self, self.config, self.module, self.optimizer, path, {"kind": "squares"}, **settings)
        return float(self.module.weight.detach())


def squares(**settings):
    config = OptimizerConfig(**{"lr": 0.1, "checkpoint_every": 2})
    return Squares(config, **settings)


def lines(out="out"):
    return [{name: value for name, value in line.items() if name != "seconds"} for line in read_log(Path(out))]


def test_a_round_asks_for_all_its_episodes_at_once():
    training = squares(per_round=4)
    training.run()
    assert training.asked == [([0, 1, 2, 3], 0.0), ([4, 5], pytest.approx(4 / 6))]
    assert training.prepared == 1
    assert [line["episode"] for line in lines()] == [0, 1, 2, 3, 4, 5]
    assert all(line["loss"] >= 0 and line["lr"] > 0 for line in lines())


def test_without_a_directory_nothing_is_written():
    assert squares().run(out=None) == squares().run()
    assert {path.name for path in Path().iterdir()} >= {"out"}
    assert not Path("train.jsonl").exists()


def test_progress_is_scaled():
    seen = []
    squares(total=2).run(progress=lambda *numbers: seen.append(numbers))
    assert seen == [(0, 20), (10, 20), (20, 20)]


@pytest.mark.parametrize("per_round", [1, 2])
def test_a_resumed_training_ends_with_the_same_weights_and_log(per_round):
    whole = squares(per_round=per_round).run("whole")

    def kill(done, total):
        if done >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        squares(per_round=per_round).run("parts", progress=kill)
    resumed = squares(per_round=per_round)
    assert resumed.run("parts", resume=True) == whole
    assert resumed.asked[0][0][0] == (2 if per_round == 1 else 0)
    assert lines("parts") == lines("whole")
    finished = squares(per_round=per_round)
    assert finished.run("parts", resume=True) == whole
    assert (finished.asked, finished.prepared) == ([], 0)


def test_the_learning_rate_warms_up_and_falls_linearly():
    class Warm(OptimizerConfig):
        @property
        def warmup_rounds(self):
            return 2

    training = Squares(Warm(lr=0.1, final_lr_share=0.2), total=4)
    training.run()
    assert [line["lr"] for line in lines()] == pytest.approx([0.05, 0.08, 0.06, 0.04])


def test_each_parameter_group_keeps_its_own_rate():
    training = squares(total=2)
    training.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 7.0})
    seen = []
    training.run(progress=lambda *_: seen.append([group["lr"] for group in training.optimizer.param_groups]))
    assert [second / first for first, second in seen] == pytest.approx([70.0] * 3)


def test_gradients_are_clipped_group_by_group():
    small, large = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([{"params": [small]}, {"params": [large]}], lr=1.0)
    optimizer_step(0.1 * small.sum() + (large * torch.tensor([3.0, 4.0])).sum(), optimizer, 1.0)
    assert small.tolist() == pytest.approx([-0.1])
    assert large.tolist() == pytest.approx([-0.6, -0.8], rel=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_one_line(value):
    with pytest.raises(InputError) as caught:
        finite(torch.tensor(value), "step 3", 0.1)
    assert str(caught.value) == (
        f"the loss is {value} in step 3; an lr below 0.1 may help; the latest checkpoint, if any, was kept"
    )


# --- names of settings ---

EARLIER = {
    load_privileged: ["learning_rate", "final_learning_rate_share", "max_gradient_norm", "batch", "least_batches"],
    load_distill: ["learning_rate", "final_learning_rate_share", "max_gradient_norm", "batch", "least_batches"],
    load_dqn: ["learning_rate", "batch", "discount", "target_rate", "replay", "epsilon_until"],
    load_train_config: ["learning_rate", "final_learning_rate_share", "max_gradient_norm", "batch"],
}
PRESENT = {
    "learning_rate": "lr",
    "final_learning_rate_share": "final_lr_share",
    "max_gradient_norm": "max_grad_norm",
    "batch": "batch_size",
    "least_batches": "min_batches",
    "discount": "gamma",
    "target_rate": "tau",
    "replay": "buffer_size",
    "epsilon_until": "epsilon_fraction",
    "critic_learning_rate": "critic_lr",
}
VALUES = {"batch": 16, "least_batches": 3, "replay": 5000}


def needed(load):
    """Settings that a file of this kind cannot lack."""
    if load is load_train_config:
        return {"setting": "seed", "links": [5], "student": {"kind": "mlp", "links": 5}}
    return {"scenarios": ["steady.yaml"], "network": {"head": "value" if load is load_privileged else "logit"}}


@pytest.mark.parametrize("load", EARLIER, ids=lambda load: load.__name__)
def test_a_file_with_earlier_names_is_the_one_with_present_names(load):
    settings = needed(load)
    earlier = {name: VALUES.get(name, 0.3) for name in EARLIER[load]}
    Path("earlier.yaml").write_text(yaml.safe_dump({**settings, **earlier}))
    present = {PRESENT[name]: value for name, value in earlier.items()}
    Path("present.yaml").write_text(yaml.safe_dump({**settings, **present}))
    found = load("earlier.yaml")
    assert found == load("present.yaml")
    assert {name: getattr(found, name) for name in present} == present


def test_a_network_may_have_the_earlier_name_of_its_variability():
    assert NetworkConfig.model_validate({"unrest_rates": [0.1, 0.2]}).variability_rates == (0.1, 0.2)
    assert NetworkConfig.model_validate_json('{"unrest_rates": []}').variability_rates == ()
    assert "unrest_rates" not in NetworkConfig().model_dump()


def test_settings_with_earlier_names_may_be_merged():
    assert current_names(DqnConfig, {"replay": 3, "links": 4}) == {"buffer_size": 3, "links": 4}
    assert current_names(TrainConfig, {"critic_learning_rate": 3}) == {"critic_lr": 3}
    with pytest.raises(ValueError, match="replay: the old name of buffer_size, which is given too"):
        current_names(DqnConfig, {"replay": 3, "buffer_size": 4})
    study = "mlp: {plain: {learning_rate: 1.0}, reinforcement: {batch: 16}}\n"
    Path("study.yaml").write_text(study)
    found = load_study("study.yaml")
    assert (found.mlp.plain, found.mlp.reinforcement) == ({"lr": 1.0}, {"batch_size": 16})


@pytest.mark.parametrize("load", EARLIER, ids=lambda load: load.__name__)
def test_a_setting_under_both_of_its_names_is_one_line_that_says_which_to_keep(load):
    for earlier in EARLIER[load]:
        present = PRESENT[earlier]
        value = VALUES.get(earlier, 0.3)
        Path("both.yaml").write_text(yaml.safe_dump({**needed(load), earlier: value, present: value}))
        with pytest.raises(InputError) as caught:
            load("both.yaml")
        assert f"{earlier}: the old name of {present}, which is given too; give only {present}" in str(caught.value)


def test_also_within_a_section():
    rates = {"variability_rates": [0.1, 0.2], "unrest_rates": [0.1, 0.2]}
    Path("both.yaml").write_text(yaml.safe_dump({"scenarios": ["steady.yaml"], "network": {"head": "logit", **rates}}))
    with pytest.raises(InputError, match=r"network\.unrest_rates: the old name of variability_rates"):
        load_dqn("both.yaml")
