"""The command line, `distila`. Commands are found by the entry points of group ``distila.commands`` and imported only
when called, so that a runtime install without torch or pyarrow still runs the xApp.

Exit status: 0 done; 1 done, and the answer is no (a check failed); 2 bad input or usage; 130 interrupted.
"""

import os
import sys
from importlib.metadata import EntryPoint, entry_points, version
from typing import Final

import typer

from distila.xapp.errors import InputError

_GROUP: Final = "distila.commands"
_INTERRUPTED: Final = 130
_EXTRAS: Final = (
    ("distila.replay.commands.ric", "[replay,ric]"),
    ("distila.xapp.commands.rollout", "[ric]"),
    ("distila.replay", "[replay]"),
    ("distila.training", "[training]"),
)
"""What a command needs beyond the runtime; the first that fits."""
_SUMMARY: Final = "Distilled link adaptation: an O-RAN xApp that chooses the downlink MCS, and the workshop around it."


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


def _command(name: str) -> typer.Typer:
    entries = {entry.name: entry for entry in entry_points(group=_GROUP)}
    if name not in entries:
        raise InputError(f"no command {name!r}; there are {', '.join(sorted(entries))}")
    return _load(entries[name])


def _load(entry: EntryPoint) -> typer.Typer:
    try:
        app: typer.Typer = entry.load()
    except ModuleNotFoundError as error:
        raise InputError(f"`distila {entry.name}` needs the package {error.name!r}: {_install(entry)}") from None
    return app


def _install(entry: EntryPoint) -> str:
    extra = next((extra for module, extra in _EXTRAS if entry.module.startswith(module)), "")
    return f"pip install 'distila{extra}'"


def _print_help() -> None:
    print(f"{_SUMMARY}\n\nUsage: distila COMMAND [OPTIONS] ...\n\nCommands:")
    for entry in sorted(entry_points(group=_GROUP), key=lambda entry: entry.name):
        try:
            text = str(_load(entry).info.help or "")
        except InputError:
            text = f"(not installed: {_install(entry)})"
        print(f"  {entry.name:<12} {text.splitlines()[0] if text else ''}")
    print("\n`distila COMMAND --help` says more; `distila --version` the version.")


if __name__ == "__main__":
    main()
