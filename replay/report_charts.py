"""Names of the report kit as the benchmark's pages still import them."""

from typing import Final

from distila.replay.page.chart import Chart, new_figure, plain
from distila.replay.page.number_text import DASH
from distila.replay.page.number_text import signed as _signed
from distila.replay.page.palette import AGAINST_COLOUR, POLICY_COLOUR

__all__ = ["AGAINST_COLOUR", "DASH", "GREY", "POLICY_COLOUR", "Chart", "new_figure", "plain", "signed"]

GREY: Final = "128,132,140"


def signed(value: float | None, digits: int) -> str:
    """A number with its sign, or a dash."""
    return _signed(value, digits).replace("not defined", DASH)
