"""The simulator as a TorchRL environment, and the reward of every block that was sent under a decision.

Stop-and-wait HARQ: a block that fails is sent again in its process's next slot, one round trip later, where otherwise
a new block would have gone. A decision in that slot has no effect. So the trajectory that a decision belongs to is not
the link's sequence of slots but that of one HARQ process: its steps are its *blocks*, each with the decision that was
in force when it was first sent; the next step is the process's next block. This holds for any E2 period and delay.

The reward of a block is known up to (K - 1) round trips after it was first sent, and is credited to its own decision.
With ``rate`` the bits per resource element that it holds and ``g`` the bits that its link delivers per resource element
on average over the episode::

    reward = delivered * rate / g - retransmissions - latency_price * first_failed - residual_price * lost

Its unit is an average slot of the link, and so is that of both prices. The second term is the price of time: each
retransmission takes resources in which the link would have earned ``g``. That is
the average-reward criterion for semi-Markov decision processes (Puterman, "Markov Decision Processes", 1994, section
11.4; learnt from samples: Schwartz, "A Reinforcement Learning Method for Maximizing Undiscounted Rewards", ICML 1993).
So the horizon may be short although a round trip is long, and a discount counts blocks, not slots. Unlike
`distila.training.learning.action_values` this knows nothing but what happened. Dividing by ``g`` changes no link's best
decisions, and gives the rewards of good and of poor links one scale.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torch.nn import functional as F
from torchrl.data import Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from distila.training.baselines import baseline, tuned_settings
from distila.training.learning.rollout import PartialReports, RolloutPlan
from distila.training.network.filters import PolicyNetwork
from distila.training.network.policy import Answers
from distila.training.sim.conditions import Conditions
from distila.training.sim.report import Policy, Report
from distila.training.sim.simulator import Sent, Simulator
from distila.xapp.kpi.link_metrics import goodput


class LinkEnv(EnvBase):  # type: ignore[misc]
    """A batch of links that step together; one step is one report answered. Each `reset` begins the plan's episode.

    Observations (``observation``, float32 [link, F]) are what the trained layers of a policy network see: its features,
    with its memory, which are fixed. Actions (``action``, int64 [link]) are the network's, beside the DU's own tuned
    OLLA as in `distila.training.learning.rollout`. ``reward``, float32 [link, 1], is what was delivered during the step
    [bit per resource element that carried transmissions]; `blocks` has what is learnt from. ``done`` at the plan's end:
    it ends all links, and terminates none.

    Args:
        plan: what to simulate (exploration is the caller's).
        network: whose features and actions; not changed.
        algorithm: gets the same reports; the MCS that it would choose is ``algorithm_choice``, int64 [link].
        device: where the tensors live; the network must be there.

    Attributes:
        simulator: of the present episode.
        sent: all that it has sent.
    """

    simulator: Simulator
    sent: list[Sent]

    def __init__(
        self,
        plan: RolloutPlan,
        network: PolicyNetwork,
        algorithm: Policy | None = None,
        device: torch.device | str = "cpu",
        on_slot: Callable[[int], None] = lambda slot: None,
    ) -> None:
        super().__init__(device=torch.device(device), batch_size=torch.Size([plan.links]))
        self._plan, self._features, self._algorithm, self._on_slot = plan, network, algorithm, on_slot
        self._actions = network.actions
        links, entries = plan.links, len(network.feature_names)
        observed: dict[str, Unbounded] = {"observation": Unbounded((links, entries), device=device)}
        if algorithm is not None:
            # Without bounds, as the number of MCS is the scenario's.
            observed["algorithm_choice"] = Unbounded((links,), dtype=torch.int64, device=device)
        self.observation_spec = Composite(observed, shape=(links,), device=device)
        self.action_spec = Categorical(len(network.actions), shape=(links,), device=device)
        self.reward_spec = Unbounded((links, 1), device=device)

    def _reset(self, tensordict: TensorDictBase | None = None, **_: Any) -> TensorDictBase:
        plan = self._plan
        # The first report at or after the last slot still belongs to the episode.
        most_slots = plan.slots + plan.scenario.longest_report_period_slots
        conditions = Conditions(
            plan.scenario, plan.links, plan.split, plan.seed, most_slots, self.device, banks=plan.banks
        )
        self._reported, self.sent = PartialReports(plan, conditions), []
        self._answers = Answers(self._actions, conditions.tables.max_mcs, self.device)
        self.simulator = Simulator(conditions, baseline("olla", **tuned_settings("olla")), self.sent.append)
        if self._algorithm is not None:
            # The name seeds the generator: it must not change.
            self._algorithm.start(conditions.cell(), conditions.generator("advisor"))
        self._state = self._features.zero_state(plan.links)
        return TensorDict(self._observed(self.simulator.report), self.batch_size, device=self.device)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        done_before = len(self.sent)
        report = self.simulator.step(self._answers.decision(tensordict["action"]))
        delivered = sum((sent.bits * ~sent.failed).sum(dim=0) for sent in self.sent[done_before:])
        resource = sum(sent.resource.sum(dim=0) for sent in self.sent[done_before:])
        self._on_slot(self.simulator.slot)
        ended = torch.full((*self.batch_size, 1), self.simulator.slot >= self._plan.slots, device=self.device)
        happened = {
            "reward": (delivered / torch.as_tensor(resource).clamp(min=1))[:, None],
            "done": ended,
            "terminated": torch.zeros_like(ended),
        }
        return TensorDict(self._observed(report) | happened, self.batch_size, device=self.device)

    def _set_seed(self, seed: int | None) -> None:
        """Nothing: an episode is its plan's."""

    @torch.no_grad()
    def _observed(self, report: Report) -> dict[str, Tensor]:
        observation, self._state = self._features.features(self._reported(report, self._features.columns), self._state)
        if self._algorithm is None:
            return {"observation": observation}
        return {"observation": observation, "algorithm_choice": self._algorithm.decide(report).value}

    def blocks(self, rollout: TensorDictBase, latency_price: float = 0.0, residual_price: float = 0.0) -> TensorDict:
        """`blocks_of` what was sent in a rollout of the whole episode."""
        return blocks_of(rollout, self.sent, self.simulator.conditions, latency_price, residual_price)


def blocks_of(
    rollout: TensorDictBase,
    sent: Sequence[Sent],
    conditions: Conditions,
    latency_price: float = 0.0,
    residual_price: float = 0.0,
) -> TensorDict:
    """The processes' trajectories: what was sent under the decisions of a rollout of the whole episode.

    Args:
        rollout: [link, step], of `LinkEnv`, the whole episode.
        sent: in it.
        conditions: of it.
        latency_price, residual_price: see the module's docstring; in average slots.

    Returns:
        [process of a link, block], padded at the end; ``valid``, bool, tells which entries are blocks. As TorchRL
        has it: ``observation`` (and ``advice``) and ``action`` of the block's decision; in ``next`` the observation
        at the process's next block, ``reward`` [average slots], ``done`` at a trajectory's last
        block, ``terminated`` never. A block is left out if the process sent none after it before the episode ended.
    """
    rtt, most = conditions.harq_rtt_slots, conditions.max_transmissions
    first, failed, dropped = (
        torch.cat([getattr(window, name) for window in sent]) for name in ("first", "failed", "lost")
    )
    bits, resource = (torch.cat([getattr(window, name) for window in sent]) for name in ("bits", "resource"))
    average = goodput((bits * ~failed).sum(dim=0), resource.sum(dim=0))
    # Otherwise a link that delivers next to nothing would outweigh all others.
    average = average.clamp(min=float(conditions.tables.curves.rate[0]))
    share = goodput(bits, resource) / average

    # From slots to processes, [slot, link] to [link, process, round]; what lies beyond the end is no transmission.
    rounds = math.ceil(len(first) / rtt)

    def by_process(values: Tensor) -> Tensor:
        padded = F.pad(values, (0, 0, 0, rounds * rtt - len(values)))
        return padded.view(rounds, rtt, -1).permute(2, 1, 0)

    first, failed, dropped, share = (by_process(values) for values in (first, failed, dropped, share))
    first_failed = first & failed
    delivered, lost, open_ = torch.zeros_like(first), torch.zeros_like(first), first.clone()
    again = torch.zeros_like(share)
    for later in range(most):
        fails, ends = (F.pad(values[..., later:], (0, later)) for values in (failed, dropped))
        delivered |= open_ & ~fails
        lost |= open_ & ends
        open_ &= fails & ~ends
        again += open_
    reward = share * delivered - again - latency_price * first_failed.float() - residual_price * lost.float()

    # From rounds to blocks: those rounds of a process that began one, in order, at the front.
    slot = torch.arange(rounds * rtt, device=first.device).view(rounds, rtt).T
    answer = (slot - conditions.decision_delay_slots).div(conditions.report_period_slots, rounding_mode="floor")
    # Before the first answer takes effect the DU decides.
    began = first & (answer >= 0)
    count = began.sum(dim=-1)
    width = max(int(count.max()), 1)
    order = torch.argsort(~began, dim=-1, stable=True)[..., :width]
    step = answer.expand_as(began).gather(-1, order).clamp(0, rollout.shape[-1] - 1)
    link = torch.arange(len(began), device=first.device)[:, None, None].expand_as(step)
    place = torch.arange(width - 1, device=first.device)
    valid = place < count[..., None] - 1

    blocks = rollout.select("observation", "action", "algorithm_choice", strict=False)[link, step]
    found = blocks[..., :-1].clone(recurse=False)
    after = {
        "observation": blocks["observation"][..., 1:, :],
        "reward": reward.gather(-1, order)[..., :-1, None],
        "done": (place == count[..., None] - 2)[..., None],
        "terminated": torch.zeros_like(valid)[..., None],
    }
    found["next"] = TensorDict(after, found.batch_size)
    found["valid"] = valid
    return found.flatten(0, 1)
