"""The network whose memory is fixed: a bank of running estimates, with trained layers on top.

The memory of a UE begins as zeros. It is a bank of running estimates, each with its own step size. All of them follow
the update rule of SALAD's student (Wiesmayr et al., arXiv 2510.05784): a step up by ``rate * (1 - p)`` on ACK, down by
``rate * p`` on NACK. Here p is the probability of an ACK by the estimate: a sigmoid of the distance in dB between the
estimate and the centre of the MCS in use, which is the SINR at which that MCS fails every other time.

* Estimates of the SINR itself, which do not use CQI, and of the SINR above that of the latest CQI, which follow CQI at
  once, as outer-loop link adaptation does. Slow ones average, fast ones follow; their difference shows how fast the
  channel moves and how much CQI can be trusted.
* The log-odds of an ACK, whatever the MCS: p is a sigmoid of the estimate alone. The distance of the slow one from 0
  also shows how much feedback there was.
* The log-odds that a retransmission is decoded, by the same rule, from the counts of retransmissions that were decoded
  and that were not. They decide whether a high MCS pays off, and depend on how the node combines: a second transmission
  that adds redundancy saves most blocks, one that repeats the first saves few. Where the node does not report how it
  combines, these estimates show it after a while.
* Estimates of the SINR from retransmissions, by the same rule: at the estimate a block would be decoded by a second
  transmission every other time. Where the MCS is so high that a block needs two transmissions, first transmissions
  fail at any SINR; these estimates show how high the MCS may go.
* Variability: running averages, by the same rule, of how far two estimates differ: fast and slow, with and without CQI.
  For a difference d, the estimate u moves until ``sigmoid(u + d / 2)`` is 0.2 on average, as if every fifth feedback
  were an ACK. Where d varies much, the sigmoid is above that on average, so u falls. There is one estimate for d and
  one for -d.

The graph has few and simple operations, because ONNX Runtime spends about half a microsecond on each, however small,
and more where vectors are broadcast over rows:

* A value that is not measured becomes 0, by one operation (`measured`). CQI 0 (out of range) differs from a missing CQI
  by its age only. A node that has received a CQI goes on reporting it with its age; without it, the estimates relative
  to CQI are lost.
* Everything that is read from a report is linear in it: one matrix. CQI and MCS are mapped to SINR by straight lines;
  tables 1 and 3 deviate by 1 dB from theirs, table 2 by more at its low end. The trained layers also get CQI itself.
* The same update rule holds for the whole memory; the differences are in matrices.
* Features are linear in memory and report: one matrix, which is multiplied into the first layer when the bundle is
  loaded, so that it costs nothing.
* A period with much feedback is one step, at the mean MCS, with a brake: the sum of the steps is divided by
  ``1 + rate * feedbacks * BRAKE``. So a single feedback is braked little, and many feedbacks move an estimate by at
  most ``1 / BRAKE`` dB, and not beyond the point where they agree.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from distila.training.network.config import NetworkConfig
from distila.training.network.network import MOST, NOMINAL_PRBS, Network, mcs_facts, measured
from distila.xapp.nr.arrays import Float64Array
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.nr.cqi import NUM_CQI, TARGET_BLER, cqi_thresholds_db
from distila.xapp.nr.mcs import NUM_MCS

COLUMNS: Final = [
    "cqi",
    "cqi_age_slots",
    "ri",
    "prbs",
    "native_mcs",
    "period_slots",
    "harq_ack",
    "harq_nack",
    "harq_mcs_mean",
    "retx_ack",
    "retx_nack",
    "retx_mcs_mean",
    "combining",
]
"""Report columns that the network reads, raw units (`distila.xapp.policy.columns`)."""

START_DB: Final = 8.0
"""SINR assumed for a new UE [dB]; every SINR in memory is relative to it, so that a new UE's memory is zeros."""

BLER_RATES: Final = (0.15, 1.0)
"""Step sizes of the log-odds of an ACK, slow and fast."""

RETX_RATES: Final = (0.05, 0.25, 1.0)
"""Step sizes of the log-odds that a retransmission is decoded, slow to fast."""

BRAKE: Final = 1 / 6
"""Brake on many feedbacks in one report, see the module's docstring [1/dB]."""

_LOG_ODDS_BRAKE: Final = 1 / 4  # log-odds have a range of about 6, and the slope of a sigmoid is at most 1/4
_VARIABILITY_ACKS: Final = 0.2
_VARIABILITY_PER_DB: Final = 0.5
# Share of feedback taken as unreliable: no estimate moves further than ln(1 / 0.005) = 5.3 dB from the observations.
_DOUBT: Final = 0.005


class PolicyNetwork(Network):
    """The network whose memory is fixed; see the module's docstring.

    Attributes:
        feature_names: name of each feature.
    """

    weight: Tensor
    bias: Tensor
    coupling: Tensor
    mix: Tensor
    offset: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.columns = list(COLUMNS)
        self.state_size = len(_estimates(config)) + len(_variability(config))
        functions = _report_functions(config)
        self._parts = [self.state_size] * 4 + [len(functions) - 4 * self.state_size]
        self._constant("weight", [[terms.get(name, 0.0) for name in COLUMNS] for terms, _ in functions])
        self._constant("bias", [bias for _, bias in functions])

        self._constant("coupling", _coupling(config))
        names, mix, offset = _features(config)
        self.feature_names = names
        self._constant("mix", mix)
        self._constant("offset", offset)
        self.mlp = self._layers(len(names))

    def _constant(self, name: str, value: npt.ArrayLike) -> None:
        array = np.asarray(value, np.float32)
        if array.ndim == 2:  # as the bundle stores it
            array = array.astype(np.float16).astype(np.float32)
        self.register_buffer(name, torch.as_tensor(array), persistent=False)

    def forward(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See `Network.forward`."""
        x, next_state = self.features(report, state)
        return self.rated(self.mlp(x), report), next_state

    def features(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs of the trained layers, float32 [n, F], of the order of 1; and next state, float32 [n, S]."""
        raw, next_state = self.raw_features(report, state)
        return nn.functional.linear(raw, self.mix, self.offset), next_state

    def batches(
        self, rows: Tensor, steps: Tensor, size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Network.batches`: decisions in random order, since the memory is not trained."""
        state, seen = self.zero_state(rows.shape[1]), []
        with torch.no_grad():
            for row in rows:
                x, state = self.features(row, state)
                seen.append(x)
        x = torch.stack(seen)[steps].flatten(0, 1)
        for picked in torch.split(torch.randperm(len(x), generator=generator), size):
            yield picked, self.mlp(x[picked])

    def zero_state(self, num_ues: int) -> Tensor:
        """Memory of new UEs, float32 [n, S]."""
        return self.mix.new_zeros((num_ues, self.state_size))

    def sinr_db(self, state: Tensor) -> Tensor:
        """The running SINR estimates in a state [dB], float32 [n, K], slowest first; without those above CQI."""
        return state[:, : len(self.config.rates_db)] + START_DB

    def raw_features(self, report: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Raw features, of which features are linear functions, float32 [n, ...]; and next state, float32 [n, S]."""
        known = nn.functional.linear(measured(report).clamp(max=MOST), self.weight, self.bias)
        shift, feedbacks, acks, inertia, direct = torch.split_with_sizes(known, self._parts, dim=1)
        expected = torch.sigmoid(torch.addmm(shift, state, self.coupling))
        next_state = state + (acks - feedbacks * expected) / inertia
        return torch.cat([next_state, direct], dim=1), next_state


def cqi_sinr_db(table: int) -> Float64Array:
    """SINR [dB] that each CQI stands for, float64 [16]: halfway from its threshold to the next one's."""
    threshold = cqi_thresholds_db(table, SmoothBler.load(), target=TARGET_BLER[table])
    threshold[0] = 2 * threshold[1] - threshold[2]
    step = np.diff(threshold)
    return np.asarray(threshold + 0.5 * np.append(step, step[-1]))


def cqi_line(table: int) -> tuple[float, float]:
    """The straight line that fits a table's `cqi_sinr_db` best: slope [dB per CQI] and SINR [dB] at CQI 0."""
    slope, first = np.polyfit(np.arange(1, NUM_CQI), cqi_sinr_db(table)[1:], 1)
    return float(slope), float(first)


def mcs_line(table: int) -> tuple[float, float]:
    """The straight line that fits the centres of a table's MCS best: slope [dB per MCS] and SINR [dB] at MCS 0."""
    centre_db, _ = mcs_facts(table)
    slope, first = np.polyfit(np.arange(len(centre_db)), centre_db, 1)
    return float(slope), float(first)


_Linear = tuple[dict[str, float], float]
"""A linear function: weights by column name, and a constant."""


def _estimates(config: NetworkConfig) -> list[str]:
    """Names of the estimates in the first part of memory; `_variability` has the rest."""
    kinds = (
        ("sinr", config.rates_db),
        ("above_cqi", config.cqi_rates_db),
        ("bler", BLER_RATES),
        ("retx", RETX_RATES),
        ("again_sinr", config.retx_rates_db),
        ("again_above_cqi", config.retx_cqi_rates_db),
    )
    return [f"{kind}_{index}" for kind, rates in kinds for index in range(len(rates))]


def _variability(config: NetworkConfig) -> list[tuple[str, dict[str, float], float]]:
    """Estimates in the rest of memory: name, difference as weights of estimates and of CQI's SINR [dB], step size."""
    slow, fast = "sinr_0", f"sinr_{len(config.rates_db) - 1}"
    by_cqi = f"above_cqi_{len(config.cqi_rates_db) // 2}"
    ends = {"fast_slow": ({fast: 1.0}, {slow: -1.0}), "cqi_slow": ({by_cqi: 1.0, "cqi": 1.0}, {slow: -1.0})}
    return [
        (f"{name}_{way}_{index}", {term: sign * weight for term, weight in (more | less).items()}, rate)
        for index, rate in enumerate(config.variability_rates)
        for name, (more, less) in ends.items()
        for way, sign in (("up", 1.0), ("down", -1.0))
        if fast != slow or name != "fast_slow"
    ]


def _coupling(config: NetworkConfig) -> Float64Array:
    """Weights of memory in the argument of each estimate's sigmoid, [S, S]: itself, and differences of variability."""
    estimates, variability = _estimates(config), _variability(config)
    coupling = np.eye(len(estimates) + len(variability))
    for column, (_, difference, _) in enumerate(variability, start=len(estimates)):
        for name, weight in difference.items():
            if name != "cqi":
                coupling[estimates.index(name), column] = _VARIABILITY_PER_DB * weight
    return coupling


def _report_functions(config: NetworkConfig) -> list[_Linear]:
    """Linear functions of a report that `PolicyNetwork.raw_features` needs, in the order of its parts."""
    step_db, mcs_0_db = mcs_line(config.mcs_table)
    cqi_db, cqi_0_db = cqi_line(config.cqi_table)
    sinr, above_cqi, bler, retx = (
        len(rates) for rates in (config.rates_db, config.cqi_rates_db, BLER_RATES, RETX_RATES)
    )
    variability = _variability(config)
    # Estimates by the feedback that moves them: first transmissions, retransmissions, and first ones for variability.
    of_first = [(rate, BRAKE) for rate in config.rates_db + config.cqi_rates_db]
    of_first += [(rate, _LOG_ODDS_BRAKE) for rate in BLER_RATES]
    of_retx = [(rate, _LOG_ODDS_BRAKE) for rate in RETX_RATES]
    of_retx += [(rate, BRAKE) for rate in config.retx_rates_db + config.retx_cqi_rates_db]
    of_variability = [(rate, _LOG_ODDS_BRAKE) for _, _, rate in variability]
    functions: list[_Linear] = [({"harq_mcs_mean": -step_db}, START_DB - mcs_0_db)] * sinr  # shift
    functions += [({"harq_mcs_mean": -step_db, "cqi": cqi_db}, cqi_0_db - mcs_0_db)] * above_cqi
    functions += [({}, 0.0)] * (bler + retx)
    functions += [({"retx_mcs_mean": -step_db}, START_DB - mcs_0_db)] * len(config.retx_rates_db)
    functions += [({"retx_mcs_mean": -step_db, "cqi": cqi_db}, cqi_0_db - mcs_0_db)] * len(config.retx_cqi_rates_db)
    for _, difference, _ in variability:
        share = _VARIABILITY_PER_DB * difference.get("cqi", 0.0)
        functions.append(({"cqi": share * cqi_db}, share * (cqi_0_db - START_DB)))
    groups = ((of_first, "harq"), (of_retx, "retx"), (of_variability, "harq"))
    for rates, kind in groups:  # feedbacks
        functions += [({f"{kind}_ack": 1.0, f"{kind}_nack": 1.0}, 0.0)] * len(rates)
    for rates, kind in groups:  # acks
        ack, nack = (_VARIABILITY_ACKS, _VARIABILITY_ACKS) if rates is of_variability else (1 - _DOUBT, _DOUBT)
        functions += [({f"{kind}_ack": ack, f"{kind}_nack": nack}, 0.0)] * len(rates)
    for rates, kind in groups:  # inertia
        functions += [({f"{kind}_ack": brake, f"{kind}_nack": brake}, 1 / rate) for rate, brake in rates]
    functions += [  # direct
        ({"cqi": cqi_db}, cqi_0_db - START_DB),
        *(({name: 1.0}, 0.0) for name in ("cqi_age_slots", "period_slots", "prbs", "ri", "native_mcs", "combining")),
    ]
    return functions


def _features(config: NetworkConfig) -> tuple[list[str], Float64Array, Float64Array]:
    """Features as sums of raw ones: names, weights [F, raw], offsets [F]."""
    estimates, variability = _estimates(config), [name for name, _, _ in _variability(config)]
    sinr, above_cqi, log_odds, again, again_cqi = (
        [name for name in estimates if name.startswith(kinds)]
        for kinds in ("sinr", "above_cqi", ("bler", "retx"), "again_sinr", "again_above_cqi")
    )
    raw = [*estimates, *variability, "cqi", "age", "period", "prbs", "rank", "native", "combining"]
    # Name, terms by raw feature, offset. Scales bring what is common to the order of 1.
    features: list[tuple[str, dict[str, float], float]] = []
    features += [(name, {name: 0.1}, 0.0) for name in sinr + again]
    features += [(f"cqi_and_{name}", {name: 0.1, "cqi": 0.1}, 0.0) for name in above_cqi + again_cqi]
    for names in (sinr, above_cqi, again, again_cqi):
        features += [(f"{name}_step", {name: 1 / 3, slower: -1 / 3}, 0.0) for slower, name in pairwise(names)]
    middle = above_cqi[len(above_cqi) // 2]
    features += [(name, {name: 0.5}, 0.0) for name in log_odds + variability]
    features += [
        ("cqi", {"cqi": 0.1}, 0.0),
        ("above_cqi", {middle: 0.2}, 0.0),
        ("with_and_without_cqi", {middle: 1 / 3, "cqi": 1 / 3, sinr[0]: -1 / 3}, 0.0),
        ("age", {"age": 1 / 50}, 0.0),
        ("period", {"period": 1 / 20}, 0.0),
        ("prbs", {"prbs": 0.5 / NOMINAL_PRBS}, -0.5),
        ("rank", {"rank": 0.5}, -0.5),
        ("native", {"native": 1 / NUM_MCS}, 0.0),
        # Chase is 0, incremental redundancy and "not reported" lie on either side of it. The values differ much,
        # because a high MCS pays off little with chase and much with redundancy.
        ("combining", {"combining": 4.0}, -4.0),
    ]
    mix = np.array([[terms.get(name, 0.0) for name in raw] for _, terms, _ in features])
    return [name for name, _, _ in features], mix, np.array([offset for _, _, offset in features])
