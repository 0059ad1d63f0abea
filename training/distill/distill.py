"""One student from one teacher or from several, on the teacher's data or on the student's own.

* *Single-policy*: a teacher that was trained on everything. *Multi-policy*: specialists, each the teacher in its own
  scenario; the student's input does not say which scenario it is in.
* *Off-policy*: the teacher drives the simulation, and the student learns from its reports. *Online*: the student drives
  and is distilled again after every round; the teacher gets the same reports, with a memory of its own, and its scores
  are the labels. So the student learns what to do in the states that it reaches itself (the Ericsson family's online
  distillation; the data-set aggregation of Ross et al., AISTATS 2011).
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, JsonValue, model_validator
from torch import Tensor

from distila.training.distill.losses import LossConfig, distillation_loss
from distila.training.learning import trainer
from distila.training.learning.episodes import EpisodicConfig, checked_scenarios
from distila.training.learning.rollout import Experience, OnSlot, RolloutPlan, collect
from distila.training.learning.trainings import Bar
from distila.training.network.make import make_network
from distila.training.network.network import Network
from distila.training.network.store import load_network
from distila.xapp.errors import InputError
from distila.xapp.files import read_model
from distila.xapp.shipped import Shipped, did_you_mean, package_folder


class DistillConfig(EpisodicConfig):
    """All that the weights depend on, but the teachers."""

    driver: Literal["student", "teacher"] = Field(default="student", description="student: online; teacher: off-policy")
    loss: LossConfig = LossConfig()
    residual_price: dict[str, float] = Field(
        default_factory=dict,
        description="price of a lost block in the teachers' scores instead of their own, by scenario; `default` is for "
        "all others",
    )

    @model_validator(mode="after")
    def _has_logits(self) -> "DistillConfig":
        if self.network.head != "logit":
            raise ValueError(f"network.head is {self.network.head!r}: a student needs 'logit'")
        for name, price in self.residual_price.items():
            if name not in (*self.scenarios, "default"):
                raise ValueError(f"residual_price: {name!r} is not among the scenarios")
            if not 0 <= price < math.inf:
                raise ValueError(f"residual_price of {name}: {price} must be a number of at least 0")
        return self


CONFIGS: Final = Shipped("configuration of a distillation", package_folder("distila.training.distill", "configs"))


def load_distill(name: str) -> DistillConfig:
    """A configuration from a YAML file, or one that ships with distila by its name.

    Raises:
        InputError: one line naming file, setting and value.
    """
    return read_model(CONFIGS.find(name), DistillConfig)


class Teachers:
    """The teachers by scenario.

    Args:
        paths: files of networks by scenario; the one under ``""`` is for all others.
        config: of the student.

    Raises:
        InputError: a scenario without a teacher, or a teacher that does not fit the student.
    """

    def __init__(self, paths: Mapping[str, Path], config: DistillConfig) -> None:
        self._network: dict[str, Network] = {}
        self.identity: dict[str, JsonValue] = {}
        self._price = config.residual_price
        student = make_network(config.network)
        for name, path in paths.items():
            network, _ = load_network(path)
            for setting in ("mcs_table", "cqi_table"):
                theirs, ours = getattr(network.config, setting), getattr(config.network, setting)
                if theirs != ours:
                    raise InputError(f"{path}: the teacher is for {setting} {theirs}, the student for {ours}")
            if network.actions != student.actions:
                raise InputError(
                    f"{path}: the teacher has {len(network.actions)} actions ({network.config.actions}), "
                    f"the student has {len(student.actions)} ({config.network.actions})"
                )
            self._network[name] = network
            self.identity[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        scenarios = [each.name for each in checked_scenarios(config)]
        idle = [name for name in paths if name not in (*scenarios, "")]
        if idle:
            known = ", ".join(scenarios)
            raise InputError(
                f"a teacher for {idle[0]}, which is not a scenario of this training; there are"
                f" {known}{did_you_mean(idle[0], scenarios)}"
            )
        missing = [name for name in scenarios if name not in paths and "" not in paths]
        if missing:
            raise InputError(
                f"no teacher for {', '.join(missing)}: give one for each, or one without a scenario for all others"
            )

    def of(self, scenario: str) -> Network:
        """The teacher in a scenario, with the price of a lost block there."""
        network = self._network[scenario if scenario in self._network else ""]
        price = self._price.get(scenario, self._price.get("default"))
        return network if price is None else network.with_residual_price(price)


class DistillationObjective:
    """Learn the scores that a teacher gives to the actions."""

    def __init__(self, config: DistillConfig, teachers: Teachers) -> None:
        self._config, self._teachers = config, teachers

    def collect(self, plan: RolloutPlan, network: Network, on_slot: OnSlot) -> Experience:
        """See `distila.training.learning.trainer.Objective`."""
        teacher = self._teachers.of(plan.scenario.name)
        driver = network if self._config.driver == "student" else teacher
        return collect(plan, driver, teacher=teacher, on_slot=on_slot, columns=network.columns)

    def loss(self, network: Network, output: Tensor, labels: Mapping[str, Tensor], progress: float) -> Tensor:
        """See `distila.training.distill.losses`."""
        return distillation_loss(self._config.loss, output, labels["teacher_score"])


def distilled(
    name: str,
    config: DistillConfig,
    teachers: Teachers,
    out: Path,
    bar: Bar,
    workers: int = 1,
    cache: Path | None = None,
    resume: bool = True,
) -> Network:
    """Train a student of these teachers.

    Args:
        name: of the student, for the titles of the progress bars.
        config: of the student and its training.
        teachers: the student's teachers.
        out: directory of the checkpoint and the log.
        bar: opens the progress bars.
        workers: number of workers that collect episodes (`distila.training.learning.fan_out`).
        cache: directory of fading banks; None: the user's.
        resume: go on from the checkpoint in ``out``, if there is one.

    Raises:
        InputError: see `distila.training.learning.trainer.train`.
    """
    with bar(f"{name}: fading banks", "banks") as on_bank, bar(name, "slots") as on_slot:
        return trainer.train(
            config,
            DistillationObjective(config, teachers),
            out,
            identity={"teachers": teachers.identity},
            resume=resume,
            workers=workers,
            progress=on_slot,
            cache=cache,
            on_bank=on_bank,
        )
