"""Things by path or by the name of one that ships: what is found, which goes first, and what an unknown name says."""

from pathlib import Path

import pytest

from distila.xapp.errors import InputError
from distila.xapp.shipped import Shipped


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that ships oak, elm and fir as files, and the bundles ash and box; the working directory is empty."""
    shipped = tmp_path / "shipped"
    (shipped / "more").mkdir(parents=True)
    for name in ("02_oak.yaml", "01_elm.yaml", "more/fir.yaml", "more/oak.yaml"):
        (shipped / name).touch()
    for name in ("ash", "box"):
        (shipped / name).mkdir()
        (shipped / name / "manifest.json").touch()
    (shipped / "junk").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return shipped


@pytest.fixture
def trees(folder):
    return Shipped("tree", (folder, folder / "more"), inside="tree.yaml")


@pytest.fixture
def bundles(folder):
    return Shipped("bundle", folder, "*/manifest.json")


def test_names_are_those_of_the_files_without_the_number_that_sorts_them(trees, bundles):
    assert trees.names() == ["elm", "oak", "fir"]
    assert bundles.names() == ["ash", "box"]


def test_a_name_is_what_ships_and_the_first_folder_wins(trees, bundles, folder):
    assert trees.find("oak") == folder / "02_oak.yaml"
    assert trees.find("fir") == folder / "more/fir.yaml"
    assert bundles.find("box") == folder / "box"


def test_a_path_that_exists_goes_before_a_name(trees, bundles):
    Path("oak").touch()
    assert trees.find("oak") == Path("oak")
    Path("box").mkdir()
    (Path("box") / "manifest.json").touch()
    assert bundles.find("box") == Path("box")


def test_a_directory_stands_for_the_file_in_it(trees):
    Path("mine").mkdir()
    (Path("mine") / "tree.yaml").touch()
    assert trees.find("mine") == Path("mine/tree.yaml")


def test_a_directory_that_only_has_the_name_of_one_that_ships_is_not_taken_for_it(bundles, folder):
    Path("ash").mkdir()
    Path("other").mkdir()
    assert bundles.find("ash") == folder / "ash"
    assert bundles.find("other") == Path("other"), "whoever reads it says what is missing"


def test_a_directory_without_the_file_is_named_as_one(trees, tmp_path):
    with pytest.raises(InputError, match=rf": no such tree: {tmp_path} is a directory without tree.yaml, and"):
        trees.find(tmp_path)


@pytest.mark.parametrize("name", ["oka", "02_oak", "oak.yaml", "../shipped/02_oak", "nowhere/oak"])
def test_an_unknown_name_lists_what_was_looked_at_and_what_ships(trees, name):
    with pytest.raises(InputError) as caught:
        trees.find(name)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(
        f"{name}: no such tree: there is no file {Path(name).absolute()}, nor tree.yaml in it as a directory, "
        "and distila ships elm, oak, fir"
    )


def test_a_name_that_is_nearly_right_gets_a_suggestion(trees, bundles):
    for shipped, typo, meant in ((trees, "oka", "oak"), (bundles, "bxo", "box")):
        with pytest.raises(InputError, match=f"did you mean '{meant}'[?]$"):
            shipped.find(typo)
    with pytest.raises(InputError) as caught:
        bundles.find("sequoia")
    assert str(caught.value).endswith(f"there is no directory {Path('sequoia').absolute()}, and distila ships ash, box")


def test_where_nothing_ships_it_says_so(tmp_path):
    with pytest.raises(InputError, match=r"distila ships none$"):
        Shipped("tree", tmp_path / "none").find("oak")
