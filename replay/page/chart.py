"""Charts: a plotly figure with heading and caption, and what all figures have in common.

Text that comes from a trace or a bundle goes through `plain`, since plotly reads markup. Where nothing was sent or
measured a curve has a gap, never a zero.
"""

import html
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import plotly.graph_objects as go

from distila.replay.page.palette import GREY, INK, PAPER, faded
from distila.xapp.nr.arrays import Float64Array

FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass
class Chart:
    """A figure with its heading and a caption that says what one sees.

    Attributes:
        key: id of the element in the page is ``chart-`` and this.
        wide: takes the whole width; others stand in pairs.
        choices: names of which one is shown at a time, with two traces each.
    """

    key: str
    title: str
    caption: str
    figure: go.Figure
    wide: bool = True
    choices: list[str] = field(default_factory=list)

    @property
    def data(self) -> str:
        """The figure as JSON that may stand inside a script element."""
        return str(self.figure.to_json()).replace("<", "\\u003c")


def new_figure(x_title: str, y_title: str) -> go.Figure:
    """An empty figure that looks like all others of the reports, in light and in dark mode."""
    axis = {"gridcolor": faded(GREY, 0.2), "zerolinecolor": faded(GREY, 0.6), "zeroline": False}
    axis |= {"linecolor": faded(GREY, 0.6), "automargin": True, "title_standoff": 10, "title_font_size": 13}
    layout = {
        "template": None,
        "height": 340,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "font": {"family": FONT, "size": 13},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
        "hoverlabel": {"bgcolor": PAPER, "font": {"color": INK, "family": FONT}},
        "xaxis": {**axis, "title_text": x_title, "showline": True, "showgrid": False},
        "yaxis": {**axis, "title_text": y_title},
    }
    return go.Figure(layout=layout)


def add_level(figure: go.Figure, value: float, colour: str, name: str, legend: bool = True) -> None:
    """Draw a dashed horizontal line, named in the legend."""
    figure.add_hline(value, line={"color": colour, "dash": "dash", "width": 1.5}, name=name, showlegend=legend)


def plain(text: str) -> str:
    """Text for plotly, which would otherwise take markup in it for formatting and links."""
    return html.escape(text, quote=False)


def pair_up(charts: list[Chart]) -> list[Chart]:
    """The same charts; where those of half the width are an odd number, the last of them becomes wide."""
    halves = [chart for chart in charts if not chart.wide]
    if len(halves) % 2:
        halves[-1].wide = True
    return charts


def ratio(numerator: Float64Array, denominator: Float64Array) -> Float64Array:
    """Quotient, NaN where the denominator is zero: a gap in the curve, not a zero."""
    quotient = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
