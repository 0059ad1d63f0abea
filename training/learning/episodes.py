"""Episodes of the simulator that trainings learn from: their settings, and the plan of each."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from pydantic import AliasChoices, Field, JsonValue

from distila.training.learning.action_values import MAX_SAMPLE_PERIOD_SLOTS
from distila.training.learning.loop import OptimizerConfig
from distila.training.learning.rollout import RolloutPlan
from distila.training.network.config import NetworkConfig
from distila.training.sim.bank import fading_bank
from distila.training.sim.conditions import Banks
from distila.training.sim.scenario import SAME_TABLE, Scenario, find_scenario
from distila.training.sim.split import Split
from distila.xapp.errors import InputError
from distila.xapp.progress import Progress

_WITHOUT_EFFECT: Final = {"checkpoint_every"}
"""Settings that the weights do not depend on, so that they may change when a training goes on."""
_SEED_STRIDE: Final = 1_000_000
"""Between the episodes' seeds of one training seed and the next, so that each meets channels of its own."""


class EpisodicConfig(OptimizerConfig):
    """Settings of every training that learns from episodes of the simulator; all that the weights depend on."""

    scenarios: tuple[str, ...] = Field(
        min_length=1,
        description="one for each episode, in turn: families, YAML files, `domain`, or its part `domain_table1`; "
        "unseen families are rejected",
    )
    links: int = Field(default=384, ge=1, description="links that are simulated at once in an episode")
    slots: int = Field(default=600, ge=1, description="length of an episode")
    episodes: int = Field(default=160, ge=1, description="number of episodes; each has channels of its own")
    episodes_per_round: int = Field(
        default=1,
        ge=1,
        description="number of episodes collected with the same weights, in parallel where workers allow it",
    )
    epochs: int = Field(default=1, ge=1, description="how often each experience is learnt from")
    min_batches: int = Field(
        default=1,
        ge=1,
        validation_alias=AliasChoices("min_batches", "least_batches"),
        description="batches of each experience, at least; a short one, as of slow E2, is learnt from more often",
    )
    exploration: float = Field(default=0.1, ge=0, le=1, description="share of decisions that are moved at random")
    exploration_reach: int = Field(default=2, ge=1, description="actions up or down by which they are moved, at most")
    native_unknown: float = Field(
        default=0.1, ge=0, le=1, description="share of links whose reports have no native MCS"
    )
    retx_unknown: float = Field(
        default=0.1, ge=0, le=1, description="share of links whose reports do not count retransmissions"
    )
    combining_unknown: float = Field(
        default=0.2, ge=0, le=1, description="share of links whose reports do not say how the node combines"
    )
    chase_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of episodes in which nodes use chase combining whatever their scenario says",
    )
    label_every_slots: int = Field(default=4, ge=1, description="slots between two decisions that a teacher labels")
    seed: int = Field(default=0, ge=0, description="seed of the first weights and of all random draws")
    bank_rows: int = Field(default=48, ge=1, description="UEs in the fading bank of each channel")
    bank_slots: int = Field(default=4096, ge=1, description="length of the fading bank")
    network: NetworkConfig = NetworkConfig()


def plan_episode(config: EpisodicConfig, scenarios: list[Scenario], number: int, banks: Banks) -> RolloutPlan:
    """What is simulated in an episode, by its number; of a mixture, one kind of node."""
    seed = config.seed * _SEED_STRIDE + number
    _, scenario = scenarios[number % len(scenarios)].drawn(Split.TRAIN, seed)
    if np.random.default_rng((config.seed, number)).random() < config.chase_share:
        scenario = scenario.model_copy(update={"link": scenario.link.model_copy(update={"combining": "chase"})})
    return RolloutPlan(
        scenario=scenario,
        links=config.links,
        slots=config.slots,
        seed=seed,
        banks=banks,
        exploration=config.exploration,
        exploration_reach=config.exploration_reach,
        native_unknown=config.native_unknown,
        retx_unknown=config.retx_unknown,
        combining_unknown=config.combining_unknown,
        label_every_slots=config.label_every_slots,
    )


def identity_of(
    config: EpisodicConfig, scenarios: list[Scenario], more: Mapping[str, JsonValue]
) -> dict[str, JsonValue]:
    """All that the weights depend on, for `Checkpoint`."""
    # The name of a scenario does not say whether its file was changed.
    described: dict[str, JsonValue] = {scenario.name: scenario.model_dump(mode="json") for scenario in scenarios}
    return {"configuration": config.model_dump(mode="json", exclude=_WITHOUT_EFFECT), "scenario": described, **more}


def checked_scenarios(config: EpisodicConfig) -> list[Scenario]:
    """The scenarios by name.

    Raises:
        InputError: one is unknown, unseen, has other tables than the network, or needs longer episodes.
    """
    found = [find_scenario(name) for name in config.scenarios]
    for scenario in found:
        if scenario.unseen:
            raise InputError(f"scenarios: {scenario.name} is unseen: it is kept for tests of generalisation")
        for node, kind in scenario.kinds.items():
            _check_kind(config, f"{scenario.name} ({node})" if node else scenario.name, kind)
    return found


def _check_kind(config: EpisodicConfig, name: str, scenario: Scenario) -> None:
    """Raise an InputError where a scenario without kinds of node has other tables, or needs longer episodes."""
    mcs_table, cqi_table = scenario.link.mcs_table, scenario.cqi.table
    for setting, table in (
        ("mcs_table", mcs_table),
        ("cqi_table", mcs_table if cqi_table == SAME_TABLE else cqi_table),
    ):
        ours = getattr(config.network, setting)
        if table.bounds != (ours, ours):
            low, high = table.bounds
            theirs = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            raise InputError(f"network.{setting} = {ours}: scenario {name} has {theirs}")
    timing = (scenario.e2.period_slots, scenario.e2.delay_slots, scenario.link.harq_rtt_slots)
    period, delay, rtt = (int(x.bounds[1]) for x in timing)
    # Until the blocks of the first decision have had all their transmissions and its label is complete.
    retransmissions = int(scenario.link.max_transmissions.bounds[1]) - 1
    needed = delay + period + retransmissions * rtt + 2 * MAX_SAMPLE_PERIOD_SLOTS
    if config.slots < needed:
        raise InputError(f"slots = {config.slots}: scenario {name} needs {needed} or more for a decision")


def make_banks(scenarios: list[Scenario], banks: Banks, on_bank: Progress) -> None:
    """Generate the fading banks that are not in the cache, before the first episode."""
    channels = list(dict.fromkeys(channel for scenario in scenarios for channel in scenario.channels))
    for done, channel in enumerate(channels):
        on_bank(done, len(channels))
        fading_bank(channel, banks.rows, banks.slots, Split.TRAIN, banks.seed, banks.cache)
    on_bank(len(channels), len(channels))
