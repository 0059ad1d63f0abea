"""Searches over schedules (each link on or off): brute force, flips, and a certified optimum by branch and bound."""

import itertools
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from distila.training.resource.algorithms.wmmse import all_ones, best_start, wmmse
from distila.training.resource.problems import Channels, sum_rate
from distila.xapp.errors import InputError

MOST_BRUTE_FORCE: Final = 16
"""Largest number of links K for which brute force tries all 2^K schedules."""
_CHUNK_ENTRIES: Final = 1 << 19
_SAFE_BITS: Final = 120.0
"""Products of 1 + SINR stay below 2^127, the range of float32."""


def brute_force(given: Channels) -> Tensor:
    """The best of all schedules; float32 [instance, 1, link].

    Raises:
        InputError: there are too many links.
    """
    links = given.links
    if links > MOST_BRUTE_FORCE:
        raise InputError(f"brute force: {links} links have 2^{links} schedules; it goes up to K = {MOST_BRUTE_FORCE}")
    schedules = torch.tensor(list(itertools.product((0.0, 1.0), repeat=links)))
    at_once = max(1, _CHUNK_ENTRIES // schedules.numel())
    found = [
        best_start(part, schedules.expand(len(part), -1, -1))
        for part in (given[start : start + at_once] for start in range(0, len(given), at_once))
    ]
    return torch.cat(found)


def flip(given: Channels, schedule: Tensor, flips: int) -> Tensor:
    """Improve schedules by switching one link at a time, the one that helps most, until none does.

    Args:
        given: the instances.
        schedule: float32 [instance, start, link], zeros and ones.
        flips: highest number of flips for each schedule.

    Returns:
        float32 [instance, start, link].
    """
    count, starts, links = schedule.shape
    rows = torch.arange(count * starts)
    # [row, tx, rx]
    cross = given.cross.transpose(1, 2).unsqueeze(1).expand(-1, starts, -1, -1).reshape(-1, links, links)
    direct = given.direct.expand(-1, starts, -1).reshape(-1, links)
    alpha = None if given.weights is None else given.weights.expand(-1, starts, -1).reshape(-1, links)
    # Logarithms cost several times as much as products.
    products = alpha is None and bool((torch.log2(1 + given.direct).sum(-1) < _SAFE_BITS).all())

    def score(ratio: Tensor) -> Tensor:
        """A score that grows with the sum rate; ratio is 1 + SINR [..., link]."""
        if products:
            return ratio.prod(-1)
        rates = torch.log2(ratio)
        return (rates if alpha is None else rates * alpha.view(-1, *[1] * (rates.ndim - 2), links)).sum(-1)

    on = schedule.reshape(-1, links).clone()
    noise = torch.bmm(on.unsqueeze(1), cross).squeeze(1).add_(1)
    margin = 1e-6
    for _ in range(flips):
        sign = 1 - 2 * on
        signal = direct * on
        # [row, flipped link, receiver]
        ratio = signal.unsqueeze(1) / torch.addcmul(noise.unsqueeze(1), cross, sign.unsqueeze(-1)) + 1
        torch.diagonal(ratio, dim1=1, dim2=2).copy_(1 + direct * (1 - on) / noise)
        best, place = score(ratio).max(1)
        better = (best > score(1 + signal / noise) * (1 + margin)).float()
        if not bool(better.any()):
            break
        change = sign[rows, place] * better
        on[rows, place] += change
        noise += cross[rows, place] * change.unsqueeze(1)
    return on.view(count, starts, links)


@dataclass(frozen=True)
class Optimum:
    """Result of branch and bound for one instance.

    Attributes:
        power: float32 [link].
        sum_rate: sum rate of that power [bit/s/Hz].
        bound: upper bound of the sum rate of any allocation [bit/s/Hz].
        certified: whether sum rate and bound differ by no more than the tolerance.
        boxes: number of boxes that were examined.
    """

    power: Tensor
    sum_rate: float
    bound: float
    certified: bool
    boxes: int


def branch_and_bound(
    given: Channels, schedules_only: bool = False, tolerance: float = 0.01, most_boxes: int = 2_000_000
) -> Optimum:
    """The optimum of one instance, with a certificate: what tests measure the other algorithms by, for few links.

    Boxes of powers are split along their longest side. In a box, no link's rate exceeds the rate at its own highest
    power and the others' lowest (mixed monotonic programming, Matthiesen et al., arXiv 1910.07853). A box whose bound
    is no better than the best known allocation is discarded.

    Args:
        given: one instance.
        schedules_only: whether links are only on or off, or may have any power.
        tolerance: relative gap between sum rate and bound at which the search ends.
        most_boxes: number of boxes after which the search ends, certified or not.

    Raises:
        InputError: more than one instance was given.
    """
    if len(given) != 1:
        raise InputError(f"branch and bound: {len(given)} instances; it takes one at a time")
    exact = Channels(given.snr.double(), given.weight.double())
    cross, direct, weight = exact.cross[0], exact.direct[0, 0], exact.weight[0]

    def bound(low: Tensor, high: Tensor) -> Tensor:
        return (weight * torch.log2(1 + direct * high / (low @ cross.T + 1))).sum(-1)

    def rate(power: Tensor) -> Tensor:
        return sum_rate(exact, power.unsqueeze(0))[0]

    known = wmmse(given, all_ones(given))
    known = (known > 0.5).float() if schedules_only else known
    power = flip(given, (known > 0.5).float(), given.links)[0].double()
    candidates = torch.cat((power, known[0].double()))
    rates = rate(candidates)
    best, best_power = float(rates.max()), candidates[rates.argmax()]
    low, high = torch.zeros(1, given.links).double(), torch.ones(1, given.links).double()
    bounds, boxes = bound(low, high), 1
    while len(low) and float(bounds.max()) > best * (1 + tolerance) and boxes < most_boxes:
        # The most promising boxes, several at once.
        at_once = bounds.topk(min(len(bounds), 4096)).indices
        rest = torch.ones(len(low), dtype=torch.bool)
        rest[at_once] = False
        box_low, box_high = low[at_once], high[at_once]
        side = (box_high - box_low).max(1).indices
        rows = torch.arange(len(side))
        upper, lower = box_low.clone(), box_high.clone()
        middle = (box_low[rows, side] + box_high[rows, side]) / 2
        upper[rows, side] = 1.0 if schedules_only else middle
        lower[rows, side] = 0.0 if schedules_only else middle
        new_low, new_high = torch.cat((upper, box_low)), torch.cat((box_high, lower))
        boxes += len(new_low)
        for corner in (new_low, new_high):
            corner_rates = rate(corner)
            if float(corner_rates.max()) > best:
                best, best_power = float(corner_rates.max()), corner[corner_rates.argmax()]
        low, high = torch.cat((low[rest], new_low)), torch.cat((high[rest], new_high))
        bounds = torch.cat((bounds[rest], bound(new_low, new_high)))
        # A box of a single point is done.
        keep = (bounds > best * (1 + tolerance)) & ((high - low).amax(1) > 0)
        low, high, bounds = low[keep], high[keep], bounds[keep]
    limit = max(float(bounds.max()) if len(bounds) else 0.0, best * (1 + tolerance))
    return Optimum(best_power.float(), best, limit, limit <= best * (1 + tolerance) * (1 + 1e-12), boxes)
