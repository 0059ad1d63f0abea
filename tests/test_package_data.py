"""What the wheel carries beside Python: every pattern of setup.cfg finds a file, and no template is left out."""

import configparser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def patterns() -> list[tuple[str, str]]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    data = setup["options.package_data"]
    return [(package, pattern.strip()) for package, line in data.items() for pattern in line.split(",")]


def folder(package: str) -> Path:
    return ROOT / package.replace(".", "/")


@pytest.mark.parametrize(("package", "pattern"), patterns())
def test_a_pattern_finds_files(package: str, pattern: str) -> None:
    assert list(folder(package).glob(pattern))


def test_every_template_is_installed() -> None:
    installed = {path.resolve() for package, pattern in patterns() for path in folder(package).glob(pattern)}
    templates = [path for room in ("xapp", "replay", "training") for path in (ROOT / room).rglob("*.j2")]
    assert templates
    assert {path for path in templates if path.resolve() not in installed} == set()
