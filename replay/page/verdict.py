"""A difference with its interval, and the line at the top of a report that says what came out.

=================  ================================================================================================
better, worse      the whole interval lies on one side of zero
no-difference      the interval holds zero: the data show no difference
nothing-decided    there is no interval, so nothing can be said
bought-with-bler   more goodput, but at a higher BLER than the other side's, so the two are not alike
=================  ================================================================================================
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

from distila.replay.page import number_text

Kind = Literal["better", "worse", "no-difference", "nothing-decided", "bought-with-bler"]

SIGNS: Final[dict[Kind, str]] = {
    "better": "\u25b2",
    "worse": "\u25bc",
    "no-difference": "",
    "nothing-decided": "",
    "bought-with-bler": "\u25b3",
}
"""Stands before a figure, so that its meaning does not hang on colour alone."""
LABELS: Final[dict[Kind, str]] = {
    "better": "better",
    "worse": "worse",
    "no-difference": "no difference shown",
    "nothing-decided": "nothing decided",
    "bought-with-bler": "bought with BLER",
}


@dataclass(frozen=True)
class Difference:
    """A paired difference with its 95 % interval; NaN where it is not known.

    Attributes:
        mean, low, high: in one unit, which the caller knows.
        less_is_better: True for error rates and delays.
    """

    mean: float
    low: float
    high: float
    less_is_better: bool = False

    @classmethod
    def of(
        cls, mean: float | None, ci95: tuple[float | None, float | None] | None, less_is_better: bool = False
    ) -> "Difference":
        """From figures that may be None, as result files hold them."""
        mean, low, high = (math.nan if value is None else value for value in (mean, *(ci95 or (None, None))))
        return cls(mean, low, high, less_is_better)

    @property
    def kind(self) -> Kind:
        """Better or worse only where the whole interval is; an end at zero is not enough."""
        if not all(map(math.isfinite, (self.mean, self.low, self.high))):
            return "nothing-decided"
        if self.low <= 0 <= self.high:
            return "no-difference"
        return "better" if (self.low > 0) != self.less_is_better else "worse"

    def mean_text(self, digits: int, unit: str = "%") -> str:
        """The mean with its sign and unit; as many decimals as `interval_text` has."""
        return number_text.signed(self.mean, self._digits(digits), unit)

    def size_text(self, digits: int, unit: str = "%") -> str:
        """The mean without its sign, for a sentence that says which way: "loses 4.3 %"."""
        return number_text.number(abs(self.mean), self._digits(digits), unit)

    def interval_text(self, digits: int, unit: str = "%") -> str:
        """The interval with signs and unit."""
        return number_text.interval(self.low, self.high, digits, unit)

    def _digits(self, digits: int) -> int:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return digits
        return number_text.interval_digits(self.low, self.high, digits)


@dataclass(frozen=True)
class VerdictLine:
    """What came out, in one sentence.

    Attributes:
        kind: see the module.
        sentence: subject, verb, figures; names both sides.
        interval: the 95 % interval and what was paired for it; empty where there is none.
    """

    kind: Kind
    sentence: str
    interval: str = ""

    @property
    def label(self) -> str:
        """The kind with its sign, as the page shows it beside the sentence."""
        return f"{SIGNS[self.kind]} {LABELS[self.kind]}".strip()

    @property
    def text(self) -> str:
        """The line as plain text."""
        return f"{self.sentence} {self.interval}".strip()
