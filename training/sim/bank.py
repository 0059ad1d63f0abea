"""Banks of fading: channels that Sionna generates slowly, stored in files. ::

    bank = fading_bank(config, rows=64, slots=8192, split=Split.TRAIN, seed=0)  # from the cache, or generated
    bank.gain_cdb[row, rank - 1, slot]                                          # E at the nodes, see `eesm`

A bank is what `distila.training.sim.channels` generates from one configuration, one split and one seed. Gains are after
precoding and combining. With one layer, fast fading alone has mean 1 (linear) over all slots and PRBs of a UE. Gains
of more layers have the same divisor, and include the share of the power that a layer gets. Shadowing (``shadowing_db``)
is added: its mean over a UE's slots is 0 dB, so the linear mean of the stored gains is then not 1 but mostly above. A
link of mean SNR s, with one layer and at 0 dB of shadowing, has the effective SINR s + E(beta_db - s) dB per layer.

Files are sealed npz archives (`sealed_npz`) with the member ``meta`` (JSON). Reading one needs neither Sionna nor
torch.
"""

import functools
import hashlib
import json
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from distila.training.sim.channels import REVISION, generate
from distila.training.sim.eesm import NODE_FIRST_DB, NODE_STEP_DB, NUM_NODES
from distila.training.sim.scenario import ChannelConfig
from distila.training.sim.sealed_npz import read_sealed, write_sealed
from distila.training.sim.split import Split, seed_sequence
from distila.xapp.errors import InputError, first_error
from distila.xapp.nr.arrays import Float32Array
from distila.xapp.progress import Progress, no_progress

__all__ = [
    "NODE_FIRST_DB",
    "NODE_STEP_DB",
    "NUM_NODES",
    "FadingBank",
    "bank_path",
    "cache_dir",
    "fading_bank",
]

_FORMAT: Final = "distila fading bank"
_VERSION: Final = 1
_REMEDY = "delete it, it will be made again"
_SOURCE = "revision {}, {}"


@dataclass(frozen=True, eq=False)
class FadingBank:
    """Fading of some UEs of one configuration."""

    config: ChannelConfig
    """settings that it was generated from"""
    seed: int
    """seed, which distinguishes banks of one configuration and split"""
    gain_cdb: npt.NDArray[np.int16]
    """E [0.01 dB], [row, rank, slot, node]; index r - 1 of the rank axis is r layers"""
    speed_kmh: Float32Array
    """[row]"""
    snr_db: Float32Array
    """mean post-combining SNR of one layer in the drop, at 0 dB of ``shadowing_db`` [dB], clipped to
    `distila.training.sim.scenario.GEOMETRY_SNR_DB`, [row]; NaN for TDL and CDL"""
    split: Split = Split.TRAIN
    """split whose runs may use it"""
    source: str = "unknown"
    """versions of the software that generated it"""

    def __post_init__(self) -> None:
        ranks = self.config.antennas.max_rank
        shape = self.gain_cdb.shape
        if len(shape) != 4 or not shape[0] or shape[1] != ranks or not shape[2] or shape[3] != NUM_NODES:
            raise ValueError(f"gain_cdb has the shape {list(shape)}; must be [row, {ranks}, slot, {NUM_NODES}]")
        for name in ("speed_kmh", "snr_db"):
            if getattr(self, name).shape != shape[:1]:
                raise ValueError(f"{name} has the shape {list(getattr(self, name).shape)}; must be [{shape[0]}]")
        types = {"gain_cdb": np.int16, "speed_kmh": np.float32, "snr_db": np.float32}
        for name, dtype in types.items():
            if getattr(self, name).dtype != dtype:
                raise ValueError(f"{name} has the type {getattr(self, name).dtype}; must be {np.dtype(dtype)}")

    @property
    def num_rows(self) -> int:
        """Number of UEs."""
        return int(self.gain_cdb.shape[0])

    @property
    def num_slots(self) -> int:
        """Length [slots]."""
        return int(self.gain_cdb.shape[2])

    def save(self, path: Path) -> None:
        """Write the file atomically; of several processes that write it at once, one prevails.

        Raises:
            InputError: the file cannot be written.
        """
        meta = {"format": _FORMAT, "version": _VERSION, "nodes_db": [NODE_FIRST_DB, NODE_STEP_DB, NUM_NODES]}
        meta |= _identity(self.config, self.num_rows, self.num_slots, self.split, self.seed, self.source)
        text = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        arrays = {"gain_cdb": self.gain_cdb, "speed_kmh": self.speed_kmh, "snr_db": self.snr_db}
        write_sealed(path, {"meta": text, **arrays})

    @classmethod
    def load(cls, path: Path) -> "FadingBank":
        """Read a file.

        Raises:
            InputError: the file is missing, damaged, not a bank or of another version, or its arrays do not fit.
        """
        found = read_sealed(path, _REMEDY)
        try:
            meta = json.loads(found["meta"].tobytes())
            _check_version(meta)
            arrays = {name: found[name] for name in ("gain_cdb", "speed_kmh", "snr_db")}
            config = ChannelConfig.model_validate(meta["config"])
            bank = cls(config=config, seed=meta["seed"], split=Split[meta["split"]], source=meta["source"], **arrays)
            if [bank.num_rows, bank.num_slots] != [meta["rows"], meta["slots"]]:
                raise ValueError(
                    f"{bank.num_rows} rows and {bank.num_slots} slots; meta says {meta['rows']} and {meta['slots']}"
                )
        except ValidationError as error:
            raise InputError(f"{path}: config: {first_error(error)}; {_REMEDY}") from None
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: not a fading bank, {error} is missing or wrong; {_REMEDY}") from None
        except ValueError as error:
            raise InputError(f"{path}: {' '.join(str(error).split())}; {_REMEDY}") from None
        return bank


def _check_version(meta: Any) -> None:
    if meta["format"] != _FORMAT:
        raise ValueError(f"format is {meta['format']!r}; must be {_FORMAT!r}")
    if meta["version"] != _VERSION:
        raise ValueError(f"version is {meta['version']!r}; this distila reads {_VERSION}")
    if meta["nodes_db"] != [NODE_FIRST_DB, NODE_STEP_DB, NUM_NODES]:
        raise ValueError(f"nodes_db is {meta['nodes_db']}; must be {[NODE_FIRST_DB, NODE_STEP_DB, NUM_NODES]}")


def _identity(config: ChannelConfig, rows: int, slots: int, split: Split, seed: int, source: str) -> dict[str, object]:
    """Everything that a bank's content depends on."""
    return {
        "config": config.model_dump(mode="json"),
        "rows": rows,
        "slots": slots,
        "split": split.name,
        "seed": seed,
        "source": source,
    }


def _source() -> str:
    try:
        return _SOURCE.format(REVISION, f"sionna-no-rt {version('sionna-no-rt')}")
    except PackageNotFoundError:
        pass
    try:
        return _SOURCE.format(REVISION, f"sionna {version('sionna')}")
    except PackageNotFoundError:
        raise InputError(
            "sionna is not installed, which generates the fading; pip install 'distila[training]'"
        ) from None


def cache_dir() -> Path:
    """Directory of stored banks: ``$DISTILA_CACHE``, else ``$XDG_CACHE_HOME/distila``, else ``~/.cache/distila``."""
    if own := os.environ.get("DISTILA_CACHE"):
        return Path(own)
    if common := os.environ.get("XDG_CACHE_HOME"):
        return Path(common) / "distila"
    return Path.home() / ".cache" / "distila"


def bank_path(config: ChannelConfig, rows: int, slots: int, split: Split, seed: int, cache: Path | None = None) -> Path:
    """The file in the cache; its name has a hash of everything that the content depends on, including versions.

    Raises:
        InputError: Sionna is not installed.
    """
    identity = _identity(config, rows, slots, split, seed, _source())
    identity |= {"version": _VERSION, "nodes_db": [NODE_FIRST_DB, NODE_STEP_DB, NUM_NODES]}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return (cache or cache_dir()) / f"{config.model}-{digest[:12]}.bank.npz"


@functools.lru_cache(maxsize=16)
def _load_once(path: Path, modified_ns: int, size: int) -> FadingBank:
    # Training begins a new batch of links every few seconds, mostly on the same banks.
    return FadingBank.load(path)


def fading_bank(
    config: ChannelConfig,
    rows: int,
    slots: int,
    split: Split,
    seed: int,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> FadingBank:
    """The bank from the cache; it is generated and stored there if it is missing.

    Args:
        config: settings of the channel model and its UEs.
        rows: number of UEs.
        slots: length [slots].
        split: split whose runs may use it; no two splits share a bank.
        seed: distinguishes banks of one configuration and split.
        cache: directory; None: `cache_dir`.
        progress: called with the number of UEs done and their total while it is generated.

    Raises:
        InputError: the file exists but is damaged or holds another bank (it is not replaced silently); the model
            cannot be generated; or the cache is not writable.
    """
    path = bank_path(config, rows, slots, split, seed, cache)
    source = _source()
    expected = _identity(config, rows, slots, split, seed, source)
    if path.exists():
        stamp = path.stat()
        bank = _load_once(path, stamp.st_mtime_ns, stamp.st_size)
        found = _identity(bank.config, bank.num_rows, bank.num_slots, bank.split, bank.seed, bank.source)
        for name, value in expected.items():
            if found[name] != value:
                raise InputError(f"{path}: {name} is {found[name]}, its name says {value}; {_REMEDY}")
        return bank
    gain_cdb, speed_kmh, snr_db = generate(config, rows, slots, seed_sequence(split, seed, "bank"), progress)
    bank = FadingBank(config, seed, gain_cdb, speed_kmh, snr_db, split, source)
    bank.save(path)
    return bank
