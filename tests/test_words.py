"""Texts that users read use the glossary's words (CONTRIBUTING.md), not the ones that it rules out.

Looked at: Markdown, page templates, descriptions in YAML, and every string of at least two words in the sources, which
are docstrings, help texts, error messages and field descriptions. And the names in the sources: modules, classes,
functions, arguments, attributes and variables.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("xapp", "replay", "training", "helm")
NEVER = {
    r"luck": "random draws, common random numbers, seed",
    r"wisdom": "memory, policy",
    r"untold|unless told|not told|told every": "not reported, given, by default",
    r"refus(?:e|es|ed|al)": "NACK, decode failure, rejected",
    r"unrest": "variability",
    r"blocks? (?:(?:is|are|that is|that are) )?given up|HARQ (?:gives|gave) up": "lost after the last transmission",
    r"judgements?": "verdict, evaluation, benchmark",
    r"[Ww]here it listens": "port to listen on",
    r"steering(?! vector)": "runtime configuration, reload",
    r"faces": "user interfaces",
    r"lessons?": "objective, loss",
    r"tutors?|advisors?": "teacher, reference algorithm",
    r"hears?|heard": "receives, reads, reported",
    r"as \w+ ha(?:s|ve) it": "as in X",
    r"in none of \w+": "not in any of",
    r"(?:is|was|are|were|be|been) worth": "value, return, gain",
    r"the worth of|'s worth": "value, return, gain",
}
NEVER_IN_NAMES = {
    "luck": "draws, generator",
    "lucky": "draws, generator",
    "unlucky": "draws, generator",
    "wisdom": "memory, policy",
    "told": "reported, given",
    "untold": "not_reported, unknown",
    "unrest": "variability",
    "lesson": "objective, loss",
    "steering": "runtime, reload",
    "faces": "interfaces",
    "tutor": "teacher",
    "advisor": "reference",
    "advice": "reference",
    "worth": "value, gain, return",
    "heard": "received, reported",
    "unheard": "received, reported",
    "hears": "receives",
    "judge": "verdict",
    "judged": "verdict",
    "judgement": "verdict",
    "witness": "node, observed",
    "refuse": "reject",
    "refused": "rejected, nack, failed",
    "refusal": "rejection",
    "gone": "progress",
    "given_up": "residual, lost",
    "ties": "coupling, equal",
    "lapsed": "expired",
}
"""What an identifier must not have as a word of its own (one plural s included), and what it says instead."""
ALLOWED_NAMES = {"ConnectionRefusedError": "Python's own exception"}
"""Names that may have such a word all the same, each with the reason."""
GLOSSARY = ROOT / "CONTRIBUTING.md"  # its table of what never to say
HISTORY = ROOT / "CHANGELOG.md"
OTHERS = {GLOSSARY, HISTORY}


def pages():
    folders = [ROOT / "docs", *(ROOT / name for name in SOURCES)]
    found = [path for pattern in ("*.md", "*.j2", "*.yaml") for folder in folders for path in folder.rglob(pattern)]
    return sorted([*ROOT.glob("*.md"), *found])


def modules():
    return sorted(path for name in SOURCES for path in (ROOT / name).rglob("*.py"))


def sentences(module: Path) -> list[tuple[int, str]]:
    """Line and text of each string with a space in it; the pieces of an f-string one by one."""
    tree = ast.parse(module.read_text())
    strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [(node.lineno, node.value) for node in strings if " " in node.value.strip()]


def findings(text: str) -> list[str]:
    """Each ruled-out word in the text, with its surroundings and what to say instead."""
    found = []
    for pattern, instead in NEVER.items():
        for match in re.finditer(rf"\b(?:{pattern})\b", text):
            around = " ".join(text[max(0, match.start() - 40) : match.end() + 30].split())
            found.append(f'{match[0]!r} in "...{around}...": {instead}')
    return found


def names(module: Path) -> set[tuple[int, str]]:
    """Line and name of everything that the module defines or uses by name, and line 0 and the module's own name."""
    found = {(0, module.stem)}
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add((node.lineno, name))
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
                found.add((node.lineno, name))
            case ast.keyword(arg=str(name)) | ast.alias(asname=str(name)):
                found.add((node.lineno, name))
    return found


def name_findings(name: str) -> list[str]:
    """Each ruled-out word in an identifier, however it is written, and what to say instead."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    if name in ALLOWED_NAMES:
        return []
    return [
        f"{name}: not {word!r}, but {instead}"
        for word, instead in NEVER_IN_NAMES.items()
        if re.search(rf"(?:^|_){word}s?(?:_|$)", words)
    ]


@pytest.mark.parametrize("page", [page for page in pages() if page not in OTHERS], ids=lambda page: page.name)
def test_pages_use_the_glossary(page):
    assert findings(page.read_text()) == []


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_strings_of_a_module_use_the_glossary(module):
    assert [f"line {line}: {found}" for line, text in sentences(module) for found in findings(text)] == []


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_names_in_a_module_use_the_glossary(module):
    assert [f"line {line}: {found}" for line, name in sorted(names(module)) for found in name_findings(name)] == []


def test_a_ruled_out_name_is_found_in_any_spelling():
    assert all(
        name_findings(name) for name in ("luck", "_luck", "draw_lessons", "TheWisdom", "BLOCKS_GIVEN_UP", "Faces")
    )
    assert not any(
        name_findings(name) for name in ("interfaces", "surfaces", "velocities", "penalties", "draws", *ALLOWED_NAMES)
    )


def test_a_ruled_out_word_is_found():
    assert findings("Both sides meet the same luck.") != []
    assert findings("A steering vector surfaces in the channel model.") == []
