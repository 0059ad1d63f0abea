"""`--help` of every command, at any width of the terminal: all that the source says, and nothing cut."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from command_line import distila, entry_points

from distila.xapp.commands import SUMMARIES

ENTRIES = {entry.name: entry for entry in entry_points("distila.commands")}


def commands(path: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command and all its subcommands, with the words by which they are called."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands((*path, name), below)


def squeezed(text: str) -> str:
    """Without white space: where lines are broken does not matter."""
    return "".join(text.split())


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_help_shows_every_text_and_option_whole(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    try:
        app = ENTRIES[name].load()
    except ModuleNotFoundError as error:
        pytest.skip(f"needs {error.name}")
    for path, command in commands((name,), typer.main.get_command(app)):
        shown = distila(*path, "--help")
        assert shown.status == 0
        assert "…" not in shown.out
        text = squeezed(shown.out)
        assert squeezed(command.help or command.short_help or "") in text
        for below in getattr(command, "commands", {}).values():
            assert squeezed((below.short_help or below.help or "").split("\n\n")[0]) in text, (path, below.name)
        for parameter in command.params:
            assert squeezed(parameter.help or "") in text, (path, parameter.name)
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert option in text, path
        too_wide = [line for line in shown.out.splitlines() if len(line) > width]
        assert not too_wide, path


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_list_of_commands_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = distila("--help").out.splitlines()
    assert max(map(len, lines)) <= min(width, 80)


def test_every_command_of_the_installation_has_a_summary_and_every_summary_a_command() -> None:
    assert set(SUMMARIES) == set(ENTRIES)
