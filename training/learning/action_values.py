"""Action values: the return of every action that could have answered a report, computed in hindsight.

Stop-and-wait HARQ: a block sent in slot ``t`` that fails is retransmitted in ``t + rtt``, ``t + 2 rtt``... for up to K
transmissions, and each retransmission takes a slot in which a new block would have been sent. Let ``p_k`` be the
probability that the receiver cannot decode after the first k transmissions, in the channels of their own slots and with
combining (the product of their error rates, each with what the decoder holds by then: `Combining`), and ``g`` what a
new block returns in a slot. The return of a block of rate ``r`` is ::

    r (1 - p_K) - sum_(k=1..K-1) p_k g(t + k rtt)          [bit per resource element]

This is the average-reward optimality equation of the semi-Markov process whose epochs are new blocks, with the value of
time, g, of each slot (Puterman, "Markov Decision Processes", 1994, section 11.4; for HARQ's renewal reward Caire and
Tuninetti, IEEE Trans. Inf. Theory 47(5), 2001). A failed first transmission needs no price here: a high MCS pays off
where the retransmission meets another channel, and does not where it costs a good slot. ``g`` is the value that the
policy itself expects of the decision in force in that slot, so this is Q-learning with full information: the simulator
knows the ``p_k`` of every MCS, and no action has to be tried. Left out are missed grants, which meet all MCS alike, and
that nothing begins in a slot without a free HARQ process: it counts as one in which a block begins.

Three numbers describe an action, and a trainer combines them: its *share*, the return divided by the action's rate,
within `SHARE_LOW` and `SHARE_HIGH`; its *failure*, p_1, the probability that the first transmission fails; and its
*residual*, p_K, the probability that the block is lost after its last transmission.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import torch
from torch import Tensor

from distila.training.network.network import SHARE_HIGH, SHARE_LOW
from distila.training.sim.conditions import Conditions
from distila.xapp.policy.bundle import Action

MAX_SAMPLE_PERIOD_SLOTS: Final = 4
"""Channel and feedback change little from slot to slot: computing the return of a block in each would add little."""


class Label(NamedTuple):
    """The action values of one report."""

    answered: int
    """slot of the report"""
    share: Tensor
    """float32 [link, action], return divided by the action's rate (`rate_mcs`), `SHARE_LOW` to `SHARE_HIGH`"""
    failure: Tensor
    """float32 [link, action], probability that the first transmission fails"""
    residual: Tensor
    """float32 [link, action], probability that the block is lost after its last transmission"""


@dataclass
class _Block:
    """Blocks of every MCS that begin in one slot, followed through their transmissions."""

    slot: int
    answered: int
    native_mcs: Tensor
    row: Tensor
    """int64 [link, mcs], allocation and MCS"""
    store: Tensor
    """float32 [link, mcs, redundancy version], what the decoder holds; see `Combining`"""
    failed: Tensor
    """float32 [link, mcs], probability that the first transmission fails"""
    left: Tensor
    """float32 [link, mcs], probability that all transmissions so far fail"""
    sent: int = 1
    again: list[tuple[Tensor, int]] = field(default_factory=list)
    """probability of each retransmission, and slot of the report whose answer is in force then"""


class ActionValues:
    """Follows a simulation slot by slot and gives the values of each report's actions once its answer is replaced.

    The return of an absolute MCS is the mean over (a sample of) the slots in which the answer is in force. An offset
    changes the MCS that the DU itself uses in each of these slots; its rate is that of the MCS that it gave when the
    report was made.

    Args:
        conditions: of the simulation.
        actions: of the policy, MCS first, then offsets.

    Raises:
        ValueError: actions of another kind or in another order.
    """

    def __init__(self, conditions: Conditions, actions: Sequence[Action]) -> None:
        self._conditions = conditions
        self._rtt, self._most = conditions.harq_rtt_slots, conditions.max_transmissions
        self._period, self._delay = conditions.report_period_slots, conditions.decision_delay_slots
        # A divisor of the round trip: the slots of retransmissions are sampled too, and their channel is computed once.
        self._every = max(n for n in range(1, MAX_SAMPLE_PERIOD_SLOTS + 1) if self._rtt % n == 0)
        self._rate = conditions.tables.curves.rate
        self._max_mcs = len(self._rate) - 1
        # As in `distila.training.network.policy.Answers`, an MCS above the table is its highest.
        self._mcs = [min(action.value, self._max_mcs) for action in actions if action.kind == "mcs"]
        self._offsets = torch.tensor([action.value for action in actions if action.kind == "mcs_offset"])
        if [action.kind for action in actions] != ["mcs"] * len(self._mcs) + ["mcs_offset"] * len(self._offsets):
            raise ValueError("actions must be MCS first, then offsets, and nothing else")
        self._expected: dict[int, Tensor] = {}
        self._native: dict[int, Tensor] = {}
        self._blocks: list[_Block] = []
        self._sums: dict[int, tuple[Tensor, int]] = {}

    def decided(self, slot: int, value: Tensor) -> None:
        """Note the value that the policy expects of its answer to the report of this slot [bit/RE], float32 [link]."""
        self._expected[slot] = value

    def enter(self, slot: int, native_mcs: Tensor) -> list[Label]:
        """Go on to the next slot; returns the labels that are complete.

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
        labels = [label for block in done for label in self._complete(block)]
        answered = self._answered(slot)
        if answered >= 0:
            ranks_change = self._conditions.rank_changes
            sinr_db = self._conditions.sinr_db_of_each_mcs(slot)
            for block in self._blocks:
                if (slot - block.slot) % self._rtt == 0:
                    # A block keeps its layers when the rank has changed.
                    own_db = self._conditions.sinr_db_of_each_mcs(slot, block.row) if ranks_change else sinr_db
                    self._send_again(block, answered, own_db)
            row = self._conditions.rows(slot)
            store = self._conditions.combining.first(sinr_db)
            left = self._conditions.tbler_at(sinr_db, row)
            self._blocks.append(_Block(slot, answered, native_mcs, row, store, left, left))
        return labels

    def _send_again(self, block: _Block, answered: int, sinr_db: Tensor) -> None:
        conditions, combining = self._conditions, self._conditions.combining
        efficiency = None if conditions.combines_fully else conditions.combining_efficiency[:, None]
        block.again.append((block.left, answered))
        block.sent += 1
        block.store = combining.add(block.store, block.sent, sinr_db, efficiency)
        combined_db = combining.effective_sinr_db(block.row, block.store, block.sent, efficiency)
        # As in the simulator: each transmission has a random draw of its own.
        block.left = block.left * conditions.tbler_at(combined_db, block.row)

    def _answered(self, slot: int) -> int:
        """Slot of the report whose answer is in force; negative: none yet."""
        since = slot - self._delay
        return since - since % self._period

    def _complete(self, block: _Block) -> list[Label]:
        """Add a block to the values of its report's actions; returns these once all its blocks are there."""
        value = self._rate * (1 - block.left)
        for probability, answered in block.again:
            value -= probability * self._expected[answered][:, None]
        share = (value / self._rate).clamp_(SHARE_LOW, SHARE_HIGH)
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
        for known in (self._expected, self._native):
            for old in [slot for slot in known if slot < block.answered]:
                del known[old]
        share, failure, residual = total / count
        return [Label(block.answered, share.clamp_(SHARE_LOW, SHARE_HIGH), failure, residual)]
