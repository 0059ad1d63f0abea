"""The simulator as a Gymnasium environment: `LinkAdaptationEnv` is one link, `LinkAdaptationVectorEnv` a batch. ::

    import gymnasium, distila.training
    env = gymnasium.make("distila/LinkAdaptation-v0", scenario="high_mobility")
    envs = gymnasium.make_vec("distila/LinkAdaptation-v0", num_envs=1024, scenario="high_mobility")

What they are is written in the docstring of `LinkAdaptationEnv`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from distila.training.baselines import baseline, tuned_settings
from distila.training.sim.conditions import Banks, Conditions
from distila.training.sim.report import Decision, Report, matrix
from distila.training.sim.scenario import Scenario, find_scenario, training_domain
from distila.training.sim.simulator import Simulator
from distila.training.sim.split import Split, seed_sequence
from distila.xapp.errors import InputError
from distila.xapp.kpi.link_metrics import LinkCounts, goodput
from distila.xapp.kpi.observations import COLUMNS, UNITS
from distila.xapp.nr.arrays import BoolArray, Float32Array, Float64Array, IntArray
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.nr.mcs import mcs_table
from distila.xapp.policy.columns import Layout

Info: TypeAlias = dict[str, Any]

ACTIONS: Final = ("mcs", "mcs_offset")
REWARDS: Final = ("goodput", "goodput_bler")

DEFAULT_COLUMNS: Final = tuple(name for name in UNITS if COLUMNS[name].in_simulator != "never" and "_mcs_" not in name)
"""All but what the simulator never measures and what goes by MCS, which the pending actions stand in for."""

MAX_PENDING: Final = 32

_MAX_BUFFER_BYTES: Final = 2.0**32


class LinkAdaptationEnv(gymnasium.Env[Float32Array, np.int64]):
    """Choose the MCS of one NR downlink, as an xApp does: from a report each E2 period, with a delayed effect.

    ## Description

    A UE moves through a fading channel (TR 38.901, from Sionna) with interference, HARQ, CQI and traffic as a scenario
    (`distila.training.sim.scenario`) draws them. Every ``period_slots`` slots the DU reports; the action answers that
    report, takes effect ``decision_delay_slots`` later and then holds for one period. Feedback on a block arrives
    ``harq_rtt_slots`` after it was sent. Until the first action takes effect the DU chooses by itself.

    ## Action space

    ``action="mcs"``: ``Discrete(n)``, the MCS index; n is the size of the largest MCS table that the scenario may draw
    (29, 28 or 29 for tables 1 to 3), and what an episode's table does not have becomes its highest MCS.

    ``action="mcs_offset"``: ``Discrete(2 * max_offset + 1)``, action a shifts whatever the DU would use in each slot by
    ``a - max_offset``, clipped to the table; ``max_offset`` itself leaves the DU alone. The DU's own loop learns
    only from blocks that it chose itself: an override freezes it.

    ## Observation space

    ``Box`` of float32, raw units, finite bounds. The attribute ``observation_names`` names the entries, in this order:

    | entries | low | high | |
    |---|---|---|---|
    | ``cqi`` | 0 | 15 | index of the UE's CQI table |
    | ``cqi_age_slots`` | 0 | the episode | slots since the UE measured it |
    | ``ri`` | 1 | 8 | layers |
    | ``dl_buffer_bytes`` | 0 | 2^32 | absent: full buffer; clipped |
    | ``prbs`` | 0 | 275 | latest allocation |
    | ``native_mcs`` | 0 | 28 | what the DU would use now |
    | ``retx_ack``, ``retx_nack`` | 0 | longest period | retransmissions that were decoded, and that were not |
    | ``combining`` | 0 | 2 | of retransmissions: 1 chase, 2 incremental redundancy |
    | ``max_transmissions`` | 0 | 8 | HARQ transmissions of a block that the node allows |
    | ``cqi_table``, ``mcs_table`` | 1 | 3 | TS 38.214 |
    | ``period_slots`` | 0 | longest period | slots that the report covers; 0 in the first |
    | ``harq_ack``, ``harq_nack``, ``harq_dtx`` | 0 | longest period | first transmissions, by feedback in the period |
    | ``harq_residual`` | 0 | longest period | transport blocks lost in the period after their last transmission |
    | ``<column>_measured`` | 0 | 1 | for what a report can lack: CQI, its age, buffer, node settings; sinr_db |
    | ``pending_1`` ... ``pending_K`` | 0 or -1 | 1 | the agent's own latest actions, newest first |

    All but the last two rows are ``columns``, any of `distila.xapp.kpi.observations.UNITS` in any order; these are the
    default. Ranges are those of `distila.xapp.kpi.observations`, cut to what an episode can reach. A column that a
    report can lack has a flag: 1 measured, 0 not, and then the column is 0. ``sinr_db`` never is; ``harq_mcs_mean`` and
    ``retx_mcs_mean`` lie between 0 and 28, ``harq_ack_mcs_<m>`` and ``harq_nack_mcs_<m>`` between 0 and the longest
    period of the scenario.

    Pending actions are what makes late feedback a Markov state: with report period P, HARQ round trip R and decision
    delay D, the effect of no more than the latest ``K = ceil((R + D) / P)`` actions is still unreported. K is that of
    the scenario's worst case, at most 32, or what ``pending`` says, so that one policy fits several scenarios. An MCS
    m of n enters as ``(m + 1) / n``, an offset o as ``o / max_offset``; 0 stands where no action was taken yet (as for
    an offset of 0, the DU was left alone).

    ## Reward

    With the bits B that arrived at the UE in the period, and the resource elements E (12 x 14 for each PRB and slot,
    overhead included) that carried transmissions in it:

    ``goodput``: ``r = B / E`` [bit/s/Hz], 0 where nothing was sent.

    ``goodput_bler``: ``r = B / E - bler_weight * max(0, bler - bler_target)``, 0 where nothing was sent, with the
    first-transmission BLER (grants that were not received left out) under exponential forgetting::

        bler = nacks / (acks + nacks),   acks = exp(-P / bler_window_slots) * acks + acks in the period, nacks alike

    and begins as if the target had been met over one window. It is in ``info``, not in the observation: it holds blocks
    on which the agent has no feedback yet. A BLER of one period alone would be 0 or 1 where a period is a slot, and its
    excess over the target no constraint but a price on every NACK.

    Both are the simulator's knowledge, not the DU's: blocks count when they are decoded.

    ## Start

    ``reset(seed=s)`` draws everything from ``s`` under ``split`` (see `distila.training.sim.split`), including the
    settings that the scenario leaves open; without a seed the environment's own generator, seeded by the latest ``s``,
    gives the next number. The first report is that of slot 0: no CQI has arrived and nothing was sent.

    ## End

    Never by termination. Truncated at the first report at which ``episode_slots`` have passed, which is after
    ``ceil(episode_slots / period_slots)`` steps: episodes of a scenario that draws the period differ in steps, not in
    time.

    ## Info

    ``slot`` of the report; of the period, ``delivered_bits`` (B), ``resource_elements`` (E), ``goodput`` (B / E), the
    first transmissions ``first_ack``, ``first_nack``, ``first_dtx``, and ``residual``, blocks lost (all 0 after a
    reset); ``bler`` as above; ``native_mcs``, what the DU would use now.

    ## Arguments

    | name | default | |
    |---|---|---|
    | ``scenario`` | training domain | a family's name, the path of a YAML file, or a `Scenario` |
    | ``episode_slots`` | 2000 | length of an episode |
    | ``action`` | ``"mcs"`` | or ``"mcs_offset"`` |
    | ``max_offset`` | 5 | largest offset |
    | ``columns`` | `DEFAULT_COLUMNS` | what of the report is observed |
    | ``pending`` | K | how many of its latest actions the agent observes |
    | ``reward`` | ``"goodput"`` | or ``"goodput_bler"`` |
    | ``bler_target`` | 0.1 | for ``goodput_bler`` |
    | ``bler_weight`` | 10.0 | bit/s/Hz per unit of excess BLER |
    | ``bler_window_slots`` | 200.0 | time constant of the BLER |
    | ``native`` | ``"olla"`` | the DU's own link adaptation, a name of `distila.training.baselines`, as tuned |
    | ``split`` | ``Split.TRAIN`` | which streams of random numbers |
    | ``banks`` | ``Banks()`` | fading to use; generated when first needed, then kept in files |
    | ``device`` | ``"cpu"`` | where the simulator's tensors live |

    A wrong one raises `distila.xapp.errors.InputError`.

    ## Vectorized environment

    `LinkAdaptationVectorEnv` takes ``num_envs`` as well: so many links in one `Simulator`, whose periods, delays, HARQ
    settings and tables are drawn once for all of them. All episodes end together. Autoreset is
    ``AutoresetMode.NEXT_STEP``: the step after a truncation ignores its actions, returns the first observation of the
    next episode, rewards of 0 and no truncation. ``info`` has arrays [link]. `LinkAdaptationEnv` is the case of one
    link, number for number. Where there are fewer links than channel configurations in the scenario, each
    episode picks as many of them at random.

    ## Version history

    * v0: initial version; until 1.0 of distila its default columns grow with the observation table (latest addition:
      ``max_transmissions``), so name the ``columns`` where an agent shall outlive an upgrade
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(
        self,
        scenario: str | Path | Scenario | None = None,
        *,
        episode_slots: int = 2000,
        action: str = "mcs",
        max_offset: int = 5,
        columns: Sequence[str] = DEFAULT_COLUMNS,
        pending: int | None = None,
        reward: str = "goodput",
        bler_target: float = 0.1,
        bler_weight: float = 10.0,
        bler_window_slots: float = 200.0,
        native: str = "olla",
        split: Split = Split.TRAIN,
        banks: Banks | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._links = LinkAdaptationVectorEnv(
            1,
            scenario,
            episode_slots=episode_slots,
            action=action,
            max_offset=max_offset,
            columns=columns,
            pending=pending,
            reward=reward,
            bler_target=bler_target,
            bler_weight=bler_weight,
            bler_window_slots=bler_window_slots,
            native=native,
            split=split,
            banks=banks,
            device=device,
        )
        self.observation_names = self._links.observation_names
        self.action_space = self._links.single_action_space
        self.observation_space = self._links.single_observation_space

    @property
    def simulator(self) -> Simulator:
        """The episode's simulator, of one link."""
        return self._links.simulator

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Float32Array, Info]:
        """Begin an episode; ``options`` has no meaning."""
        super().reset(seed=seed)
        observation, info = self._links.begin(_next_seed(seed, self.np_random))
        return observation[0], _of_one_link(info)

    def step(self, action: np.int64 | int) -> tuple[Float32Array, float, bool, bool, Info]:
        """Answer the latest report and go on to the next one.

        Raises:
            InvalidAction: not in the action space.
            ResetNeeded: before `reset`, or after the episode's end.
        """
        observation, reward, truncated, info = self._links.advance(np.asarray([action]))
        return observation[0], float(reward[0]), False, truncated, _of_one_link(info)


class LinkAdaptationVectorEnv(gymnasium.vector.VectorEnv[Float32Array, IntArray, npt.NDArray[Any]]):
    """A batch of links in one simulator; see `LinkAdaptationEnv`, whose docstring is the specification of both.

    Attributes:
        observation_names: what each entry of an observation is.
        scenario: what episodes are drawn from.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        scenario: str | Path | Scenario | None = None,
        *,
        episode_slots: int = 2000,
        action: str = "mcs",
        max_offset: int = 5,
        columns: Sequence[str] = DEFAULT_COLUMNS,
        pending: int | None = None,
        reward: str = "goodput",
        bler_target: float = 0.1,
        bler_weight: float = 10.0,
        bler_window_slots: float = 200.0,
        native: str = "olla",
        split: Split = Split.TRAIN,
        banks: Banks | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        _check_one_of("action", action, ACTIONS)
        _check_one_of("reward", reward, REWARDS)
        counts = {"num_envs": num_envs, "episode_slots": episode_slots, "max_offset": max_offset, "pending": pending}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise InputError(f"{name} is {count}; must be at least 1")
        if not 0 < bler_target < 1:
            raise InputError(f"bler_target is {bler_target:g}; must lie between 0 and 1")
        if not 0 <= bler_weight < math.inf:
            raise InputError(f"bler_weight is {bler_weight:g}; must be a number from 0 up")
        if not 0 < bler_window_slots < math.inf:
            raise InputError(f"bler_window_slots is {bler_window_slots:g}; must be a number above 0")
        self.scenario = _scenario(scenario)
        self.num_envs, self._device = num_envs, torch.device(device)
        self._split, self._banks, self._bler = split, banks, SmoothBler.load()
        self._native = baseline(native, **tuned_settings(native))
        self._episode_slots = episode_slots
        self._longest_period = self.scenario.longest_report_period_slots
        self._num_slots = episode_slots + self._longest_period
        self._max_offset = max_offset if action == "mcs_offset" else None
        self._constrained = reward == "goodput_bler"
        self._bler_target, self._bler_weight, self._bler_window_slots = bler_target, bler_weight, bler_window_slots
        self._make_spaces(Layout(columns).columns, pending)
        self._simulator: Simulator | None = None
        self._ended = False

    def _make_spaces(self, columns: tuple[str, ...], pending: int | None) -> None:
        kinds = list(self.scenario.kinds.values())
        tables = [mcs_table(int(index)).num_mcs for kind in kinds for index in kind.link.mcs_table.values]
        self._num_actions = max(tables) if self._max_offset is None else 2 * self._max_offset + 1
        self._columns = list(columns)
        flagged = [name for name in columns if COLUMNS[name].in_simulator != "always"]
        self._flagged = torch.tensor([columns.index(name) for name in flagged], device=self._device, dtype=torch.int64)
        worst = min(MAX_PENDING, max(_most_pending(kind) for kind in kinds))
        self._num_pending = worst if pending is None else pending
        actions = [f"pending_{place}" for place in range(1, self._num_pending + 1)]
        self.observation_names = (*columns, *(f"{name}_measured" for name in flagged), *actions)
        bounds = [self._bounds(name) for name in columns]
        bounds += [(0.0, 1.0)] * len(flagged)
        bounds += [(0.0 if self._max_offset is None else -1.0, 1.0)] * self._num_pending
        low, high = np.array(bounds, np.float32).T
        self._low, self._high = (torch.tensor(edge, device=self._device) for edge in (low, high))
        self.single_action_space = spaces.Discrete(self._num_actions)
        self.single_observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def _bounds(self, column: str) -> tuple[float, float]:
        """Lowest and highest value of a column of the report, 0 for not measured included."""
        found = COLUMNS[column]
        # What counts slots or events cannot exceed those of an episode or period.
        most = {
            "cqi_age_slots": self._num_slots,
            "period_slots": self._longest_period,
            "dl_buffer_bytes": _MAX_BUFFER_BYTES,
        }
        high = min(found.high, self._longest_period if found.counted else most.get(column, math.inf))
        low = found.low if found.in_simulator == "always" else min(found.low, 0.0)
        return float(low), float(high)

    @property
    def simulator(self) -> Simulator:
        """The simulator of the present episodes.

        Raises:
            ResetNeeded: there are none yet.
        """
        if self._simulator is None:
            raise ResetNeeded("reset must come before the first step")
        return self._simulator

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Float32Array, Info]:
        """Begin an episode on every link; ``options`` has no meaning."""
        super().reset(seed=seed)
        return self.begin(_next_seed(seed, self.np_random))

    def step(self, actions: IntArray) -> tuple[Float32Array, Float64Array, BoolArray, BoolArray, Info]:
        """Answer the latest reports and go on to the next ones; or begin the next episodes, after the end of the last.

        Raises:
            InvalidAction: not in the action space.
            ResetNeeded: before `reset`.
        """
        if self._ended:
            observation, info = self.begin(_next_seed(None, self.np_random))
            reward, truncated = np.zeros(self.num_envs), False
        else:
            observation, reward, truncated, info = self.advance(actions)
        return observation, reward, np.zeros(self.num_envs, np.bool_), np.full(self.num_envs, truncated), info

    def begin(self, seed: int) -> tuple[Float32Array, Info]:
        """Begin the episode of a seed: what `reset` and autoreset do."""
        scenario = self._with_channels_for_all(seed)
        conditions = Conditions(
            scenario, self.num_envs, self._split, seed, self._num_slots, self._device, self._banks, self._bler
        )
        self._simulator = Simulator(conditions, native=self._native)
        self._ended = False
        self._pending = torch.zeros((self.num_envs, self._num_pending), device=self._device)
        self._totals = self._count()
        self._acks = np.full(self.num_envs, (1 - self._bler_target) * self._bler_window_slots)
        self._nacks = np.full(self.num_envs, self._bler_target * self._bler_window_slots)
        nothing = np.zeros((len(self._totals), self.num_envs))
        bler = np.full(self.num_envs, self._bler_target)
        return self._observe(self._simulator.report), self._info(nothing, _goodput(nothing), bler)

    def advance(self, actions: npt.NDArray[np.integer[Any]]) -> tuple[Float32Array, Float64Array, bool, Info]:
        """One step within the episodes: observation [link, entry], reward [link], whether they ended, info."""
        simulator = self.simulator
        if self._ended:
            raise ResetNeeded("the episode has ended")
        chosen = self._checked(actions)
        if self._max_offset is None:
            decision = Decision.absolute(chosen.clamp(max=simulator.tables.max_mcs))
            scaled = (chosen + 1) / self._num_actions
        else:
            decision = Decision.offset(chosen - self._max_offset)
            scaled = decision.value / self._max_offset
        before = simulator.slot
        report = simulator.step(decision)
        self._pending = torch.cat((scaled[:, None], self._pending[:, :-1]), dim=1)
        totals = self._count()
        happened = (totals - self._totals).cpu().numpy()
        self._totals = totals
        goodput, bler = _goodput(happened), self._forgetting_bler(simulator.slot - before, happened)
        reward = goodput.copy()
        if self._constrained:
            excess = np.maximum(bler - self._bler_target, 0)
            reward -= self._bler_weight * excess * (happened[_RESOURCE] > 0)
        self._ended = simulator.slot >= self._episode_slots
        return self._observe(report), reward, self._ended, self._info(happened, goodput, bler)

    def _with_channels_for_all(self, seed: int) -> Scenario:
        """The scenario; if there are fewer links than channel configurations, with as many of them, by chance."""
        channels = self.scenario.channels
        if self.num_envs >= len(channels):
            return self.scenario
        rng = np.random.default_rng(seed_sequence(self._split, seed, f"channels {self.scenario.name}"))
        picked = rng.choice(len(channels), self.num_envs, replace=False)
        return self.scenario.model_copy(update={"channels": tuple(channels[index] for index in picked)})

    def _checked(self, actions: npt.NDArray[np.integer[Any]]) -> Tensor:
        chosen = np.asarray(actions)
        if chosen.shape != (self.num_envs,) or chosen.dtype.kind not in "iu":
            raise InvalidAction(f"actions are {chosen.dtype}{list(chosen.shape)}; must be integers [{self.num_envs}]")
        if chosen.min() < 0 or chosen.max() >= self._num_actions:
            raise InvalidAction(f"actions lie in {chosen.min()}..{chosen.max()}; must in 0..{self._num_actions - 1}")
        return torch.as_tensor(chosen.astype(np.int64), device=self._device)

    def _observe(self, report: Report) -> Float32Array:
        values = matrix(report, self._columns)
        measured = ~values[:, self._flagged].isnan()
        entries = torch.cat((values.nan_to_num(0.0), measured, self._pending), dim=1)
        result: Float32Array = torch.clamp(entries, self._low, self._high).cpu().numpy()
        return result

    def _count(self) -> Tensor:
        """The simulator's counters, float64 [counter, link]."""
        counters = self.simulator.counters
        return torch.stack(
            (
                counters.bits,
                counters.resource,
                counters.first_ack,
                counters.first_nack,
                counters.first_dtx,
                counters.residual,
            )
        )

    def _forgetting_bler(self, period_slots: int, happened: Float64Array) -> Float64Array:
        """First-transmission BLER with exponential forgetting, [link]."""
        kept = math.exp(-period_slots / self._bler_window_slots)
        self._acks = kept * self._acks + happened[_ACK]
        self._nacks = kept * self._nacks + happened[_NACK]
        nothing = np.zeros(self.num_envs)
        counts = LinkCounts(nothing, nothing, self._acks, self._nacks, nothing, nothing, nothing)
        # Of a link that is silent for long, no count is left; its BLER is taken as 0.
        result: Float64Array = np.nan_to_num(counts.first_tx_bler, nan=0.0)
        return result

    def _info(self, happened: Float64Array, goodput: Float64Array, bler: Float64Array) -> Info:
        """Arrays [link]."""
        simulator = self.simulator
        assert simulator.native_mcs is not None
        counts = happened[_ACK:].astype(np.int64)
        return {
            "slot": np.full(self.num_envs, simulator.slot),
            "delivered_bits": happened[_BITS],
            "resource_elements": happened[_RESOURCE],
            "goodput": goodput,
            "bler": bler,
            "first_ack": counts[0],
            "first_nack": counts[1],
            "first_dtx": counts[2],
            "residual": counts[3],
            "native_mcs": simulator.native_mcs.cpu().numpy().copy(),
        }


_BITS, _RESOURCE, _ACK, _NACK, _DTX, _RESIDUAL = range(6)


def _goodput(happened: Float64Array) -> Float64Array:
    """Delivered bits per resource element, [link]; 0 where nothing was sent."""
    return goodput(happened[_BITS], happened[_RESOURCE])


def _next_seed(seed: int | None, rng: np.random.Generator) -> int:
    return int(rng.integers(2**31)) if seed is None else seed


def _of_one_link(info: Info) -> Info:
    return {name: values[0].item() for name, values in info.items()}


def _most_pending(scenario: Scenario) -> int:
    """Most decisions that are made before the feedback of the first one."""
    late = scenario.link.harq_rtt_slots.bounds[1] + scenario.e2.delay_slots.bounds[1]
    return math.ceil(late / scenario.e2.period_slots.bounds[0])


def _scenario(given: str | Path | Scenario | None) -> Scenario:
    if given is None:
        return training_domain()
    return given if isinstance(given, Scenario) else find_scenario(str(given))


def _check_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name} {value!r} is unknown; must be {' or '.join(known)}")
