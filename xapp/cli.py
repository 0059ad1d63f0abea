"""The command line, `distila`. Commands are found by the entry points of group ``distila.commands`` and imported only
when called, so that a runtime install without torch or pyarrow still runs the xApp.

Exit status: 0 done; 1 done, and the answer is no (a check failed); 2 bad input or usage; 130 interrupted.
"""

import os
import shutil
import sys
import textwrap
from importlib.metadata import entry_points, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from distila.xapp.commands import SUMMARIES, Summary
from distila.xapp.errors import InputError
from distila.xapp.shipped import did_you_mean

if TYPE_CHECKING:
    import typer

_GROUP: Final = "distila.commands"
_INTERRUPTED: Final = 130
_WIDTH: Final = 80
"""Widest line of the help [characters], as in the help of the subcommands."""
_SUMMARY: Final = (
    "Distilled link adaptation: an O-RAN xApp that chooses the downlink MCS, and the offline tools around it."
)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script; turns bad input into one line and an exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # gRPC's own log lines would stand beside our one line of what is wrong.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            _print_help()
        elif arguments[0] == "--version":
            print(f"distila {version('distila')}")
        else:
            _command(arguments[0])(args=arguments[1:], prog_name=f"distila {arguments[0]}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            _interrupted()
        raise
    except BrokenPipeError:
        # The reader of our output (head, say) has seen enough.
        sys.stderr.close()
        sys.exit(0)


def _interrupted() -> None:
    print("interrupted", file=sys.stderr)
    sys.exit(_INTERRUPTED)


def _command(name: str) -> "typer.Typer":
    entries = {entry.name: entry for entry in entry_points(group=_GROUP)}
    if name not in entries:
        known = sorted(entries)
        raise InputError(f"no command {name!r}; there are {', '.join(known)}{did_you_mean(name, known)}")
    entry = entries[name]
    try:
        app: typer.Typer = entry.load()
    except ModuleNotFoundError as error:
        install = _install(SUMMARIES[entry.name])
        raise InputError(f"`distila {entry.name}` needs the package {error.name!r}: {install}") from None
    return app


def _install(summary: Summary) -> str:
    return f"pip install 'distila[{summary.extra}]'" if summary.extra else "pip install distila"


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _print_help() -> None:
    print(f"{_wrapped(_SUMMARY)}\n\nUsage: distila COMMAND [OPTIONS] ...\n\nCommands:")
    for entry in sorted(entry_points(group=_GROUP), key=lambda entry: entry.name):
        summary = SUMMARIES[entry.name]
        missing = not all(map(_is_installed, summary.packages))
        text = f"(not installed: {_install(summary)})" if missing else summary.text
        print(_wrapped(text, f"  {entry.name:<12}"))
    print("\n" + _wrapped("`distila COMMAND --help` says more; `distila --version` prints the version."))


def _wrapped(text: str, before: str = "") -> str:
    """Text behind ``before``, in lines that fit the terminal, and 80 columns; further lines begin below the text."""
    width = min(shutil.get_terminal_size().columns, _WIDTH)
    return textwrap.fill(text, width, initial_indent=before, subsequent_indent=" " * len(before))


if __name__ == "__main__":
    main()
