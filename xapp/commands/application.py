"""The Typer application of a subcommand, with help that is plain text and never cut."""

import inspect
from typing import Any

import typer
from typer.core import TyperGroup


class _Group(TyperGroup):
    """A group whose help lists its commands with the whole first paragraph of theirs."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands; Click would cut each text to one line."""
        listed = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, " ".join(inspect.cleandoc(command.short_help or command.help or "").split("\n\n")[0].split()))
            for name, command in listed
            if command is not None and not command.hidden
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def application(summary: str | None = None, no_args_is_help: bool = False) -> typer.Typer:
    """A Typer application.

    Its help is not read as Rich markup, which would drop units in square brackets, and not put into a table, which
    would cut the names of options on a narrow terminal. It offers no shell completion: a shell completes programs, and
    a subcommand is none.

    Args:
        summary: what its help says first; None where it is part of another application.
        no_args_is_help: print the help when called without arguments.
    """
    return typer.Typer(
        cls=_Group, help=summary, no_args_is_help=no_args_is_help, rich_markup_mode=None, add_completion=False
    )
