"""Distributions as data: a number, or a range to draw from. Every setting uses the same notation in YAML.

========================================  ===============================================
``3.5``                                   always 3.5
``{uniform: [0, 25]}``                    evenly between the two
``{log_uniform: [30, 300]}``              evenly in the logarithm; both positive
``{normal: [0, 0.7]}``                    mean and standard deviation, cut off at three deviations
``{choice: [1, 2, 4]}``                   one of these, with equal probability
========================================  ===============================================

A constant or a choice may also hold booleans or text, where the setting is no number. A scenario is a point if all its
settings are constants.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, model_serializer, model_validator

from distila.xapp.nr.arrays import Float64Array

Scalar: TypeAlias = bool | int | float | str

_RANGES: Final = ("uniform", "log_uniform", "normal")
_LARGEST: Final = 1e300
_KINDS: Final = (*_RANGES, "choice")


class Distribution(BaseModel):
    """Distribution of a setting; see the module's table. Frozen and hashable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["constant", "uniform", "log_uniform", "normal", "choice"]
    values: tuple[Scalar, ...]

    @model_validator(mode="after")
    def _possible(self) -> "Distribution":
        if any(_is_number(value) and not abs(value) < _LARGEST for value in self.values):  # type: ignore[arg-type]
            raise ValueError(f"{', '.join(map(str, self.values))[:60]} must be finite")
        if self.kind in _RANGES:
            if len(self.values) != 2 or not all(_is_number(value) for value in self.values):
                raise ValueError(f"{self.kind} {list(self.values)} must be two numbers")
            first, second = self.values
            if self.kind == "normal" and second < 0:  # type: ignore[operator]
                raise ValueError(f"normal {list(self.values)} has a negative standard deviation")
            if self.kind != "normal" and first > second:  # type: ignore[operator]
                raise ValueError(
                    f"{self.kind} {list(self.values)} is an impossible range: the first is above the second"
                )
            if self.kind == "log_uniform" and first <= 0:  # type: ignore[operator]
                raise ValueError(f"log_uniform {list(self.values)} must be positive")
        if self.kind == "constant" and len(self.values) != 1:
            raise ValueError(f"constant {list(self.values)} must be one value")
        if not self.values:
            raise ValueError("choice is empty; must have at least one value")
        return self

    @model_serializer
    def _as_yaml(self) -> Any:
        return self.values[0] if self.kind == "constant" else {self.kind: list(self.values)}

    def draw(self, rng: np.random.Generator, count: int) -> Float64Array:
        """``count`` values as float64 (booleans as 0 and 1).

        Raises:
            ValueError: the values are text; see `draw_one`.
        """
        if self.kind in ("constant", "choice"):
            numbers = np.array([float(value) for value in self.values])
            return numbers[rng.integers(0, len(numbers), count)]
        first, second = (float(value) for value in self.values)
        if self.kind == "uniform":
            return rng.uniform(first, second, count)
        if self.kind == "log_uniform":
            return np.clip(np.exp(rng.uniform(math.log(first), math.log(second), count)), first, second)
        return np.clip(rng.normal(first, second, count), *self.bounds)

    def draw_one(self, rng: np.random.Generator) -> Scalar:
        """One value, of its own type."""
        if self.kind in ("constant", "choice"):
            return self.values[int(rng.integers(0, len(self.values)))]
        return float(self.draw(rng, 1)[0])

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value."""
        numbers = [float(value) for value in self.values]
        if self.kind == "normal":
            return numbers[0] - 3 * numbers[1], numbers[0] + 3 * numbers[1]
        return min(numbers), max(numbers)

    def within(self, other: "Distribution") -> bool:
        """Whether everything that this draws could also be drawn by ``other``."""
        if other.kind in ("constant", "choice"):
            return self.kind in ("constant", "choice") and set(self.values) <= set(other.values)
        if not all(_is_number(value) for value in self.values):
            return False
        (low, high), (other_low, other_high) = self.bounds, other.bounds
        return other_low <= low and high <= other_high


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parse(value: Any) -> Any:
    if isinstance(value, Distribution):
        return value
    if isinstance(value, bool | int | float | str):
        return {"kind": "constant", "values": (value,)}
    if isinstance(value, dict) and len(value) == 1:
        ((kind, values),) = value.items()
        if kind in _KINDS and isinstance(values, list | tuple):
            if not all(isinstance(each, bool | int | float | str) for each in values):
                raise ValueError(f"{kind} {list(values)} must be single values")
            return {"kind": kind, "values": tuple(values)}
    raise ValueError(f"{value!r} must be a number or one of {{{', '.join(_KINDS)}: [...]}}")


def _bounded(
    low: float | None = None, high: float | None = None, above: float | None = None, whole: bool = False
) -> Callable[[Any], Distribution]:
    def check(value: Any) -> Distribution:
        data = _parse(value)
        drawn = data if isinstance(data, Distribution) else Distribution.model_validate(data)
        if not all(map(_is_number, drawn.values)):
            raise ValueError(f"{list(drawn.values)} must be numbers")
        bottom, top = drawn.bounds
        if whole and (drawn.kind not in ("constant", "choice") or any(float(v) != int(v) for v in drawn.values)):
            raise ValueError(f"{drawn.model_dump()!r} must be a whole number or a choice of whole numbers")
        if low is not None and bottom < low:
            raise ValueError(f"{bottom:g} is below {low:g}")
        if above is not None and bottom <= above:
            raise ValueError(f"{bottom:g} must be above {above:g}")
        if high is not None and top > high:
            raise ValueError(f"{top:g} is above {high:g}")
        return drawn

    return check


parse_number = _bounded()
Number = Annotated[Distribution, BeforeValidator(parse_number)]
NonNegative = Annotated[Distribution, BeforeValidator(_bounded(low=0))]
Positive = Annotated[Distribution, BeforeValidator(_bounded(above=0))]
AtLeastOne = Annotated[Distribution, BeforeValidator(_bounded(low=1))]
Share = Annotated[Distribution, BeforeValidator(_bounded(low=0, high=1))]
Whole = Annotated[Distribution, BeforeValidator(_bounded(low=0, whole=True))]
parse_count = _bounded(low=1, whole=True)
Count = Annotated[Distribution, BeforeValidator(parse_count)]
