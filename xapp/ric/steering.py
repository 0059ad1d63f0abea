"""What operators want, brought to the decision loop: the configuration file, A1 policies, and new policy bundles.

Whatever is new is checked as a whole before any of it takes effect, between two indications; what is refused changes
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
from distila.xapp.policy.bundle import GRAPH_FILE, MANIFEST_FILE, find_bundle, load_bundle
from distila.xapp.ric.a1_policy import A1Policy, limits_under
from distila.xapp.ric.worker import Worker

log = logging.getLogger(__name__)

_CHANGEABLE: Final = frozenset({"policy", "guard", "log_level"})

Fingerprint = tuple[tuple[str, int, int, int] | None, ...]


class Steering:
    """Holds what is wanted, and has the loop do it.

    Args:
        loop: the decision loop; it already runs under ``config``.
        config: the configuration.
        bundles: directory of the bundles that A1 policies may name, beside those that ship.

    Attributes:
        counts: changes by what came of them: ``configuration_applied``, ``bundle_refused`` and so on.
        on_refused: called with ``configuration`` or ``bundle`` and the reason, or with an empty one once it is well.
    """

    def __init__(self, loop: DecisionLoop, config: RunConfig, bundles: Path | None = None) -> None:
        self._loop = loop
        self._config = config
        self._bundles = bundles
        self._policies: dict[str, A1Policy] = {}
        self._bundle_path = find_bundle(config.policy)
        self._fingerprint = _fingerprint(self._bundle_path)
        self._changing = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.on_refused: Callable[[str, str], None] = lambda what, why: None

    @property
    def config(self) -> RunConfig:
        """The configuration in force."""
        return self._config

    @property
    def policies(self) -> Mapping[str, A1Policy]:
        """The A1 policies in force, in the order they came."""
        return self._policies

    def configure(self, config: RunConfig) -> None:
        """Take another configuration.

        Raises:
            InputError: it cannot be used, or changes what only a restart changes; the old one stays.
        """
        with self._changing:
            fixed = [
                name
                for name in RunConfig.model_fields
                if name not in _CHANGEABLE and getattr(config, name) != getattr(self._config, name)
            ]
            if fixed:
                raise InputError(f"{', '.join(fixed)}: takes a restart to change; nothing was changed")
            self._apply(config, self._policies)
            if config.log_level != logging.getLevelName(logging.getLogger().level):
                logging.getLogger().setLevel(config.log_level)
        self.counts["configuration_applied"] += 1

    def put(self, ident: str, policy: A1Policy) -> None:
        """Take an A1 policy instance, or another version of one.

        Raises:
            InputError: it cannot be used; what was in force stays.
        """
        with self._changing:
            self._apply(self._config, {**self._policies, ident: policy})

    def remove(self, ident: str) -> bool:
        """Forget an A1 policy instance; False if there is none of that name."""
        with self._changing:
            if ident not in self._policies:
                return False
            self._apply(self._config, {name: p for name, p in self._policies.items() if name != ident})
            return True

    def look_at_bundle(self) -> None:
        """Swap the bundle in force for what has taken its place on disk, if anything has.

        Raises:
            InputError: that cannot be used; the old one goes on.
        """
        with self._changing:
            fingerprint = _fingerprint(self._bundle_path)
            if fingerprint == self._fingerprint:
                return
            # Remembered before it is read: what is wrong is said once, and what changes meanwhile is read again.
            self._fingerprint = fingerprint
            self._load(self._bundle_path)

    def _apply(self, config: RunConfig, policies: dict[str, A1Policy]) -> None:
        try:
            default, cells = limits_under(config.guard, policies.values())
        except ValueError as error:
            raise InputError(" ".join(str(error).split())) from None
        named = [policy.policy for policy in policies.values() if policy.policy is not None]
        path = self._named_bundle(named[-1]) if named else find_bundle(config.policy)
        if path != self._bundle_path:
            fingerprint = _fingerprint(path)
            self._load(path)
            self._bundle_path, self._fingerprint = path, fingerprint
        self._loop.limits.replace(default, cells)
        self._config, self._policies = config, policies

    def _named_bundle(self, name: str) -> Path:
        if self._bundles is not None and (self._bundles / name).is_dir():
            return self._bundles / name
        return find_bundle(name)

    def _load(self, path: Path) -> None:
        try:
            bundle = load_bundle(path)
            self._loop.swap(bundle)
        except InputError as error:
            self.counts["bundle_refused"] += 1
            self.on_refused("bundle", str(error))
            raise
        self.counts["bundle_swapped"] += 1
        self.on_refused("bundle", "")
        log.info("policy %s %s, %s", bundle.manifest.name, bundle.manifest.version, bundle.digest[:12])


class Watcher:
    """Looks at the configuration file and the bundle again and again.

    A ConfigMap is a directory whose ``..data`` link is swapped: what is watched is what the file holds, so that every
    swap shows, whatever the links are.

    Args:
        steering: what is told.
        every_s: between two looks.
        path: of the configuration file; None: there is none.
        load: reads it, with what the command line put on top.
    """

    def __init__(self, steering: Steering, every_s: float, path: Path | None, load: Callable[[], RunConfig]) -> None:
        self._steering = steering
        self._every_s = every_s
        self._path = path
        self._load = load
        self._digest = self._read()
        self._worker = Worker("watcher", self._look)

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def stop(self, timeout_s: float) -> None:
        """End."""
        self._worker.stop(timeout_s)

    def _look(self) -> float:
        steering = self._steering
        digest = self._read()
        if digest != self._digest:
            self._digest = digest
            try:
                steering.configure(self._load())
                log.info("configuration %s: changes are in force", self._path)
                steering.on_refused("configuration", "")
            except InputError as error:
                steering.counts["configuration_refused"] += 1
                log.error("configuration refused, the old one stays: %s", error)
                steering.on_refused("configuration", str(error))
        try:
            steering.look_at_bundle()
        except InputError as error:
            log.error("policy bundle refused, the old one goes on: %s", error)
        return self._every_s

    def _read(self) -> str:
        try:
            return "" if self._path is None else hashlib.sha256(self._path.read_bytes()).hexdigest()
        except OSError:
            # In the middle of a swap, or gone: `load` will say so.
            return "unreadable"


def _fingerprint(path: Path) -> Fingerprint:
    """Tells one content of a bundle's directory from another without reading it."""
    marks: list[tuple[str, int, int, int] | None] = []
    for name in (MANIFEST_FILE, GRAPH_FILE):
        try:
            file = (path / name).resolve()
            status = file.stat()
            marks.append((str(file), status.st_ino, status.st_mtime_ns, status.st_size))
        except OSError:
            marks.append(None)
    return tuple(marks)
