"""Files that are there whole or not at all: a killed run leaves neither half a file nor none where there was one."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

from distila.xapp.errors import InputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the path to write to; what was written there takes the place of ``path`` unless something is raised.

    The directory is made if needed.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    finally:
        # Where the directory cannot be written to, there is nothing to remove either.
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def check_writable(out: Path) -> None:
    """Make a directory and see whether it can be written to, before a long run and not after it.

    Raises:
        InputError: it cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(f"--out {out}: {error.strerror}") from None
