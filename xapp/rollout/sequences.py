"""Confidence sequences for the difference between two arms: valid at every evaluation, and whenever the test stops.

A unit (UE or cell) is drawn for an arm once and then observed for a long time, and its intervals resemble each other.
So the unit, not the interval, is what counts: for each unit there is one vector of running sums, and the variance is
that between units, whatever the autocorrelation within.

**Estimate.** A metric is a ratio of sums, N over D, of the units of an arm (bits per PRB, failures per transmission).
The difference of two arms' ratios is adjusted for covariates that no arm can influence: what the CQI promised, and
the same unit's ratio before the test (CUPED: Deng et al., WSDM 2013; for ratios by the delta method: Deng et al., KDD
2018; with one slope for both arms: Lin, Ann. Appl. Stat. 2013). All of it follows from second moments of the units'
vectors, which replicas just add up.

**Sequence.** With information I = 1 / standard error^2 as its clock, estimate times I behaves as a Brownian motion
when a unit's intervals are independent; where they correlate positively, looks are more alike and cross a boundary
less often (Slepian, Bell Syst. Tech. J. 1962). The boundary is the one-sided normal mixture of Howard, Ramdas,
McAuliffe and Sekhon (Ann. Stat. 2021, eq. 14), used asymptotically in the sense of Waudby-Smith et al. (Ann. Stat.
2024), and widened from the normal to Student's t with the Welch-Satterthwaite degrees of freedom, because there may
be few units.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from distila.xapp.nr.arrays import Float64Array


class Moments:
    """Number of units, and the sum of the outer products of their vectors [N, D, covariates...].

    The first row of a product with the constant 1 holds plain sums, so ``matrix`` is [2 + c + 1, 2 + c + 1] with the
    constant last.
    """

    def __init__(self, matrix: Float64Array) -> None:
        self.matrix = matrix

    @classmethod
    def of(cls, vectors: Float64Array) -> "Moments":
        """Moments of the units' vectors, [unit, 2 + c]."""
        extended = np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1)
        return cls(extended.T @ extended)

    @property
    def units(self) -> float:
        """Number of units."""
        return float(self.matrix[-1, -1])

    @property
    def sums(self) -> Float64Array:
        """Sum of the vectors."""
        return np.asarray(self.matrix[-1, :-1])

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.matrix + other.matrix)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Moments) and np.array_equal(self.matrix, other.matrix)

    __hash__ = None  # type: ignore[assignment]  # the matrix may change

    def rows(self) -> list[list[float]]:
        """The matrix as lists, for JSON."""
        return [[float(x) for x in row] for row in self.matrix]

    @classmethod
    def of_rows(cls, rows: list[list[float]]) -> "Moments":
        """What `rows` gave.

        Raises:
            ValueError: the rows are no square matrix.
        """
        matrix = np.array(rows, np.float64)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError("moments are a square matrix")
        return cls(matrix)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As a field of a pydantic model: a list of rows in JSON."""
        rows = handler.generate_schema(list[list[float]])
        read = core_schema.no_info_after_validator_function(cls.of_rows, rows)
        return core_schema.json_or_python_schema(
            json_schema=read,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), read]),
            serialization=core_schema.plain_serializer_function_ser_schema(cls.rows, return_schema=rows),
        )


@dataclass(frozen=True)
class Estimate:
    """A difference, challenger minus control, with its standard error.

    Attributes:
        difference, error: on the metric's scale.
        freedom: degrees of freedom of the error.
        challenger, control: the two ratios, not adjusted.
    """

    difference: float
    error: float
    freedom: float
    challenger: float
    control: float


def estimate(
    challenger: Moments, control: Moments, scale: Literal["relative", "absolute"], base: float | None = None
) -> Estimate | None:
    """The adjusted difference of two ratios; None where it is not defined (nothing measured, or a control of zero).

    Args:
        challenger, control: of the same metric.
        scale: ``relative`` divides by the control's ratio, or by ``base``.
        base: what to divide by instead.
    """
    arms = (challenger, control)
    if any(not np.isfinite(arm.matrix).all() or arm.units < 3 or arm.sums[1] <= 0 for arm in arms):
        return None
    covariates = len(challenger.sums) - 2
    ratio = [arm.sums[0] / arm.sums[1] for arm in arms]
    covariate = [arm.sums[2:] / arm.sums[1] for arm in arms]
    # Residuals are linear in a unit's vector: N - R D, and c - C D for each covariate; columns of [vector, residual].
    residuals = []
    for own, mean in zip(ratio, covariate, strict=True):
        columns = np.zeros((2 + covariates, 1 + covariates))
        columns[0, 0], columns[1, 0] = 1, -own
        columns[2:, 1:], columns[1, 1:] = np.eye(covariates), -mean
        residuals.append(columns)
    cross = [w.T @ arm.matrix[:-1, :-1] @ w for w, arm in zip(residuals, arms, strict=True)]
    pooled = cross[0] + cross[1]
    slope = _slope(pooled[1:, 1:], pooled[1:, 0])
    adjusted = float(ratio[0] - ratio[1] - slope @ (covariate[0] - covariate[1]))
    weights = np.r_[1.0, -slope]
    used = int(np.count_nonzero(slope))
    variance = []
    for own, product, arm in zip(ratio, cross, arms, strict=True):
        free = max(1.0, arm.units - 1 - used / 2)
        found = max(0.0, float(weights @ product @ weights)) * arm.units / free / arm.sums[1] ** 2
        if scale == "absolute":
            # Rare events: units without any say nothing about the spread, but one more event always might have been.
            least = (max(own, 0.0) * arm.sums[1] + 1) / (arm.sums[1] + 2)
            found = max(found, least * max(0.0, 1 - least) / arm.sums[1])
        variance.append(found)
    freedom = _welch(variance, [arm.units - 1 - used / 2 for arm in arms])
    if scale == "absolute":
        return Estimate(adjusted, math.sqrt(sum(variance)), freedom, float(ratio[0]), float(ratio[1]))
    over = float(ratio[1]) if base is None else base
    if over <= 0:
        return None
    growth = 1.0 if base is not None else float((ratio[1] + adjusted) / ratio[1])
    error = math.sqrt(variance[0] + growth**2 * variance[1]) / over
    return Estimate(adjusted / over, error, freedom, float(ratio[0]), float(ratio[1])) if error > 0 else None


def _slope(product: Float64Array, target: Float64Array) -> Float64Array:
    """Least squares from second moments; covariates without variance are left out."""
    spread = np.sqrt(np.maximum(np.diag(product), 0))
    slope = np.zeros(len(target))
    use = spread > 1e-9 * max(1.0, float(spread.max(initial=0)))
    if use.any():
        scaled = product[np.ix_(use, use)] / np.outer(spread[use], spread[use])
        slope[use] = np.linalg.pinv(scaled, rcond=1e-6, hermitian=True) @ (target[use] / spread[use]) / spread[use]
    return slope


def _welch(variance: list[float], freedom: list[float]) -> float:
    total = sum(variance)
    if total <= 0:
        return max(1.0, sum(freedom))
    return max(1.0, total**2 / sum(v**2 / max(1.0, f) for v, f in zip(variance, freedom, strict=True)))


def boundary(information: float, alpha: float, tightest: float) -> float:
    """Standard errors within which a one-sided confidence sequence lies, ``u(I) / sqrt(I)`` of the normal mixture.

    Args:
        information: 1 / standard error^2.
        alpha: chance that it ever fails.
        tightest: information at which the boundary is tightest.
    """
    log_odds = 2 * math.log(1 / (2 * alpha))
    rho = tightest / (log_odds + math.log(1 + log_odds))
    grown = (information + rho) / rho
    return math.sqrt(2 * (1 + rho / information) * math.log(math.sqrt(grown) / (2 * alpha) + 1))


def student(normal: float, freedom: float) -> float:
    """The quantile of Student's t that has the tail of this normal quantile (Abramowitz and Stegun 26.7.5)."""
    x, n = normal, max(freedom, 2.0)
    return (
        x
        + (x**3 + x) / (4 * n)
        + (5 * x**5 + 16 * x**3 + 3 * x) / (96 * n**2)
        + (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / (384 * n**3)
    )


def radius(found: Estimate, alpha: float, effect: float) -> float:
    """Half-width of the sequence now: with probability 1 - alpha the truth never lies beyond it, on one side.

    Args:
        found: the estimate.
        alpha: of that side.
        effect: difference at which the sequence is tuned to be tight, i.e. three standard errors there.
    """
    error = max(found.error, 1e-12)
    return student(boundary(1 / error**2, alpha, (3 / effect) ** 2), found.freedom) * error
