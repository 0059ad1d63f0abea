"""Subcommands of `distila` that are part of the runtime; `distila --help` reads their summaries here."""

from typing import Final, NamedTuple


class Summary(NamedTuple):
    """What `distila --help` says about a subcommand, without importing it."""

    text: str
    """One line."""
    extra: str = ""
    """What to install for it: ``pip install 'distila[extra]'``; empty: the runtime alone."""
    packages: tuple[str, ...] = ()
    """Packages of that extra that it imports; where one is missing, the command is not installed."""


SUMMARIES: Final = {
    "run": Summary("Run the xApp: subscribe to an E2 node and answer its indications with decisions."),
    "policy": Summary("Show a policy bundle, or check it."),
    "rollout": Summary("Run an A/B rollout of a policy: plan, start, watch, promote, abort; or simulate one.", "ric"),
}
