"""A report page: one HTML file that holds everything it shows, plotly.js included, and loads nothing.

    write_page(path, Page(kind="rollout", title=..., eyebrow=..., verdicts=[...]), _TEMPLATE)

A report's own template extends ``base`` and fills its blocks (``style``, ``headline``, ``sections``, ``script``); it
takes charts and tables from ``parts``:

    {% extends "base" %}
    {% from "parts" import chart, table %}
    {% block sections %}<section><h2>Settings</h2>{{ table(settings) }}</section>{% endblock %}

Text is escaped, wherever it comes from; a value that the template asks for and nobody gave is an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final

import jinja2
from plotly.offline import get_plotlyjs

from distila.replay.page import number_text, palette
from distila.replay.page.chart import Chart
from distila.replay.page.table import Table
from distila.replay.page.verdict import SIGNS, VerdictLine
from distila.xapp.files import write_text

_PLAIN: Final = '{% extends "base" %}'


@dataclass(frozen=True)
class Page:
    """What every report has.

    Attributes:
        kind: of report, in one word; stands in the browser's title.
        title: of the browser's tab.
        eyebrow: a small line above the verdict: what was run on what.
        verdicts: what came out; the first one is the headline.
        caveats: what a reader has to know before they believe the verdict, most important first.
        headline: the figures behind the verdict; None for a report whose template shows them in a way of its own.
        charts: below the headline, in this order.
    """

    kind: str
    title: str
    eyebrow: str
    verdicts: Sequence[VerdictLine]
    caveats: Sequence[str] = ()
    headline: Table | None = None
    charts: Sequence[Chart] = field(default_factory=tuple)


def write_page(path: Path, page: Page, template: str = _PLAIN, values: Mapping[str, object] | None = None) -> None:
    """Write a report; the file is there whole or not at all.

    Args:
        path: the HTML file.
        page: what every report has; the template knows it as ``page``.
        template: Jinja text that extends ``base``.
        values: what the template shows beside ``page``, by name.

    Raises:
        jinja2.UndefinedError: the template uses a name that ``values`` does not hold.
    """
    room = resources.files("distila.replay.page")
    loader = jinja2.DictLoader(
        {name: room.joinpath(f"{name}.html.j2").read_text("utf-8") for name in ("base", "parts")}
    )
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        number=number_text.number,
        signed=number_text.signed,
        percent=number_text.percent,
        setting=number_text.setting,
        counted=number_text.counted,
    )
    environment.globals.update(
        policy_colour=palette.POLICY_COLOUR, against_colour=palette.AGAINST_COLOUR, faded=palette.faded, signs=SIGNS
    )
    text = environment.from_string(template).render(page=page, plotly_js=get_plotlyjs(), **(values or {}))
    write_text(path, text)
