"""Networks in files: what was kept comes back, anything else is one line that names the file and what is wrong."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distila.training.network.config import NetworkConfig
from distila.training.network.filters import PolicyNetwork
from distila.training.network.store import NETWORK_FILE, NETWORKS, load_network, save_network
from distila.xapp.errors import InputError


def a_network(**config):
    torch.manual_seed(3)
    return PolicyNetwork(NetworkConfig(**{"hidden": (8,), **config}))


@pytest.fixture
def kept(tmp_path):
    path = tmp_path / NETWORK_FILE
    save_network(a_network(), path, {"kind": "made up", "episodes": 7})
    return path


def edited(path, **changes):
    """The same file with other content."""
    data = torch.load(path, weights_only=True) | changes
    torch.save({name: value for name, value in data.items() if value is not None}, path)


def error_line(path):
    with pytest.raises(InputError) as error:
        load_network(path)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    return line


# --- what was kept comes back ---


@pytest.mark.parametrize(
    "config", [{}, {"actions": "mcs_offset", "max_offset": 2}, {"hidden": (), "mcs_table": 2, "rates_db": (0.1, 1.0)}]
)
def test_a_network_is_read_back_with_configuration_weights_and_training(tmp_path, config):
    network, path, story = a_network(**config), tmp_path / "folder" / "any.pt", {"kind": "made up", "seeds": [1, 2]}
    save_network(network, path, story)
    found, training = load_network(path)
    assert training == story
    assert found.config == network.config
    report = torch.full((5, len(network.columns)), torch.nan)
    with torch.no_grad():
        for ours, theirs in zip(
            found(report, found.zero_state(5)), network(report, network.zero_state(5)), strict=True
        ):
            assert torch.equal(ours, theirs)


def test_the_same_network_has_the_same_bytes_under_any_name(kept, tmp_path):
    """A student is identified by the digest of its teacher's file."""
    save_network(a_network(), tmp_path / "other.pt", {"kind": "made up", "episodes": 7})
    assert (tmp_path / "other.pt").read_bytes() == kept.read_bytes()


def test_a_file_is_replaced_whole_or_not_at_all(kept, monkeypatch):
    before = kept.read_bytes()

    def save(data, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(KeyboardInterrupt):
        save_network(a_network(), kept, {})
    assert kept.read_bytes() == before
    assert [path.name for path in kept.parent.iterdir()] == [NETWORK_FILE]


def test_where_nothing_can_be_written_is_one_line(kept):
    with pytest.raises(InputError, match="cannot be written") as error:
        save_network(a_network(), kept / "below" / NETWORK_FILE, {})
    assert "\n" not in str(error.value)


# --- anything else is refused ---


def test_a_missing_network_is_named(tmp_path):
    assert "no such network" in error_line(tmp_path / "gone.pt")
    assert "no such network" in error_line(tmp_path)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("damage", ["cut", "empty", "text", "flipped"])
def test_a_damaged_file(kept, damage):
    content = kept.read_bytes()
    middle = content.find(b"made up")
    kept.write_bytes(
        {
            "cut": content[: len(content) // 2],
            "empty": b"",
            "text": b"not a network",
            "flipped": content[:middle] + b"\xff" + content[middle + 1 :],
        }[damage]
    )
    assert "not a network" in error_line(kept)


@pytest.mark.parametrize("content", [[1, 2], {"weights": {}}, torch.zeros(3), {"format": "distila-network/1"}])
def test_a_file_of_something_else(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    assert "not a network" in error_line(tmp_path / "other.pt")


def test_a_file_that_would_run_code_when_read_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("it ran",))

    torch.save({"format": Bomb()}, tmp_path / "bomb.pt")
    assert "not a network" in error_line(tmp_path / "bomb.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb()))
    assert "not a network" in error_line(tmp_path / "plain.pt")


def test_another_format(kept):
    edited(kept, format="distila-network/99")
    line = error_line(kept)
    assert "'distila-network/99'" in line
    assert "'distila-network/1'" in line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"config": json.dumps({"hidden": [9]})}, "another architecture"),
        ({"config": json.dumps({"hidden": [8], "rates_db": [0.1]})}, "another architecture"),
        ({"config": json.dumps({"hidden": [8], "depth": 3})}, "depth"),
        ({"config": "{"}, "JSON"),
        ({"weights": {}}, "another architecture"),
        ({"weights": None}, "another architecture"),
        ({"weights": [1, 2]}, "another architecture"),
    ],
)
def test_another_architecture(kept, changes, says):
    edited(kept, **changes)
    assert says in error_line(kept)


# --- by name ---


def test_a_network_is_found_by_file_and_by_directory(kept):
    assert NETWORKS.find(str(kept)) == kept
    assert NETWORKS.find(str(kept.parent)) == kept


def test_or_by_name_if_it_ships(kept, tmp_path):
    folder = tmp_path / "shipped"
    folder.mkdir()
    networks = replace(NETWORKS, folders=folder)
    for name in ("tutor", "mentor"):
        (folder / f"{name}.pt").write_bytes(kept.read_bytes())
    assert networks.find("tutor") == folder / "tutor.pt"
    for name in ("nobody", "../shipped/tutor", str(folder / "tutor"), ""):
        with pytest.raises(InputError) as error:
            networks.find(name)
        assert str(error.value).startswith(f"{name}: no such network: ")
        looked = f"there is no file {Path(name).absolute()}" if name else f"{Path().absolute()} is a directory without"
        assert looked in str(error.value)
        assert "distila ships mentor, tutor" in str(error.value)
        assert "\n" not in str(error.value)


def test_where_none_ships_it_says_so(tmp_path):
    with pytest.raises(InputError, match=r"^tutor: no such network: .* distila ships none$"):
        replace(NETWORKS, folders=tmp_path / "none").find("tutor")
