"""Arrays in a file that is read back whole and unaltered, or not at all.

An npz archive (``numpy.load`` reads it) with a SHA-256 of all else in the archive's comment: npz alone lets some damage
pass, and some through as exceptions of many kinds. Written beside its place and moved there.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from distila.xapp.errors import InputError
from distila.xapp.files import replacing

_DIGEST_CHARACTERS: Final = 64


def write_sealed(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write ``arrays``; two processes may write the same file at once.

    Raises:
        InputError: it cannot be written.
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
        remedy: what to do about a damaged one, for the message.

    Raises:
        InputError: there is none, or it is not as it was written.
    """
    try:
        data = memoryview(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    if bytes(data[-_DIGEST_CHARACTERS:]) != _digest(data[:-_DIGEST_CHARACTERS]):
        raise InputError(f"{path}: damaged, cut short, or no file of ours; {remedy}")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}; {remedy}") from None


def _digest(data: memoryview) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
