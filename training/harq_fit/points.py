"""Measured points as thresholds: the SINR at which a setting of `distila.training.harq_fit.measure` has 10 % block
errors."""

import csv
import itertools
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np

from distila.training.harq_fit.measure import SETTING_FIELDS, Setting
from distila.xapp.errors import InputError, no_such_file
from distila.xapp.nr.arrays import Float64Array
from distila.xapp.nr.harq import TARGET_BLER, Transmissions

POINTS_FILE: Final = Path(str(files("distila.training.harq_fit"))) / "points.csv"
_LEAST_ERRORS: Final = 0.3
"""Added to the count of errors and of successes, so that none at all has a logarithm."""


@dataclass(frozen=True)
class Threshold:
    """One measured setting.

    Attributes:
        setting: what was measured.
        snr_db: where its block error rate is `TARGET_BLER`, between two points on a logistic scale.
    """

    setting: Setting
    snr_db: float

    @property
    def transmissions(self) -> Transmissions:
        """What the receiver added up."""
        setting = self.setting
        return Transmissions(setting.code, setting.num_bits, setting.order, setting.redundancy_versions)

    @property
    def sinr_db(self) -> Float64Array:
        """Of every transmission at the threshold, float64 [transmission]."""
        return self.snr_db + np.array(self.setting.offsets_db)


def read_thresholds(path: Path = POINTS_FILE) -> list[Threshold]:
    """The settings of a file of points that pass through `TARGET_BLER`.

    Raises:
        InputError: the file cannot be read, or is not one of ours.
    """
    curves: dict[Setting, list[tuple[float, float]]] = {}
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                errors, blocks = float(row["errors"]), float(row["blocks"])
                odds = (errors + _LEAST_ERRORS) / (blocks - errors + _LEAST_ERRORS)
                setting = Setting.of_row({name: row[name] for name in SETTING_FIELDS})
                curves.setdefault(setting, []).append((float(row["snr_db"]), math.log(odds)))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}" if path.is_file() else no_such_file(path)) from None
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a table of `distila.training.harq_fit.measure`: {error!r}") from None
    target = math.log(TARGET_BLER / (1 - TARGET_BLER))
    found = []
    for setting, points in curves.items():
        for (low, above), (high, below) in itertools.pairwise(sorted(points)):
            if above >= target > below:
                found.append(Threshold(setting, low + (above - target) / (above - below) * (high - low)))
                break
    return found
