"""Banks of fading: their files, and the cache that they are taken from."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distila.training.sim import bank as bank_module
from distila.training.sim.bank import NUM_NODES, FadingBank, bank_path, cache_dir, fading_bank
from distila.training.sim.channels import Fading
from distila.training.sim.scenario import AntennaConfig, ChannelConfig
from distila.training.sim.sealed_npz import write_sealed
from distila.training.sim.split import Split
from distila.xapp.errors import InputError

CONFIG = ChannelConfig(model="TDL-A", antennas=AntennaConfig(tx=2, rx=2, max_rank=2))


def fading(rows=3, slots=5, ranks=2, number=0):
    rng = np.random.default_rng(number)
    return Fading(
        rng.integers(-3000, 1000, (rows, ranks, slots, NUM_NODES)).astype(np.int16),
        rng.uniform(0, 100, rows).astype(np.float32),
        np.array([np.nan, *rng.uniform(0, 30, rows - 1)], np.float32),
    )


def small_bank(**changes):
    gain_cdb, speed_kmh, snr_db = fading()
    content = {"config": CONFIG, "seed": 7, "gain_cdb": gain_cdb, "speed_kmh": speed_kmh, "snr_db": snr_db}
    return FadingBank(**(content | {"split": Split.TEST, "source": "a test"} | changes))


@pytest.fixture
def made(monkeypatch):
    """Instead of Sionna: what was asked for, in turn."""
    asked = []

    def generate(config, rows, slots, seed_sequence, progress):
        asked.append((config.model, rows, slots))
        progress(rows, rows)
        return fading(rows, slots, config.antennas.max_rank, int(seed_sequence.generate_state(1)[0]))

    monkeypatch.setattr(bank_module, "generate", generate)
    monkeypatch.setattr(bank_module, "_source", lambda: "a test")
    return asked


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("bank") / "some.bank.npz"
    small_bank().save(path)
    return path.read_bytes()


def rewritten(path, target, **changes):
    """The file with changed members and a digest that fits."""
    with np.load(path) as archive:
        members = {name: archive[name] for name in archive.files}
    meta = json.loads(members["meta"].tobytes())
    for name, value in changes.items():
        if name in members:
            members[name] = value
        else:
            meta[name] = value
    members["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    write_sealed(target, members)
    return target


def one_line_error(path):
    with pytest.raises(InputError) as caught:
        FadingBank.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message


# --- the file ---


def test_a_saved_bank_is_loaded_unchanged(tmp_path):
    bank = small_bank()
    bank.save(tmp_path / "new" / "a.bank.npz")
    loaded = FadingBank.load(tmp_path / "new" / "a.bank.npz")
    assert (loaded.config, loaded.seed, loaded.split, loaded.source) == (CONFIG, 7, Split.TEST, "a test")
    for name in ("gain_cdb", "speed_kmh", "snr_db"):
        assert getattr(loaded, name).dtype == getattr(bank, name).dtype
        assert getattr(loaded, name).tobytes() == getattr(bank, name).tobytes()
    assert (loaded.num_rows, loaded.num_slots) == (3, 5)


def test_numpy_reads_it_too(tmp_path):
    small_bank().save(tmp_path / "a.bank.npz")
    with np.load(tmp_path / "a.bank.npz") as archive:
        assert (archive["gain_cdb"] == small_bank().gain_cdb).all()


def test_saving_leaves_nothing_else_behind(tmp_path):
    for _ in range(2):
        small_bank().save(tmp_path / "a.bank.npz")
    assert os.listdir(tmp_path) == ["a.bank.npz"]


def test_where_nothing_can_be_written_the_error_names_the_file(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "file" / "a.bank.npz"))):
        small_bank().save(tmp_path / "file" / "a.bank.npz")


@given(st.data())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_cut_short_anywhere_is_rejected(stored, tmp_path, data):
    path = tmp_path / "cut.bank.npz"
    path.write_bytes(stored[: data.draw(st.integers(0, len(stored) - 1))])
    assert "delete it" in one_line_error(path)


@given(st.data())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_is_found(stored, tmp_path, data):
    place = data.draw(st.integers(0, len(stored) - 1))
    flipped = bytearray(stored)
    flipped[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "flipped.bank.npz"
    path.write_bytes(flipped)
    assert "delete it" in one_line_error(path)


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in one_line_error(tmp_path / "none.bank.npz")


def test_a_directory_is_no_bank(tmp_path):
    assert "cannot be read" in one_line_error(tmp_path)


@pytest.mark.parametrize(
    ("changes", "expected_text"),
    [
        ({"version": 2}, "version is 2; this distila reads 1"),
        ({"format": "something"}, "format is 'something'"),
        ({"nodes_db": [-32, 8, 9]}, "nodes_db is [-32, 8, 9]"),
        ({"config": {"model": "TDL-Z"}}, "config: model = 'TDL-Z'"),
        ({"config": CONFIG.model_copy(update={"antennas": AntennaConfig(rx=2)}).model_dump(mode="json")}, "[row, 1, "),
        ({"gain_cdb": np.zeros((3, 2, 5, 4), np.int16)}, "gain_cdb has the shape [3, 2, 5, 4]"),
        ({"gain_cdb": np.zeros((3, 2, 5, NUM_NODES))}, "gain_cdb has the type float64"),
        ({"speed_kmh": np.zeros(2, np.float32)}, "speed_kmh has the shape [2]; must be [3]"),
        ({"snr_db": np.zeros((3, 1), np.float32)}, "snr_db has the shape [3, 1]"),
        ({"rows": 4}, "meta says 4"),
        ({"slots": 50}, "meta says 3 and 50"),
        ({"split": "HOLDOUT"}, "'HOLDOUT' is missing or wrong"),
    ],
)
def test_arrays_that_do_not_fit_are_named(stored, tmp_path, changes, expected_text):
    path = tmp_path / "a.bank.npz"
    path.write_bytes(stored)
    message = one_line_error(rewritten(path, tmp_path / "b.bank.npz", **changes))
    assert expected_text in message
    assert "delete it" in message


@pytest.mark.parametrize("member", ["meta", "gain_cdb", "speed_kmh", "snr_db"])
def test_a_missing_member_is_named(stored, tmp_path, member):
    with np.load(io.BytesIO(stored)) as archive:
        members = {name: archive[name] for name in archive.files if name != member}
    write_sealed(tmp_path / "a.bank.npz", members)
    assert member in one_line_error(tmp_path / "a.bank.npz")


def test_reading_needs_neither_sionna_nor_torch(tmp_path):
    small_bank().save(tmp_path / "a.bank.npz")
    code = (
        "import sys; sys.modules.update(sionna=None, torch=None)\n"
        "from pathlib import Path; from distila.training.sim.bank import FadingBank\n"
        "print(FadingBank.load(Path(sys.argv[1])).num_rows)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.bank.npz")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == "3\n", done.stderr


# --- the cache ---


def test_a_bank_is_made_once(made, tmp_path):
    first, second = (fading_bank(CONFIG, 3, 5, Split.TRAIN, 0, tmp_path) for _ in range(2))
    assert made == [("TDL-A", 3, 5)]
    assert (first.gain_cdb == second.gain_cdb).all()
    assert os.listdir(tmp_path) == [bank_path(CONFIG, 3, 5, Split.TRAIN, 0, tmp_path).name]
    assert re.fullmatch(r"TDL-A-[0-9a-f]{12}\.bank\.npz", os.listdir(tmp_path)[0])


def test_progress_is_reported_only_while_a_bank_is_generated(made, tmp_path):
    progress = []
    for _ in range(2):
        fading_bank(CONFIG, 3, 5, Split.TRAIN, 0, tmp_path, lambda done, total: progress.append((done, total)))
    assert progress == [(3, 3)]


@pytest.mark.parametrize(
    "other",
    [
        {"config": CONFIG.model_copy(update={"carrier_ghz": 2.0})},
        {"rows": 4},
        {"slots": 6},
        {"split": Split.TEST},
        {"seed": 1},
    ],
    ids=lambda other: next(iter(other)),
)
def test_whatever_differs_it_is_another_bank(made, tmp_path, other):
    what = {"config": CONFIG, "rows": 3, "slots": 5, "split": Split.TRAIN, "seed": 0}
    one, another = (fading_bank(**content, cache=tmp_path) for content in (what, what | other))
    assert len(made) == len(os.listdir(tmp_path)) == 2
    assert one.gain_cdb.shape != another.gain_cdb.shape or "config" in other or (one.gain_cdb != another.gain_cdb).any()


def test_another_version_of_sionna_makes_another_bank(made, tmp_path, monkeypatch):
    before = bank_path(CONFIG, 3, 5, Split.TRAIN, 0, tmp_path)
    monkeypatch.setattr(bank_module, "_source", lambda: "a later one")
    assert bank_path(CONFIG, 3, 5, Split.TRAIN, 0, tmp_path) != before


def test_a_damaged_file_is_not_replaced_silently(made, tmp_path):
    path = bank_path(CONFIG, 3, 5, Split.TRAIN, 0, tmp_path)
    path.write_bytes(b"half a bank")
    with pytest.raises(InputError, match="delete it, it will be made again"):
        fading_bank(CONFIG, 3, 5, Split.TRAIN, 0, tmp_path)
    assert path.read_bytes() == b"half a bank"
    path.unlink()
    assert fading_bank(CONFIG, 3, 5, Split.TRAIN, 0, tmp_path).num_rows == 3


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"config": CONFIG.model_copy(update={"carrier_ghz": 2.0})}, "config is "),
        ({"split": Split.TEST}, "split is TEST, its name says TRAIN"),
        ({"seed": 9}, "seed is 9, its name says 0"),
        ({"source": "long ago"}, "source is long ago"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_holds_another_bank_than_its_name_says_is_rejected(made, tmp_path, other, named):
    what = {"split": Split.TRAIN, "seed": 0, "source": "a test"}
    small_bank(**(what | other)).save(bank_path(CONFIG, 3, 5, Split.TRAIN, 0, tmp_path))
    with pytest.raises(InputError, match=re.escape(named)):
        fading_bank(CONFIG, 3, 5, Split.TRAIN, 0, tmp_path)


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    for name in ("DISTILA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_dir() == Path.home() / ".cache" / "distila"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "common"))
    assert cache_dir() == tmp_path / "common" / "distila"
    monkeypatch.setenv("DISTILA_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"


def test_a_real_bank_goes_through_the_cache(tmp_path):
    pytest.importorskip("sionna")
    config = ChannelConfig(model="UMi", antennas=AntennaConfig(tx=4, rx=2, max_rank=2))
    made, read = (fading_bank(config, 2, 30, Split.VALIDATION, 0, tmp_path) for _ in range(2))
    assert made.gain_cdb.shape == (2, 2, 30, NUM_NODES)
    assert (made.gain_cdb == read.gain_cdb).all()
    assert "sionna" in read.source
    assert read.split is Split.VALIDATION
