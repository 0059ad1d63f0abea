"""Numbers as readers see them: thousands separators, a proper minus, units, and words where there is no number.

    number(12345.678, 1)              # "12,345.7"
    signed(-0.4, 1)                   # "−0.4"
    percent(0.331, 1)                 # "33.1 %"
    points(-0.012, 2)                 # "−1.20 points"
    microseconds(169.9)               # "170 µs"
    number(None)                      # "not defined"

All functions take None and NaN, which give `NOT_DEFINED`.
"""

import math
from typing import Final

MINUS: Final = "\u2212"
DASH: Final = "\u2013"
"""An empty cell: the figure does not apply there."""
NOT_DEFINED: Final = "not defined"
"""A figure that applies but has no value: nothing was sent, measured or compared."""


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    """A number with thousands separators, ``digits`` decimals and its unit."""
    if value is None or not math.isfinite(value):
        return NOT_DEFINED
    return _with_unit(f"{value:,.{digits}f}", unit)


def signed(value: float | None, digits: int, unit: str = "") -> str:
    """A number with its sign; zero, also one that is zero only after rounding, has none."""
    if value is None or not math.isfinite(value):
        return NOT_DEFINED
    text = f"{value:+,.{digits}f}"
    # "-0.0" would claim a direction that the digits do not show.
    return _with_unit(f"{0:.{digits}f}" if float(text.replace(",", "")) == 0 else text, unit)


def significant(value: float | None, digits: int = 6, unit: str = "") -> str:
    """A number with ``digits`` significant digits, without trailing zeros."""
    if value is None or not math.isfinite(value):
        return NOT_DEFINED
    return _with_unit(f"{value:,.{digits}g}", unit)


def percent(share: float | None, digits: int = 1) -> str:
    """A share from 0 to 1 in percent."""
    return number(None if share is None else 100 * share, digits, "%")


def points(difference: float | None, digits: int = 2) -> str:
    """A difference of two shares in percentage points, with its sign."""
    return signed(None if difference is None else 100 * difference, digits, "points")


def microseconds(value: float | None, digits: int = 0) -> str:
    """A duration in microseconds."""
    return number(value, digits, "µs")


def interval(low: float | None, high: float | None, digits: int, unit: str = "") -> str:
    """An interval, both ends with their sign: ``−5.0 to −3.5 %``.

    An end that is not zero but would be rounded to zero gets one more decimal, so that it does not seem to touch it.
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return NOT_DEFINED
    digits = interval_digits(low, high, digits)
    return _with_unit(f"{signed(low, digits)} to {signed(high, digits)}", unit)


def interval_digits(low: float, high: float, digits: int) -> int:
    """``digits``, or one more where rounding would hide on which side of zero the interval ends."""
    if low <= 0 <= high:
        return digits
    return digits if min(abs(low), abs(high)) >= 0.5 * 10.0**-digits else digits + 1


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1 UE``, ``12 UEs``, ``3 families``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def setting(value: object) -> str:
    """The value of a setting in words: yes and no, lists without brackets, `DASH` for None; never a Python literal."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}".replace("-", MINUS) if not 0 < abs(value) < 1e-4 else f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {setting(one)}" for key, one in value.items()) or DASH
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(setting(one) for one in value) or DASH
    return str(value)


def _with_unit(text: str, unit: str) -> str:
    text = text.replace("-", MINUS)
    return f"{text} {unit}" if unit else text
