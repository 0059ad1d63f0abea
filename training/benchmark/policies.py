"""Policies of a benchmark by name: tuned baselines, policy bundles and networks; and where each of them sits.

``name[:variant][@target][@seat]``, for instance ``olla``, ``olla@10%``, ``olla:family``, ``salad@5%@xapp``,
``bundle:olla``, ``out/my-bundle``, ``out/teacher/network.pt``.

The baseline ``olla`` is outer-loop link adaptation in dB. ``bundle:olla`` is the policy bundle that ships, OLLA in CQI
steps, which takes the same decisions as the DU's own in `distila replay` (and as the baseline ``srsran-olla``).

* *variant*: ``global``, the default, has the settings tuned over all seen families, ``family`` those tuned for the
  family at hand, ``default`` none.
* *target*: the first-transmission BLER that the policy is to hold, 0.5 to 49 %. A baseline then has the settings tuned
  at that target over all seen families (variant ``global``), or its defaults but for the target (``default``). Without
  one, a baseline has the settings that were best for goodput, at whatever BLER, unless the benchmark gives it the
  target that it compares at. ``olla@10%`` is the *textbook* OLLA: the target that textbooks, 3GPP's CQI definition and
  arXiv 2507.06602 have, with the step size and the CQI's SINR that are best at it.
* *seat*: ``du`` gets feedback every slot and decides every slot, without delay; ``xapp`` gets an E2 report every
  period, and its decisions are late; between them the DU's own (tuned) OLLA is what it overrides. Baselines sit in the
  DU by default, as real ones do; bundles and networks in the xApp.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch

from distila.training.baselines import BASELINES, GENIES, baseline, tuned_settings
from distila.training.baselines.targets import TAKE_TARGET, read_target, with_target
from distila.training.network.network import Network
from distila.training.network.policy import Answers, NetworkPolicy
from distila.training.network.store import NETWORK_FILE, NETWORKS, load_network
from distila.training.sim.report import Cell, Decision, Policy, Report, matrix
from distila.xapp.errors import InputError
from distila.xapp.policy.bundle import BUNDLES, MANIFEST_FILE, Action, Bundle, load_bundle
from distila.xapp.shipped import did_you_mean

REFERENCE: Final = "olla"
"""What every gain is against: OLLA in the DU, with the settings tuned over all seen families."""
_BUNDLE: Final = "bundle"
"""``bundle:NAME`` is the bundle NAME even where a baseline has the same name."""
_TARGET_COLUMN: Final = "target_bler"
"""Operator setting that a bundle or network reads its BLER target from."""


@dataclass(frozen=True)
class PolicySpec:
    """A policy of the benchmark: picklable, and made anew for each run by `make`."""

    name: str
    """as given, which is what tables show"""
    kind: Literal["baseline", "bundle", "network"]
    base: str
    """name of the baseline, directory of the bundle, or file of the network"""
    variant: str
    seat: Literal["du", "xapp"]
    digest: str = ""
    """of a bundle's manifest, which has that of the graph; of a network's file"""
    trial_settings: tuple[tuple[str, float | None], ...] | None = None
    """of a baseline that is being tuned; instead of the tuned ones"""
    takes_target: bool = False
    """whether it can be given a BLER target: baselines that have one, bundles and networks with the column
    ``target_bler``"""
    mcs_tables: tuple[int, ...] | None = None
    """MCS tables that a bundle or network knows; None: every one"""
    target_bler: float | None = None
    """first-transmission BLER that it is to hold, 0.1 for 10 %; None: none was given"""

    @classmethod
    def trial(cls, base: str, settings: dict[str, float | None]) -> "PolicySpec":
        """A baseline in the DU with settings on trial."""
        return cls(base, "baseline", base, "", "du", trial_settings=tuple(settings.items()))

    def at_target(self, target_bler: float) -> "PolicySpec":
        """The same policy, under the same name, with this BLER target.

        One that takes none, or was given its own (``olla@10%``), stays as it is.
        """
        if not self.takes_target or self.target_bler is not None:
            return self
        return replace(self, target_bler=target_bler)

    def knows_table(self, mcs_table: int) -> bool:
        """Whether it can decide in a cell with this MCS table."""
        return self.mcs_tables is None or mcs_table in self.mcs_tables

    def settings(self, family: str) -> dict[str, float | None]:
        """Settings of a baseline in this family.

        Raises:
            InputError: it was not tuned for the family.
        """
        if self.trial_settings is not None:
            return dict(self.trial_settings)
        if self.kind != "baseline":
            return {}
        if self.variant == "default":
            return {} if self.target_bler is None else with_target(self.base, {}, self.target_bler)
        return tuned_settings(self.base, family if self.variant == "family" else None, self.target_bler)

    def make(self, family: str) -> Policy:
        """A fresh policy for one run.

        Raises:
            InputError: of settings, see `settings`; or the network is not the one any more that was named.
        """
        if self.kind == "bundle":
            return BundlePolicy(load_bundle(Path(self.base)))
        if self.kind == "network":
            network, digest = _network(Path(self.base))
            if digest != self.digest:
                # Its result would be taken for that of the other one ever after.
                raise InputError(f"{self.base}: changed since the benchmark began; run it again")
            return NetworkPolicy(network, self.base)
        return baseline(self.base, **self.settings(family))


def parse_policy(text: str) -> PolicySpec:
    """A policy from ``name[:variant][@target][@seat]``.

    Raises:
        InputError: no such baseline, bundle or network, variant, target or seat.
    """
    text = text.strip()
    rest, target, seat = _split(text)
    base, _, variant = (rest, "", "") if Path(rest).exists() else rest.partition(":")
    given_as_bundle = base == _BUNDLE and bool(variant)
    if given_as_bundle:
        base, variant = variant, ""
    elif base in BASELINES:
        return _baseline(text, base, variant, target, seat)
    if variant:
        raise InputError(
            f"policy {text!r}: a network or bundle has no variant, and {base!r} is no baseline: {', '.join(BASELINES)}"
        )
    kind: Literal["bundle", "network"] = "bundle"
    if given_as_bundle:
        path = BUNDLES.find(base)
    else:
        kind, path = _find(text, base)
    actions: Sequence[Action]
    if kind == "bundle":
        manifest = load_bundle(path).manifest
        actions, columns, tables = manifest.actions, manifest.columns, tuple(manifest.mcs_tables)
        digest = hashlib.sha256(manifest.model_dump_json().encode()).hexdigest()
    else:
        network, digest = _network(path)
        actions, columns, tables = network.actions, network.columns, (network.config.mcs_table,)
    if seat == "du" and any(action.kind != "mcs" for action in actions):
        raise InputError(f"policy {text!r}: in the DU all actions must be MCS: there is no choice to offset or to keep")
    takes_target = _TARGET_COLUMN in columns
    if target is not None and not takes_target:
        raise InputError(f"policy {text!r}: the {kind} takes no BLER target: it has no column {_TARGET_COLUMN}")
    return PolicySpec(
        text,
        kind,
        str(path),
        "",
        _seat(seat, "xapp"),
        digest,
        takes_target=takes_target,
        mcs_tables=tables,
        target_bler=target,
    )


def _split(text: str) -> tuple[str, float | None, str]:
    """What is before ``@``, the target if one is given, and the seat, empty if none is.

    Raises:
        InputError: a target that is none, or what is neither a target nor a seat.
    """
    rest, target, seat = text, None, ""
    # The name of a directory or a file may hold anything.
    while "@" in rest and not Path(rest).exists():
        rest, _, part = rest.rpartition("@")
        if part.endswith("%") and target is None:
            target = read_target(part.removesuffix("%"), f"policy {text!r}")
        elif part in ("du", "xapp") and not seat:
            seat = part
        elif part:
            raise InputError(
                f"policy {text!r}: seat {part!r}: expected du or xapp, or a BLER target such as 10%, each once"
            )
    return rest, target, seat


def _baseline(text: str, base: str, variant: str, target: float | None, seat: str) -> PolicySpec:
    if variant not in ("", "global", "family", "default"):
        raise InputError(f"policy {text!r}: variant {variant!r}: expected global, family or default")
    if base in GENIES and seat == "xapp":
        raise InputError(f"policy {text!r}: a genie knows the current slot; an xApp's decision takes effect later")
    takes_target = base in TAKE_TARGET
    if target is not None and not takes_target:
        raise InputError(f"policy {text!r}: {base} takes no BLER target; baselines that do: {', '.join(TAKE_TARGET)}")
    if target is not None and variant == "family":
        raise InputError(f"policy {text!r}: baselines are tuned for BLER targets over all seen families only")
    return PolicySpec(
        text,
        "baseline",
        base,
        variant or "global",
        _seat(seat, "du"),
        takes_target=takes_target and variant != "family",
        target_bler=target,
    )


def _find(text: str, base: str) -> tuple[Literal["bundle", "network"], Path]:
    """The bundle's directory, or the network's file; what is there goes before what ships."""
    path = Path(base)
    if path.is_file() or (not (path / MANIFEST_FILE).is_file() and (path / NETWORK_FILE).is_file()):
        return "network", NETWORKS.find(base)
    if base in BUNDLES.names() or path.is_dir():
        return "bundle", BUNDLES.find(base)
    if base in NETWORKS.names():
        return "network", NETWORKS.find(base)
    bundles = [f"{_BUNDLE}:{name}" if name in BASELINES else name for name in BUNDLES.names()]
    names = [*BASELINES, *bundles, *NETWORKS.names()]
    raise InputError(
        f"policy {text!r}: no such baseline, bundle or network: there is no file or directory {path.absolute()};"
        f" baselines: {', '.join(BASELINES)}; bundles that ship: {', '.join(bundles)}; networks that ship:"
        f" {', '.join(NETWORKS.names()) or 'none'}{did_you_mean(base, names)}"
    )


def _network(path: Path) -> tuple[Network, str]:
    """A network, and the digest of its file."""
    network, _ = load_network(path)
    return network, hashlib.sha256(path.read_bytes()).hexdigest()


def _seat(given: str, default: Literal["du", "xapp"]) -> Literal["du", "xapp"]:
    return "du" if given == "du" else "xapp" if given == "xapp" else default


class BundlePolicy:
    """A policy bundle in the simulator: the very graph that the xApp runs, fed with the same columns.

    Raises:
        InputError: `start` was given a cell whose MCS table the bundle does not know.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.name = bundle.manifest.name
        self._bundle = bundle

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Begin with new links, whose memory is empty."""
        manifest = self._bundle.manifest
        if cell.mcs_table not in manifest.mcs_tables:
            tables = ", ".join(map(str, manifest.mcs_tables))
            raise InputError(f"{self._bundle.path}: made for MCS table {tables}, the scenario has {cell.mcs_table}")
        self._cell, self._answers = cell, Answers(manifest.actions, cell.max_mcs, cell.device)
        self._state = np.zeros((cell.num_links, manifest.state_size), np.float32)

    def decide(self, report: Report) -> Decision:
        """Answer one report."""
        columns, cell = self._bundle.manifest.columns, self._cell
        rows = matrix(report, columns).cpu().numpy()
        _, action, self._state = self._bundle.run(rows, self._state)
        return self._answers.decision(torch.as_tensor(action, device=cell.device))
