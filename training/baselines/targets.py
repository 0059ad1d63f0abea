"""BLER targets: how they are written, which policies take one, and what a target makes of a policy's settings.

A *target* is the first-transmission BLER that a policy is to hold, a fraction in code and a percentage wherever people
read or write it: ``10%`` in the name of a policy, ``10`` in ``--targets`` and as a key in files.
"""

import math
from typing import Final

from distila.xapp.errors import InputError

LOWEST_PCT: Final = 0.5
HIGHEST_PCT: Final = 49.0
"""Targets that a policy can be given [%]. Outer loops need one below 50 %."""

BLER_WINDOW: Final = "bler-window"
TAKE_TARGET: Final = ("olla", "srsran-olla", BLER_WINDOW, "salad", "thompson", "genie-target")
"""Baselines that hold a given first-transmission BLER. ``illa`` gets no feedback, so whatever error rate it allows at
the CQI's SINR, the BLER is what the channel makes of it; ``genie`` maximises bits."""

_WINDOW: Final = (0.5, 1.5)
"""The thresholds of ``bler-window`` as multiples of its target, where they are not tuned: OpenAirInterface's default,
0.05 and 0.15, for a target of 10 %."""


def read_target(text: str, where: str) -> float:
    """A target written as a percentage, such as ``10`` or ``0.5``.

    Args:
        text: the number, without a percent sign.
        where: what the number was given to, with which errors begin.

    Returns:
        The target as a fraction.

    Raises:
        InputError: it is no number, or outside the range.
    """
    try:
        percent = float(text)
    except ValueError:
        percent = math.nan
    if not LOWEST_PCT <= percent <= HIGHEST_PCT:  # NaN fails too
        raise InputError(f"{where}: BLER target {text!r}: expected a percentage from {LOWEST_PCT:g} to {HIGHEST_PCT:g}")
    return round(percent / 100, 8)


def target_key(target: float) -> str:
    """The key of a target in files: ``10`` for 0.1."""
    return f"{round(100 * target, 6):g}"


def with_target(
    name: str, settings: dict[str, float | None], target: float, tuned_at: float | None = None
) -> dict[str, float | None]:
    """Settings of a baseline that takes a target, for this target.

    Args:
        name: one of `TAKE_TARGET`.
        settings: what was tuned; may be empty.
        target: the target.
        tuned_at: the target that they were tuned at; None: at none.
    """
    if name != BLER_WINDOW:
        return {"target": target, **{key: value for key, value in settings.items() if key != "target"}}
    lower, upper = settings.get("lower"), settings.get("upper")
    if tuned_at is None or lower is None or upper is None:
        return {**settings, "lower": _WINDOW[0] * target, "upper": _WINDOW[1] * target}
    scale = target / tuned_at
    return {**settings, "lower": scale * lower, "upper": scale * upper}
