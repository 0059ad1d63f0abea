"""Colours, markers and dashes of all reports: the same in light and dark mode, on screen and on paper.

Any two of `SERIES`, `AGAINST_COLOUR` and `GREY` are told apart by readers with normal vision and with protanopia,
deuteranopia or tritanopia; a test simulates all four. Markers and dashes tell series apart in black and white.
"""

from dataclasses import dataclass
from typing import Final

POLICY_COLOUR: Final = "#1f77b4"
"""What the report is about."""
AGAINST_COLOUR: Final = "#d1730b"
"""What it is compared with: native OLLA, the reference, the control."""
GREY: Final = "#80848c"
"""What is neither: levels, targets, genies."""
LIMIT_COLOUR: Final = "#c23b3b"
"""A margin that must not be crossed; always dashed."""

SECOND_GENIE_COLOUR: Final = "#a8906a"
"""The second of two genies beside each other; the first is grey."""
PAPER: Final = "#ffffff"
INK: Final = "#1c2026"
"""Background and text where they do not follow the reader's light or dark mode: hover labels and PNG files."""
STRIPE: Final = "#f3f4f6"
GRID: Final = "#dfe3e8"
AXIS: Final = "#8a9099"
"""Every other row, grid lines and axes of PNG files."""

SERIES: Final = (
    POLICY_COLOUR, "#13ae7b", "#d96cef", "#935210", "#7f19e6", "#a8385d", "#ac9d53", "#7c9ec0", "#977049",
)  # fmt: skip
"""Colours of several policies side by side, in this order."""
SYMBOLS: Final = ("circle", "diamond", "square", "triangle-up", "pentagon", "star", "triangle-down", "hexagram")
DASHES: Final = ("solid", "dash", "dashdot", "longdash")

_MATPLOTLIB_MARKERS: Final = {
    "circle": "o", "diamond": "D", "square": "s", "triangle-up": "^", "pentagon": "p", "star": "*",
    "triangle-down": "v", "hexagram": "h", "line-ns": "|", "x": "X",
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """How one series is drawn wherever it is drawn.

    Attributes:
        colour: ``#rrggbb``.
        symbol: marker, by plotly's name.
        dash: line style, by plotly's name.
    """

    colour: str
    symbol: str = "circle"
    dash: str = "solid"

    @property
    def line(self) -> dict[str, str | int]:
        """The line, for plotly."""
        return {"color": self.colour, "dash": self.dash, "width": 2}

    @property
    def matplotlib_marker(self) -> str:
        """The marker, by matplotlib's name."""
        return _MATPLOTLIB_MARKERS[self.symbol]


POLICY: Final = Look(POLICY_COLOUR)
AGAINST: Final = Look(AGAINST_COLOUR, "line-ns", "dot")


def series_look(index: int) -> Look:
    """How series number ``index`` is drawn; colour, marker and dash repeat with different periods."""
    return Look(SERIES[index % len(SERIES)], SYMBOLS[index % len(SYMBOLS)], DASHES[index % len(DASHES)])


def faded(colour: str, opacity: float) -> str:
    """A colour ``#rrggbb`` with an opacity from 0 to 1, for plotly and CSS."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
