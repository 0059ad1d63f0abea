"""The page of the benchmark's report, until it extends the report kit."""

import math
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from distila.replay.report_charts import AGAINST_COLOUR, DASH, POLICY_COLOUR, signed
from distila.xapp.files import write_text


def write_page(path: Path, values: dict[str, Any], template: str) -> None:
    """Write a page: ``template`` fills the blocks of "page"."""
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(
            {"page": resources.files("distila.replay").joinpath("report.html.j2").read_text("utf-8")}
        ),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, signed=signed)
    colours = {"policy": POLICY_COLOUR, "against": AGAINST_COLOUR}
    text = environment.from_string(template).render(colours=colours, plotly_js=get_plotlyjs(), **values)
    write_text(path, text)


def number(value: Any, digits: int = 0) -> str:
    """A number with thousands separators; a dash for what is missing or not finite."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return DASH
    return f"{value:,.{digits}f}".replace("-", "\u2212")
