"""Files: written whole or not at all, whoever else writes; read into a model, with one line of error for bad input."""

import math
import multiprocessing
import stat
from pathlib import Path

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from distila.xapp.errors import InputError
from distila.xapp.files import (
    check_writable,
    read_json,
    read_model,
    read_yaml,
    replacing,
    replacing_directory,
    write_json,
    write_text,
)


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid")

    height: float = Field(default=1.0, gt=0)
    branches: list[int] = []


class Result(BaseModel):
    trees: list[Tree] = []


class Killed(BaseException):
    pass


def _write_half(path: Path) -> None:
    path.write_text("half")
    raise Killed


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---------------------------------------------------------------- writing


def test_a_file_is_replaced_when_the_block_ends():
    path = Path("new/folder/file.txt")
    for text in ("first", "second"):
        with replacing(path) as partial:
            partial.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_a_write_that_is_cut_off_leaves_what_was_there():
    write_text(Path("old.txt"), "old")
    for path in (Path("old.txt"), Path("new.txt")):
        with pytest.raises(Killed), replacing(path) as partial:
            _write_half(partial)
    assert [path.name for path in Path().iterdir()] == ["old.txt"]
    assert Path("old.txt").read_text() == "old"


def test_two_writers_of_one_file_do_not_meet():
    """Both are in the block at once: each has a temporary file of its own, and the last one to end stays."""
    path = Path("shared.txt")
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert [entry.name for entry in Path().iterdir()] == ["shared.txt"]


def _write_many(path: Path, text: str) -> None:
    for _ in range(200):
        write_text(path, text)


def test_processes_that_write_one_file_at_once_never_show_half_of_it():
    path, texts = Path("shared.txt").absolute(), {"a" * 50_000, "b" * 50_000}
    write_text(path, "a" * 50_000)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(path, text)) for text in texts]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_text() in texts
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_file_has_the_permissions_that_any_new_file_has():
    Path("plain.txt").touch()
    write_text(Path("ours.txt"), "x")
    assert stat.S_IMODE(Path("ours.txt").stat().st_mode) == stat.S_IMODE(Path("plain.txt").stat().st_mode)


def test_a_place_that_cannot_be_written_to_is_one_line():
    Path("file").touch()
    for path in (Path("file/inside.txt"), Path("folder")):
        Path("folder").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=f"^{path}: cannot be written: ") as caught:
            write_text(path, "x")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"^--out file/inside: "):
        check_writable(Path("file/inside"))


def test_a_directory_is_replaced_as_a_whole():
    path = Path("deep/bundle")
    for name in ("first", "second"):
        with replacing_directory(path) as new:
            (new / name).write_text(name)
        assert [entry.name for entry in path.iterdir()] == [name]
    with pytest.raises(Killed), replacing_directory(path) as new:
        _write_half(new / "third")
    assert [entry.name for entry in path.iterdir()] == ["second"]
    assert [entry.name for entry in path.parent.iterdir()] == ["bundle"], "nothing temporary is left"


def test_a_directory_takes_no_files_place():
    Path("file").write_text("mine")
    with pytest.raises(InputError, match=r"^file: is a file, not a directory"), replacing_directory(Path("file")):
        pass
    assert Path("file").read_text() == "mine"


def test_json_of_a_model_comes_back():
    result = Result(trees=[Tree(height=2, branches=[1])])
    write_json(Path("result.json"), result)
    assert read_model(Path("result.json"), Result) == result
    write_json(Path("short.json"), {"a": [1, 2]}, indent=None)
    assert Path("short.json").read_text() == '{"a":[1,2]}\n'


def test_json_has_no_nan():
    with pytest.raises(ValueError, match="JSON"):
        write_json(Path("result.json"), {"gain": math.nan})
    assert not Path("result.json").exists()


# ---------------------------------------------------------------- reading


def test_yaml_and_json_are_read_into_a_model():
    Path("ash.yaml").write_text("branches: [1, 2]")
    Path("ash.json").write_text('{"branches": [1, 2]}')
    assert read_model(Path("ash.yaml"), Tree) == read_model(Path("ash.json"), Tree) == Tree(branches=[1, 2])


def test_an_empty_file_is_all_defaults():
    Path("empty.yaml").write_text("")
    assert read_model(Path("empty.yaml"), Tree) == Tree()


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
def test_an_invalid_file_is_one_line_with_file_and_field(text, says):
    Path("bad.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_model(Path("bad.yaml"), Tree)
    assert str(caught.value).startswith("bad.yaml: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


class Wood(BaseModel):
    trees: dict[str, Tree] = {}
    rows: list[float] = []
    mixed: int | bool = 0
    fenced: bool = False
    area_ha: float = Field(default=1.0, gt=0, validation_alias=AliasChoices("area_ha", "area"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("area_ha: yes", "area_ha = True: must be a number"),
        ("area: yes", "area = True: must be a number"),
        ("area_ha: no", "area_ha = False: must be a number"),
        ("rows: [1, on]", "rows.1 = True: must be a number"),
        ("trees: {ash: {height: true}}", "trees.ash.height = True: must be a number"),
        ("trees: {ash: {branches: [2, true]}}", "trees.ash.branches.1 = True: must be a number"),
        ("area_ha: .nan", "area_ha = nan: is not a number"),
        ("area_ha: -1e3", "area_ha = -1e3: Input should be greater than 0"),
    ],
)
def test_what_is_no_number_is_not_taken_for_one(text, line):
    Path("wood.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_model(Path("wood.yaml"), Wood)
    assert str(caught.value) == f"wood.yaml: {line}"


def test_booleans_stay_booleans():
    Path("wood.yaml").write_text("{fenced: yes, mixed: true}")
    wood = read_model(Path("wood.yaml"), Wood)
    assert (wood.fenced, wood.mixed) == (True, True)


@pytest.mark.parametrize("read", [read_yaml, read_json, lambda path: read_model(path, Tree)])
def test_an_unreadable_file_is_one_line(read):
    Path("binary").write_bytes(b"\xff\xfe\x00")
    Path("folder").mkdir()
    for name in ("nowhere", "binary", "folder"):
        with pytest.raises(InputError, match=f"^{name}: ") as caught:
            read(Path(name))
        assert "\n" not in str(caught.value)


def test_json_that_was_cut_short_is_one_line():
    Path("cut.json").write_text('{"height": 2, "bran')
    with pytest.raises(InputError, match=r"^cut.json: not JSON: "):
        read_model(Path("cut.json"), Tree)
