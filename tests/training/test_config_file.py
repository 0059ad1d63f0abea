"""Configurations in YAML: files, what ships, which of them goes first, and refusals in one line."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from distila.training.learning.config_file import load_config
from distila.xapp.errors import InputError


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid")

    height: float = Field(default=1.0, gt=0)
    branches: list[int] = []


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    """A package ``forest`` that ships ``oak`` in its folder ``configs``, and ``elm`` in ``trees``."""
    for folder, name, text in (("configs", "oak", "height: 20"), ("trees", "elm", "height: 30")):
        path = tmp_path / "site" / "forest" / folder
        path.mkdir(parents=True)
        (path / f"{name}.yaml").write_text(text)
    (tmp_path / "site" / "forest" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def load(name, *folder):
    return load_config(Tree, name, "forest", *folder)


def test_a_name_is_what_ships():
    assert load("oak").height == 20
    assert load("elm", "trees").height == 30


def test_a_file_goes_before_what_ships():
    Path("oak").write_text("height: 3")
    Path("ash.yaml").write_text("branches: [1, 2]")
    assert load("oak").height == 3
    assert load("ash.yaml") == Tree(branches=[1, 2])


def test_nothing_given_is_what_defaults_are_for():
    Path("empty.yaml").write_text("")
    assert load("empty.yaml") == Tree()


@pytest.mark.parametrize("name", ["beech", "elm", "oak.yaml", "nowhere/oak"])
def test_what_there_is_not_is_refused(name):
    with pytest.raises(InputError) as caught:
        load(name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("height: -2", "height"),
        ("height: tall", "height"),
        ("branches: [1, x]", "branches.1"),
        ("colour: green", "colour: no such field"),
        ("[1, 2]", ""),
        ("{", "not YAML"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_setting(text, says):
    Path("bad.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load("bad.yaml")
    assert str(caught.value).startswith("bad.yaml: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
