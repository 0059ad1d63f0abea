"""What an MCS is worth in a slot, retransmissions and their delay included: the truth that a teacher is taught.

HARQ is a renewal process: a block ends when it is decoded or given up, after K transmissions at most, and the next one
begins. By the renewal-reward theorem the long-run throughput is what a block brings on average over how many
transmissions it takes on average (Caire and Tuninetti, "The throughput of hybrid-ARQ protocols for the Gaussian
collision channel", IEEE Trans. Inf. Theory 47(5), 2001)::

    rate * (1 - p_K) / (1 + p_1 + ... + p_(K-1))

with p_k the error rate that is left after k transmissions. The factor beside the rate is the efficiency here.

With incremental redundancy the throughput is nearly flat over high MCS that never arrive at once, and the channel does
not stay as it is; so without a price on a failed first transmission the best MCS by this formula are too high. Goodput
of a genie that goes by it (first-transmission BLER), 128 links, 500 slots, training split, seed 5:

=====  ======================  ================  =============
price  cell_edge_interference  full_buffer_mimo  high_mobility
=====  ======================  ================  =============
0      0.927 (0.957)           5.065 (0.341)     3.203 (0.227)
0.03   0.984 (0.690)           5.089 (0.251)     3.232 (0.158)
0.1    1.036 (0.102)           5.055 (0.075)     3.252 (0.018)
0.2    1.030 (0.054)           4.990 (0.009)     3.249 (0.005)
0.5    1.028 (0.052)           4.986 (0.005)     3.247 (0.004)
=====  ======================  ================  =============
"""

import torch
from torch import Tensor

from training.sim.report import Cell


def efficiency(cell: Cell, slot: int, latency_price: float) -> Tensor:
    """Share of its rate that each MCS would bring in the long run if the channel stayed as it is in this slot.

    Missed grants (DTX) are left out: they cost every MCS the same.

    Args:
        cell: whose true error rates are asked for.
        slot: as for `training.sim.report.TrueTbler`: in order.
        latency_price: what is taken off for a first transmission that fails, times its probability. It stands for the
            delay of a retransmission, and for the channel's change until then, which the formula does not know of.

    Returns:
        float32 [link, mcs], 0 to 1.
    """
    first, _ = cell.true_tbler(slot)
    left, transmissions = first, torch.ones_like(first)
    for count in range(2, cell.max_transmissions + 1):
        # The next transmission takes place only where all before it have failed.
        transmissions = transmissions + left
        left, _ = cell.true_tbler(slot, count)
    return ((1 - left) / transmissions - latency_price * first).clamp_(0, 1)
