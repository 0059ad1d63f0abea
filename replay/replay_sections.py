"""What the pages of both kinds of replay show below their charts: decisions by reason, source, policies, settings."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from distila.replay.page.document import Page, write_page
from distila.replay.page.number_text import microseconds, number, percent, setting
from distila.replay.page.palette import AGAINST_COLOUR, POLICY_COLOUR
from distila.replay.page.table import Cell, Column, Table, settings_table
from distila.replay.reason_tables import reason_tables
from distila.replay.summary import ClosedLoopSummary, OpenLoopSummary, PolicyFacts

_TEMPLATE: Final = resources.files("distila.replay").joinpath("replay_page.html.j2")


def write_replay_page(path: Path, page: Page, summary: ClosedLoopSummary | OpenLoopSummary) -> None:
    """Write a report of a replay.

    Args:
        path: the HTML file.
        page: headline, caveats and charts.
        summary: fills the sections below them.
    """
    closed = isinstance(summary, ClosedLoopSummary)
    policies = [(summary.policy, POLICY_COLOUR)]
    settings = None
    if isinstance(summary, ClosedLoopSummary):
        policies.append((summary.against, AGAINST_COLOUR))
        # Period and delay are settings of the replay and of its DU: once is enough.
        run = {**_values(summary.settings, without=("du", "speed")), **_values(summary.settings.du)}
        speed = summary.settings.speed
        run["speed"] = "as fast as possible" if speed == "max" else f"{setting(speed)} times real time"
        settings = settings_table(run.items())
    values = {
        "decided": decided_text(summary),
        "reasons": reason_tables(summary),
        "source_heading": "Trace" if closed else "Log",
        "source": settings_table(_values(summary.trace, without=("notes",)).items()),
        "notes": summary.trace.notes,
        "policies": _policies(policies),
        "settings": settings,
    }
    write_page(path, page, _TEMPLATE.read_text("utf-8"), values)


def decided_text(summary: ClosedLoopSummary | OpenLoopSummary) -> str:
    """How many decisions there were, and how long they took."""
    text = f"{number(summary.indications)} indications were decided on with {number(summary.decisions)} UE decisions"
    if summary.decisions and summary.native is not None:
        share = percent(summary.native / summary.decisions)
        text += f", {number(summary.native)} of them ({share}) native, that is, left to the DU's own link adaptation"
    taken = summary.latency_us
    if taken.p50 is None:
        return f"{text}. No decision was timed."
    times = f"p50 {microseconds(taken.p50)}, p99 {microseconds(taken.p99)}, longest {microseconds(taken.max)}"
    return f"{text}. Time to decide: {times} ({taken.what})."


def _policies(policies: list[tuple[PolicyFacts, str]]) -> Table:
    rows = []
    for one, colour in policies:
        name = f"{one.name} {one.version}" if one.version else one.name
        rows.append([Cell(name, colour=colour), Cell(one.digest, code=True) if one.digest else "no bundle"])
    return Table(["", Column("", text=True)], rows, style="settings")


def _values(model: BaseModel, without: tuple[str, ...] = ()) -> Mapping[str, str]:
    """Values of a model by the titles of its fields."""
    return {
        field.title or name: setting(getattr(model, name))
        for name, field in type(model).model_fields.items()
        if name not in without
    }
