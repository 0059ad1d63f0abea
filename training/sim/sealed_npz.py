"""Stores arrays in a file that is either read back unaltered or rejected.

The file is an npz archive (``numpy.load`` reads it) with a SHA-256 of its content in the archive's comment: npz alone
misses some damage, and reports other damage by exceptions of many kinds. Files are written atomically.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from distila.xapp.errors import InputError, no_such_file
from distila.xapp.files import replacing

_DIGEST_CHARACTERS: Final = 64


def write_sealed(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write ``arrays``; two processes may write the same file at once.

    Raises:
        InputError: the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"0" * _DIGEST_CHARACTERS
    body = buffer.getbuffer()[:-_DIGEST_CHARACTERS]
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(body)
        file.write(_digest(body))


def read_sealed(path: Path, remedy: str) -> dict[str, npt.NDArray[Any]]:
    """Read a file that `write_sealed` wrote.

    Args:
        path: the file.
        remedy: what to do about a damaged file, for the error message.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        data = memoryview(path.read_bytes())
    except FileNotFoundError:
        raise InputError(no_such_file(path)) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    if bytes(data[-_DIGEST_CHARACTERS:]) != _digest(data[:-_DIGEST_CHARACTERS]):
        raise InputError(f"{path}: damaged, cut short, or not a file of distila; {remedy}")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}; {remedy}") from None


def _digest(data: memoryview) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
