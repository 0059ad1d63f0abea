"""What a decision turned out to be worth, told in hindsight for every action: retransmissions, delay and loss included.

Stop-and-wait HARQ: a block that is sent in slot ``t`` and fails is sent again in ``t + rtt``, ``t + 2 rtt``... up to K
times, and each retransmission takes a slot in which a new block would have gone. So with ``p_k`` the probability that
the first k transmissions, in the channels of their very slots and combined, do not suffice (the product of their error
rates, each with what is in the decoder by then), and ``g`` what a new block
is worth in a slot, a block of rate ``r`` is worth::

    r (1 - p_K) - sum_(k=1..K-1) p_k g(t + k rtt)          [bit per resource element]

This is the average-reward optimality equation of the semi-Markov process whose epochs are new blocks, with the value of
time, g, as it is in each slot (Puterman, "Markov Decision Processes", 1994, section 11.4; for HARQ's renewal reward
Caire and Tuninetti, IEEE Trans. Inf. Theory 47(5), 2001). It needs no price on a failed first transmission: aiming high
pays where the retransmission meets another channel, and does not where it costs a good slot. ``g`` is what the policy
itself expects of the decision in force in that slot, so this is Q-learning with full information: the simulator knows
the ``p_k`` of every MCS, and no action has to be tried.

Here the worth of an action is three numbers, which a trainer puts together: its *share* (of its own rate; the formula
divided by r, within `SHARE_LOW` and `SHARE_HIGH`); its *failure*, p_1, the probability that the block has to wait for a
retransmission; and its *residual*, p_K, the probability that it is given up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import torch
from torch import Tensor

from distila.training.network.network import SHARE_HIGH, SHARE_LOW
from distila.training.sim.conditions import Conditions
from distila.xapp.policy.bundle import Action

MOST_SLOTS_APART: Final = 4
"""Channel and feedback change little from slot to slot: to judge each of them would teach little more."""


class Label(NamedTuple):
    """What every action would have been worth as the answer to one report."""

    answered: int
    """slot of the report"""
    share: Tensor
    """float32 [link, action], `SHARE_LOW` to `SHARE_HIGH`, of the action's rate (`rate_mcs`)"""
    failure: Tensor
    """float32 [link, action], probability that the first transmission fails"""
    residual: Tensor
    """float32 [link, action], probability that the block is given up"""


@dataclass
class _Block:
    """Blocks of every MCS that begin in one slot, followed through their transmissions."""

    slot: int
    answered: int
    native_mcs: Tensor
    row: Tensor
    """int64 [link, mcs], allocation and MCS"""
    store: Tensor
    """float32 [link, mcs], what the decoder has"""
    failed: Tensor
    """float32 [link, mcs], probability that the first transmission does not suffice, and"""
    left: Tensor
    """that all so far do not"""
    sent: int = 1
    again: list[tuple[Tensor, int]] = field(default_factory=list)
    """probability of each retransmission, and the answer in force in its slot"""


class Worth:
    """Follows a simulation slot by slot, and judges the decisions once they are no longer in force.

    An absolute MCS is worth the mean over (a sample of) the slots in which the answer is in force. An offset moves what
    the DU itself uses in each of these slots; its rate is that of the MCS that it gave when the report was made.

    Args:
        conditions: of the simulation.
        actions: what a policy may answer.
    """

    def __init__(self, conditions: Conditions, actions: Sequence[Action]) -> None:
        self._conditions = conditions
        self._rtt, self._most = conditions.harq_rtt_slots, conditions.max_transmissions
        self._period, self._delay = conditions.report_period_slots, conditions.decision_delay_slots
        # The slots of retransmissions are then judged slots too, and their channel is worked out once.
        self._every = max(n for n in range(1, MOST_SLOTS_APART + 1) if self._rtt % n == 0)
        self._rate = conditions.tables.curves.rate
        self._max_mcs = len(self._rate) - 1
        self._mcs = [action.value for action in actions if action.kind == "mcs"]
        self._offsets = torch.tensor([action.value for action in actions if action.kind == "mcs_offset"])
        if [action.kind for action in actions] != ["mcs"] * len(self._mcs) + ["mcs_offset"] * len(self._offsets):
            raise ValueError("actions must be MCS first, then offsets, and nothing else")
        self._value: dict[int, Tensor] = {}
        self._native: dict[int, Tensor] = {}
        self._blocks: list[_Block] = []
        self._sums: dict[int, tuple[Tensor, int]] = {}

    def decided(self, slot: int, value: Tensor) -> None:
        """Note what the policy expects of its answer to the report of this slot [bit/RE], float32 [link]."""
        self._value[slot] = value

    def enter(self, slot: int, native_mcs: Tensor) -> list[Label]:
        """Go on to the next slot; returns what is now known.

        Args:
            slot: every slot must be entered, in order.
            native_mcs: int64 [link], what the DU itself would use in it.
        """
        if slot % self._period == 0:
            self._native[slot] = native_mcs
        if slot % self._every:
            return []
        done = [block for block in self._blocks if block.sent == self._most]
        self._blocks = [block for block in self._blocks if block.sent < self._most]
        labels = [label for block in done for label in self._judge(block)]
        answered = self._answered(slot)
        if answered >= 0:
            received = self._conditions.received(slot)
            for block in self._blocks:
                if (slot - block.slot) % self._rtt == 0:
                    block.again.append((block.left, answered))
                    block.store += received
                    # As the simulator has it: new luck for each transmission.
                    block.left = block.left * self._conditions.tbler_left(block.store, block.row)
                    block.sent += 1
            row = self._conditions.rows(slot)
            left = self._conditions.tbler_left(received, row)
            self._blocks.append(_Block(slot, answered, native_mcs, row, received, left, left))
        return labels

    def _answered(self, slot: int) -> int:
        """Slot of the report whose answer is in force; negative: none yet."""
        since = slot - self._delay
        return since - since % self._period

    def _judge(self, block: _Block) -> list[Label]:
        """Add a block to what its answer is worth; returns that once it is complete."""
        worth = self._rate * (1 - block.left)
        for probability, answered in block.again:
            worth -= probability * self._value[answered][:, None]
        share = (worth / self._rate).clamp_(SHARE_LOW, SHARE_HIGH)
        of_mcs = torch.stack([share, block.failed, block.left])  # [3, link, mcs]
        parts = [of_mcs[:, :, self._mcs]] if self._mcs else []
        if len(self._offsets):
            used = (block.native_mcs[:, None] + self._offsets).clamp_(0, self._max_mcs)
            nominal = (self._native[block.answered][:, None] + self._offsets).clamp_(0, self._max_mcs)
            of_offset = of_mcs.gather(2, used.expand(3, -1, -1))
            of_offset[0] *= self._rate[used] / self._rate[nominal]
            parts.append(of_offset)
        total, count = torch.cat(parts, dim=2), 1
        if block.answered in self._sums:
            before, blocks = self._sums[block.answered]
            total, count = before + total, blocks + 1
        self._sums[block.answered] = total, count
        if self._answered(block.slot + self._every) == block.answered:
            return []
        del self._sums[block.answered]
        for known in (self._value, self._native):
            for old in [slot for slot in known if slot < block.answered]:
                del known[old]
        share, failure, residual = total / count
        return [Label(block.answered, share.clamp_(SHARE_LOW, SHARE_HIGH), failure, residual)]
