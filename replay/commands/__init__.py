"""Subcommands of `distila` that work offline, on traces and logs; `distila --help` reads their summaries here."""

from typing import Final

from distila.xapp.commands import Summary

_PACKAGES: Final = ("pyarrow", "plotly", "jinja2")

SUMMARIES: Final = {
    "bench": Summary("Measure on this machine: the decision loop, replay, and simulation.", "replay", _PACKAGES),
    "replay": Summary("Replay a trace against a policy and the DU's native OLLA; write a report.", "replay", _PACKAGES),
    "ric-demo": Summary(
        "Run the xApp on a near-RT RIC of stand-ins, and check each step.",
        "replay,ric",
        (*_PACKAGES, "redis", "fastapi"),
    ),
    "trace": Summary("Import traces and logs, and print what they hold.", "replay", _PACKAGES),
}
