"""SALAD, self-adaptive link adaptation: SINR from ACK and NACK alone, with a step size that adapts itself.

Wiesmayr, Maggi, Cammerer, Hoydis, Aït Aoudia, Keller, "SALAD: Self-adaptive link adaptation" (arXiv 2510.05784).
Written from the paper; the authors' own code is for non-commercial use and was not read.

* **Model**: ``bler(mcs, s) = 1 - sigmoid((s - centre) / scale)``, fitted to the curves; scale within 0.5 to 2 dB.
* **Student**, on every feedback: one step of gradient descent on the cross-entropy, ``s += lr * (bler - nack) / scale``
  with bler within 0.05 to 0.95.
* **Teacher**, every ``teacher_period`` slots: the SINR over the last 300 feedbacks as a piecewise linear curve that
  minimises the same loss, by gradient descent. Each link goes on with the ``lr`` of 0.1 to 1.9 whose student would have
  followed it best.
* **Choice**: the highest MCS with ``bler <= tau``. Where the last 15 feedbacks failed less often than predicted, by
  ``z = mean(bler - nack) / sd > 0.25``, the SINR may be underestimated: with probability 0.15 the choice is made with
  tau 0.95 instead (probing). ``tau`` integrates ``target - nack`` with gain 0.02, within 0.001 to 0.99.

What the paper leaves open, and the choice here: the bounds on the scale hold wherever the model is used, not in the
step alone (the curves of large blocks are far steeper, 0.07 dB; with the unbounded scale tau has no effect, and the
BLER stayed at 0.12 for a target of 0.05 on a static channel); sd is that of the predicted outcomes, ``sqrt(mean(bler (1
- bler)))``; candidates are 0.1, 0.3, ... 1.9; the curve has 7 knots, held together by weak springs so that it stays
finite where all feedback agrees; the student's error is the mean square against that curve. Added: the estimate stays
within 3 dB of the SINR range of the MCS, and tau does not rise at the top MCS nor fall at MCS 0; without these both
would run away on a link that is better or worse than all MCS, and it would take hundreds of slots to come back. For
targets under 10 % the lower bound on bler, 0.05, is half of the target: an ACK moves the estimate up as if at least
that many blocks failed, so the BLER could never rest below it, whatever tau did (measured with 0.05: a BLER of 5 to 6 %
for a target of 1 %). SALAD needs no CQI: the first one that a link reports sets the SINR, and no other is used.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from distila.training.baselines.settings import (
    NO_CQI,
    POSITIVE,
    PROBABILITY,
    SINR_DB,
    Feedback,
    Range,
    check,
    check_order,
    cqi_index,
    cqi_sinr_db,
)
from distila.training.sim.report import Cell, Curves, Decision, Report
from distila.xapp.errors import InputError

LEARNING_RATES: Final = tuple(round(0.1 + 0.2 * index, 1) for index in range(10))
"""Candidates for the student's step size."""
MEMORY: Final = 300
"""Number of latest feedbacks that the teacher uses."""
TEST: Final = 15
"""Number of latest feedbacks that the decision to probe uses."""

# Powers of two above MEMORY and TEST: an index wraps by a mask, and one place is left for what is no feedback.
_RING = 512
_TEST_RING = 16
_KNOTS = 7
_ENOUGH = 60  # feedbacks below which the teacher has nothing to teach
_FIT_STEPS = 10  # leaves the curve within 0.15 dB of where it would end
# What the curve pays, per dB^2, for distance between neighbouring knots, and between a knot and the student's estimate.
_STIFFNESS = 0.2
_PULL = 0.02
_MARGIN_DB = 3.0
_BLER = (0.05, 0.95)
_LEAST_BLER = 0.5  # times the target: the lower end at most
_SCALE_DB = (0.5, 2.0)
_TAU_LEVELS = 256
_CHUNK = 1024  # links fitted at once: so many stay in the cache


@dataclass(frozen=True)
class SaladSettings:
    """Settings of SALAD; the defaults are the paper's where it is known to give one."""

    target: float = 0.1
    """Long-term first-transmission BLER."""
    tau_gain: float = 0.02
    """How far tau moves per feedback and unit of BLER error."""
    min_tau: float = 0.001
    """Lowest error rate to choose for."""
    max_tau: float = 0.99
    """Highest error rate to choose for."""
    probe_tau: float = 0.95
    """Error rate to choose for when probing."""
    probe_probability: float = 0.15
    """Share of decisions that probe while the SINR seems underestimated."""
    probe_threshold: float = 0.25
    """How many standard deviations the errors must stay behind the prediction."""
    initial_sinr_db: float = 5.0
    """SINR of a link that has not reported a CQI."""
    initial_learning_rate: float = 1.0
    """Step size until the teacher has chosen one."""
    teacher_period: int = 300
    """Slots between two runs of the teacher; 0: no teacher."""

    def __post_init__(self) -> None:
        check(
            "salad",
            self,
            target=Range(0, 0.5, "()"),
            tau_gain=Range(0, 1),
            min_tau=PROBABILITY,
            max_tau=PROBABILITY,
            probe_tau=PROBABILITY,
            probe_probability=Range(0, 1),
            probe_threshold=Range(-10, 10),
            initial_sinr_db=SINR_DB,
            initial_learning_rate=POSITIVE,
        )
        check_order("salad", "min_tau", self.min_tau, "max_tau", self.max_tau)
        if isinstance(self.teacher_period, bool) or not isinstance(self.teacher_period, int) or self.teacher_period < 0:
            raise InputError(f"salad: teacher_period = {self.teacher_period!r} is not a number of slots")


class Salad:
    """SALAD for a batch of links."""

    name = "salad"

    def __init__(self, settings: SaladSettings) -> None:
        self.settings = settings

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Begin with new links; the generator decides who probes."""
        settings, device, links = self.settings, cell.device, cell.num_links
        self._generator = generator
        self._feedback = feedback = Feedback(cell)
        centre, scale = sigmoid_fit(cell.curves)
        centre, scale = centre.to(device), scale.to(device).clamp(*_SCALE_DB)
        self._low, self._high = float(centre.min()) - _MARGIN_DB, float(centre.max()) + _MARGIN_DB
        taught = feedback.ack + feedback.nack
        of = feedback.mcs
        # Tables over what a slot's feedback may be, float32 [index].
        self._centre = centre[of].to(torch.float32)
        self._slope = (1 / scale)[of].to(torch.float32)
        self._gain = (taught / scale[of]).to(torch.float32)
        self._nack = feedback.nack.to(torch.float32)
        self._taught = taught.to(torch.float32)
        self._bler = (min(_BLER[0], _LEAST_BLER * settings.target), _BLER[1])
        # gain * (target - nack) is an outer loop's step with (1 - target) on NACK.
        self._tau_step = feedback.nack_steps(settings.target, settings.tau_gain * (1 - settings.target))
        self._choice = _Choice(cell.curves, centre, scale, self._low, self._high)
        # The entry of an absent CQI is read, but not used.
        self._cqi_sinr_db = torch.nn.functional.pad(cqi_sinr_db(cell, 0.5), (0, 1)).to(torch.float32)
        self._reported = torch.zeros(links, dtype=torch.bool, device=device)
        zero = torch.zeros(links, device=device)
        self.sinr_db = zero + settings.initial_sinr_db
        """float32 [link], the student's estimate [dB]"""
        self.tau = zero + settings.target
        """float32 [link]"""
        self.learning_rate = zero + settings.initial_learning_rate
        """float32 [link]"""
        self._count = torch.zeros(links, dtype=torch.int64, device=device)
        self._surplus, self._variance = zero.clone(), zero.clone()
        self._test = torch.zeros((_TEST_RING, links), device=device)
        self._ring = torch.zeros((_RING, links), dtype=torch.uint8, device=device)
        self._teacher = _Teacher(centre, scale, feedback, (self._low, self._high), self._bler)
        self._slot = 0

    def decide(self, report: Report) -> Decision:
        """Take in feedback, slot by slot, and a first CQI; then the MCS of every link, some of them probing."""
        settings = self.settings
        for slot in range(report.outcome.shape[0]):
            self._learn(self._feedback(report, slot))
            self._slot += 1
            if settings.teacher_period and self._slot % settings.teacher_period == 0:
                self._teacher.teach(self._ring, self._count, self.sinr_db, self.learning_rate)
        cqi = cqi_index(report.cqi)
        known = cqi != NO_CQI
        self.sinr_db = torch.where(known & ~self._reported, self._cqi_sinr_db.index_select(0, cqi), self.sinr_db)
        self._reported |= known
        sd = (self._variance.clamp(min=0) * TEST).sqrt_()  # of the surplus' sum, as both are sums over TEST
        probe = self._surplus > settings.probe_threshold * sd
        probe &= self._count >= TEST
        drawn = torch.rand(probe.shape, generator=self._generator, device=probe.device)
        probe &= drawn < settings.probe_probability
        return Decision.absolute(self._choice(self.sinr_db, torch.where(probe, settings.probe_tau, self.tau)))

    def _learn(self, feedback: Tensor) -> None:
        """The student, the test and tau take in one slot's feedback, indices [link]."""
        taught = self._taught.index_select(0, feedback)
        bler = self._centre.index_select(0, feedback).sub_(self.sinr_db).mul_(self._slope.index_select(0, feedback))
        surplus = bler.sigmoid_().clamp_(*self._bler).sub_(self._nack.index_select(0, feedback))
        downhill = self._gain.index_select(0, feedback).mul_(surplus)
        self.sinr_db.addcmul_(downhill, self.learning_rate).clamp_(self._low, self._high)
        # What is no feedback is written too, but the count stays, so that the next one overwrites it.
        place = (self._count & (_TEST_RING - 1)).unsqueeze(0)
        old = self._test.gather(0, (place + 1) & (_TEST_RING - 1)).squeeze(0)
        self._test.scatter_(0, place, surplus.unsqueeze(0))
        self._ring.scatter_(0, (self._count & (_RING - 1)).unsqueeze(0), feedback.to(torch.uint8).unsqueeze(0))
        self._surplus.addcmul_(surplus - old, taught)
        # Whether the block failed or not, bler (1 - bler) = |surplus| (1 - |surplus|).
        surplus.abs_()
        old.abs_()
        self._variance.addcmul_(surplus.addcmul_(surplus, surplus, value=-1) - old.addcmul_(old, old, value=-1), taught)
        self.tau += self._tau_step.index_select(0, feedback)
        self.tau.clamp_(self.settings.min_tau, self.settings.max_tau)
        self._count += taught.to(torch.int64)


class _Choice:
    """Highest MCS whose modelled error rate does not exceed tau: a table over tau (in logits) and SINR."""

    def __init__(self, curves: Curves, centre: Tensor, scale: Tensor, low_db: float, high_db: float) -> None:
        self._low_db = low_db
        self._steps = int((high_db - low_db) / 0.05) + 1
        self._span = 8.0  # logits: tau from 0.0003 to 0.9997
        logit = torch.linspace(-self._span, self._span, _TAU_LEVELS, dtype=torch.float64, device=centre.device)
        sinr_db = low_db + 0.05 * torch.arange(self._steps, dtype=torch.float64, device=centre.device)
        best = torch.zeros((_TAU_LEVELS, self._steps), dtype=torch.int64, device=centre.device)
        for mcs in range(curves.num_mcs):
            best[(centre[mcs] - sinr_db) / scale[mcs] <= logit[:, None]] = mcs
        self._best = best.view(-1)

    def __call__(self, sinr_db: Tensor, tau: Tensor) -> Tensor:
        """MCS of every link, int64 [link]."""
        # Half a step more, so that cutting off decimals finds the nearest level.
        level = tau.logit().mul_((_TAU_LEVELS - 1) / (2 * self._span)).add_((_TAU_LEVELS - 1) / 2 + 0.5)
        level = level.clamp_(0, _TAU_LEVELS - 0.5).to(torch.int64)
        step = (sinr_db - self._low_db).mul_(1 / 0.05).add_(0.5).clamp_(0, self._steps - 0.5).to(torch.int64)
        return self._best.index_select(0, step.add_(level, alpha=self._steps))


class _Teacher:
    """Chooses the learning rate of each link from its recent feedback."""

    def __init__(
        self,
        centre: Tensor,
        scale: Tensor,
        feedback: Feedback,
        range_db: tuple[float, float],
        bler: tuple[float, float],
    ) -> None:
        self._centre = centre[feedback.mcs].to(torch.float32)  # [index]
        self._slope = (1 / scale)[feedback.mcs].to(torch.float32)
        self._nack = feedback.nack.to(torch.float32)
        self._range, self._bler = range_db, bler
        device = centre.device
        self._rates = torch.tensor(LEARNING_RATES, device=device)
        self._back = torch.arange(-MEMORY, 0, device=device)
        knot = torch.arange(MEMORY, device=device)[:, None] * ((_KNOTS - 1) / (MEMORY - 1))
        # How much of each knot is in each feedback's SINR, [feedback, knot].
        self._weight = (1 - (knot - torch.arange(_KNOTS, device=device)).abs()).clamp(min=0)

    def teach(self, ring: Tensor, count: Tensor, sinr_db: Tensor, learning_rate: Tensor) -> None:
        """Set the learning rates of the links with enough feedback.

        Args:
            ring: uint8 [place, link], feedback indices.
            count: int64 [link], feedbacks so far: the next one's place.
            sinr_db: float32 [link], the students' estimates.
            learning_rate: float32 [link], changed in place.
        """
        place = count + self._back[:, None]  # [feedback, link], oldest first
        feedback = ring.gather(0, place & (_RING - 1)).to(torch.int64)
        valid = (place >= 0).to(torch.float32)
        shape = feedback.shape
        centre, slope, nack = (t.index_select(0, feedback.view(-1)).view(shape) for t in self._tables())
        slope *= valid
        chunks = [slice(start, start + _CHUNK) for start in range(0, shape[1], _CHUNK)]
        fits = [self._fit(centre[:, c], slope[:, c], nack[:, c], sinr_db[c]) for c in chunks]
        curve = torch.cat(fits, dim=1)  # [feedback, link]
        best = self._rates[self._errors(curve, centre, slope, nack, valid).argmin(dim=0)]
        learning_rate.copy_(torch.where(count >= _ENOUGH, best, learning_rate))

    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._centre, self._slope, self._nack

    def _fit(self, centre: Tensor, slope: Tensor, nack: Tensor, student_db: Tensor) -> Tensor:
        """SINR at every feedback, [feedback, link]: the piecewise linear curve of least loss.

        Gradient descent, each knot's step divided by its curvature (the loss is convex in every knot), at most 2 dB.
        """
        weight = self._weight
        knots = student_db.expand(_KNOTS, -1).clone()
        for _ in range(_FIT_STEPS):
            failed = ((centre - weight @ knots) * slope).sigmoid_()
            fisher = (failed - failed.square()).mul_(slope).mul_(slope)
            downhill = weight.T @ failed.sub_(nack).mul_(slope)
            bend = knots.diff(dim=0) * _STIFFNESS
            downhill[:-1] += bend
            downhill[1:] -= bend
            downhill += (student_db - knots) * _PULL
            knots += (downhill / (weight.T @ fisher + (2 * _STIFFNESS + _PULL))).mul_(0.7).clamp_(-2, 2)
        return weight @ knots.clamp_(*self._range)

    def _errors(self, curve: Tensor, centre: Tensor, slope: Tensor, nack: Tensor, valid: Tensor) -> Tensor:
        """How far every candidate's student would have been from the curve, summed squares, [candidate, link]."""
        rate = self._rates[:, None]
        student = curve[0].expand(len(LEARNING_RATES), -1).clone()
        total = torch.zeros_like(student)
        for index in range(MEMORY):
            gap = curve[index] - student
            total.addcmul_(gap.square_(), valid[index])
            bler = (centre[index] - student).mul_(slope[index]).sigmoid_().clamp_(*self._bler)
            student.addcmul_(bler.sub_(nack[index]).mul_(slope[index]), rate).clamp_(*self._range)
        return total


def sigmoid_fit(curves: Curves) -> tuple[Tensor, Tensor]:
    """Sigmoids in dB for the curves.

    Returns:
        Centre, the SINR of TBLER 0.5, and scale, a quarter of the inverse slope that a sigmoid through the SINRs of
        TBLER 0.9 and 0.1 has at its centre; both float64 [mcs], dB.
    """

    def crossing(level: float) -> Tensor:
        tbler = curves.tbler.to(torch.float64)
        after = (tbler > level).sum(dim=1, keepdim=True).clamp(1, tbler.shape[1] - 1)
        high, low = tbler.gather(1, after - 1), tbler.gather(1, after)
        part = ((high - level) / (high - low).clamp(min=1e-9)).clamp(0, 1)
        return (curves.first_db + curves.step_db * (after - 1 + part)).squeeze(1)

    nine = torch.tensor(9.0, dtype=torch.float64)
    return crossing(0.5), ((crossing(0.1) - crossing(0.9)) / (2 * nine.log())).clamp(min=0.02)
