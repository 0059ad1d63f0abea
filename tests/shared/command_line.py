"""The command line in this process, with the subcommands of this checkout, whatever is installed."""

import configparser
import contextlib
import io
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from unittest import mock

from distila.xapp import cli

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Done:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str


def entry_points(group: str) -> list[EntryPoint]:
    """Those of setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"][group].split("\n")
    return [EntryPoint(*map(str.strip, line.split("=")), group) for line in lines if line]


def distila(*arguments: object) -> Done:
    """Run `distila` with these arguments."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(cli, "entry_points", entry_points),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
    return Done(status, out.getvalue(), err.getvalue())
