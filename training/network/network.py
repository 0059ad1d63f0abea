"""The network of a policy bundle: raw report and memory in, a score per action and new memory out.

Everything a policy knows about radio is here, so that what is trained is what is served: cleaning of what was not
measured, features, and memory, which begins as zeros. The memory of a UE is

* K running estimates of its SINR, each with its own step size. On every feedback they follow SALAD's student law
  (Wiesmayr et al., arXiv 2510.05784): a step up by ``rate * sigmoid(centre - s)`` on ACK, down by
  ``rate * sigmoid(s - centre)`` on NACK, where centre is the SINR at which the MCS fails every other time, and the
  sigmoid in dB stands for its error-rate curve. The first CQI sets them all; until then they begin at `START_DB`.
  Slow ones average, fast ones follow, and how far they are apart tells how fast the channel moves;
* the latest CQI's SINR, and whether there ever was a CQI;
* running means, see `MEANS`.

Few and plain operations, since ONNX Runtime spends about a microsecond on each whatever its size:

* What is a fixed function of the report alone is a fixed network of two layers (`_Fixed`): one matrix turns 66 columns
  into counts and ramps, ``relu(w x + b)``, another one turns these into everything that is needed of them, already
  multiplied by the step sizes. A table over CQI is such a sum of ramps.
* All features are linear in memory, logarithms and a few columns: one matrix, which the export multiplies into the
  first layer, so that in the bundle it costs nothing.
* A period with many feedbacks is one step, the sum of their pushes, with a brake. With ``way`` how far the estimate
  lies on the wrong side of the feedback's centre, it is divided by ``1 + relu(push - way) / (2 + way)``, summed over
  ACK and NACK: nothing while the push does not reach the centre, then about the curvature of the loss. So one feedback
  is braked little; many bring the estimate near where they agree, as if they had come one by one, and do not throw it
  beyond (without the brake 20 ACKs at 1.6 dB each could be 32 dB).
"""

from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from xapp.e2.report import NUM_MCS
from xapp.nr.bler import SmoothBler, sinr_db_for_tbler
from xapp.nr.cqi import NUM_CQI, TARGET_BLER, cqi_thresholds_db
from xapp.nr.mcs import mcs_table
from xapp.nr.tbs import num_re, transport_block_size_bits
from xapp.policy.bundle import Action

FloatArray = npt.NDArray[np.float64]

COLUMNS: Final = [
    "cqi",
    "cqi_age_slots",
    "ri",
    "prbs",
    "native_mcs",
    "period_slots",
    "harq_ack",
    "harq_nack",
    *(f"harq_ack_mcs_{mcs}" for mcs in range(NUM_MCS)),
    *(f"harq_nack_mcs_{mcs}" for mcs in range(NUM_MCS)),
]
"""Report columns that the network reads, raw units (`xapp.policy.columns`)."""

START_DB: Final = 8.0
"""SINR of a UE that nothing is known of; all SINR inside are relative to it, so that zeros are a new UE."""

NOMINAL_PRBS: Final = 52
"""Allocation (one layer) whose curves the centres and rates are those of, as in `training.sim.report.Curves`."""

MEANS: Final = {
    "fast_bler": ("feedback", 0.1),
    "slow_bler": ("feedback", 0.02),
    "experience": ("feedback", 0.01),
    "cqi_motion": ("slot", 1 / 400),
    "fast_spread": ("slot", 0.02),
    "slow_spread": ("slot", 0.005),
}
"""Running means: what one step of each is (a feedback, a slot), and the weight of what is new in it.

First-transmission BLER twice; the mean of 1, which says how much feedback there was (a new UE's means begin at 0); how
much the CQI's SINR moves [dB/slot]; distance of the fastest estimate from the slowest and of the second fastest from
the second slowest [dB].
"""

SHARE_LOW: Final = -2.0
"""What an action is worth, as a share of its rate, lies between this (it may cost more than it brings) and"""
SHARE_HIGH: Final = 1.0

_MARGIN_DB: Final = 5.0  # estimates stay within the MCS's centres and this: beyond, feedback teaches nothing
_NONE: Final = 1e-12  # stands for no feedback where counts are divided by
# Columns without a value, or with one beyond its limit, have the default; CQI and MCS of -1 stand for none.
_LIMIT: Final = {"cqi": 15, "cqi_age_slots": 4095, "ri": 8, "prbs": 275, "native_mcs": 28, "period_slots": 10_000}
_DEFAULT: Final = {
    "cqi": -1,
    "cqi_age_slots": _LIMIT["cqi_age_slots"],
    "ri": 1,
    "prbs": NOMINAL_PRBS,
    "native_mcs": -1,
    "period_slots": 1,
}
_MOST_FEEDBACKS: Final = 100_000


class NetworkConfig(BaseModel):
    """What a network is built from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory: Literal["filters", "gru"] = Field(
        default="filters", description="fixed running estimates (`PolicyNetwork`) or a learnt one (`RecurrentNetwork`)"
    )
    projection: int = Field(default=16, ge=1, le=256, description="width of what a GRU is told of a report")
    gru_width: int = Field(default=24, ge=1, le=256, description="width of a GRU, which is its memory")
    hidden: tuple[int, ...] = Field(default=(64, 64), description="widths of the hidden layers")
    rates_db: tuple[float, ...] = Field(
        default=(0.05, 0.1, 0.2, 0.4, 0.8, 1.6),
        min_length=1,
        max_length=16,
        description="step sizes of the SINR estimates, ascending",
    )
    mcs_table: Literal[1, 2, 3] = 1
    cqi_table: Literal[1, 2, 3] = 1
    actions: Literal["mcs", "mcs_offset", "both"] = "mcs"
    max_offset: int = Field(default=4, ge=1, le=NUM_MCS - 1, description="of offsets, either way")
    head: Literal["logit", "value"] = Field(
        default="logit", description="one score per action, or what each is expected to be worth"
    )
    residual_price: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="of a block that is given up, in blocks; head `value`"
    )

    @field_validator("hidden")
    @classmethod
    def _wide_enough(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(width < 1 for width in value):
            raise ValueError(f"widths {value} must be at least 1")
        return value

    @field_validator("rates_db")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < low < high for low, high in zip(value, (*value[1:], np.inf), strict=True)):
            raise ValueError(f"step sizes {value} must be positive and ascend")
        return value


class Network(nn.Module):
    """What a policy's networks have in common, whatever their memory: their face, and what scores mean.

    Attributes:
        config: what it was built from.
        columns: report columns it reads, in this order.
        state_size: width of a UE's memory.
        actions: what each score is for.
    """

    columns: list[str]
    state_size: int
    rate: Tensor
    offsets: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.actions = _actions(config)
        rate = torch.from_numpy(mcs_facts(config.mcs_table)[1]).to(torch.float32)
        self.register_buffer("rate", rate, persistent=False)
        self._num_mcs = sum(action.kind == "mcs" for action in self.actions)
        offsets = [action.value for action in self.actions[self._num_mcs :]]
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.int64), persistent=False)

    def _layers(self, width: int) -> nn.Sequential:
        """The layers on top of what memory brings, whose width this is, up to the outputs."""
        layers: list[nn.Module] = []
        for hidden in self.config.hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        outputs = len(self.actions) * (2 if self.config.head == "value" else 1)
        return nn.Sequential(*layers, nn.Linear(width, outputs))

    def forward(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and new memory.

        Args:
            report: float32 [n, R], raw units in the order of `columns`, NaN = not measured.
            state: float32 [n, S], zeros for a new UE.

        Returns:
            Score of every action, float32 [n, M], and next state, float32 [n, S].
        """
        raise NotImplementedError

    def batches(self, rows: Tensor, steps: Tensor, size: int, luck: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Outputs of the last layer to learn from, in random batches.

        Args:
            rows: float32 [t, n, R], a sequence of reports of new UEs.
            steps: int64 [s], those to learn from.
            size: of a batch.
            luck: of the order.

        Yields:
            Which of the s * n (step first) they are, int64 [batch], and the outputs, float32 [batch, ...].
        """
        raise NotImplementedError

    def zero_state(self, num_ues: int) -> Tensor:
        """Memory of new UEs, float32 [n, S]."""
        raise NotImplementedError

    def rated(self, z: Tensor, report: Tensor) -> Tensor:
        """Score of every action, float32 [n, M], from the last layer's output and the report that it is of.

        Head ``logit``: the output as it is. Head ``value``: what the action is expected to be worth [bit per resource
        element], its rate times what `expected` says, a block that is given up at its price. An offset has the rate of
        the MCS that it makes of the DU's own choice in the report.
        """
        if self.config.head == "logit":
            return z
        share, residual = self.expected(z)
        worth = share - self.config.residual_price * residual
        if self._num_mcs == len(self.actions):
            return self.rate * worth
        native = report[:, [self.columns.index("native_mcs")]]
        native = torch.where(native >= 0, native, 0).to(torch.int64)
        rate = self.rate[(native + self.offsets).clamp(0, len(self.rate) - 1)]
        return torch.cat([self.rate * worth[:, : self._num_mcs], rate * worth[:, self._num_mcs :]], dim=1)

    def expected(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Expected share and residual (`training.learning.worth`) of every action, from a ``value`` head's output."""
        share, residual = torch.sigmoid(z).chunk(2, dim=-1)
        return SHARE_LOW + (SHARE_HIGH - SHARE_LOW) * share, residual


class PolicyNetwork(Network):
    """The network whose memory is fixed; see the module's docstring.

    Attributes:
        feature_names: what each feature is.
    """

    limit: Tensor
    default: Tensor
    weight_0: Tensor
    bias_0: Tensor
    weight_1: Tensor
    bias_1: Tensor
    toward: Tensor
    up_down: Tensor
    both: Tensor
    ones: Tensor
    spread: Tensor
    mix: Tensor
    offset: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.columns = list(COLUMNS)
        count = len(config.rates_db)
        centre_db, _ = mcs_facts(config.mcs_table)
        self._parts = {
            "push": 2 * count,
            "ratio_of": 3,
            "centre_sum": 2 * count,
            "ratio": 3,
            "exponent": len(MEANS),
            "cqi": 1,
            "has_cqi": 1,
            "period": 1,
            "log_of": 3,
            "direct": 4,
        }
        self._memory = {"sinr": count, "cqi": 1, "seen": 1, "means": len(MEANS)}
        self.state_size = sum(self._memory.values())

        self._constant("limit", [_LIMIT.get(name, _MOST_FEEDBACKS) for name in COLUMNS])
        self._constant("default", [_DEFAULT.get(name, 0) for name in COLUMNS])
        fixed = _report_functions(config, centre_db)
        for index, (weight, bias) in enumerate(fixed.layers()):
            self._constant(f"weight_{index}", weight)
            self._constant(f"bias_{index}", bias)
        if len(fixed.outputs) != sum(self._parts.values()):
            raise AssertionError(f"{len(fixed.outputs)} functions of the report, {self._parts} are wanted")
        eye = np.eye(count)
        self._constant("toward", np.concatenate([-eye, eye], axis=1))  # SINR to ACKs' and NACKs' centre minus it
        self._constant("up_down", np.concatenate([eye, -eye], axis=1))
        self._constant("both", np.concatenate([eye, eye], axis=1))
        self._constant("ones", np.ones(count))
        self._constant("spread", [eye[-1] - eye[0], eye[max(count - 2, 0)] - eye[min(1, count - 1)]])
        self._low = float(centre_db.min()) - START_DB - _MARGIN_DB
        self._high = float(centre_db.max()) - START_DB + _MARGIN_DB

        names, mix, offset = _features(config)
        self.feature_names = names
        self._constant("mix", mix)
        self._constant("offset", offset)
        self.mlp = self._layers(len(names))

    def _constant(self, name: str, value: npt.ArrayLike) -> None:
        self.register_buffer(name, torch.as_tensor(np.asarray(value, np.float32)), persistent=False)

    def forward(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See `Network.forward`."""
        x, next_state = self.features(report, state)
        return self.rated(self.mlp(x), report), next_state

    def features(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """What the trained layers see, float32 [n, F], of the order of 1; and next state, float32 [n, S]."""
        raw, next_state = self.raw_features(report, state)
        return nn.functional.linear(raw, self.mix, self.offset), next_state

    def batches(self, rows: Tensor, steps: Tensor, size: int, luck: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Network.batches`: decisions in random order, since memory has nothing to learn."""
        state, seen = self.zero_state(rows.shape[1]), []
        with torch.no_grad():
            for row in rows:
                x, state = self.features(row, state)
                seen.append(x)
        x = torch.stack(seen)[steps].flatten(0, 1)
        for picked in torch.split(torch.randperm(len(x), generator=luck), size):
            yield picked, self.mlp(x[picked])

    def zero_state(self, num_ues: int) -> Tensor:
        """Memory of new UEs, float32 [n, S]."""
        return self.limit.new_zeros((num_ues, self.state_size))

    def sinr_db(self, state: Tensor) -> Tensor:
        """The running SINR estimates in a state [dB], float32 [n, K], slowest first."""
        return state[:, : self._memory["sinr"]] + START_DB

    def raw_features(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """What features are linear in, float32 [n, ...], and next state, float32 [n, S]."""
        # The comparison is false for NaN, so one does for what is absent, infinite or senseless.
        clean = torch.where(report.abs() <= self.limit, report, self.default)
        ramps = torch.relu(nn.functional.linear(clean, self.weight_0, self.bias_0))
        known = nn.functional.linear(ramps, self.weight_1, self.bias_1)
        push, ratio_of, centre_sum, ratio, exponent, cqi, has_cqi, period, log_of, direct = torch.split_with_sizes(
            known, list(self._parts.values()), dim=1
        )
        sinr, last_cqi, seen, means = torch.split_with_sizes(state, list(self._memory.values()), dim=1)

        # Two columns per estimate, ACK's and NACK's: how far it lies on the wrong side of the mean centre, in dB.
        gap = torch.addmm(centre_sum / push, sinr, self.toward)
        push = push * torch.sigmoid(gap)
        way = torch.relu(gap)
        brake = torch.relu(push - way) / (way + 2)
        step = nn.functional.linear(push, self.up_down) / nn.functional.linear(brake, self.both, self.ones)
        sinr = (sinr + step).clamp(self._low, self._high)
        sinr = torch.where(has_cqi > seen, cqi, sinr)

        jump = (cqi - last_cqi) * has_cqi
        spread = nn.functional.linear(sinr, self.spread)
        new = torch.cat([ratio / ratio_of, jump * seen / period, spread], dim=1).abs()
        means = new + torch.exp(exponent) * (means - new)
        next_state = torch.cat([sinr, last_cqi + jump, torch.maximum(seen, has_cqi), means], dim=1)
        return torch.cat([next_state, torch.log(log_of), direct], dim=1), next_state


def mcs_facts(table: int) -> tuple[FloatArray, FloatArray]:
    """What a table's MCS are, by the curves of the nominal allocation; both float64 [mcs].

    Returns:
        SINR [dB] at which a transport block fails every other time, and its size in bits per resource element.
    """
    rows = mcs_table(table)
    bits = transport_block_size_bits(num_re(NOMINAL_PRBS), rows.code_rate, rows.modulation_order)
    centre_db = sinr_db_for_tbler(SmoothBler.load(), table, np.arange(rows.num_mcs), bits, 0.5)
    return centre_db, bits / num_re(NOMINAL_PRBS)


def cqi_sinr_db(table: int) -> FloatArray:
    """SINR [dB] that each CQI stands for, float64 [16]: halfway from its threshold to the next one's."""
    threshold = cqi_thresholds_db(table, SmoothBler.load(), target=TARGET_BLER[table])
    threshold[0] = 2 * threshold[1] - threshold[2]
    step = np.diff(threshold)
    return np.asarray(threshold + 0.5 * np.append(step, step[-1]))


def _actions(config: NetworkConfig) -> list[Action]:
    """Absolute MCS first, then offsets."""
    actions: list[Action] = []
    if config.actions != "mcs_offset":
        actions += [Action(kind="mcs", value=mcs) for mcs in range(mcs_table(config.mcs_table).num_mcs)]
    if config.actions != "mcs":
        most = config.max_offset
        actions += [Action(kind="mcs_offset", value=value) for value in range(-most, most + 1)]
    return actions


class _Fixed:
    """A fixed network of two layers: ramps ``relu(w x + b)`` of the report's columns, and sums of ramps."""

    def __init__(self) -> None:
        self.ramps: list[tuple[dict[str, float], float]] = []
        self.outputs: list[tuple[dict[int, float], float]] = []

    def ramp(self, bias: float = 0.0, **weights: float) -> int:
        """Add ``relu(weights . columns + bias)``; returns its number."""
        self.ramps.append((weights, bias))
        return len(self.ramps) - 1

    def output(self, terms: dict[int, float], bias: float = 0.0) -> None:
        """Add a sum of ramps, by number and weight."""
        self.outputs.append((terms, bias))

    def layers(self) -> list[tuple[FloatArray, FloatArray]]:
        """Weights [out, in] and biases [out] of both layers."""
        first = np.array([[weights.get(name, 0.0) for name in COLUMNS] for weights, _ in self.ramps])
        second = np.array([[terms.get(i, 0.0) for i in range(len(self.ramps))] for terms, _ in self.outputs])
        return [
            (first, np.array([bias for _, bias in self.ramps])),
            (second, np.array([bias for _, bias in self.outputs])),
        ]


def _report_functions(config: NetworkConfig, centre_db: FloatArray) -> _Fixed:
    """What `PolicyNetwork.raw_features` needs of a report, in the order of its parts."""
    fixed = _Fixed()
    # Reserved MCS, which no first transmission has, count as the highest one.
    centre_db = np.pad(centre_db, (0, NUM_MCS - len(centre_db)), mode="edge")
    lowest_db = float(centre_db.min())
    counted, centres = [], []
    for outcome, sign in (("ack", 1.0), ("nack", -1.0)):
        columns = [f"harq_{outcome}_mcs_{mcs}" for mcs in range(NUM_MCS)]
        count = fixed.ramp(**dict.fromkeys(columns, 1.0))
        # Above the lowest, so that it is positive as a ramp must be.
        above = fixed.ramp(**dict(zip(columns, (centre_db - lowest_db).tolist(), strict=True)))
        counted.append({count: 1.0})
        centres.append({above: sign, count: sign * (lowest_db - START_DB)})
    acks, nacks = fixed.ramp(harq_ack=1.0), fixed.ramp(harq_nack=1.0)
    period = fixed.ramp(period_slots=1.0, bias=-1.0)  # and 1 more
    age, prbs, rank = fixed.ramp(cqi_age_slots=1.0), fixed.ramp(prbs=1.0, bias=-1.0), fixed.ramp(ri=1.0)
    native, native_from_0 = fixed.ramp(native_mcs=1.0, bias=1.0), fixed.ramp(native_mcs=1.0)
    # A table over CQI as a curve through its entries, from none (-1) on; each ramp bends it at one of them.
    cqi = [fixed.ramp(cqi=1.0, bias=-float(index)) for index in range(-1, NUM_CQI - 1)]
    cqi_slopes = np.diff(np.append(0.0, cqi_sinr_db(config.cqi_table) - START_DB))
    cqi_bends = np.diff(np.append(0.0, cqi_slopes))
    has_cqi = {cqi[0]: 1.0, cqi[1]: -1.0}

    def scaled(terms: dict[int, float], factor: float) -> dict[int, float]:
        return {ramp: factor * weight for ramp, weight in terms.items()}

    for count_of in counted:  # push
        for step_db in config.rates_db:
            fixed.output(scaled(count_of, step_db), _NONE)
    for terms in ({acks: 1.0, nacks: 1.0},) * 2:  # ratio_of
        fixed.output(terms, _NONE)
    fixed.output({}, 1.0)
    for centre in centres:  # centre_sum
        for step_db in config.rates_db:
            fixed.output(scaled(centre, step_db))
    fixed.output({nacks: 1.0})  # ratio
    fixed.output({nacks: 1.0})
    fixed.output({}, 1.0)
    for unit, weight in MEANS.values():  # exponent
        decay = float(np.log1p(-weight))
        fixed.output(*(({acks: decay, nacks: decay}, 0.0) if unit == "feedback" else ({period: decay}, decay)))
    fixed.output(dict(zip(cqi, cqi_bends.tolist(), strict=True)))  # cqi
    fixed.output(has_cqi)
    fixed.output({period: 1.0}, 1.0)
    for ramp in (age, period, prbs):  # log_of
        fixed.output({ramp: 1.0}, 1.0)
    fixed.output(has_cqi)  # direct
    fixed.output({rank: 1.0})
    fixed.output({native: 1.0})
    fixed.output({native: 1.0, native_from_0: -1.0})
    return fixed


def _features(config: NetworkConfig) -> tuple[list[str], FloatArray, FloatArray]:
    """Features as sums of raw ones: names, weights [F, raw], offsets [F]."""
    count = len(config.rates_db)
    raw = [f"sinr_{index}" for index in range(count)]
    raw += ["cqi", "seen", *MEANS, "log_age", "log_period", "log_prbs", "has_cqi", "rank", "native", "has_native"]
    middle = f"sinr_{count // 2}"
    # Name, terms by raw feature, offset. Scales bring what is common to the order of 1.
    features: list[tuple[str, dict[str, float], float]] = []
    features += [(f"sinr_{i}", {f"sinr_{i}": 0.1}, 0.0) for i in range(count)]
    features += [(f"step_{i}", {f"sinr_{i}": 1 / 3, f"sinr_{i - 1}": -1 / 3}, 0.0) for i in range(1, count)]
    features += [
        ("cqi", {"cqi": 0.1}, 0.0),
        ("cqi_above_sinr", {"cqi": 0.2, middle: -0.2}, 0.0),
        ("seen", {"seen": 1.0}, 0.0),
        ("has_cqi", {"has_cqi": 1.0}, 0.0),
        ("log_age", {"log_age": 0.25}, -0.5),
        ("log_period", {"log_period": 0.25}, 0.0),
        ("log_prbs", {"log_prbs": 1.0}, -float(np.log(NOMINAL_PRBS))),
        ("rank", {"rank": 0.5}, -0.5),
        ("native", {"native": 1 / NUM_MCS}, 0.0),
        ("has_native", {"has_native": 1.0}, 0.0),
        ("fast_bler", {"fast_bler": 3.0}, 0.0),
        ("slow_bler", {"slow_bler": 3.0}, 0.0),
        ("experience", {"experience": 1.0}, 0.0),
        ("cqi_motion", {"cqi_motion": 10.0}, 0.0),
        ("fast_spread", {"fast_spread": 0.4}, 0.0),
        ("slow_spread", {"slow_spread": 0.4}, 0.0),
    ]
    mix = np.array([[terms.get(name, 0.0) for name in raw] for _, terms, _ in features])
    return [name for name, _, _ in features], mix, np.array([offset for _, _, offset in features])
