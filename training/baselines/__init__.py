"""Link adaptation to measure against: the loops that real RANs run, published adaptive ones, and genies. ::

    policy = baseline("olla", target=0.05, step_on_nack_db=0.3)
    policy.start(cell, generator)
    decision = policy.decide(report)

Each is written for a batch of links, runs inside the DU or in the xApp alike (a report covers one slot or many), and
works without CQI.

| name | what it is | module |
|---|---|---|
| illa | CQI to MCS, no feedback | `distila.training.baselines.olla` |
| olla | outer loop in dB | `distila.training.baselines.olla` |
| srsran-olla | outer loop in CQI steps, as srsRAN Project | `distila.training.baselines.olla` |
| bler-window | MCS steps on a windowed BLER, as OpenAirInterface | `distila.training.baselines.bler_window` |
| salad | SINR from ACK and NACK, self-adapting (NVIDIA) | `distila.training.baselines.salad` |
| thompson | posterior over the SINR, sampled | `distila.training.baselines.thompson` |
| genie | knows the slot: most bits | `distila.training.baselines.genie` |
| genie-target | knows the slot: highest MCS within a target | `distila.training.baselines.genie` |
"""

import functools
import math
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from distila.training.baselines.bler_window import BlerWindow, BlerWindowSettings
from distila.training.baselines.genie import Genie, GenieSettings, GenieTarget, GenieTargetSettings
from distila.training.baselines.olla import CqiOlla, CqiOllaSettings, Illa, IllaSettings, Olla, OllaSettings
from distila.training.baselines.salad import Salad, SaladSettings
from distila.training.baselines.targets import TAKE_TARGET, target_key, with_target
from distila.training.baselines.thompson import Thompson, ThompsonSettings
from distila.training.sim.report import Policy
from distila.xapp.errors import InputError
from distila.xapp.files import read_yaml
from distila.xapp.shipped import package_folder

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def _build(
    name: str, policy: Callable[[Any], Policy], settings: "type[DataclassInstance]", **given: float | None
) -> Policy:
    known = [field.name for field in fields(settings)]
    for setting in given:
        if setting not in known:
            raise InputError(f"{name}: no setting {setting!r}; it has {', '.join(known) or 'none'}")
    return policy(settings(**given))


BASELINES: Final[dict[str, Callable[..., Policy]]] = {
    name: partial(_build, name, policy, settings)
    for name, policy, settings in (
        (Illa.name, Illa, IllaSettings),
        (Olla.name, Olla, OllaSettings),
        (CqiOlla.name, CqiOlla, CqiOllaSettings),
        (BlerWindow.name, BlerWindow, BlerWindowSettings),
        (Salad.name, Salad, SaladSettings),
        (Thompson.name, Thompson, ThompsonSettings),
        (Genie.name, Genie, GenieSettings),
        (GenieTarget.name, GenieTarget, GenieTargetSettings),
    )
}
"""Factories by name; each takes its settings as keywords, and what is not given keeps its default."""

GENIES: Final = (Genie.name, GenieTarget.name)
"""Those that know what nobody can; in the DU only."""

_TUNED: Final = package_folder("distila.training.baselines") / "tuned.yaml"


@functools.cache
def _tuned() -> dict[str, Any]:
    return dict(read_yaml(_TUNED)["policies"])


def tuned_settings(name: str, family: str | None = None, target: float | None = None) -> dict[str, float | None]:
    """What `distila benchmark tune` found for a baseline.

    Args:
        name: of the baseline.
        family: settings tuned for this family; None: over all seen families.
        target: settings tuned to hold this first-transmission BLER, 0.1 for 10 %, over all seen families. Where
            another target was tuned, the one nearest in its logarithm lends all but the target; where none was, the
            defaults do. None: settings tuned for goodput, whatever BLER they reach.

    Raises:
        InputError: there is none of that name, or it was not tuned, or not for that family, or takes no target.
    """
    if name not in BASELINES:
        raise InputError(f"baseline {name!r} is unknown; there are {', '.join(BASELINES)}")
    if target is not None:
        return _tuned_at(name, family, target)
    if name in GENIES:  # they have nothing to tune
        return {}
    if name not in _tuned():
        raise InputError(f"{_TUNED}: nothing about {name}; run `distila benchmark tune --policies {name}`")
    found = _tuned()[name]
    if family is None:
        return dict(found["global"])
    if family not in found["families"]:
        raise InputError(f"{name} was not tuned for {family!r}, only for {', '.join(found['families'])}")
    return dict(found["families"][family])


def _tuned_at(name: str, family: str | None, target: float) -> dict[str, float | None]:
    percent = f"{target_key(target)}%"
    if name not in TAKE_TARGET:
        raise InputError(f"{name} takes no BLER target ({percent} was given); those that do: {', '.join(TAKE_TARGET)}")
    if family is not None:
        raise InputError(f"{name} was tuned for BLER targets ({percent} was given) over all seen families only")
    targets = _tuned().get(name, {}).get("targets")
    if targets is None:
        return with_target(name, {}, target)
    found = targets["by_target"]
    nearest = min(found, key=lambda key: abs(math.log(float(key) / 100 / target)))
    return with_target(name, dict(found[nearest]["settings"]), target, float(nearest) / 100)


def baseline(name: str, **settings: float | None) -> Policy:
    """A baseline by name, with settings on top of its defaults.

    Raises:
        InputError: an unknown name, an unknown setting, or a value out of range.
    """
    if name not in BASELINES:
        raise InputError(f"baseline {name!r} is unknown; there are {', '.join(BASELINES)}")
    return BASELINES[name](**settings)
