"""Reload of the runtime configuration: a changed configuration file, A1 policies, and new policy bundles.

A change is checked as a whole before any of it takes effect, between two indications; a rejected change changes
nothing. A policy bundle is loaded, checked against its golden vectors and warmed up here, on the caller's thread.
"""

import hashlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from distila.xapp.config import RunConfig
from distila.xapp.errors import InputError
from distila.xapp.loop import DecisionLoop
from distila.xapp.policy.bundle import BUNDLES, GRAPH_FILE, MANIFEST_FILE, load_bundle
from distila.xapp.ric.a1_policy import A1Policy, limits_under
from distila.xapp.ric.worker import Worker

log = logging.getLogger(__name__)

_CHANGEABLE: Final = frozenset({"policy", "guard", "log_level"})

Fingerprint = tuple[tuple[str, int, int, int] | None, ...]


class Reloader:
    """Holds the configuration and the A1 policies in force, and applies changes of them to the loop.

    Args:
        loop: the decision loop, which already runs under ``config``.
        config: the configuration at start.
        bundles: directory of the bundles that A1 policies may name, in addition to those that ship.

    Attributes:
        counts: changes by result: ``configuration_applied``, ``bundle_rejected`` and so on.
        on_rejected: called with ``configuration`` or ``bundle`` and the reason of a rejection; with an empty reason
            after the next change that is accepted.
    """

    def __init__(self, loop: DecisionLoop, config: RunConfig, bundles: Path | None = None) -> None:
        self._loop = loop
        self._config = config
        self._bundles = bundles
        self._policies: dict[str, A1Policy] = {}
        self._bundle_path = BUNDLES.find(config.policy)
        self._fingerprint = _fingerprint(self._bundle_path)
        self._changing = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.on_rejected: Callable[[str, str], None] = lambda what, why: None

    @property
    def config(self) -> RunConfig:
        """The configuration in force."""
        return self._config

    @property
    def policies(self) -> Mapping[str, A1Policy]:
        """The A1 policies in force, in the order of their arrival."""
        return self._policies

    def configure(self, config: RunConfig) -> None:
        """Apply another configuration.

        Raises:
            InputError: it cannot be used, or changes a setting that needs a restart; the old one stays.
        """
        with self._changing:
            fixed = [
                name
                for name in RunConfig.model_fields
                if name not in _CHANGEABLE and getattr(config, name) != getattr(self._config, name)
            ]
            if fixed:
                raise InputError(f"{', '.join(fixed)}: a change needs a restart; nothing was changed")
            self._apply(config, self._policies)
            if config.log_level != logging.getLevelName(logging.getLogger().level):
                logging.getLogger().setLevel(config.log_level)
        self.counts["configuration_applied"] += 1

    def put(self, ident: str, policy: A1Policy) -> None:
        """Apply an A1 policy instance, or a new version of one.

        Raises:
            InputError: it cannot be used; the policies in force stay.
        """
        with self._changing:
            self._apply(self._config, {**self._policies, ident: policy})

    def remove(self, ident: str) -> bool:
        """Remove an A1 policy instance; False if there is none of that name."""
        with self._changing:
            if ident not in self._policies:
                return False
            self._apply(self._config, {name: p for name, p in self._policies.items() if name != ident})
            return True

    def reload_bundle_if_changed(self) -> None:
        """Load the bundle in force again if its files have changed.

        Raises:
            InputError: the new files cannot be used; the old bundle stays in force.
        """
        with self._changing:
            fingerprint = _fingerprint(self._bundle_path)
            if fingerprint == self._fingerprint:
                return
            # Stored before the files are read: a fault is reported once, and a change during the read is noticed.
            self._fingerprint = fingerprint
            self._load(self._bundle_path)

    def _apply(self, config: RunConfig, policies: dict[str, A1Policy]) -> None:
        try:
            default, cells = limits_under(config.guard, policies.values())
        except ValueError as error:
            raise InputError(" ".join(str(error).split())) from None
        named = [policy.policy for policy in policies.values() if policy.policy is not None]
        path = self._named_bundle(named[-1]) if named else BUNDLES.find(config.policy)
        if path != self._bundle_path:
            fingerprint = _fingerprint(path)
            self._load(path)
            self._bundle_path, self._fingerprint = path, fingerprint
        self._loop.limits.replace(default, cells)
        self._config, self._policies = config, policies

    def _named_bundle(self, name: str) -> Path:
        if self._bundles is not None and (self._bundles / name).is_dir():
            return self._bundles / name
        return BUNDLES.find(name)

    def _load(self, path: Path) -> None:
        try:
            bundle = load_bundle(path)
            self._loop.swap(bundle)
        except InputError as error:
            self.counts["bundle_rejected"] += 1
            self.on_rejected("bundle", str(error))
            raise
        self.counts["bundle_swapped"] += 1
        self.on_rejected("bundle", "")
        log.info("policy %s %s, %s", bundle.manifest.name, bundle.manifest.version, bundle.digest[:12])


class ConfigWatcher:
    """Checks the configuration file and the bundle for changes, periodically.

    A ConfigMap is a directory whose ``..data`` link is swapped: the content of the file is compared, so that every swap
    is noticed.

    Args:
        reloader: applies the changes.
        every_s: seconds between two checks.
        path: of the configuration file; None: only the bundle is checked.
        load: reads the file, with the options of the command line applied.
    """

    def __init__(self, reloader: Reloader, every_s: float, path: Path | None, load: Callable[[], RunConfig]) -> None:
        self._reloader = reloader
        self._every_s = every_s
        self._path = path
        self._load = load
        self._digest = self._read()
        self._worker = Worker("config-watcher", self._check)

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def stop(self, timeout_s: float) -> None:
        """Stop the thread."""
        self._worker.stop(timeout_s)

    def _check(self) -> float:
        reloader = self._reloader
        digest = self._read()
        if digest != self._digest:
            self._digest = digest
            try:
                reloader.configure(self._load())
                log.info("configuration %s: changes are in force", self._path)
                reloader.on_rejected("configuration", "")
            except InputError as error:
                reloader.counts["configuration_rejected"] += 1
                log.error("configuration rejected, the old one stays in force: %s", error)
                reloader.on_rejected("configuration", str(error))
        try:
            reloader.reload_bundle_if_changed()
        except InputError as error:
            log.error("policy bundle rejected, the old one stays in force: %s", error)
        return self._every_s

    def _read(self) -> str:
        try:
            return "" if self._path is None else hashlib.sha256(self._path.read_bytes()).hexdigest()
        except OSError:
            # In the middle of a swap, or deleted: `load` reports it.
            return "unreadable"


def _fingerprint(path: Path) -> Fingerprint:
    """Changes whenever the files of a bundle are replaced; computed without reading them."""
    marks: list[tuple[str, int, int, int] | None] = []
    for name in (MANIFEST_FILE, GRAPH_FILE):
        try:
            file = (path / name).resolve()
            status = file.stat()
            marks.append((str(file), status.st_ino, status.st_mtime_ns, status.st_size))
        except OSError:
            marks.append(None)
    return tuple(marks)
