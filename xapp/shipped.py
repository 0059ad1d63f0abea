"""Things that are named on a command line or in a configuration: by a path, or by the name of one that ships.

Policy bundles, networks, scenarios, rollout plans and training configurations are all found by `Shipped.find`. A path
that exists comes before a name. ::

    PLANS = Shipped("rollout plan", package_folder("distila.xapp.rollout", "plans"), pattern="*.yaml")
    PLANS.find("student")          # the file that ships
    PLANS.find("mine/plan.yaml")   # the user's file
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from distila.xapp.errors import InputError


def package_folder(package: str, folder: str = "") -> Path:
    """A folder that is installed with a package of ours, such as ``distila.xapp.policy`` and ``bundles``."""
    return Path(str(files(package))) / folder


@dataclass(frozen=True)
class Shipped:
    """Files, or directories, of one kind, some of which ship with distila.

    Attributes:
        kind: what they are, for error messages: "policy bundle".
        folders: where those that ship lie; the first folder that has a name wins.
        pattern: which files in a folder count: ``*.yaml``; or, for directories, the file that makes one count:
            ``*/manifest.json``.
        inside: a directory may be given for the file of this name in it; for files only.
    """

    kind: str
    folders: Path | tuple[Path, ...]
    pattern: str = "*.yaml"
    inside: str | None = None

    def paths(self) -> dict[str, Path]:
        """Those that ship, by name, sorted. A file's name has no suffix, nor a number in front (``01_``) that sorts."""
        folders = (self.folders,) if isinstance(self.folders, Path) else self.folders
        found: dict[str, Path] = {}
        for folder in folders:
            for path in sorted(folder.glob(self.pattern)):
                if self._are_directories:
                    found.setdefault(path.parent.name, path.parent)
                else:
                    found.setdefault(_without_number(path.stem), path)
        return found

    def names(self) -> list[str]:
        """Names of those that ship."""
        return list(self.paths())

    def find(self, name: str | Path) -> Path:
        """The path of one that is given by its path, or by the name of one that ships.

        Raises:
            InputError: it is neither; lists what was looked at, and what ships.
        """
        path, shipped = Path(name), self.paths()
        if self._are_directories:
            # A directory that happens to have the name of one that ships must look like one of the kind.
            if path.is_dir() and ((path / self._marker).exists() or str(name) not in shipped):
                return path
        elif path.is_file():
            return path
        elif self.inside is not None and (path / self.inside).is_file():
            return path / self.inside
        if str(name) in shipped:
            return shipped[str(name)]
        raise InputError(self._unknown(str(name), path, shipped))

    @property
    def _are_directories(self) -> bool:
        return "/" in self.pattern

    @property
    def _marker(self) -> str:
        return self.pattern.rpartition("/")[2]

    def _unknown(self, name: str, path: Path, shipped: Iterable[str]) -> str:
        if self._are_directories:
            looked = f"there is no directory {path.absolute()}"
        else:
            looked = f"{path.absolute()} is a directory" if path.is_dir() else f"there is no file {path.absolute()}"
            if self.inside is not None:
                looked += f" without {self.inside}" if path.is_dir() else f", nor {self.inside} in it as a directory"
        names = list(shipped)
        ships = f"distila ships {', '.join(names)}" if names else "distila ships none"
        return f"{name}: no such {self.kind}: {looked}, and {ships}{did_you_mean(name, names)}"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """``; did you mean ...?`` if one of ``names`` is close to ``name``, else nothing: the end of an error message."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _without_number(stem: str) -> str:
    number, underscore, rest = stem.partition("_")
    return rest if underscore and number.isdigit() else stem
