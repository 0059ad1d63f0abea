"""Files that are there whole or not at all: a killed run leaves neither half a file nor none where there was one."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


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
