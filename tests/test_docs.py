"""The documentation names only what exists: links, files, modules, `make` targets, and commands with their options."""

import re
import shlex
import subprocess
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

ROOT = Path(__file__).parent.parent
HISTORY = "CHANGELOG.md"  # names what existed when an entry was written
FOLDERS = ("docs", "helm", "replay", "requirements", "schemas", "tests", "training", "xapp")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Command(NamedTuple):
    page: str
    line: str

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def inline_code(page: Path) -> list[str]:
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


def blocks(page: Path, language: str) -> list[str]:
    return [body for _, tag, body in FENCE.findall(page.read_text()) if tag == language]


def shell_lines(page: Path) -> list[str]:
    return [line.strip() for body in blocks(page, "sh") for line in body.replace("\\\n", " ").splitlines()]


def commands(program: str) -> list[Command]:
    """Each use of a program in a shell block, and each one in inline code."""
    lines = ((name_of(page), line) for page in PAGES for line in [*shell_lines(page), *inline_code(page)])
    return sorted({Command(page, line) for page, line in lines if line.startswith(f"{program} ")})


@cache
def command_line(name: str) -> Any:
    """The parser of `distila NAME`."""
    (entry,) = entry_points(group="distila.commands", name=name)
    try:
        return typer.main.get_command(entry.load())
    except ModuleNotFoundError as error:
        if (error.name or "distila").startswith("distila"):
            raise
        return pytest.skip(f"`distila {name}` needs the package {error.name}")


def problem(arguments: list[str]) -> str | None:
    """What is wrong with the arguments of `distila`, by the parsers' own lists of subcommands and options."""
    if arguments[0] in ("--help", "--version", "COMMAND"):
        return None
    if not entry_points(group="distila.commands", name=arguments[0]):
        return f"there is no command {arguments[0]!r}"
    command, name = command_line(arguments[0]), arguments[0]
    rest = arguments[1:]
    while rest:
        word = rest.pop(0)
        subcommands = getattr(command, "commands", {})
        if word in subcommands:
            command, name = subcommands[word], f"{name} {word}"
        elif word.startswith("-"):
            option, _, value = word.partition("=")
            known = {text: p for p in command.params for text in [*p.opts, *p.secondary_opts] if text.startswith("-")}
            if option not in known and option != "--help":
                return f"no option {option} of `{name}`"
            if option in known and not known[option].is_flag and not value:
                if not rest:
                    return f"{option} needs a value"
                rest.pop(0)
        elif not any(parameter.param_type_name == "argument" for parameter in command.params):
            return f"{word!r} is neither a subcommand nor an argument of `{name}`"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    missing = [target for target in local if not (page.parent / (target.partition("#")[0] or page.name)).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_anchors_name_a_heading(page):
    for target, anchor in re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", prose(page)):
        headings = re.findall(r"^#+ +(.*)$", prose(page.parent / target if target else page), re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in slugs


@pytest.mark.parametrize("page", [page for page in PAGES if name_of(page) != HISTORY], ids=name_of)
def test_files_named_in_code_exist(page):
    named = [code for code in inline_code(page) if re.fullmatch(rf"({'|'.join(FOLDERS)}|distila)/[\w./*-]*", code)]
    assert [path for path in named if not list(ROOT.glob(path.rstrip("/")))] == []


@pytest.mark.parametrize("page", [page for page in PAGES if name_of(page) != HISTORY], ids=name_of)
def test_modules_named_in_code_exist(page):
    for code in inline_code(page):
        if found := re.fullmatch(r"distila\.((?:xapp|replay|training)(?:\.\w+)+)", code):
            *folders, last = found[1].split(".")
            folder = ROOT.joinpath(*folders)
            module = folder.with_suffix(".py")
            inside = module if module.is_file() else folder / "__init__.py"
            exists = (folder / last).is_dir() or (folder / f"{last}.py").is_file()
            assert exists or re.search(rf"\b{last}\b", inside.read_text()), code


@pytest.mark.parametrize("command", commands("make"), ids=str)
def test_make_has_the_target(command):
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [word for word in shlex.split(command.line, comments=True)[1:] if "=" not in word]
    assert set(named) <= targets


@pytest.mark.parametrize("command", commands("distila"), ids=str)
def test_the_command_line_takes_the_command(command):
    arguments = shlex.split(command.line, comments=True)[1:]
    assert problem([word for word in arguments if word != "&"]) is None


def test_a_command_that_does_not_exist_is_found():
    assert problem(["replays"]) == "there is no command 'replays'"
    assert problem(["trace", "inform", "x.trace"]) == "'inform' is neither a subcommand nor an argument of `trace`"
    assert problem(["replay", "--trace", "x.trace", "--colour", "red"]) == "no option --colour of `replay`"
    assert problem(["trace", "info", "x.trace"]) is None


def test_python_of_the_readme_runs(tmp_path):
    (program,) = blocks(ROOT / "README.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
def test_python_of_the_simulator_page_runs(tmp_path):
    pytest.importorskip("torch")
    for program in blocks(ROOT / "docs/simulator.md", "python"):
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr


def test_every_page_is_in_the_index():
    index = (ROOT / "docs/README.md").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {name for name in pages if f"({name})" not in index} == set()


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100
